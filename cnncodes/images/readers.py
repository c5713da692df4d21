"""The bytes of images, wherever they are: in files of their own, in shards that hold many, or at URLs (by fsspec).

An image in a shard has a path like any other, the shard's path and its name inside: ``data/train-0001.tar/cat/7.jpg``,
``train.parquet/12``. So everything that takes the path of an image takes an image of a shard, in any process, and records
and codes files need nothing else to find it again.
"""

from __future__ import annotations

import errno
import functools
import importlib
import io
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CatalogError, CnnCodesError, DependencyError
from cnncodes.core.files import open_file, reason_of

LARGEST_IMAGE = 2**30  # bytes of an image in a shard: it is read into memory

ON_CPU = "on-cpu"  # with decoding by a GPU alone
#: What is amiss with an image that is read all the same: kind -> what so many files are.
NOTES = {
    "damaged-end": "damaged at the end",
    "junk-in-front": "preceded by bytes that are no part of the image",
    "checksum": "damaged beside the pixels: a text or the like has a wrong checksum",
    "float-255": "of float pixels from 0 to 255, which are read as grey levels",
    ON_CPU: "decoded on the CPU: not JPEG, of unusual colours, or damaged",
}
NOTE = "cnncodes"  #: key of a picture's ``info`` under which its kinds stand, a tuple


def noted(notes: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each kind that is there, a sentence on it such as ``3 files are damaged at the end``, and the files' names."""
    for kind, words in NOTES.items():
        if names := tuple(name for name, kinds in notes.items() if kind in kinds):
            yield kind, f"{len(names):,} {'file is' if len(names) == 1 else 'files are'} {words}", names


class Shard(Protocol):
    """A file with many images, at places from 0 on. Methods raise OSError or ValueError with the reason."""

    def place(self, name: str) -> int:
        """Place of the image of a name; LookupError if there is none."""

    def size(self, place: int) -> int:
        """Bytes of an image; of the whole shard where they are not known without reading it."""

    def read(self, place: int) -> bytes:
        """The encoded image."""


class Reader(Sequence[str]):
    """The images of a catalog by row: their paths, as a sequence, made one at a time, and what is in them."""

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
                inside = len(path) - len(found[0])
                own = name[: max(0, len(name) - inside)]  # empty where the root is the shard
                rows[row] = places.setdefault(own, len(places))
        return tuple(places), rows


def open_image(path: str | os.PathLike[str]) -> BinaryIO:
    """An image as an open file of bytes: the file itself, or the bytes of an image of a shard; raises OSError or ValueError."""
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


#: Suffix of each kind of shard -> what opens it in ``images/shards``.
KINDS = {".tar": "TarShard.open"} | dict.fromkeys((".parquet", ".arrow"), "ColumnShard")
KINDS |= dict.fromkeys((".npy", ".h5", ".hdf5"), "ArrayShard")

_INSIDE = re.compile(rf"(?i)(?:{'|'.join(map(re.escape, KINDS))})(?=[/{re.escape(os.sep)}])")
_opened: dict[str, tuple[tuple[int, int], Shard]] = {}
_opening = threading.Lock()


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
                opener = attrgetter(KINDS[os.path.splitext(path)[1].lower()])  # noqa: PTH122
                known = _opened[path] = stamp, opener(importlib.import_module("cnncodes.images.shards"))(path)
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


#: Scheme of URLs -> the package that reads it, besides fsspec.
SCHEMES = {
    "https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "hf": "huggingface_hub", "memory": "fsspec",
}  # fmt: skip
TRIES = 3
PAUSE_S = 0.5  # before the second try, twice as much before the third
_WORTH_A_TRY = (408, 429)  # of the answers 400 to 499: too slow, too many requests

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URL_IN_PATH = re.compile(rf"(?:^|/)((?:{'|'.join(SCHEMES)}):)/+(?=[^/])")


def is_url(name: str) -> bool:
    """Whether a name as a catalog keeps it is a URL; :func:`checked_url` has looked at it."""
    return "://" in name and _URL.match(name) is not None


def checked_url(name: str, where: str) -> str:
    """The URL that a person named ``where``; raises CatalogError if its kind is not read, DependencyError without its library."""
    scheme, rest = name.split("://", 1)
    if scheme.lower() not in SCHEMES or not rest.strip("/"):
        raise CatalogError(
            f"{where}: {name!r} is no URL that is read here.",
            f"Write the path of a local file, or a URL that begins with {', '.join(f'{one}://' for one in SCHEMES)}.",
        )
    filesystem(scheme.lower())
    return f"{scheme.lower()}://{rest.lstrip('/')}"


def url_of(path: str) -> str | None:
    """The URL that a path is, or was before it was joined with a folder and made plain; None for a local one."""
    if ":/" not in path or (found := _URL_IN_PATH.search(path)) is None:
        return None
    folder = path[: found.start(1)]
    if (folder and not os.path.isdir(folder)) or os.path.lexists(path[: found.end(1)]):  # noqa: PTH112
        return None  # a name in a shard, or a folder that is called so
    return f"{found[1]}//{path[found.end() :]}"


def fetch(url: str) -> bytes:
    """What a URL gives, tried :data:`TRIES` times; raises OSError with the reason."""
    files = filesystem(url.partition("://")[0])
    for number in range(TRIES):
        time.sleep(PAUSE_S * number)
        try:
            return bytes(files.cat_file(url))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # of the libraries, each has its own
            status = getattr(error, "status", getattr(getattr(error, "response", None), "status_code", None))
            reason = f"the server answers {status}" if isinstance(status, int) else reason_of(error)
            if isinstance(status, int) and 400 <= status < 500 and status not in _WORTH_A_TRY:
                break
    raise OSError(errno.EIO, f"{reason}; tried {number + 1} times" if number else reason, url)


def list_folder(url: str) -> list[str]:
    """Names of the files below a folder, relative to it; raises CatalogError, also for web servers, which list nothing reliably."""
    if url.startswith("http"):
        raise CatalogError(
            f"{url!r} is no image, and what a web server has is not listed.",
            "Give a list of the URLs of the images (.txt, .csv).",
        )
    files = filesystem(url.partition("://")[0])
    try:
        found = files.find(url)
    except Exception as error:
        raise CatalogError(
            f"{url!r} cannot be listed: {reason_of(error)}.", "Check the URL and the access to it."
        ) from error
    folder = str(files._strip_protocol(url)).rstrip("/") + "/"
    names = (name.removeprefix(folder) for name in found if name.startswith(folder))
    return [name for name in names if os.path.normpath(name) == name and "/." not in f"/{name}"]


def filesystem(scheme: str) -> Any:
    """fsspec's way to URLs of a scheme, one in each process; raises DependencyError where it is not installed."""
    return _filesystem(scheme, os.getpid())


@functools.cache
def _filesystem(scheme: str, _process: int) -> Any:
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        package = "" if SCHEMES[scheme] in ("aiohttp", "fsspec") else f" {SCHEMES[scheme]}"
        raise DependencyError(
            f"images at {scheme}:// need {package.strip() or 'fsspec'}, which is not installed.",
            f"Run: pip install 'cnncodes[remote]'{package}.",
        ) from error
    except Exception as error:
        raise CnnCodesError(
            f"{scheme}:// cannot be reached: {reason_of(error)}.", "Check the settings of the access."
        ) from error
