"""How good predictions are: accuracies, per class figures, the confusions that matter, and whether probabilities can be believed.

scikit-learn's metrics are loaded when the first evaluation is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core import records
from cnncodes.core.errors import ModelError, OptionError

Array = npt.NDArray[Any]

Kind = Literal["probabilities", "softmax(score)"]
TOP5_CLASSES = 6  # from so many on top-5 accuracy is given; with five it would always be 1
BINS = 15  # of probabilities


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, each 0..1, or None where it has nothing to be computed from."""

    name: str
    support: int  # images of the class
    precision: float | None  # of the images predicted as the class, the part that is of it
    recall: float | None  # of the images of the class, the part predicted as it: its accuracy
    f1: float | None  # harmonic mean of both, 2 TP / (2 TP + FP + FN); None without images


@dataclass(frozen=True)
class Confusion:
    """``count`` images of class ``true`` were taken for ``predicted``: the part ``share`` of its images."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Evaluation:
    """The result of comparing predictions with labels."""

    n: int  # images with a label
    top1: float  # part of the images whose best-scored class is theirs, 0..1
    top1_low: float  # 95 % confidence interval of top1 (Wilson 1927, 'Probable inference', score interval)
    top1_high: float
    top5: float | None  # part of the images whose class is among the five best scored; None below six classes
    mean_per_class: float  # mean recall of the classes that have images
    majority: float  # accuracy of always answering the class with the most images: what a head has to beat
    per_class: tuple[ClassFigures, ...]  # in the order of the classes
    confusion: tuple[tuple[int, ...], ...]  # [K][K], images by true class (row) and predicted class (column)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(figures.name for figures in self.per_class)

    @property
    def recalls(self) -> tuple[float | None, ...]:
        """Of each class, 0..1; None without images."""
        return tuple(figures.recall for figures in self.per_class)

    @property
    def top5_tells(self) -> bool:
        """Whether top-5 says something: of ten classes, five answers drawn blindly hold the right one in every second case."""
        return self.top5 is not None and len(self.per_class) > 10

    def worst_confusions(self, k: int = 5) -> tuple[Confusion, ...]:
        """The ``k`` most frequent pairs (true, predicted) that differ, most frequent first.

        Among equal counts the larger share of the true class comes first, then the order of the classes.
        """
        counts = np.array(self.confusion)
        np.fill_diagonal(counts, 0)
        names, support = self.classes, [figures.support for figures in self.per_class]
        pairs = [
            Confusion(names[i], names[j], int(counts[i, j]), float(counts[i, j] / support[i]))
            for i, j in np.argwhere(counts)
        ]
        return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:k])

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return records.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Inverse of :meth:`to_json`; raises :class:`ModelError` for anything else."""
        return records.from_json(text, cls, "the evaluation", ModelError)


def evaluate_scores(scores: Array, labels: Array, classes: Sequence[str]) -> Evaluation:
    """Compare scores with labels.

    Parameters
    ----------
    scores : float array [n, K]
        The largest of a row is the predicted class (the first of equal ones); probabilities do as well.
    labels : int array [n]
        0..K-1, or -1 for images without a label, which are left out.
    classes : sequence of K str

    Raises
    ------
    OptionError
        If shapes or labels do not fit the classes, a score is NaN, or no image has a label.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    K = len(classes)
    scores, labels = _labelled(np.asarray(scores), np.asarray(labels), K)
    n, predicted, every = len(labels), scores.argmax(axis=1), np.arange(K)
    figures = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=np.nan)
    recall, support = figures[1], figures[3]
    right = int((predicted == labels).sum())
    per_class = tuple(
        ClassFigures(str(name), int(count), _number(p), _number(r), _number(f1) if count else None)
        for name, p, r, f1, count in zip(classes, *figures, strict=True)
    )
    low, high = wilson_interval(right, n)
    return Evaluation(
        n=n,
        top1=right / n,
        top1_low=low,
        top1_high=high,
        top5=float((ranks(scores, labels) <= 5).mean()) if K >= TOP5_CLASSES else None,
        mean_per_class=float(recall[support > 0].mean()),
        majority=float(support.max() / n),
        per_class=per_class,
        confusion=tuple(map(tuple, confusion_matrix(labels, predicted, labels=every).astype(int).tolist())),
    )


def _labelled(scores: Array, labels: Array, K: int) -> tuple[Array, Array]:
    """Scores and labels of the images that have a label; raises OptionError for what cannot be compared."""
    if scores.ndim != 2 or scores.shape[1] != K or labels.shape != scores.shape[:1]:
        raise OptionError(
            f"scores {scores.shape} and labels {labels.shape} do not fit {K} classes.",
            "Give one row of scores per label and one column per class.",
        )
    known = labels != -1
    scores, labels = scores[known], labels[known]
    if not len(labels):
        raise OptionError(
            "no image has a label, so there is nothing to evaluate.", "Give images with labels."
        )
    if labels.min() < 0 or labels.max() >= K:
        raise OptionError(
            f"labels run from {labels.min()} to {labels.max()}, and there are {K} classes.",
            f"Use labels 0 to {K - 1}, and -1 for none.",
        )
    if np.isnan(scores).any():
        raise OptionError(
            f"{np.count_nonzero(np.isnan(scores).any(axis=1))} images have scores that are not numbers.",
            "Leave out the images that could not be read.",
        )
    return scores, labels


def _number(value: float) -> float | None:
    """A float, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)


