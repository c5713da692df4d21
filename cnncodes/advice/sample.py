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

from cnncodes.advice.quick_probes import unit_rows
from cnncodes.advice.strays import share_of_one_colour
from cnncodes.core.compute import Compute
from cnncodes.core.errors import HeadError
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.codes.settings import ExtractionSettings
    from cnncodes.codes.stream import Block
    from cnncodes.networks import Network, Shape
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

MOST_IMAGES = 2000
#: Stages with more numbers per image (AlexNet's pool5 has just so many) are average-pooled to a grid that has
#: no more: 2,000 images of all stages then stay below 300 MB.
MOST_NUMBERS = 9216
_BATCH_BYTES = 128 * 2**20  # activations of one batch, all stages together


@dataclass(frozen=True, eq=False)
class Sample:
    """The images that were decoded, and their codes.

    Parameters
    ----------
    rows : int64 ndarray [n]
        Of the catalog, ascending, readable.
    fitted : bool ndarray [n]
        Whether each is a training row.
    labels : int64 ndarray [n]
        0..K-1 over the classes that have training images; -1 for others.
    codes : dict of str to float16 ndarray [n, numbers]
        Rows of length 1, one entry for each stage.
    grids : dict of str to int
        Side of the grid that a stage was pooled to, or 0.
    positions : dict of str to int
        Numbers of each channel: 36 of AlexNet's pool5, 1 of a fully connected stage.
    one_colour : float64 ndarray [n]
        Part of the pixels of each image, as the network sees it, that have its median colour.
    late : tuple of str
        Which of the stages count as the last ones, see :func:`late_stages`.
    mean, variance : float64 ndarray [d]
        Of the deepest stage's codes as they are.
    confidence : float or None
    problems : dict of str to str
        Unreadable images with their reasons.
    notes : dict of str to tuple of str
        Images that are read though something is amiss with them, see :data:`~cnncodes.images.notes.NOTES`.
    images_per_second : float
    device : str
    """

    rows: Array
    fitted: Array
    labels: Array
    codes: dict[str, Array]
    grids: dict[str, int]
    positions: dict[str, int]
    one_colour: Array
    late: tuple[str, ...]
    confidence: float | None
    problems: dict[str, str]
    notes: dict[str, tuple[str, ...]]
    images_per_second: float
    device: str

    @property
    def deepest(self) -> str:
        """Name of the last stage before the classifier."""
        return list(self.codes)[-1]


def probed_stages(network: Network) -> tuple[str, ...]:
    """Stages that are judged: all but normalisations and the classifier."""
    return network.codes_layers


def late_stages(network: Network) -> tuple[str, ...]:
    """The judged stages that are fully connected, fc6 and fc7 of an AlexNet; the deepest where there is none."""
    return network.late_layers


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


def extract_sample(catalog: Catalog, split: Split, weights: Weights, images: int, compute: Compute) -> Sample:
    """Decode a stratified sample of at most so many images once and keep every stage's codes, pooled where they are large."""
    from cnncodes.codes.compute import choose_device
    from cnncodes.codes.stream import stream

    place = choose_device(compute.device)
    drawn = catalog.subset(rows := draw_sample(catalog, split, images, compute.seed))
    stages = probed_stages(weights.architecture)
    settings = _settings(weights, stages, len(rows))
    kept = _Kept(settings, stages, len(rows), trained_classifier(weights))
    started = time.perf_counter()
    for batch in stream(drawn, weights, settings, compute, pixels=True):
        kept.take(batch)
        bad = f"{len(kept.problems):,} unreadable" if kept.problems else ""
        compute.progress("looking", int(batch.rows[-1]) + 1, len(rows), bad)
    seconds = time.perf_counter() - started
    problems = {drawn.names[row]: reason for row, reason in kept.problems.items()}
    readable = kept.readable
    if not readable.any():
        name, reason = next(iter(problems.items()))
        raise HeadError(
            f"none of the {len(rows):,} images looked at could be read: '{name}': {reason}.",
            "Look at one of them with another program; the formats are those of Pillow.",
        )
    return Sample(
        rows=rows[readable],
        fitted=np.isin(rows, split.train)[readable],
        labels=_compact(catalog.labels, split)[rows][readable],
        codes={stage: kept.codes[stage][readable] for stage in stages},
        grids=kept.grids,
        positions={stage: kept.positions(stage) for stage in stages},
        one_colour=kept.one_colour[readable],
        late=late_stages(weights.architecture),
        confidence=kept.confidence,
        problems=problems,
        notes={drawn.names[row]: kinds for row, kinds in kept.notes.items()},
        images_per_second=len(rows) / seconds,
        device=place.description,
    )


