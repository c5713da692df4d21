"""Tar shards of images, as WebDataset has them: members are read by their offsets, which an index keeps."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import open_file, parse_json
from cnncodes.core.outputs import replacing
from cnncodes.images.listing import LABELS, has_image_suffix, plain_key
from cnncodes.images.readers import LARGEST_IMAGE

INDEX_FORMAT = 1
ENDS = 2**16  # bytes at both ends of a shard by which its index knows it, besides size and time
LARGEST_LABEL = 2**16  # bytes of a .cls or .json member
BESIDE = (".cls", ".json", ".txt")  # members that go with an image: its label, or a text


@dataclass(eq=False)
class TarShard:
    """The images of an uncompressed tar file.

    Parameters
    ----------
    path : str
    names : tuple of str
        Of members that are regular files and end as images do, in the order of the file; without ``./`` or ``/`` in front.
    offsets, sizes : array of int64 [N]
        Where the bytes of each are.
    labels : tuple of str
        From the member of the same name with ``.cls``, or the label of the one with ``.json``; empty where there is none.
    left_out : tuple of str
        Other members, but for :data:`BESIDE`.
    problems : dict of str to int
        Kind -> members: ``link`` (not followed), ``outside`` (a name that leads out of the shard), ``repeated`` (the last one
        of a name counts, as with tar), ``damaged`` (1: what comes after the last image cannot be read).
    """

    path: str
    names: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    left_out: tuple[str, ...]
    problems: dict[str, int]

    def __post_init__(self) -> None:
        self._places = {name: place for place, name in enumerate(self.names)}

    @classmethod
    def open(cls, path: str) -> TarShard:
        """Open a shard by its index, which is made where there is none, or none of this shard as it is now.

        Raises
        ------
        OSError, ValueError
            If it cannot be read or is no uncompressed tar file.
        """
        with open_file(path) as file:
            stamp = _stamp(file)
            with contextlib.suppress(Exception):  # whatever is wrong with an index, it is made anew
                return _load(path, index_path(path), stamp)
            shard = _scan(path, file)
        # no home, or none to write to: no index
        with contextlib.suppress(OSError, RuntimeError, ValueError, CnnCodesError):
            index = index_path(path)
            index.parent.mkdir(parents=True, exist_ok=True)
            _save(index, stamp, shard)
        return shard

    def place(self, name: str) -> int:
        return self._places[name]

    def size(self, place: int) -> int:
        return int(self.sizes[place])

    def read(self, place: int) -> bytes:
        size = int(self.sizes[place])
        if size > LARGEST_IMAGE:
            raise ValueError(f"{size:,} bytes in a shard, above the limit of {LARGEST_IMAGE:,}")
        with open_file(self.path) as file:
            file.seek(int(self.offsets[place]))
            data = file.read(size)
        if size and not data:
            raise ValueError("the shard ends before it")
        return data  # cut off where the shard is: decoding says what that is, as of a file that is cut off


def index_path(path: str) -> Path:
    """Where the index of a shard is kept: below ``$XDG_CACHE_HOME``, since data are often not ours to write beside."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    digest = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()
    return cache / "cnncodes" / "shards" / f"{digest[:32]}.npz"


def _stamp(file: BinaryIO) -> npt.NDArray[np.uint8]:
    """By what an index knows its shard: size, time of change, and a digest of both ends."""
    status = os.fstat(file.fileno())
    digest = hashlib.blake2b(
        f"{INDEX_FORMAT} {status.st_size} {status.st_mtime_ns} ".encode(), digest_size=16
    )
    for place in (0, max(0, status.st_size - ENDS)):
        file.seek(place)
        digest.update(file.read(ENDS))
    file.seek(0)
    return np.frombuffer(digest.digest(), np.uint8)


