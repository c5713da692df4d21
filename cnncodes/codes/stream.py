"""The only way from images to codes: fixed ranges of rows, each computed as it would be anywhere else, in order."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.codes.settings import ExtractionSettings, default_batch_size, default_pool
from cnncodes.core.compute import Compute
from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Batch, Loader
from cnncodes.weights import Weights

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device, Encoder
    from cnncodes.codes.device_decoding import DeviceDecoder
    from cnncodes.codes.rows import InPlace
    from cnncodes.images.decode import Source


@dataclass(frozen=True, eq=False)
class Block:
    """Codes of ``B`` rows: of each layer ``[B, length]``, or ``[B, crops, length]`` where crops are kept.

    Those of an unreadable image have no meaning.
    """

    rows: Sequence[int]
    codes: dict[str, np.ndarray]
    problems: dict[int, str]  # row and reason, for each image that cannot be read
    digests: npt.NDArray[np.uint64]  # of the image files; 0 for what is no file or cannot be read
    notes: dict[int, tuple[str, ...]]  # row and what is amiss with an image that is read all the same
    seen: npt.NDArray[np.float64]  # share of each picture that its crops show; NaN if unreadable
    pixels: npt.NDArray[np.uint8] | None = None  # [B, crops, height, width, 3], if they were asked for

    @property
    def readable(self) -> npt.NDArray[np.intp]:
        """Places in the block whose images could be read."""
        return np.flatnonzero([row not in self.problems for row in self.rows])


@dataclass
class Work:
    """How a stream's time was spent."""

    decoding_s: float = 0.0  # summed over threads
    network_s: float = 0.0
    waited_s: float = 0.0  # by the network
    batch_size: int = 0  # images computed at once: fewer than planned if a GPU's memory ran out

    def add(self, part: Work) -> None:
        """Add the work of a part of the blocks."""
        self.decoding_s += part.decoding_s
        self.network_s += part.network_s
        self.waited_s += part.waited_s
        self.batch_size = min(self.batch_size or part.batch_size, part.batch_size)


@dataclass(frozen=True, eq=False)
class Task:
    """What an executor is asked for: the codes of these blocks of rows, in their order."""

    images: Catalog | Sequence[Source]
    blocks: Sequence[Sequence[int]]
    weights: Weights
    settings: ExtractionSettings
    device: Device
    workers: int
    pixels: bool = False
    work: Work = field(default_factory=Work)
    into: InPlace | None = None  # where worker processes write the codes; else the blocks bring them

    def part(self, blocks: Sequence[Sequence[int]]) -> Part:
        """Some of the blocks with their images alone: small enough to be sent to a worker."""
        rows = [row for block in blocks for row in block]
        if isinstance(self.images, Catalog):
            images: Catalog | list[Source] = replace(self.images.subset(rows), left_out=(), notes=())
        else:
            images = [self.images[row] for row in rows]
        ends = np.cumsum([0, *map(len, blocks)]).tolist()
        return Part(images, [range(first, end) for first, end in pairwise(ends)], blocks)

    def without_images(self) -> Task:
        """What all parts share: a worker gets it once."""
        return replace(self, images=[], blocks=[], work=Work())

    def compute(self, part: Part) -> tuple[list[Block], Work]:
        """The blocks of a part, computed in this process, a worker."""
        task = replace(self, images=part.images, blocks=part.blocks, work=Work())
        found = (part.at_rows(number, block) for number, block in enumerate(local(task)))
        return [block if self.into is None else self.into.write(block) for block in found], task.work


@dataclass(frozen=True, eq=False)
class Part:
    """Images of some blocks, with the rows that they have among these images and among all."""

    images: Catalog | Sequence[Source]
    blocks: Sequence[range]
    rows: Sequence[Sequence[int]]

    def at_rows(self, number: int, block: Block) -> Block:
        """A computed block with its rows among all images."""
        first, rows = self.blocks[number].start, self.rows[number]
        problems = {rows[place - first]: reason for place, reason in block.problems.items()}
        notes = {rows[place - first]: kinds for place, kinds in block.notes.items()}
        return replace(block, rows=rows, problems=problems, notes=notes)


Executor: TypeAlias = Callable[[Task], Iterator[Block]]


