"""How far an answer can be believed: probabilities from scores, and whether an image is like those that a head was trained on.

Probabilities are softmax(scores / temperature), after Guo, Pleiss, Sun and Weinberger 2017, 'On calibration of modern neural
networks', for softmax heads and SVMs alike. Measured on held-out scores of ants and bees, six scenes and ten textures (starter
weights, pool5 and fc7): a temperature alone is as good as one with a shift per class, and better than a sigmoid per class (Platt),
and it never changes which class is the best.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_STEPS = 200  # each at least halves the bracket, so far fewer are needed
TOLERANCE = 1e-10  # relative, of the inverse temperature
LARGEST = 1e4  # temperature in units of the mean lead: probabilities are all but equal from here on
QUANTILES = 101  # of the training images' distances that are kept: one per cent each
UNLIKE = 99.0  # percentile from which on an image is called unlike the training images
LEAST_IMAGES = 30  # to know what is usual
_BLOCK = 4096  # rows at a time


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
    labels : int array [n], 0..K-1

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


@dataclass(frozen=True, eq=False)
class Likeness:
    """What is usual among the training images.

    An image's distance is the Euclidean distance of its normalised codes to the nearest mean of a class; for a training image
    the mean of its own class is taken without it. Measured with the starter weights on six sets (60 % of each to train on, 40 % and 150
    images of each other set to test): beyond the 99th percentile are 70 % of the strangers by fc7, 69 % by pool5 and 58 % by fc6, and
    0.8, 1.4 and 0.8 % of the set's own test images. Distances to the 1st, 5th or 10th nearest training image find up to 5 points fewer.
    """

    means: Array  # [K, d], of the normalised codes of each class
    quantiles: Array  # [QUANTILES], of the training images' distances, ascending

    @classmethod
    def of(cls, normalised: Array, labels: Array, K: int) -> Likeness | None:
        """What is usual among training codes ``[n, d]`` with labels ``[n]``; None where there are too few images."""
        if len(labels) < LEAST_IMAGES:
            return None
        means = np.stack([normalised[labels == k].mean(axis=0) for k in range(K)])
        blocks = ((normalised[part], labels[part]) for part in _parts(len(labels)))
        return cls.around(means, blocks, np.bincount(labels, minlength=K))

    @classmethod
    def around(cls, means: Array, blocks: Iterable[tuple[Array, Array]], counts: Array) -> Likeness | None:
        """:meth:`of` for codes and labels in blocks, with the means ``[K, d]`` and the numbers ``[K]`` of the classes."""
        found = []
        for normalised, own in blocks:
            distances = _distances(normalised, means)
            # Without itself, the mean of its own class is n / (n - 1) times as far; an only image has none.
            mine = distances[np.arange(len(own)), own] * counts[own] / np.maximum(counts[own] - 1, 1)
            distances[np.arange(len(own)), own] = np.where(counts[own] > 1, mine, np.inf)
            found.append(distances.min(axis=1))
        nearest = np.concatenate(found)
        nearest = nearest[np.isfinite(nearest)]
        if len(nearest) < LEAST_IMAGES:
            return None
        quantiles = np.quantile(nearest, np.linspace(0, 1, QUANTILES))
        return cls(means.astype(np.float32), quantiles.astype(np.float32))

    def percentiles(self, normalised: Array) -> Array:
        """How many per cent of the training images are nearer to a class than each row ``[n, d]``: float ``[n]``, 0..100.

        NaN for rows that are not finite.
        """
        found = np.empty(len(normalised))
        for part in _parts(len(normalised)):
            found[part] = _distances(normalised[part], self.means).min(axis=1)
        percentiles: Array = np.interp(found, self.quantiles, np.linspace(0, 100, QUANTILES))
        percentiles[np.isnan(found)] = np.nan
        return percentiles


def _parts(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


def _distances(rows: Array, means: Array) -> Array:
    """Euclidean distances ``[n, K]``."""
    squares = np.einsum("ij,ij->i", rows, rows)[:, None] - 2 * (rows @ means.T)
    squares += np.einsum("ij,ij->i", means, means)
    distances: Array = np.sqrt(np.maximum(squares, 0), dtype=np.float64)
    return distances
