"""Measure: how many images there are, and how much each stage of the network knows about their classes.

Nothing is decided here, and the test images' labels are not looked at: what the figures lead to stays testable. The judges need no
training loop: all of them read one kernel, n x n, of a stage's codes. Its spectrum gives ridge regression with every image left out
once, for all penalties together, without fitting n times.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnncodes.advice.sample import Sample, unit_rows
from cnncodes.core.compute import Compute
from cnncodes.core.errors import HeadError
from cnncodes.heads.confidence import log_softmax
from cnncodes.heads.splits import Split, SplitRule, split_rows
from cnncodes.images.catalog import Catalog
from cnncodes.weights import with_fit

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

NEIGHBOURS = 5
MOST_PADDED = 400  # images that go through the network once more, padded
#: Penalties of the ridge, in units of the mean eigenvalue of the centred kernel: from nearly none to nearly all.
PENALTIES = tuple(float(10.0**power) for power in np.arange(-5, 2.5, 0.5))
_ROUNDS = 300  # of LogME's fixed point, which settles in ten or, with n < d, in some hundred
_SETTLED = 1e-5  # the evidence is flat there: it is off by the square of this


class Spectrum(NamedTuple):
    """Eigenvalues (float64 ``[n]``, never negative) and eigenvectors (columns of ``[n, n]``) of a kernel."""

    values: Array
    vectors: Array


def kernel_of(codes: Array) -> Array:
    """Inner products of all pairs of rows, float64 ``[n, n]``."""
    codes = np.asarray(codes, np.float32)
    return (codes @ codes.T).astype(np.float64)


def centred(kernel: Array) -> Array:
    """The kernel of the same rows with their mean taken away."""
    of_rows = kernel.mean(axis=0)
    return np.asarray(kernel - of_rows[:, None] - of_rows[None, :] + of_rows.mean())


def spectrum_of(kernel: Array) -> Spectrum:
    """Spectrum of a symmetric kernel; what rounding made negative is zero."""
    values, vectors = np.linalg.eigh(kernel)
    return Spectrum(np.clip(values, 0.0, None), vectors)


def linear_scores(codes: Array, labels: Array) -> Array:
    """Scores ``[n, K]`` of the linear judge for each image, which it has not seen."""
    return ridge_left_out(spectrum_of(centred(kernel_of(codes))), labels)


def neighbour_hits(kernel: Array, labels: Array, k: int = NEIGHBOURS) -> Array:
    """Whether the ``k`` nearest other images name each image's class: bool ``[n]``."""
    n, K = len(labels), int(labels.max()) + 1
    similarity = kernel.copy()
    np.fill_diagonal(similarity, -np.inf)
    k = min(k, n - 1)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    votes = np.zeros((n, K))
    rows = np.repeat(np.arange(n), k)
    closeness = similarity[rows, nearest.ravel()]
    np.add.at(votes, (rows, labels[nearest.ravel()]), 1.0 + closeness / (4.0 * k))  # at most 1/4 for all
    return np.asarray(votes.argmax(axis=1) == labels)


def ridge_left_out(spectrum: Spectrum, labels: Array, penalties: tuple[float, ...] = PENALTIES) -> Array:
    """Scores of ridge regression on one-hot targets with a free intercept, each image's by the fit without it.

    Exact, and nothing is fitted again. With the centred kernel ``U diag(s) U'`` the fit is ``H Y``, ``H = 11'/n + U diag(s / (s + penalty)) U'``,
    and the residual of an image that is left out is its residual divided by ``1 - H_ii`` (Allen 1974, PRESS;
    Hastie, Tibshirani and Friedman 2009, eq. 7.64).
    """
    n = len(labels)
    targets = np.eye(int(labels.max()) + 1)[labels]  # [n, K]
    projected = spectrum.vectors.T @ (targets - targets.mean(axis=0))
    squares = spectrum.vectors**2
    unit = float(spectrum.values.mean()) or 1.0
    least, scores = np.inf, targets
    for penalty in penalties:
        shrink = spectrum.values / (spectrum.values + penalty * unit)
        fitted = targets.mean(axis=0) + spectrum.vectors @ (shrink[:, None] * projected)
        own = np.clip(1.0 / n + squares @ shrink, None, 1.0 - 1e-9)
        residual = (targets - fitted) / (1.0 - own)[:, None]
        error = float((residual**2).sum())
        if error < least:
            least, scores = error, targets - residual
    return scores


