"""Is an image like those that a head was trained on? Its distance to the nearest class, beside those of the training images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

QUANTILES = 101  # of the training images' distances that are kept: one per cent each
UNLIKE = 99.0  # percentile from which on an image is called unlike the training images
LEAST_IMAGES = 30  # to know what is usual
_BLOCK = 4096  # rows at a time


@dataclass(frozen=True, eq=False)
class Likeness:
    """What is usual among the training images.

    An image's distance is the Euclidean distance of its normalised codes to the nearest mean of a class; for a training image
    the mean of its own class is taken without it. Measured with the starter weights on six sets (60 % of each to train on, 40 % and 150
    images of each other set to test): beyond the 99th percentile are 70 % of the strangers by fc7, 69 % by pool5 and 58 % by fc6, and
    0.8, 1.4 and 0.8 % of the set's own test images. Distances to the 1st, 5th or 10th nearest training image find up to 5 points fewer.

    Parameters
    ----------
    means : float array [K, d]
        Of the normalised codes of each class.
    quantiles : float array [QUANTILES]
        Of the training images' distances, ascending.
    """

    means: Array
    quantiles: Array

    @classmethod
    def of(cls, normalised: Array, labels: Array, K: int) -> Likeness | None:
        """What is usual among training codes ``[n, d]`` with labels ``[n]``; None where there are too few images."""
        if len(labels) < LEAST_IMAGES:
            return None
        means = np.stack([normalised[labels == k].mean(axis=0) for k in range(K)])
        starts = range(0, len(labels), _BLOCK)
        blocks = ((normalised[at : at + _BLOCK], labels[at : at + _BLOCK]) for at in starts)
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
        for start in range(0, len(normalised), _BLOCK):
            found[start : start + _BLOCK] = _distances(normalised[start : start + _BLOCK], self.means).min(
                axis=1
            )
        percentiles: Array = np.interp(found, self.quantiles, np.linspace(0, 100, QUANTILES))
        percentiles[np.isnan(found)] = np.nan
        return percentiles


def _distances(rows: Array, means: Array) -> Array:
    """Euclidean distances ``[n, K]``."""
    squares = np.einsum("ij,ij->i", rows, rows)[:, None] - 2 * (rows @ means.T)
    squares += np.einsum("ij,ij->i", means, means)
    distances: Array = np.sqrt(np.maximum(squares, 0), dtype=np.float64)
    return distances