def wilson_interval(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``right / n``; ``z`` = 1.96 gives 95 %.

    The set of p with (right/n - p)^2 <= z^2 p (1 - p) / n (Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4).
    """
    p, square = right / n, z * z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * np.sqrt(p * (1 - p) / n + square / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def ranks(scores: Array, labels: Array) -> npt.NDArray[np.intp]:
    """Rank [n] of each row's label by its score, from 1; of equal scores the earlier class is the better.

    Not as ``sklearn.metrics.top_k_accuracy_score`` has it, which ranks the later of equal scores higher: its top-1
    would disagree with ``argmax``.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank: npt.NDArray[np.intp] = 1 + (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
    return rank


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability is in ``(low, high]``; both means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean probability of the predicted classes
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of the predicted classes are from the accuracy."""

    ece: float  # expected calibration error, 0..1
    bins: tuple[Bin, ...]  # what it was computed from
    chance: float  # what perfectly calibrated probabilities would have on so many images, by chance alone
    temperature: (
        float | None
    )  # the model's own, fitted when it was trained; see :mod:`cnncodes.heads.confidence`
    #: What was compared with the accuracy; of an SVM without a temperature the softmax of its scores stands in.
    of: Kind


def calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> tuple[float, tuple[Bin, ...]]:
    """Expected calibration error of the predicted classes, and the bins behind it.

    sum over bins of (images in the bin / n) * \\|accuracy - mean probability\\|, bins of equal width over the
    highest probability of each image (Guo, Pleiss, Sun and Weinberger 2017, eq. 3). With few images per bin it is
    too high: chance alone keeps accuracy and probability apart.

    Parameters
    ----------
    probabilities : float array [n, K]
    labels : int array [n]
        0..K-1.
    bins : int, default 15

    Raises
    ------
    OptionError
        If there is no image, or shapes do not fit.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise OptionError(
            f"probabilities {probabilities.shape} and labels {labels.shape} give no calibration error.",
            "Give one row of probabilities per label, and at least one.",
        )
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = _bins(confidence, bins)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, values, bins) for values in (confidence, right)]
    found = []
    for k, size in enumerate(count.tolist()):
        means = [float(total[k] / size) if size else None for total in sums]
        found.append(Bin(k / bins, (k + 1) / bins, size, *means))
    return float(np.abs(sums[0] - sums[1]).sum() / len(labels)), tuple(found)


def chance_error(probabilities: Array, bins: int = BINS, *, draws: int = 200, seed: int = 0) -> float:
    """The calibration error of perfectly calibrated probabilities ``[n, K]``: the mean over draws of which answers are right.

    With few images it is not 0, and no model can be expected to have less (Bröcker and Smith 2007, 'Increasing the reliability of
    reliability diagrams').
    """
    confidence = np.asarray(probabilities).max(axis=1)
    place = _bins(confidence, bins)
    random = np.random.default_rng(seed)
    gaps = [
        np.abs(np.bincount(place, confidence - (random.random(len(place)) < confidence), bins)).sum()
        for _ in range(draws)
    ]
    return float(np.mean(gaps) / len(place))


def _bins(confidence: Array, bins: int) -> npt.NDArray[np.int64]:
    """The bin of each image."""
    place: npt.NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return place