class Pipeline:
    """Iterates over ``(batch, codes)`` in the order of ``batches``.

    On a CPU each core computes a batch of its own with one thread; a GPU computes one batch while the next is being copied. A batch for
    which a GPU has no memory is computed in halves: ``batch_size`` images at once. Seconds are summed over threads.
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
        self._decode: DeviceDecoder | None = None
        if encoder.settings.preprocessing.decoding == "gpu":
            from cnncodes.codes.device_decoding import DeviceDecoder

            record, crops = encoder.settings.preprocessing, encoder.settings.crops
            self._decode = DeviceDecoder(record, crops, device.torch_name)
            self.loader.keep_jpegs = True
        self.network_s = self.decoding_s = 0.0
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
                waiting.append((batch, pool.submit(self._compute, batch)))
                if len(waiting) > self.side_by_side:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()

    def _compute(self, batch: Batch) -> dict[str, np.ndarray]:
        started = decoded = time.perf_counter()
        try:
            if self._decode is not None:
                self._decode(batch)
                decoded = time.perf_counter()
            return self._in_parts(batch.pixels)
        finally:
            with self._lock:
                self.decoding_s += decoded - started
                self.network_s += time.perf_counter() - decoded

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


def local(task: Task) -> Iterator[Block]:
    """The executor of this process: threads decode ahead, and on a CPU each core computes a block of its own."""
    encoder = encoder_of(task.weights, task.settings, task.device)
    pipeline = Pipeline(task.images, task.blocks, encoder, workers=task.workers)
    with closing(iter(pipeline)) as computed:  # type: ignore[type-var]
        for batch, codes in computed:
            pixels = batch.pixels if task.pixels else None
            yield Block(batch.rows, codes, batch.problems, batch.digests, batch.notes, batch.seen, pixels)
    loader = pipeline.loader
    task.work.add(
        Work(loader.busy_s + pipeline.decoding_s, pipeline.network_s, loader.waited_s, pipeline.batch_size)
    )


def stream(
    images: Catalog | Sequence[Source],
    weights: Weights,
    settings: ExtractionSettings,
    compute: Compute,
    *,
    blocks: Sequence[Sequence[int]] | None = None,
    executor: Executor | None = None,
    work: Work | None = None,
    pixels: bool = False,
) -> Iterator[Block]:
    """Codes of images (a catalog, or paths, Pillow images or arrays), block by block; raises OptionError if the device is not there.

    Equal blocks of rows have equal bits; by default they are ranges of the settings' batch size. :func:`executor_of` chooses the executor.
    ``work`` is filled at the end. With ``pixels`` the blocks keep theirs.
    """
    from cnncodes.codes.compute import choose_device, device_names

    device = choose_device(device_names(compute.device)[0])
    if blocks is None:
        blocks = batches_of(len(images), settings.batch_size)
    workers = compute.workers or device.cores
    task = Task(images, blocks, weights, settings, device, workers, pixels, work or Work())
    return (executor or executor_of(compute))(task)


def executor_of(compute: Compute) -> Executor:
    """On Ray, in worker processes (always, if there are several devices), or in this process."""
    from cnncodes.codes.compute import device_names

    if compute.ray is not None:
        from cnncodes.codes.on_ray import OnRay

        return OnRay(compute.ray, compute.gpus_per_worker, compute.device, compute.workers)
    names = device_names(compute.device)
    if (count := max(compute.processes, len(names))) > 1:
        from cnncodes.codes.processes import InProcesses

        return InProcesses(count, tuple(names))
    return local


def into(executor: Executor, place: InPlace) -> Executor:
    """The executor, whose workers write the codes themselves."""
    return lambda task: executor(replace(task, into=place))


def batches_of(rows: int, batch_size: int) -> list[range]:
    """Fixed ranges of rows: ``[range(0, 64), range(64, 128), ...]``."""
    return [range(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]


# The encoder that was used last with some weights; it goes with them.
_KEPT: weakref.WeakKeyDictionary[Weights, Encoder] = weakref.WeakKeyDictionary()


def encoder_of(weights: Weights, settings: ExtractionSettings, device: Device) -> Encoder:
    """The network with its weights on the device, opened once for streams with the same settings that follow each other."""
    from cnncodes.codes import compute

    kept = _KEPT.get(weights)
    if kept is None or (kept.settings, kept.device) != (settings, device):
        kept = _KEPT[weights] = compute.Encoder(weights, settings, device)
    return kept


def settings_of(weights: Weights, stages: tuple[str, ...], images: int = 0) -> ExtractionSettings:
    """For layers (canonical names) of weights as they come: their own preprocessing, the centre crop, float32, a batch size by the images."""
    network, record = weights.architecture, weights.preprocessing
    return ExtractionSettings(
        weights.network, stages, weights.name, weights.fingerprint, record,
        batch_size=default_batch_size(images) if images else 64, classes=network.classes,
        pool=default_pool(network, stages, record.crop),
    )  # fmt: skip
