"""Measure: how many images there are, and how much each stage of the network knows about their classes.

Nothing is decided here, and the test images' labels are not looked at: what the figures lead to stays testable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice import quick_probes
from cnncodes.advice.sample import Sample
from cnncodes.core.errors import HeadError
from cnncodes.heads.splits import Split, SplitRule, split_rows
from cnncodes.images.catalog import Catalog

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Size:
    """How many images there are to learn from, after the split that would be used.

    Parameters
    ----------
    images, classes : int
        Of the whole catalog.
    train, val, test : int
        Labelled images to fit, to choose with, and to test.
    median_per_class, least_per_class : int
        Of the images to fit.
    least_class, largest_class : str
    largest_per_class : int
    how : str
        The split in words.
    """

    images: int
    classes: int
    train: int
    val: int
    test: int
    median_per_class: int
    least_per_class: int
    least_class: str
    largest_per_class: int
    largest_class: str
    how: str


@dataclass(frozen=True)
class Depth:
    """What one stage's codes know about the classes, by judges that leave the judged image out.

    Parameters
    ----------
    stage : str
    numbers : int
        Per image, as judged.
    pooled_to : int
        Side of the grid that the stage was average-pooled to; 0 if it was judged as it is.
    neighbours, neighbours_se : float
        Part of the images whose 5 nearest others (cosine) name their class, and its standard error.
    linear, linear_se : float
        The same for ridge regression, each image left out once.
    log_me : float
        A hint: see :func:`cnncodes.advice.quick_probes.log_me`.
    late : bool
        Whether this is one of the last stages, fc6 and fc7 of an AlexNet: the fully connected ones.
    behind, behind_se : float
        How much lower ``linear`` is at the best of the last stages than here, and the standard error of this
        difference, paired over the images.
    """

    stage: str
    numbers: int
    pooled_to: int
    neighbours: float
    neighbours_se: float
    linear: float
    linear_se: float
    log_me: float
    late: bool
    behind: float
    behind_se: float


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured.

    Parameters
    ----------
    size : Size
    judged : int
        Images of the training rows that the stages were judged on.
    looked_at : int
        Images that were decoded, test images included (for copies between the splits).
    depths : tuple of Depth
        From the pixels upwards; the last is the deepest stage before the classifier. Empty where no class has two images.
    majority : float
        Accuracy of always naming the largest class, on the judged images.
    confidence : float or None
        Mean of the largest probability that the network's own classifier gives; None without a trained one.
    images_per_second : float
        Of decoding and the forward pass, on ``device``.
    device : str
    """

    size: Size
    judged: int
    looked_at: int
    depths: tuple[Depth, ...]
    majority: float
    confidence: float | None
    images_per_second: float
    device: str

    @property
    def best_late(self) -> Depth:
        """Of the last stages the one that the linear judge likes best; of equal ones the last."""
        return max((depth for depth in reversed(self.depths) if depth.late), key=lambda depth: depth.linear)

    @property
    def best_earlier(self) -> Depth | None:
        """The stage before the last ones that the linear judge likes best; None where there is none.

        Of equal ones the last: it has most in common with what follows, so the difference is known best.
        """
        earlier = (depth for depth in reversed(self.depths) if not depth.late)
        return max(earlier, key=lambda depth: depth.linear, default=None)


def measure_size(catalog: Catalog, rule: SplitRule = "auto", seed: int = 0) -> tuple[Size, Split]:
    """Count the images after the split that would be used.

    Raises
    ------
    HeadError
        If fewer than two classes have images to fit.
    """
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
    found = {stage: _judge_stage(codes[used], labels) for stage, codes in judged.items()}
    # of equal ones the last, as in Evidence.best_late
    late = [stage for stage in reversed(sample.late) if stage in found]
    best = max(late, key=lambda stage: float(found[stage][1].mean()), default="")
    depths = []
    for stage, (near, linear, hint) in found.items():
        difference = linear.astype(np.float64) - found[best][1]
        depths.append(
            Depth(
                stage, sample.codes[stage].shape[1], sample.grids[stage], *mean_and_error(near), *mean_and_error(linear), hint, stage in sample.late,
                *mean_and_error(difference),
            )
        )  # fmt: skip
    return Evidence(
        size=size,
        judged=len(labels),
        looked_at=len(sample.rows),
        depths=tuple(depths),
        majority=float(np.bincount(labels).max() / len(labels)),
        confidence=sample.confidence,
        images_per_second=sample.images_per_second,
        device=sample.device,
    )


def _judge_stage(codes: Array, labels: Array) -> tuple[Array, Array, float]:
    """Hits of the neighbours, hits of the ridge, and LogME."""
    kernel = quick_probes.kernel_of(codes)
    near = quick_probes.neighbour_hits(kernel, labels)
    spectrum = quick_probes.spectrum_of(quick_probes.centred(kernel))
    linear = quick_probes.ridge_left_out(spectrum, labels).argmax(axis=1) == labels
    return near, linear, quick_probes.log_me(spectrum, labels)


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean of independent values, and its standard error: sd / sqrt(n)."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
