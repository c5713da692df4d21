"""The images of a training as squares of pixels: decoded once where they fit into memory, else in every epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnncodes.codes.compute import Device, pinned
from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Loader
from cnncodes.weights.preprocessing import Preprocessing

SHARE = 0.25  # of the free memory that decoded images may take


class Squares:
    """Batches of ``uint8 [batch, crop, crop, 3]`` on the device, kept after the first time where there is room.

    Parameters
    ----------
    catalog : Catalog
    rows : int ndarray
        Rows that will be asked for.
    preprocessing : Preprocessing
        Its centre crop is what is given.
    device : Device
    workers : int
        Decoding threads.
    """

    def __init__(
        self, catalog: Catalog, rows: np.ndarray, preprocessing: Preprocessing, device: Device, workers: int
    ) -> None:
        self._catalog, self._preprocessing, self._device, self._workers = (
            catalog,
            preprocessing,
            device,
            workers,
        )
        self._place = np.full(len(catalog), -1)
        self._place[rows] = np.arange(len(rows))
        self._there = np.zeros(len(rows), np.bool_)
        #: Row and reason of each image that could not be read so far.
        self.problems: dict[int, str] = {}
        #: What was in each image file that was decoded so far, by row of the catalog; 0: not yet.
        self.digests = np.zeros(len(catalog), np.uint64)
        shape = (len(rows), preprocessing.crop, preprocessing.crop, 3)
        fits = int(np.prod(shape)) <= SHARE * free_memory(device)
        self._kept = torch.empty(shape, dtype=torch.uint8, device=device.torch_name) if fits else None

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Readable rows of each batch, and their pixels; a batch without any is given too."""
        wanted = np.concatenate(
            [np.asarray(batch, dtype=np.int64) for batch in batches] or [np.zeros(0, int)]
        )
        if self._kept is not None and self._there[self._place[wanted]].all():
            yield from self._from_memory(self._kept, batches)
            return
        loader = Loader(
            self._catalog,
            batches,
            self._preprocessing,
            workers=self._workers,
            allocate=pinned if self._device.is_cuda else None,
        )
        with closing(iter(loader)) as loaded:  # type: ignore[type-var]
            for batch in loaded:
                self.problems.update(batch.problems)
                self.digests[np.asarray(batch.rows, dtype=np.int64)] = batch.digests
                good = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
                rows = [int(batch.rows[place]) for place in good]
                pixels = torch.from_numpy(batch.pixels[:, 0]).to(self._device.torch_name, non_blocking=True)
                if self._kept is not None:
                    self._kept[torch.from_numpy(self._place[np.asarray(batch.rows, dtype=np.int64)])] = pixels
                    self._there[self._place[np.asarray(batch.rows, dtype=np.int64)]] = True
                yield rows, pixels if len(good) == len(batch.rows) else pixels[good]

    def _from_memory(
        self, kept: Tensor, batches: Sequence[Sequence[int]]
    ) -> Iterator[tuple[list[int], Tensor]]:
        for batch in batches:
            rows = [int(row) for row in batch if row not in self.problems]
            yield rows, kept[torch.from_numpy(self._place[rows]).to(kept.device)]


def free_memory(device: Device) -> int:
    """Free memory in bytes of where decoded images would be kept: the GPU's, or the machine's (0: not known)."""
    if device.is_cuda:
        return int(torch.cuda.mem_get_info(device.torch_name)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