def _scan(path: str, file: BinaryIO) -> TarShard:
    """Read the headers of all members, and the labels."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    left_out: list[str] = []
    problems: Counter[str] = Counter()
    size = os.fstat(file.fileno()).st_size
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or a shard of a million members takes a gigabyte
                if member.size < 0:
                    raise ValueError("a member of negative size")  # the next one would be this one again
                name = posixpath.normpath(member.name.lstrip("/"))
                if ".." in member.name.split("/") or "\0" in name:
                    problems["outside"] += 1
                elif member.isdir() or any(part.startswith(".") for part in name.split("/")):
                    continue  # hidden, as in folders
                elif not member.isreg() or member.issparse():
                    problems["link"] += 1
                elif has_image_suffix(name):
                    problems["repeated"] += name in images
                    images.pop(name, None)
                    images[name] = (member.offset_data, member.size)
                elif not name.lower().endswith(BESIDE):
                    left_out.append(name)
                elif not name.lower().endswith(".txt") and member.size <= LARGEST_LABEL:
                    file.seek(member.offset_data)
                    if label := _label(name, file.read(member.size)):
                        labels[_key(name)] = label
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        if not images:
            raise ValueError(_no_tar(file, error)) from error
        problems["damaged"] = 1
    else:
        file.seek(end)
        problems["damaged"] = int(end < size and any(file.read(tarfile.BLOCKSIZE)))
    places = np.array(list(images.values()), np.int64).reshape(-1, 2)
    return TarShard(
        path, tuple(images), places[:, 0], places[:, 1],
        tuple(labels.get(_key(name), "") for name in images), tuple(left_out), dict(+problems),
    )  # fmt: skip


def _no_tar(file: BinaryIO, error: Exception) -> str:
    file.seek(0)
    start = file.read(6)
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")):
        return "it is compressed, and members are read by their offsets: decompress it"
    return str(error).rstrip(".") or "it is no tar file"


def _key(name: str) -> str:
    """What the members of one sample have in common: everything before the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(name: str, data: bytes) -> str:
    """The label that a .cls or .json member gives; empty if it gives none."""
    try:
        text = data.decode("utf-8-sig")
        if name.lower().endswith(".cls"):
            return text.strip().replace("\0", "")
        record = parse_json(text)
    except ValueError:
        return ""
    values = {plain_key(str(key)): value for key, value in record.items()} if isinstance(record, dict) else {}
    found = next((values[key] for key in (*LABELS, "cls") if key in values), None)
    return str(found).strip().replace("\0", "") if isinstance(found, str | int) else ""


def _load(path: str, index: Path, stamp: npt.NDArray[np.uint8]) -> TarShard:
    """The shard as its index has it; raises if that is of another, or no index."""
    with open_file(index) as file, np.load(file, allow_pickle=False) as kept:
        if not np.array_equal(kept["stamp"], stamp):
            raise ValueError("another shard, or the same before a change")
        names, labels, left_out, kinds = (
            _texts(kept[name]) for name in ("names", "labels", "left_out", "problems")
        )
        offsets, sizes, problems = (
            kept["offsets"],
            kept["sizes"],
            dict(zip(kinds, kept["counts"].tolist(), strict=True)),
        )
    if not len(names) == len(labels) == len(offsets) == len(sizes):
        raise ValueError("lengths differ")
    return TarShard(path, names, offsets, sizes, labels, left_out, problems)


def _save(index: Path, stamp: npt.NDArray[np.uint8], shard: TarShard) -> None:
    with replacing(index, overwrite=True) as whole, whole.open("wb") as file:
        np.savez(
            file, stamp=stamp, names=_packed(shard.names), labels=_packed(shard.labels),
            left_out=_packed(shard.left_out), offsets=shard.offsets, sizes=shard.sizes,
            problems=_packed(shard.problems), counts=np.array(list(shard.problems.values()), np.int64),
        )  # fmt: skip


def _packed(texts: Iterable[str]) -> npt.NDArray[np.uint8]:
    """Texts as bytes, each ended by a zero; numpy's own arrays of texts make all as long as the longest."""
    return np.frombuffer("".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape"), np.uint8)


def _texts(packed: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
