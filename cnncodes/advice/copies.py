"""Copies among the images: the same file twice, and nearly the same picture by the distance of its codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.search import nearest

Array = npt.NDArray[Any]

MOST_COMPARED = 20_000  # images; all pairs of so many take about a minute on two cores
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
    partner, distance = nearest(codes, codes, min(_MOST_PARTNERS, n - 1), leave_out=np.arange(n))
    median = float(np.median(distance[:, 0]))
    row, place = np.nonzero(distance <= part * median)
    pairs = np.sort(np.stack([row, partner[row, place]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)  # each pair was found from both sides
    near = distance[row, place][first]
    order = np.argsort(near, kind="stable")
    return pairs[order], near[order] / max(median, 1e-12)


def groups_of(n: int, pairs: Array) -> Array:
    """Number of the group of each of ``n`` images: those joined by pairs, directly or through others, share one.

    Returns
    -------
    int64 ndarray [n]
        The least image of each group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    group = connected_components(graph, directed=False)[1]
    first: Array = np.unique(group, return_index=True)[1][group]
    return first
