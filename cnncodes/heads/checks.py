"""What codes and labels must be before a head is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError

Array = npt.NDArray[Any]


def check_codes(
    X: Array, labels: Array, classes: Sequence[str], *, all_classes: bool = True, columns: int | None = None
) -> tuple[Array, Array]:
    """Codes [n, d] and integer labels [n] that fit together.

    Parameters
    ----------
    X, labels
        Codes [n, d] and labels [n], 0..K-1.
    classes : sequence of K str
    all_classes : bool, default True
        Whether every class must have a row, and there must be two classes.
    columns : int, optional
        The number of columns that the codes must have.

    Raises
    ------
    HeadError
        If shapes differ, a number is not finite, a label is not one of the classes, or a class has no row.
    """
    X, labels = np.asarray(X), np.asarray(labels)
    if X.ndim != 2 or labels.shape != X.shape[:1] or not X.size:
        raise HeadError(
            f"codes of shape {X.shape} and labels of shape {labels.shape} do not fit together.",
            "Give codes [n, d] of one stage and one label per row, at least one.",
        )
    if columns is not None and X.shape[1] != columns:
        raise HeadError(
            f"the held-out codes have {X.shape[1]} columns, and the training codes {columns}.",
            "Use codes of the same network and stage.",
        )
    if X.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise HeadError(
            f"codes of type {X.dtype} and labels of type {labels.dtype} cannot be used.",
            "Give codes as floating point numbers and labels as integers.",
        )
    for start in range(0, len(X), _BLOCK):
        require_finite(X[start : start + _BLOCK], start)
    check_labels(labels, classes, all_classes=all_classes)
    return X, labels.astype(np.int64, copy=False)


def require_finite(X: Array, first: int) -> None:
    """Raise HeadError if a row of a block of codes is not finite; ``first`` is the number of its first row."""
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise HeadError(
            f"row {first + bad[0]} of the codes has values that are not finite (the first of such rows).",
            "Leave out the rows of images that could not be read, and extract again if others remain.",
        )


def check_labels(labels: Array, classes: Sequence[str], *, all_classes: bool = True) -> None:
    """The part of :func:`check_codes` that concerns labels [n], at least one."""
    if labels.min() < 0 or labels.max() >= len(classes):
        raise HeadError(
            f"labels run from {labels.min()} to {labels.max()}, and there are {len(classes)} classes.",
            f"Leave out images without a label, and use labels 0 to {len(classes) - 1}.",
        )
    counts = np.bincount(labels, minlength=len(classes))
    if all_classes and np.count_nonzero(counts) < 2:
        only = classes[int(counts.argmax())]
        raise HeadError(
            f"all {len(labels)} images are of one class, {only!r}.",
            "Give images of at least two classes: a head tells classes apart.",
        )
    if all_classes and not counts.all():
        missing = classes[int(counts.argmin())]
        raise HeadError(
            f"class {missing!r} has no image to train on ({np.count_nonzero(counts == 0)} such classes).",
            "Put images of it into the train split, or remove the class.",
        )


_BLOCK = 4096  # rows at a time
