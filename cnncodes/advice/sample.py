"""A stratified sample of the images through the whole network, once: every stage's codes, in bounded memory."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.compute import Compute
from cnncodes.core.errors import HeadError
from cnncodes.heads.splits import Split, compact_labels
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.codes.settings import ExtractionSettings
    from cnncodes.codes.stream import Block
    from cnncodes.networks import Shape
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

MOST_IMAGES = 2000
#: Stages with more numbers per image (AlexNet's pool5 has just so many) are average-pooled to a grid that has
#: no more: 2,000 images of all stages then stay below 300 MB.
MOST_NUMBERS = 9216
_LEVELS = 8  # of 255: so far from the median colour a pixel counts as it; JPEG moves flat areas by less
_SIDE = 64  # pixels of a side are enough to see that a picture is empty
_BATCH_BYTES = 128 * 2**20  # activations of one batch, all stages together


@dataclass(frozen=True, eq=False)
class Sample:
    """The images that were decoded, and their codes."""

    rows: Array  # [n] of the catalog, ascending, readable
    fitted: Array  # [n] whether each is a training row
    labels: Array  # [n] 0..K-1 over the classes that have training images; -1 for others
    codes: dict[str, Array]  # [n, numbers] rows of length 1, one entry for each stage
    grids: dict[str, int]  # side of the grid that a stage was pooled to, or 0
    positions: dict[str, int]  # numbers of each channel: 36 of AlexNet's pool5, 1 of a fully connected stage
    seen: Array  # [n] share of each photograph that the network sees
    one_colour: Array  # [n] part of the pixels that have the image's median colour
    late: tuple[str, ...]  # the last stages: ``Network.late_layers``
    confidence: float | None
    problems: dict[str, str]  # unreadable images with their reasons
    notes: dict[str, tuple[str, ...]]  # see :data:`~cnncodes.images.readers.NOTES`
    images_per_second: float
    device: str

    @property
    def median_seen(self) -> float:
        """Of the images: how much of a photograph the network sees."""
        return float(np.median(self.seen))

    @property
    def deepest(self) -> str:
        """Name of the last stage before the classifier."""
        return list(self.codes)[-1]


def draw_sample(catalog: Catalog, split: Split, images: int = MOST_IMAGES, seed: int = 0) -> Array:
    """At most so many of the split's rows, ascending: every class keeps its share of each part of the split."""
    rows = np.sort(np.concatenate([split.train, split.choose, split.test]))
    if len(rows) <= images:
        return rows
    part = np.isin(rows, split.train).astype(np.int64)
    groups = part * (len(catalog.classes) + 1) + catalog.labels[rows]
    random = np.random.default_rng(seed)
    # Rows of a group get evenly spaced places in 0..1, and the lowest of all places are taken.
    places = np.empty(len(rows))
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(rows[np.argsort(places, kind="stable")[:images]])


def extract_sample(
    catalog: Catalog,
    split: Split,
    weights: Weights,
    images: int,
    compute: Compute,
    gathered: Gathered | None = None,
) -> Sample:
    """Every stage's codes of a stratified sample of so many images at most; those of ``gathered``, if it has the whole catalog."""
    from cnncodes.codes.compute import choose_device, device_names
    from cnncodes.codes.stream import stream

    rows = draw_sample(catalog, split, images, compute.seed)
    if gathered is not None and len(catalog) <= images and gathered.has == len(catalog):
        kept, places = gathered, rows
    else:
        kept, places = Gathered(weights, len(rows)), np.arange(len(rows))
        for batch in stream(catalog.subset(rows), weights, kept.settings, compute, pixels=True):
            kept.take(batch)
            bad = f"{len(kept.problems):,} unreadable" if kept.problems else ""
            compute.progress("looking", int(batch.rows[-1]) + 1, len(rows), bad)
    of = dict(zip(places.tolist(), (catalog.names[row] for row in rows), strict=True))
    problems = {of[place]: reason for place, reason in kept.problems.items() if place in of}
    good = np.array([place not in kept.problems for place in of], np.bool_)
    if not good.any():
        name, reason = next(iter(problems.items()))
        raise HeadError(
            f"none of the {len(rows):,} images checked could be read: '{name}': {reason}.",
            "Look at one of them with another program; the formats are those of Pillow.",
        )
    rows, places = rows[good], places[good]
    return Sample(
        rows=rows,
        fitted=np.isin(rows, split.train),
        labels=compact_labels(catalog, split.train)[0][rows],
        codes={stage: codes[places] for stage, codes in kept.codes.items()},
        grids=kept.grids,
        positions=kept.positions,
        seen=kept.seen[places],
        one_colour=kept.one_colour[places],
        late=weights.architecture.late_layers,
        confidence=None if kept.confidence is None else float(kept.confidence[places].mean()),
        problems=problems,
        notes={of[place]: kinds for place, kinds in kept.notes.items() if place in of},
        images_per_second=kept.images_per_second,
        device=choose_device(device_names(compute.device)[0]).description,
    )


