"""What is in an image file, in 64 bits: two files with equal digests are the same picture, whatever their names."""

from __future__ import annotations

import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.images.catalog import Catalog, stat_files
from cnncodes.images.readers import open_image

WORKERS = 4  # threads: hashing lets Python's lock go


def file_digest(path: str) -> int:
    """First 8 bytes (little-endian) of the file's BLAKE2b; 0 for a file that cannot be read."""
    try:
        with open_image(path) as file:
            digest = hashlib.file_digest(file, functools.partial(hashlib.blake2b, digest_size=8))  # type: ignore[arg-type]
    except (OSError, ValueError):
        return 0
    return int.from_bytes(digest.digest(), "little")


def bytes_digest(data: bytes) -> int:
    """:func:`file_digest` of a file with these bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def file_digests(catalog: Catalog) -> npt.NDArray[np.uint64]:
    """Digest of every image file: uint64 ``[N]``, 0 where a file cannot be read."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return np.fromiter(pool.map(file_digest, catalog.files), np.uint64, len(catalog))


def identical_files(catalog: Catalog) -> npt.NDArray[np.int64]:
    """Number of each image's content, int64 ``[N]``: equal for files with the same bytes, -1 where no other file is the same.

    Only files that share their size with another are read.
    """
    size, _ = stat_files(catalog)
    _, inverse, counts = np.unique(size, return_inverse=True, return_counts=True)
    rows = np.flatnonzero((counts[inverse] > 1) & (size > 0))
    digests = np.zeros(len(catalog), np.uint64)
    digests[rows] = file_digests(catalog.subset(rows))
    return identical_contents(digests)


def identical_contents(digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """As :func:`identical_files`, from digests that are known; 0 stands for a file that was not read."""
    _, same, counts = np.unique(digests, return_inverse=True, return_counts=True)
    repeated = (counts[same] > 1) & (digests != 0)
    return np.where(repeated, same, -1)


def digest_of(*parts: bytes) -> str:
    """First 16 letters of the sha256 of some parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def catalog_digests(catalog: Catalog) -> dict[str, Any]:
    """What a record keeps of images to know them again, by the words in which a change of it is told."""
    size, mtime = stat_files(catalog)
    classes = "\0".join(catalog.classes).encode("utf-8", "surrogateescape")
    return {
        "number of images": len(catalog),
        "names of the images": digest_of("\0".join(catalog.names).encode("utf-8", "surrogateescape")),
        "labels": digest_of(classes, catalog.labels.tobytes()),
        "splits": digest_of(catalog.splits.tobytes()),
        "image files (size or time)": digest_of(size.tobytes(), mtime.tobytes()),
    }
