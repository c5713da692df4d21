"""Stratified folds, and how they were chosen, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError

Array = npt.NDArray[Any]

#: In a fold array: the row is always used for training.
TRAINING = -1


def stratified_folds(
    labels: Array, folds: int, classes: Sequence[str], *, seed: int = 0
) -> tuple[npt.NDArray[np.int64], str]:
    """Fold of each row, so that every class is spread evenly over the folds.

    The rows of each class are shuffled and dealt round, and the next class goes on where the last one
    stopped, so that the folds have equal sizes too. The number of folds falls to the size of the smallest
    class; a class of a single row cannot be held out, and its row is always used for training.

    Parameters
    ----------
    labels : int array [n], 0..K-1
    folds : int
        At least 2.
    classes : sequence of K str
    seed : int, default 0

    Returns
    -------
    fold : int array [n]
        0..folds-1, or -1 for rows that are never held out.
    how : str
        For example "5 stratified folds".

    Raises
    ------
    HeadError
        If ``folds`` is less than 2, or no class has two rows.
    """
    if folds < 2:
        raise HeadError(f"{folds} folds hold nothing out.", "Use at least 2 folds.")
    counts = np.bincount(labels, minlength=len(classes))
    if counts.max() < 2:
        raise HeadError(
            "no class has more than one image, so none can be held out to choose C or a layer.",
            "Add images, or give one value of C and one layer.",
        )
    notes = []
    alone = [classes[k] for k in np.flatnonzero(counts == 1).tolist()]
    smallest = int(np.where(counts > 1, counts, counts.max()).argmin())
    if counts[smallest] < folds:
        folds = int(counts[smallest])
        notes.append(f"class {classes[smallest]!r} has only {folds} images")
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        notes.append(f"{', '.join(map(repr, alone[:3]))}{more}: one image, never held out")
    fold = np.full(len(labels), TRAINING, np.int64)
    random = np.random.default_rng(seed)
    dealt = 0
    for k in np.flatnonzero(counts > 1):
        members = random.permutation(np.flatnonzero(labels == k))
        fold[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    how = f"{folds} stratified folds" + (f" ({'; '.join(notes)})" if notes else "")
    return fold, how
