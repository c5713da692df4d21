"""What is in an image file, in 64 bits: two files with equal digests are the same picture, whatever their names."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from cnncodes.images.catalog import Catalog

BLOCK = 2**20  # bytes read at a time
WORKERS = 4  # threads: hashing lets Python's lock go


def file_digest(path: str) -> int:
    """First 8 bytes (little-endian) of the file's BLAKE2b; 0 for a file that cannot be read."""
    digest = hashlib.blake2b(digest_size=8)
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (called for every image)
            while block := file.read(BLOCK):
                digest.update(block)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(digest.digest(), "little")


def file_digests(catalog: Catalog) -> npt.NDArray[np.uint64]:
    """Digest of every image file: uint64 ``[N]``, 0 where a file cannot be read."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return np.fromiter(pool.map(file_digest, catalog.files), np.uint64, len(catalog))