def trained_classifier(weights: Weights) -> str:
    """The stage whose softmax is the network's own opinion; empty without a classifier that was trained."""
    network = weights.architecture
    if network.classes is None or weights.origin == "random":
        return ""
    return network.stage_names[-1]


def _settings(weights: Weights, stages: tuple[str, ...], images: int) -> ExtractionSettings:
    from cnncodes.codes.stream import settings_of

    classifier = trained_classifier(weights)
    settings = settings_of(weights, (*stages, classifier) if classifier else stages, images)
    if not weights.architecture.stages:
        settings = dataclasses.replace(settings, pool="mean")
    per_image = 4 * sum(int(np.prod(shape)) for shape in settings.stage_shapes().values())
    size = max(1, min(settings.batch_size, _BATCH_BYTES // per_image))
    return dataclasses.replace(settings, batch_size=size)


def _compact(labels: Array, split: Split) -> Array:
    """Labels of the whole catalog as places in the classes that have training images, -1 for others."""
    places = np.full(len(labels), -1, np.int64)
    for place, label in enumerate(np.unique(labels[split.train])):
        places[labels == label] = place
    return places


class _Kept:
    """What a sample keeps of batches of activations: rows of length 1, and sums over the images for the rest."""

    def __init__(
        self, settings: ExtractionSettings, stages: tuple[str, ...], images: int, classifier: str
    ) -> None:
        self._shapes: dict[str, Shape] = settings.stage_shapes()
        self._classifier, self._deepest = classifier, stages[-1]
        self.grids = {stage: pooled_side(self._shapes[stage]) for stage in stages}
        self.codes = {
            stage: np.zeros((images, _numbers(self._shapes[stage], grid)), np.float16)
            for stage, grid in self.grids.items()
        }
        self.readable = np.ones(images, np.bool_)
        self.one_colour = np.zeros(images)
        self.problems: dict[int, str] = {}
        self.notes: dict[int, tuple[str, ...]] = {}
        self._confidence, self._count = 0.0, 0

    def take(self, batch: Block) -> None:
        """Keep a block of the sample's rows."""
        rows, codes = np.asarray(batch.rows), batch.codes
        assert batch.pixels is not None, "the stream was asked for them"
        self.problems |= batch.problems
        self.notes |= batch.notes
        self.readable[list(batch.problems)] = False
        self.one_colour[rows] = [share_of_one_colour(pixels[0]) for pixels in batch.pixels]
        for stage, grid in self.grids.items():
            values = codes[stage] if not grid else average_pool(codes[stage], self._shapes[stage], grid)
            self.codes[stage][rows] = unit_rows(values)
        good = self.readable[rows]
        self._count += int(good.sum())
        if self._classifier:
            logits = codes[self._classifier][good].astype(np.float64)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            self._confidence += float((1.0 / odds.sum(axis=1)).sum())

    def positions(self, stage: str) -> int:
        """Numbers of each channel, as they are kept."""
        return self.grids[stage] ** 2 or math.prod(self._shapes[stage][1:])

    @property
    def confidence(self) -> float | None:
        """Mean of the classifier's largest probability; None without a classifier that was trained."""
        return self._confidence / self._count if self._classifier else None


def pooled_side(shape: Shape) -> int:
    """Side of the largest square grid with which a stage has at most MOST_NUMBERS numbers; 0: as it is."""
    if len(shape) < 3 or int(np.prod(shape)) <= MOST_NUMBERS:
        return 0
    return max(1, int(np.sqrt(MOST_NUMBERS / shape[0])))


def _numbers(shape: Shape, grid: int) -> int:
    return shape[0] * grid * grid if grid else int(np.prod(shape))


def average_pool(codes: Array, shape: Sequence[int], grid: int) -> Array:
    """Means over the cells of a ``grid`` x ``grid`` division of each channel.

    Parameters
    ----------
    codes : float array [n, channels * height * width]
    shape : (channels, height, width)
    grid : int
        At most height and width; cells differ by one row or column where it does not divide them.

    Returns
    -------
    float array [n, channels * grid * grid]
    """
    values = codes.reshape(len(codes), *shape)  # [n, channels, height, width]
    for axis, side in ((2, shape[1]), (3, shape[2])):
        edges = np.arange(grid + 1) * side // grid
        sums = np.add.reduceat(values, edges[:-1], axis=axis)
        cells = np.diff(edges).astype(values.dtype)
        values = sums / (cells[:, None] if axis == 2 else cells)
    return values.reshape(len(codes), -1)