def log_me(spectrum: Spectrum, labels: Array) -> float:
    """LogME: log evidence per image of Bayesian linear regression, mean over one-hot targets.

    You et al. 2021, 'LogME: Practical Assessment of Pre-trained Models for Transfer Learning', algorithm 1. The
    evidence depends on the codes ``F [n, d]`` through the spectrum of ``F F'`` alone: with ``t = beta / alpha``,
    ``d/2 log alpha - 1/2 log|alpha + beta F'F| = -1/2 sum log(1 + t s)``, so nothing grows with d and fewer
    images than numbers (n < d) is no special case.
    """
    n, s = len(labels), spectrum.values[:, None]
    targets = np.eye(int(labels.max()) + 1)[labels]  # [n, K]
    squares = (spectrum.vectors.T @ targets) ** 2  # of each target along each eigenvector
    t = np.ones(targets.shape[1])  # beta / alpha
    moving = np.ones(len(t), np.bool_)
    for _ in range(_ROUNDS):  # MacKay's fixed point, for all targets that have not settled
        misfit, length, freedom = _fit(squares[:, moving], s, t[moving])
        before = t[moving]
        t[moving] = (n - freedom) / misfit * length / freedom
        moving[moving] = np.abs(t[moving] - before) > _SETTLED * before
        if not moving.any():
            break
    misfit, length, freedom = _fit(squares, s, t)
    alpha, beta = freedom / length, (n - freedom) / misfit
    logs = n * np.log(beta / (2 * np.pi)) - np.log1p(s * t).sum(axis=0)
    return float(np.mean(0.5 * (logs - beta * misfit - alpha * length) / n))


