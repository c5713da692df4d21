"""Two models on the same images: how many points one is ahead, and whether so few images can tell."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import ModelError, OptionError
from cnncodes.core.files import parse_json, reading
from cnncodes.evaluation.evaluating import judge
from cnncodes.evaluation.scores import Data, Progress
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model

_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Comparison:
    """What two models say of the same images.

    Parameters
    ----------
    names : tuple of two str
        Of the models.
    classes : tuple of str
    n : int
        Images.
    accuracy : tuple of two float
        0..1.
    per_class : tuple of two tuples of float or None
        Recall of each class, 0..1; None without images.
    only_first, only_second : int
        Images that this model alone names rightly.
    low, high : float
        95 % interval of ``difference``: see :func:`paired_interval`.
    how : str
        Which images these are, in words.
    seen : int
        Images that at least one of the models has learned from: above 0 it is no test.
    """

    names: tuple[str, str]
    classes: tuple[str, ...]
    n: int
    accuracy: tuple[float, float]
    per_class: tuple[tuple[float | None, ...], tuple[float | None, ...]]
    only_first: int
    only_second: int
    low: float
    high: float
    how: str
    seen: int

    @property
    def difference(self) -> float:
        """Accuracy of the first model less that of the second, -1..1."""
        return (self.only_first - self.only_second) / self.n

    @property
    def is_clear(self) -> bool:
        """Whether the interval is on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def text(self) -> str:
        """One sentence: both accuracies, the margin in points, and whether it is more than noise."""
        new = (
            " that neither has learned from"
            if self.seen == 0
            else f", of which {self.seen:,} were learned from"
        )
        doubt = "" if self.is_clear else "; so few images cannot tell which is better"
        first, second = (
            f"{name} {100 * share:.1f} %" for name, share in zip(self.names, self.accuracy, strict=True)
        )
        return (
            f"{first}, {second}: {100 * self.difference:+.1f} points on {self.n:,} images{new} "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}){doubt}"
        )

    def to_json(self) -> str:
        """JSON object with one entry per field, and ``difference``, ``is_clear`` and ``text``."""
        derived = {"difference": self.difference, "is_clear": self.is_clear, "text": self.text}
        return json.dumps(asdict(self) | derived)

    @classmethod
    @reading("the comparison", ModelError)
    def from_json(cls, text: str) -> Comparison:
        """Inverse of :meth:`to_json`; raises ModelError for anything else."""
        values: dict[str, Any] = parse_json(text)
        for derived in ("difference", "is_clear", "text"):
            del values[derived]
        for name in ("names", "classes", "accuracy"):
            values[name] = tuple(values[name])
        values["per_class"] = tuple(tuple(shares) for shares in values["per_class"])
        return cls(**values)


def compare_models(
    first: AnyModel,
    second: AnyModel,
    data: Data,
    *,
    names: Sequence[str] | None = None,
    split: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two models on the same images, those left out that either was fitted on.

    Parameters
    ----------
    first, second : LinearModel, Weights, path or name
        With the same classes, in any order.
    data : as for :func:`~cnncodes.evaluation.score`, with labels
    names : two str, optional
        By default those of the models' weights.
    split, device, workers, progress
        As for :func:`~cnncodes.evaluation.evaluate`.

    Raises
    ------
    ModelError
        If the models' classes differ, or the data have others.
    CatalogError
        If no image is left to compare on.
    OptionError
        If there are not two names.
    """
    first, second = load_model(first), load_model(second)
    called = tuple(names) if names is not None else (first.settings.weights, second.settings.weights)
    if len(called) != 2:
        raise OptionError(f"two models are compared, and {len(called)} names are given.", "Give two.")
    judged = judge([first, second], data, split, None, None, False, {
        "weights": None, "device": device, "crops": None, "batch_size": None, "workers": workers,
        "progress": progress,
    })  # fmt: skip
    one, other = judged.results
    hits = [result.log_probabilities.argmax(axis=1) == result.labels for result in judged.results]
    only_first, only_second = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    low, high = paired_interval(only_first, only_second, one.evaluation.n)
    return Comparison(
        names=(called[0], called[1]),
        classes=one.evaluation.classes,
        n=one.evaluation.n,
        accuracy=(float(hits[0].mean()), float(hits[1].mean())),
        per_class=(_recall(hits[0], one.labels, first), _recall(hits[1], other.labels, first)),
        only_first=only_first,
        only_second=only_second,
        low=low,
        high=high,
        how=one.how,
        seen=one.seen,
    )


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies on the same ``n`` images, -1..1.

    Only images that one of the two alone names rightly say anything. Half an image is added to each of the four
    cells of the table, so that the interval holds for few images too (Agresti and Min 2005, section 3).
    """
    total = n + 2
    difference = (only_first - only_second) / total
    spread = math.sqrt(only_first + only_second + 1 - total * difference**2) / total
    return max(difference - _Z * spread, -1.0), min(difference + _Z * spread, 1.0)


def _recall(hits: npt.NDArray[np.bool_], labels: np.ndarray, model: LinearModel) -> tuple[float | None, ...]:
    """Part of each class's images that are named rightly."""
    own = [hits[labels == place] for place in range(len(model.classes))]
    return tuple(float(right.mean()) if len(right) else None for right in own)
