"""Can the probabilities be believed? Expected calibration error (Guo, Pleiss, Sun and Weinberger 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import OptionError

Array = npt.NDArray[Any]

Kind = Literal["probabilities", "softmax(score)"]
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability is in ``(low, high]``: their number, mean probability and accuracy.

    Both means are None where the bin is empty.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of the predicted classes are from the accuracy.

    Parameters
    ----------
    ece : float
        Expected calibration error, 0..1.
    bins : tuple of Bin
        What it was computed from.
    chance : float
        What the calibration error of perfectly calibrated probabilities would be on so many images, by chance alone.
    temperature : float or None
        The model's own, fitted when it was trained; see :mod:`cnncodes.heads.calibration`.
    of : {"probabilities", "softmax(score)"}
        What was compared with the accuracy; of an SVM without a temperature the softmax of its scores stands in.
    """

    ece: float
    bins: tuple[Bin, ...]
    chance: float
    temperature: float | None
    of: Kind


def calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> tuple[float, tuple[Bin, ...]]:
    """Expected calibration error of the predicted classes, and the bins behind it.

    sum over bins of (images in the bin / n) * \\|accuracy - mean probability\\|, bins of equal width over the
    highest probability of each image (Guo et al. 2017, eq. 3). With few images per bin it is too high: chance
    alone keeps accuracy and probability apart.

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
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = np.bincount(place, confidence, bins), np.bincount(place, right, bins)
    found = tuple(
        Bin(
            k / bins,
            (k + 1) / bins,
            int(count[k]),
            float(sums[0][k] / count[k]) if count[k] else None,
            float(sums[1][k] / count[k]) if count[k] else None,
        )
        for k in range(bins)
    )
    return float(np.abs(sums[0] - sums[1]).sum() / len(labels)), found


def chance_error(probabilities: Array, bins: int = BINS, *, draws: int = 200, seed: int = 0) -> float:
    """The calibration error of perfectly calibrated probabilities ``[n, K]``: the mean over draws of which answers are right.

    With few images it is not 0, and no model can be expected to have less (Bröcker and Smith 2007, 'Increasing the reliability of
    reliability diagrams').
    """
    confidence = np.asarray(probabilities).max(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    random = np.random.default_rng(seed)
    gaps = [
        np.abs(np.bincount(place, confidence - (random.random(len(place)) < confidence), bins)).sum()
        for _ in range(draws)
    ]
    return float(np.mean(gaps) / len(place))
