"""Groups among codes without labels: dense places of the map, and the images whose neighbours are in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

SMALLEST = 5  # images of a group at least; if nobody says how many, one in so many:
ONE_IN = 30
DENSE = 5  # neighbours by which HDBSCAN measures how dense a place is
VOTERS, AGREE = 5, 3  # of the nearest images of groups, so many must be of one that an image joins


def dense_groups(points: Array, smallest: int | None = None) -> Integers:
    """Groups of points on a map: the dense places of HDBSCAN (Campello, Moulavi and Sander 2013), leaves of its tree.

    Measured on six sets of images (docs/explore.md): on the two numbers of t-SNE the groups are nearer to the classes, and
    fewer images are left over, than on 10 or 50 principal components of the codes.

    Parameters
    ----------
    points : float array [n, 2]
        As :func:`~cnncodes.pictures.map.codes_map` gives them.
    smallest : int, optional
        Points of the smallest group; by default one in thirty, and five at least.

    Returns
    -------
    int64 array [n]
        0 is the largest group; -1 for points in none.
    """
    from sklearn.cluster import HDBSCAN

    least = smallest or max(SMALLEST, len(points) // ONE_IN)
    if len(points) <= max(least, DENSE):
        return np.full(len(points), -1)
    model = HDBSCAN(
        min_cluster_size=least,
        min_samples=DENSE,
        cluster_selection_method="leaf",
        copy=True,
    )
    found = np.asarray(model.fit_predict(points), np.int64)
    sizes = np.bincount(found[found >= 0])
    number = np.empty(len(sizes), np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(found >= 0, number[found], -1) if len(sizes) else found


def join_neighbours(groups: Integers, neighbours: Integers) -> Integers:
    """Which group images join that are in none: that of three of their five nearest.

    Parameters
    ----------
    groups : int array [m]
        Of the images that can be neighbours; -1 for none.
    neighbours : int array [n, k]
        Places in ``groups`` of the nearest images of each, the nearest first.

    Returns
    -------
    int64 array [n]
        -1 where they do not agree.
    """
    near = groups[neighbours[:, :VOTERS]]
    agreeing = (near[:, :, None] == near[:, None, :]).sum(axis=2) * (near >= 0)  # [n, k]
    best = agreeing.argmax(axis=1)
    rows = np.arange(len(near))
    return np.where(agreeing[rows, best] >= AGREE, near[rows, best], -1).astype(np.int64)
