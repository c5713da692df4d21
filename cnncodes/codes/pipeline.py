"""Decode ahead, compute side by side, hand over in order: what extraction, prediction and the transformer share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Batch, Loader

if TYPE_CHECKING:
    from cnncodes.codes.compute import Encoder
    from cnncodes.images.decode import Source


class Pipeline:
    """Iterates over ``(batch, codes)`` in the order of ``batches``.

    On a CPU each core computes a batch of its own with one thread; a GPU computes one batch while the next is being copied. A batch for
    which a GPU has no memory is computed in halves: ``batch_size`` images at once. ``network_s`` are seconds of computing, summed over threads.
    """

    def __init__(
        self,
        images: Catalog | Sequence[Source],
        batches: Sequence[Sequence[int]],
        encoder: Encoder,
        *,
        workers: int,
    ) -> None:
        self.encoder = encoder
        device = encoder.device
        self.side_by_side = min(device.cores, max(1, len(batches))) if device.is_cpu else 2
        self.loader = Loader(
            images, batches, encoder.settings.preprocessing, crops=encoder.settings.crops, workers=workers,
            ahead=self.side_by_side + 1, allocate=encoder.allocate,
        )  # fmt: skip
        self.network_s = 0.0
        self.batch_size = max([encoder.settings.batch_size, *map(len, batches)])
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
        from cnncodes.codes.compute import exact_and_side_by_side

        waiting: deque[tuple[Batch, Future[dict[str, np.ndarray]]]] = deque()
        with (
            exact_and_side_by_side(self.encoder.device),
            ThreadPoolExecutor(self.side_by_side, "network") as pool,
            closing(iter(self.loader)) as batches,  # type: ignore[type-var]
        ):
            for batch in batches:
                waiting.append((batch, pool.submit(self._compute, batch.pixels)))
                if len(waiting) > self.side_by_side:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()

    def _compute(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        try:
            return self._in_parts(pixels)
        finally:
            with self._lock:
                self.network_s += time.perf_counter() - started

    def _in_parts(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Codes of a batch, computed in halves (of halves) where a GPU has no room for it whole."""
        from cnncodes.codes.compute import is_out_of_memory, release_memory

        while True:
            size = min(self.batch_size, len(pixels))
            try:
                parts = [self.encoder(pixels[start : start + size]) for start in range(0, len(pixels), size)]
                if len(parts) == 1:
                    return parts[0]
                return {stage: np.concatenate([part[stage] for part in parts]) for stage in parts[0]}
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            # Here the error and the tensors that its traceback held are gone, so their memory can be released.
            with self._lock:
                self.batch_size = min(self.batch_size, (size + 1) // 2)
            release_memory()
