"""Copies among the images: the same file twice, and nearly the same picture by the distance of its codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.quick_probes import unit_rows

Array = npt.NDArray[Any]

MOST_COMPARED = 20_000  # images; all pairs of so many take about a minute on two cores
_BLOCK = 512
_MOST_PARTNERS = 16  # of one image: where a whole set is one picture, pairs must not fill the memory


def pairs_of(group: Array) -> Array:
    """Pairs that join the images of each group, for :func:`groups_of`: int64 ``[m, 2]``.

    Parameters
    ----------
    group : int64 array [N]
        See :func:`cnncodes.images.digests.identical_files`.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for number in np.unique(group[group >= 0]):
        rows = np.flatnonzero(group == number)
        pairs.append(np.stack([np.full(len(rows) - 1, rows[0]), rows[1:]], axis=1))
    return np.concatenate(pairs)


def near_pairs(codes: Array, part: float) -> tuple[Array, Array]:
    """Pairs of images whose codes are much nearer to each other than neighbours in this set usually are.

    Parameters
    ----------
    codes : float array [n, d]
    part : float
        Largest cosine distance of a pair, as a part of the median distance to the nearest other image.

    Returns
    -------
    pairs : int64 ndarray [m, 2]
        Rows with the smaller first, nearest pairs first.
    distance : float64 ndarray [m]
        Of each pair, in the same units.
    """
    n = len(codes)
    if n < 3 or n > MOST_COMPARED:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    unit = unit_rows(codes)
    k = min(_MOST_PARTNERS, n - 1)
    partner, distance = np.empty((n, k), np.int64), np.empty((n, k))
    for start in range(0, n, _BLOCK):
        block = _distances(unit, start)
        rows = slice(start, start + len(block))
        partner[rows] = np.argpartition(block, k - 1, axis=1)[:, :k]
        distance[rows] = np.take_along_axis(block, partner[rows], axis=1)
    median = float(np.median(distance.min(axis=1)))
    row, place = np.nonzero(distance <= part * median)
    pairs = np.sort(np.stack([row, partner[row, place]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)  # each pair was found from both sides
    near = distance[row, place][first]
    order = np.argsort(near, kind="stable")
    return pairs[order], near[order] / max(median, 1e-12)


def _distances(unit: Array, start: int) -> Array:
    """Cosine distances of a block of rows to all rows; to itself infinite."""
    block = unit[start : start + _BLOCK]
    distance: Array = np.maximum(1.0 - block @ unit.T, 0.0)
    distance[np.arange(len(block)), start + np.arange(len(block))] = np.inf
    return distance


def groups_of(n: int, pairs: Array) -> Array:
    """Number of the group of each of ``n`` images: those joined by pairs, directly or through others, share one.

    Returns
    -------
    int64 ndarray [n]
        The least image of each group.
    """
    parent = np.arange(n)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for first, second in pairs:
        low, high = sorted((root(int(first)), root(int(second))))
        parent[high] = low
    return np.array([root(row) for row in range(n)], np.int64)
