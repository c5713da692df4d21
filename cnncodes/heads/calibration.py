"""From scores to probabilities that can be believed: softmax(scores / temperature), the temperature fitted on held-out scores.

After Guo, Pleiss, Sun and Weinberger 2017, 'On calibration of modern neural networks', for softmax heads and SVMs alike. Measured
on held-out scores of ants and bees, six scenes and ten textures (starter weights, pool5 and fc7): a temperature alone is as good
as one with a shift per class, and better than a sigmoid per class (Platt), and it never changes which class is the best.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_STEPS = 200  # each at least halves the bracket, so far fewer are needed
TOLERANCE = 1e-10  # relative, of the inverse temperature
LARGEST = 1e4  # temperature in units of the mean lead: probabilities are all but equal from here on


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


def fit_temperature(scores: Array, labels: Array) -> float | None:
    """The T for which softmax(scores / T) fits the labels best.

    Each label counts as (n + 1) / (n + 2) of an image of its class, and the rest is shared by the other classes (Laplace's rule,
    as in Platt 1999): without that, n images that are all right would make every probability 100 %. The negative
    log-likelihood is convex in 1/T, with derivative mean(E_p[score] - E_label[score]); Newton's method inside a bracket
    finds its zero.

    Parameters
    ----------
    scores : float array [n, K]
        Of images that the classifier was not fitted on.
    labels : int array [n]
        0..K-1.

    Returns
    -------
    float or None
        None where there is no image, or no image has scores that differ. Scores that are no better than guessing get a T so
        large that all classes are about equally probable.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    scores = scores - scores.max(axis=1, keepdims=True) if len(labels) else scores
    if not scores.any():
        return None
    n, K = scores.shape
    unit = float(np.abs(scores).mean())
    label, others = scores[np.arange(n), labels], 1 / ((n + 2) * (K - 1))
    own = float(((n + 1) / (n + 2) * label + others * (scores.sum(axis=1) - label)).mean())

    def slope(inverse: float) -> tuple[float, float]:
        """First and second derivative of the mean negative log-likelihood by 1/T."""
        odds = np.exp(scores * inverse)
        odds /= odds.sum(axis=1, keepdims=True)
        mean = (odds * scores).sum(axis=1)
        variance = (odds * scores**2).sum(axis=1) - mean**2
        return float(mean.mean() - own), float(variance.mean())

    low = 1.0 / (LARGEST * unit)
    if slope(low)[0] >= 0:
        return 1.0 / low
    inverse = high = 1.0 / unit
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
