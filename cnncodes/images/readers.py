"""The bytes of images, wherever they are: in files of their own, in shards that hold many, or at URLs.

An image in a shard has a path like any other, the shard's path and its name inside: ``data/train-0001.tar/cat/7.jpg``,
``train.parquet/12``. So everything that takes the path of an image takes an image of a shard, in any process, and records
and codes files need nothing else to find it again.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import stat
import threading
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import open_file
from cnncodes.images.remote import fetch, is_url, url_of

LARGEST_IMAGE = 2**30  # bytes of an image in a shard: it is read into memory


class Shard(Protocol):
    """A file with many images, at places from 0 on. Methods raise OSError or ValueError with the reason."""

    def place(self, name: str) -> int:
        """Place of the image of a name; LookupError if there is none."""

    def size(self, place: int) -> int:
        """Bytes of an image; of the whole shard where they are not known without reading it."""

    def read(self, place: int) -> bytes:
        """The encoded image."""


class Reader(Sequence[str]):
    """The images of a catalog by row: their paths, as a sequence, made one at a time, and what is in them.

    Parameters
    ----------
    root : str
    names : sequence of str
        Relative to ``root``.
    """

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: Any) -> Any:
        name = self._names[row]
        return name if is_url(name) else os.path.join(self._root, name)  # noqa: PTH118  (a Path costs 30 times more)

    def bytes(self, row: int) -> bytes:
        """The encoded image of a row; raises OSError or ValueError if it cannot be read."""
        with open_image(self[row]) as file:
            return file.read()

    def identity(self, row: int) -> tuple[int, int]:
        """By what a resumed run knows that an image is the same: its bytes, and the time of change of the file or shard, in ns.

        The bytes are those of the shard where only reading would tell. Both are 0 for a URL. Raises OSError or ValueError if
        there is no such image.
        """
        path = self[row]
        if is_url(path):
            return 0, 0
        if (found := _shard_file(path)) is None:
            status = os.stat(path)  # noqa: PTH116
            return status.st_size, status.st_mtime_ns
        shard, place = _find(path, *found)
        return shard.size(place), found[1].st_mtime_ns

    def remote(self) -> npt.NDArray[np.bool_]:
        """Whether the image of each row is at a URL: bool ``[N]``."""
        return np.fromiter(map(is_url, self._names), np.bool_, len(self))

    def shards(self) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
        """Names of the shards that images are in, and the place of each row's among them; -1 for a file of its own."""
        places: dict[str, int] = {}
        rows = np.full(len(self), -1, np.int32)
        for row, (name, path) in enumerate(zip(self._names, self, strict=True)):
            if found := _shard_file(path):
                own = name[
                    : max(0, len(name) - len(path) + len(found[0]))
                ]  # empty where the root is the shard
                rows[row] = places.setdefault(own, len(places))
        return tuple(places), rows


def open_image(path: str | os.PathLike[str]) -> BinaryIO:
    """An image as an open file of bytes: the file itself, or the bytes of an image of a shard.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, with the reason.
    """
    path = os.fspath(path)
    if url := url_of(path):
        return io.BytesIO(fetch(url))
    if (found := _shard_file(path)) is None:
        return open_file(path)
    shard, place = _find(path, *found)
    return io.BytesIO(shard.read(place))


def image_exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or an image of a shard of that path, or it is a URL, of which only reading tells."""
    path = os.fspath(path)
    if url_of(path):
        return True
    try:
        found = _shard_file(path)
        return os.path.exists(path) if found is None else bool(_find(path, *found))  # noqa: PTH110
    except (OSError, ValueError):
        return False


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a shard of images, and not one of codes or weights with the same suffix."""
    path = os.fspath(path)
    try:
        return is_shard(path) and bool(getattr(open_shard(path), "images", True))
    except (OSError, ValueError, LookupError, CnnCodesError):
        return False


def is_shard(name: str) -> bool:
    """Whether a file's name is that of a shard; ``cache-*.arrow`` are what the datasets library computed from others."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    return suffix in KINDS and not (suffix == ".arrow" and os.path.basename(name).startswith("cache-"))  # noqa: PTH119


def open_shard(path: str, status: os.stat_result | None = None) -> Shard:
    """The shard of a path, opened once in a process and again when its size or time of change is another."""
    status = status or os.stat(path)  # noqa: PTH116
    stamp = (status.st_size, status.st_mtime_ns)
    if (known := _opened.get(path)) is None or known[0] != stamp:
        with _opening:
            if (known := _opened.get(path)) is None or known[0] != stamp:
                module, _, opener = KINDS[os.path.splitext(path)[1].lower()].partition(".")  # noqa: PTH122
                opened = attrgetter(opener)(importlib.import_module(f"cnncodes.images.{module}"))(path)
                known = _opened[path] = (stamp, opened)
    return known[1]


def _shard_file(path: str) -> tuple[str, os.stat_result] | None:
    """Path and status of the shard in which the image of a path is; None for a file of its own."""
    for found in _INSIDE.finditer(path):
        try:
            status = os.stat(path[: found.end()])  # noqa: PTH116 - a Path for each of a million images takes seconds
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            return path[: found.end()], status
    return None


def _find(path: str, file: str, status: os.stat_result) -> tuple[Shard, int]:
    """The shard of a path, and the image's place in it; FileNotFoundError if it is not there."""
    shard = open_shard(file, status)
    try:
        return shard, shard.place(path[len(file) + 1 :].replace(os.sep, "/"))
    except LookupError:
        raise FileNotFoundError(errno.ENOENT, "no such image in the shard", path) from None


#: Suffix of each kind of shard -> the module here and what opens it.
KINDS = {
    ".tar": "tar.TarShard.open", ".parquet": "columnar.ColumnShard", ".arrow": "columnar.ColumnShard",
    ".npy": "arrays.ArrayShard", ".h5": "arrays.ArrayShard", ".hdf5": "arrays.ArrayShard",
}  # fmt: skip

_INSIDE = re.compile(rf"(?i)(?:{'|'.join(map(re.escape, KINDS))})(?=[/{re.escape(os.sep)}])")
_opened: dict[str, tuple[tuple[int, int], Shard]] = {}
_opening = threading.Lock()
