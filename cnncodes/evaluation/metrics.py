"""How good predictions are: accuracies, per class figures, and the confusions that matter.

scikit-learn's metrics are loaded when the first evaluation is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core import records
from cnncodes.core.errors import ModelError, OptionError

Array = npt.NDArray[Any]

#: Top-5 accuracy is given from this many classes on; with five it would always be 1.
TOP5_CLASSES = 6


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, each 0..1, or None where it has nothing to be computed from.

    Parameters
    ----------
    name : str
    support : int
        Images of the class.
    precision : float or None
        Of the images predicted as the class, the part that is of it; None if there is none.
    recall : float or None
        Of the images of the class, the part predicted as it: its accuracy; None without images.
    f1 : float or None
        Harmonic mean of both, 2 TP / (2 TP + FP + FN); None without images.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Confusion:
    """``count`` images of class ``true`` were taken for ``predicted``: the part ``share`` of its images."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Evaluation:
    """The result of comparing predictions with labels.

    Parameters
    ----------
    n : int
        Images with a label.
    top1 : float
        Part of the images whose best-scored class is theirs, 0..1.
    top1_low, top1_high : float
        95 % confidence interval of ``top1`` (Wilson 1927, 'Probable inference', score interval).
    top5 : float or None
        Part of the images whose class is among the five best scored; None below six classes.
    mean_per_class : float
        Mean recall of the classes that have images.
    majority : float
        Accuracy of always answering the class with the most images: what a head has to beat.
    per_class : tuple of ClassFigures
        One per class, in the order of the classes.
    confusion : tuple of tuple of int [K][K]
        Images by true class (row) and predicted class (column).
    """

    n: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    mean_per_class: float
    majority: float
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(figures.name for figures in self.per_class)

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
        pairs = [
            Confusion(
                self.per_class[i].name,
                self.per_class[j].name,
                int(counts[i, j]),
                float(counts[i, j] / self.per_class[i].support),
            )
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
    n = len(labels)
    predicted = scores.argmax(axis=1)
    every = np.arange(K)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=np.nan
    )
    present = support > 0
    right = int((predicted == labels).sum())
    low, high = wilson_interval(right, n)
    return Evaluation(
        n=n,
        top1=right / n,
        top1_low=low,
        top1_high=high,
        top5=_top(scores, labels, 5) if K >= TOP5_CLASSES else None,
        mean_per_class=float(recall[present].mean()),
        majority=float(support.max() / n),
        per_class=tuple(
            ClassFigures(
                str(classes[k]),
                int(support[k]),
                _number(precision[k]),
                _number(recall[k]) if present[k] else None,
                _number(f1[k]) if present[k] else None,
            )
            for k in range(K)
        ),
        confusion=tuple(
            tuple(row) for row in confusion_matrix(labels, predicted, labels=every).astype(int).tolist()
        ),
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


def wilson_interval(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``right / n``; ``z`` = 1.96 gives 95 %.

    The set of p with (right/n - p)^2 <= z^2 p (1 - p) / n (Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4).
    """
    p, square = right / n, z * z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * np.sqrt(p * (1 - p) / n + square / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _top(scores: Array, labels: Array, k: int) -> float:
    """Part of the rows whose label is among the ``k`` best; of equal scores the earlier class is the better.

    Not ``sklearn.metrics.top_k_accuracy_score``, which ranks the later of equal scores higher: its top-1
    would disagree with ``argmax``.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    ahead = (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
    return float((ahead < k).mean())


def _number(value: float) -> float | None:
    """A float, or None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
