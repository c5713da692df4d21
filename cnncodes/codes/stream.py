"""The only way from images to codes: fixed ranges of rows, each computed as it would be anywhere else, in order."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.codes.pipeline import Pipeline
from cnncodes.codes.settings import ExtractionSettings, default_batch_size, default_pool
from cnncodes.core.compute import Compute
from cnncodes.images.catalog import Catalog
from cnncodes.weights import Weights

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device, Encoder
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
        """The blocks of a part, computed in this process."""
        task = replace(self, images=part.images, blocks=part.blocks, work=Work())
        return [part.at_rows(number, block) for number, block in enumerate(local(task))], task.work


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


def local(task: Task) -> Iterator[Block]:
    """The executor of this process: threads decode ahead, and on a CPU each core computes a block of its own."""
    encoder = encoder_of(task.weights, task.settings, task.device)
    pipeline = Pipeline(task.images, task.blocks, encoder, workers=task.workers)
    with closing(iter(pipeline)) as computed:  # type: ignore[type-var]
        for batch, codes in computed:
            pixels = batch.pixels if task.pixels else None
            yield Block(batch.rows, codes, batch.problems, batch.digests, batch.notes, batch.seen, pixels)
    loader = pipeline.loader
    task.work.add(Work(loader.busy_s, pipeline.network_s, loader.waited_s, pipeline.batch_size))


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

    Parameters
    ----------
    settings : ExtractionSettings
        Which layers, and how; they say the precision.
    compute : Compute
        Its device, workers, processes and Ray cluster.
    blocks : sequence of sequences of int, optional
        Rows of each block; by default all of them, in ranges of the settings' batch size. Equal blocks have equal bits.
    executor : callable, optional
        Computes the blocks; by default :func:`executor_of` chooses it.
    work : Work, optional
        Filled at the end.
    pixels : bool, default False
        Whether the blocks keep their pixels.
    """
    from cnncodes.codes.compute import choose_device, device_names

    device = choose_device(device_names(compute.device)[0])
    if blocks is None:
        blocks = batches_of(len(images), settings.batch_size)
    workers = compute.workers or device.cores
    task = Task(images, blocks, weights, settings, device, workers, pixels, work or Work())
    return (executor or executor_of(compute))(task)


def executor_of(compute: Compute) -> Executor:
    """Where the blocks are computed: on Ray, in worker processes (always, if there are several devices), or in this process."""
    from cnncodes.codes.compute import device_names

    if compute.ray is not None:
        from cnncodes.codes.on_ray import OnRay

        return OnRay(compute.ray)
    names = device_names(compute.device)
    if (count := max(compute.processes, len(names))) > 1:
        from cnncodes.codes.processes import InProcesses

        return InProcesses(count, tuple(names))
    return local


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
    """The settings for some layers of weights as they come: their own preprocessing, the centre crop, float32.

    ``stages`` are canonical names; the batch size follows the number of images.
    """
    return ExtractionSettings(
        network=weights.network,
        stages=stages,
        weights=weights.name,
        weights_sha256=weights.fingerprint,
        preprocessing=weights.preprocessing,
        batch_size=default_batch_size(images) if images else 64,
        classes=weights.architecture.classes,
        pool=default_pool(weights.architecture, stages, weights.preprocessing.crop),
    )
