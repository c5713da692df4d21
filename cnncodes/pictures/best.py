"""The strongest images of each unit, in one pass: memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import CodesFileError

Array = npt.NDArray[Any]


class Best:
    """The k strongest images of each of C units, kept while blocks of images come in the order of their rows.

    Parameters
    ----------
    units, k : int
    positive : bool
        Whether only activations above 0 count: a unit that ends in a ReLU is not excited by an image that gives 0.

    Attributes
    ----------
    values : float32 array [C, k], rows and places : int64 arrays [C, k]
        The strongest first; -inf and row -1 where there are fewer than k.
    firing : int64 array [C]
        Images that give more than 0.
    count : int
        Images that came.
    """

    def __init__(self, units: int, k: int, positive: bool) -> None:
        self.values = np.full((units, k), -np.inf, np.float32)
        self.rows = np.full((units, k), -1, np.int64)
        self.places = np.zeros((units, k), np.int64)
        self.firing = np.zeros(units, np.int64)
        self.count = 0
        self._positive = positive
        self._mean = np.zeros(units)
        self._squares = np.zeros(units)  # sum of squared distances from the mean (Welford 1962)

    def add(self, rows: Array, codes: Array) -> None:
        """Look at more images: rows ``[n]``, codes ``[n, C, places]``; equal values keep the order of rows."""
        if not len(rows):
            return
        places = codes.argmax(axis=2)
        values = np.take_along_axis(codes, places[..., None], axis=2)[..., 0].astype(np.float32)  # [n, C]
        self._count(values)
        if self._positive:
            values = np.where(values > 0, values, -np.inf)
        joined = np.concatenate([self.values, values.T], axis=1)
        rows = np.where(np.isfinite(values), rows[:, None], -1)
        joined_rows = np.concatenate([self.rows, rows.T], axis=1)
        joined_places = np.concatenate([self.places, places.T], axis=1)
        order = np.argsort(-joined, axis=1, kind="stable")[:, : self.values.shape[1]]
        self.values, self.rows, self.places = (
            np.take_along_axis(part, order, axis=1) for part in (joined, joined_rows, joined_places)
        )

    def most_varying(self, count: int) -> list[int]:
        """Units whose largest activation in an image varies most over the images."""
        return [int(unit) for unit in np.argsort(-self._squares, kind="stable")[:count]]

    def _count(self, values: Array) -> None:
        """Mean and variance of each unit, joined from blocks (Chan, Golub and LeVeque 1983, equation 2.1)."""
        new, wide = len(values), values.astype(np.float64)
        mean = wide.mean(axis=0)
        apart = mean - self._mean
        total = self.count + new
        self._squares += ((wide - mean) ** 2).sum(axis=0) + apart**2 * self.count * new / total
        self._mean += apart * new / total
        self.firing += (values > 0).sum(axis=0)
        self.count = total


def require_finite(codes: Array, names: Sequence[str]) -> None:
    """Raise CodesFileError unless all codes ``[n, ...]`` of these images are finite: else a unit has no strongest one."""
    finite = np.isfinite(codes).all(axis=tuple(range(1, codes.ndim)))
    if not finite.all():
        raise CodesFileError(
            f"the code of '{names[int(finite.argmin())]}' holds NaN or infinity.",
            "Extract it again, or leave that image out; if it stays so, the weights are not sound.",
        )
