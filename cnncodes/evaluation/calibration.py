"""Can the probabilities be believed? Expected calibration error, and the temperature that corrects them.

Both after Guo, Pleiss, Sun and Weinberger 2017, 'On calibration of modern neural networks'.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import OptionError

Array = npt.NDArray[Any]

Kind = Literal["probabilities", "softmax(score)"]
BINS = 15
MOST_STEPS = 200  # each at least halves the bracket, so far fewer are needed
TOLERANCE = 1e-10  # relative, of the inverse temperature


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
        Expected calibration error at temperature 1, 0..1.
    bins : tuple of Bin
        What it was computed from.
    temperature : float or None
        Fitted on other images than those evaluated; None where there were none to fit it on.
    ece_scaled : float or None
        Expected calibration error with that temperature.
    how : str
        On what the temperature was fitted, or why there is none.
    of : {"probabilities", "softmax(score)"}
        What was compared with the accuracy; an SVM has scores alone, and their softmax stands in.
    """

    ece: float
    bins: tuple[Bin, ...]
    temperature: float | None
    ece_scaled: float | None
    how: str
    of: Kind


def log_softmax(scores: Array, temperature: float = 1.0) -> Array:
    """Logarithms of softmax(scores / temperature), float ``[n, K]``; never minus infinity for finite scores."""
    scaled = np.asarray(scores, np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    logarithms: Array = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return logarithms


def mean_log_probabilities(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean of several models' probabilities, from their logarithms, each ``[n, K]``."""
    total = functools.reduce(np.logaddexp, log_probabilities)  # two at a time: they may be large
    mean: np.ndarray = total - np.log(len(log_probabilities))
    return mean


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


def fit_temperature(scores: Array, labels: Array) -> float | None:
    """The T for which softmax(scores / T) gives the labels the smallest negative log-likelihood.

    The negative log-likelihood is convex in 1/T, with derivative mean(E_p[score] - score of the label): its zero
    is found by Newton's method, kept inside a bracket. One number is fitted, so the order of the classes stays
    as it is and no accuracy changes (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    scores : float array [n, K]
    labels : int array [n]
        0..K-1.

    Returns
    -------
    float or None
        None where no finite T > 0 is best: every image is right (T would go to 0), the scores are worse than
        guessing (T would go to infinity), or there is no image.
    """
    scores = np.asarray(scores, np.float64)
    labels = np.asarray(labels)
    if not len(labels):
        return None
    scores = scores - scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels]
    if not (own < 0).any() or scores.mean() - own.mean() >= 0:
        return None

    def slope(inverse: float) -> tuple[float, float]:
        """First and second derivative of the mean negative log-likelihood by 1/T."""
        odds = np.exp(scores * inverse)
        odds /= odds.sum(axis=1, keepdims=True)
        mean = (odds * scores).sum(axis=1)
        variance = (odds * scores**2).sum(axis=1) - mean**2
        return float((mean - own).mean()), float(variance.mean())

    low, inverse = 0.0, 1.0 / float(np.abs(scores).mean())  # in the scale of the scores
    high = inverse
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    for _ in range(MOST_STEPS):
        first, second = slope(inverse)
        low, high = (inverse, high) if first < 0 else (low, inverse)
        step = inverse - first / second if second > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= TOLERANCE * inverse:
            break
        inverse = following
    return 1.0 / inverse