def _fit(squares: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
    """Squared misfit, squared length of the mean weights, and degrees of freedom for ratios beta / alpha ``[K]``."""
    tiny = 1e-12  # a target that is fitted to the last digit would give an infinite beta
    kept = 1.0 / (1.0 + s * t)  # [n, K]
    misfit = (squares * kept**2).sum(axis=0)
    length = (squares * s * (t * kept) ** 2).sum(axis=0)
    freedom = (1.0 - kept).sum(axis=0)
    return np.maximum(misfit, tiny), np.maximum(length, tiny), np.clip(freedom, tiny, len(s) - tiny)


def calibrated(scores: Array, labels: Array) -> Array:
    """Probabilities from leave-one-out scores: softmax with the one temperature of greatest likelihood."""
    steepness = np.logspace(-1, 2.5, 60)
    rows = np.arange(len(labels))
    losses = [-np.mean(log_softmax(scores * steep)[rows, labels]) for steep in steepness]
    return np.asarray(np.exp(log_softmax(scores * steepness[int(np.argmin(losses))])))


@dataclass(frozen=True)
class Size:
    """How many images there are to learn from, after the split that would be used."""

    images: int  # of the whole catalog
    classes: int
    train: int  # labelled images to fit, to choose with, and to test
    val: int
    test: int
    median_per_class: int  # of the images to fit
    least_per_class: int
    least_class: str
    largest_per_class: int
    largest_class: str
    how: str  # the split in words


@dataclass(frozen=True)
class Depth:
    """What one stage's codes know about the classes, by judges that leave the judged image out."""

    stage: str
    numbers: int  # per image, as judged
    pooled_to: int  # side of the grid that the stage was average-pooled to; 0 if it was judged as it is
    neighbours: float  # accuracy of the 5 nearest others (cosine); _se: standard errors
    neighbours_se: float
    linear: float  # of ridge regression, each image left out once
    linear_se: float
    log_me: float  # see :func:`log_me`
    late: bool  # one of the last stages: fc6 and fc7 of an AlexNet
    behind: float  # how much lower ``linear`` is at the best of the last stages, paired by images
    behind_se: float


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured."""

    size: Size
    judged: int  # training images that the stages were judged on
    looked_at: int  # decoded, test images included
    depths: tuple[Depth, ...]  # from the pixels upwards; empty where no class has two images
    majority: float  # accuracy of always naming the largest class
    confidence: float | None  # mean of its own classifier's largest probability; None if untrained
    images_per_second: float  # of decoding and the forward pass, on ``device``
    device: str

    @property
    def best_late(self) -> Depth:
        """Of the last stages the one that the linear judge likes best; of equal ones the last."""
        return max((depth for depth in reversed(self.depths) if depth.late), key=lambda depth: depth.linear)

    @property
    def best_earlier(self) -> Depth | None:
        """The best stage before the last ones by the linear judge, of equal ones the last; None where there is none."""
        earlier = (depth for depth in reversed(self.depths) if not depth.late)
        return max(earlier, key=lambda depth: depth.linear, default=None)


def measure_size(catalog: Catalog, rule: SplitRule = "auto", seed: int = 0) -> tuple[Size, Split]:
    """Count the images after the split that would be used."""
    split = split_rows(catalog, np.ones(len(catalog), np.bool_), rule, seed)
    counts = np.bincount(catalog.labels[split.train], minlength=len(catalog.classes))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise HeadError(
            f"only one class has images to learn from: {catalog.classes[int(present[0])]!r}.",
            "Give images of two classes or more, a folder each.",
        )
    least, largest = present[counts[present].argmin()], present[counts[present].argmax()]
    size = Size(
        images=len(catalog),
        classes=len(present),
        train=len(split.train),
        val=len(split.choose),
        test=len(split.test),
        median_per_class=int(np.median(counts[present])),
        least_per_class=int(counts[least]),
        least_class=catalog.classes[least],
        largest_per_class=int(counts[largest]),
        largest_class=catalog.classes[largest],
        how=split.how,
    )
    return size, split


def judge(sample: Sample, size: Size) -> Evidence:
    """Judge every stage on the sample's training rows; raises HeadError if those that can be read are not of two classes."""
    used = sample.fitted & (sample.labels >= 0)
    labels = np.unique(sample.labels[used], return_inverse=True)[1]
    counts = np.bincount(labels)
    if len(counts) < 2:
        raise HeadError(
            f"the {len(labels)} readable images to learn from are of fewer than two classes.",
            "Give at least two classes with images that can be read, those that are kept to test not counted.",
        )
    judged = sample.codes if len(labels) >= 4 and counts.max() >= 2 else {}
    found: dict[str, tuple[Array, Array, float]] = {}
    for stage, codes in judged.items():
        kernel = kernel_of(codes[used])
        spectrum = spectrum_of(centred(kernel))
        linear = ridge_left_out(spectrum, labels).argmax(axis=1) == labels
        found[stage] = neighbour_hits(kernel, labels), linear, log_me(spectrum, labels)
    # of equal ones the last, as in Evidence.best_late
    late = [stage for stage in reversed(sample.late) if stage in found]
    best = max(late, key=lambda stage: float(found[stage][1].mean()), default="")
    depths = [
        Depth(
            stage,
            sample.codes[stage].shape[1],
            sample.grids[stage],
            *mean_and_error(near),
            *mean_and_error(linear),
            hint,
            stage in sample.late,
            *mean_and_error(linear.astype(np.float64) - found[best][1]),
        )
        for stage, (near, linear, hint) in found.items()
    ]
    return Evidence(
        size=size,
        judged=len(labels),
        looked_at=len(sample.rows),
        depths=tuple(depths),
        majority=float(counts.max() / len(labels)),
        confidence=sample.confidence,
        images_per_second=sample.images_per_second,
        device=sample.device,
    )


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean of independent values, and its standard error: sd / sqrt(n)."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True)
class Fits:
    """Padded photographs against their centre crops: the linear judge of one stage, on the same training images."""

    seen: float  # median share of a photograph that the centre crop shows
    stage: str
    judged: int  # images
    crop: float  # accuracy, each image left out once
    pad: float
    gain: float  # of ``pad`` over ``crop``, paired by images
    gain_se: float

    def better(self, standard_errors: float) -> bool:
        """Whether padded photographs are better by more than so many standard errors."""
        return self.gain > standard_errors * self.gain_se


def measure_fits(catalog: Catalog, weights: Weights, sample: Sample, stage: str, compute: Compute) -> Fits:
    """Compute a stage's codes of at most 400 training images of the sample once more, padded, and judge both."""
    from cnncodes.codes.stream import settings_of, stream

    places = np.flatnonzero(sample.fitted & (sample.labels >= 0))
    if len(places) > MOST_PADDED:  # every class keeps its share
        ordered = places[np.argsort(sample.labels[places], kind="stable")]
        places = np.sort(ordered[np.linspace(0, len(ordered) - 1, MOST_PADDED).astype(int)])
    padded = with_fit(weights, "pad")
    settings = settings_of(padded, (stage,), len(places))
    if not weights.architecture.stages:
        settings = dataclasses.replace(settings, pool="mean")
    parts, read = [], []
    for block in stream(catalog.subset(sample.rows[places]), padded, settings, compute):
        read.append(np.asarray(block.rows)[block.readable])
        parts.append(unit_rows(block.codes[stage][block.readable]).astype(np.float16))
        compute.progress("looking at padded images", int(block.rows[-1]) + 1, len(places), "")
    places = places[np.concatenate(read)]
    labels = np.unique(sample.labels[places], return_inverse=True)[1]
    crop, pad = (
        linear_scores(codes, labels).argmax(axis=1) == labels
        for codes in (sample.codes[stage][places], np.concatenate(parts))
    )
    gain, gain_se = mean_and_error(pad.astype(np.float64) - crop)
    return Fits(sample.median_seen, stage, len(places), float(crop.mean()), float(pad.mean()), gain, gain_se)