class Gathered:
    """What a sample keeps of blocks of activations: rows of length 1, and a few numbers for each image."""

    def __init__(self, weights: Weights, images: int) -> None:
        from cnncodes.codes.stream import settings_of

        network = weights.architecture
        trained = network.classes is not None and weights.origin != "random"
        self._classifier = (
            network.stage_names[-1] if trained else ""
        )  # its softmax: the network's own opinion
        stages = network.codes_layers
        settings = settings_of(weights, (*stages, self._classifier) if trained else stages, images)
        if not network.stages:
            settings = dataclasses.replace(settings, pool="mean")
        self._shapes: dict[str, Shape] = settings.stage_shapes()
        self._per_image = 4 * sum(math.prod(shape) for shape in self._shapes.values())  # bytes
        size = max(1, min(settings.batch_size, _BATCH_BYTES // self._per_image))
        self.settings = dataclasses.replace(settings, batch_size=size)
        self.grids = {stage: pooled_side(self._shapes[stage]) for stage in stages}
        self.positions, self.codes = {}, {}
        for stage, grid in self.grids.items():
            channels, *sides = self._shapes[stage]
            self.positions[stage] = grid**2 or math.prod(sides)
            self.codes[stage] = np.zeros((images, channels * self.positions[stage]), np.float16)
        self.seen, self.one_colour = np.ones(images), np.zeros(images)
        #: The largest probability that the classifier gives; None without one that was trained.
        self.confidence = np.zeros(images) if trained else None
        self.problems: dict[int, str] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self.has = 0  # images
        self._started = self._ended = time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """From the start to the last block."""
        return self.has / (self._ended - self._started)

    def take(self, block: Block) -> None:
        """Keep a block."""
        rows, codes = np.asarray(block.rows), block.codes
        assert block.pixels is not None, "the stream was asked for them"
        self.problems |= block.problems
        self.notes |= block.notes
        self.seen[rows] = block.seen
        self.one_colour[rows] = [share_of_one_colour(pixels[0]) for pixels in block.pixels]
        for stage, grid in self.grids.items():
            values = codes[stage] if not grid else average_pool(codes[stage], self._shapes[stage], grid)
            self.codes[stage][rows] = unit_rows(values)
        if self.confidence is not None:
            logits = codes[self._classifier].astype(np.float64)
            self.confidence[rows] = 1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        self.has += len(rows)
        self._ended = time.perf_counter()

    def fits(self, settings: ExtractionSettings, images: int) -> bool:
        """Whether an extraction of so many images may compute these stages too: few enough, prepared alike, in blocks that fit."""
        mine = dataclasses.replace(self.settings, stages=settings.stages, batch_size=settings.batch_size)
        small = settings.batch_size * self._per_image <= 2 * _BATCH_BYTES
        return mine == settings and images <= MOST_IMAGES and small


def pooled_side(shape: Shape) -> int:
    """Side of the largest square grid with which a stage has at most MOST_NUMBERS numbers; 0: as it is."""
    if len(shape) < 3 or int(np.prod(shape)) <= MOST_NUMBERS:
        return 0
    return max(1, int(np.sqrt(MOST_NUMBERS / shape[0])))


def average_pool(codes: Array, shape: Sequence[int], grid: int) -> Array:
    """Means over the cells of a ``grid`` x ``grid`` division of each channel."""
    values = codes.reshape(len(codes), *shape)  # [n, channels, height, width]
    for axis, side in ((2, shape[1]), (3, shape[2])):
        edges = np.arange(grid + 1) * side // grid
        sums = np.add.reduceat(values, edges[:-1], axis=axis)
        cells = np.diff(edges).astype(values.dtype)
        values = sums / (cells[:, None] if axis == 2 else cells)
    return values.reshape(len(codes), -1)


def unit_rows(codes: Array) -> Array:
    """Rows divided by their length, float32 ``[n, d]``; rows of zeros stay zeros."""
    codes = np.asarray(codes, np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", codes, codes, dtype=np.float64))[:, None]
    return np.asarray(np.divide(codes, length, out=np.zeros_like(codes), where=length > 0))


def share_of_one_colour(pixels: Array) -> float:
    """Part of the pixels, 0..1, that have nearly the picture's median colour."""
    step = max(1, min(pixels.shape[:2]) // _SIDE)
    small = pixels[::step, ::step].reshape(-1, pixels.shape[-1]).astype(np.int16)
    away = np.abs(small - np.median(small, axis=0).astype(np.int16)).max(axis=1)
    return float((away <= _LEVELS).mean())
