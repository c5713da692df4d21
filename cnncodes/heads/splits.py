"""Which rows of a catalog are fitted, which choose C, and which are kept to test."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnncodes.errors import HeadError, OptionError
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS

SplitRule = Literal["auto", "none"] | float
HELD_OUT = 0.2

_NONE, _TRAIN, _VAL, _TEST = (SPLITS.index(name) for name in ("none", "train", "val", "test"))


@dataclass(frozen=True, eq=False)
class Split:
    """Rows (int64, ascending) for each purpose, and how they were chosen in words.

    ``choose`` is empty where C is chosen by folds of ``train``; ``test`` is empty where all rows are fitted.
    """

    train: np.ndarray
    choose: np.ndarray
    test: np.ndarray
    how: str


def split_rows(catalog: Catalog, usable: np.ndarray, rule: SplitRule = "auto", seed: int = 0) -> Split:
    """Rows to fit, to choose C on, and to test on.

    Parameters
    ----------
    catalog : Catalog
    usable : bool ndarray [N]
        Rows that have codes.
    rule : {"auto", "none"} or float, default "auto"
        - "auto": the catalog's own splits. With train, val and test, C is chosen on val; with only one of val
          and test, that one tests and C is chosen by folds of train. Without splits, a fifth of each class,
          drawn by ``seed``, tests.
        - "none": everything is fitted, nothing tests.
        - a share between 0 and 1: that share of each class tests, whatever the splits say.
    seed : int, default 0

    Raises
    ------
    HeadError
        If no labelled row is left to fit.
    OptionError
        For another rule.
    """
    rows = np.flatnonzero(usable & (catalog.labels >= 0))
    if not len(rows):
        raise HeadError(
            "there are no labelled images to learn from.",
            "Put the images into one folder per class, or give a list or CSV with labels; codes must be extracted again.",
        )
    if isinstance(rule, float) and 0 < rule < 1:
        return _held_out(catalog, rows, rule, seed)
    if rule == "none":
        return Split(rows, rows[:0], rows[:0], f"all {len(rows):,} images are fitted, none is kept to test")
    if rule != "auto":
        raise OptionError(f"split {rule!r} is not known.", "Use auto, none, or a share such as 0.2.")
    split = catalog.splits[rows]
    if (split == _NONE).all():
        return _held_out(catalog, rows, HELD_OUT, seed)
    train, val, test = (rows[split == place] for place in (_TRAIN, _VAL, _TEST))
    if not len(train):
        raise HeadError(
            "the data have splits, but no labelled image in train.",
            "Add a train folder, or use --split none or a share such as --split 0.2.",
        )
    unnamed = int((split == _NONE).sum())
    others = f"; {unnamed:,} without a split are left out" if unnamed else ""
    if len(val) and len(test):
        return Split(
            train,
            val,
            test,
            f"train {len(train):,}, val {len(val):,} (chooses C), test {len(test):,}{others}",
        )
    tested = test if len(test) else val
    name = "test" if len(test) else "val"
    return Split(train, rows[:0], tested, f"train {len(train):,}, {name} {len(tested):,} (tests){others}")


def with_known_classes(catalog: Catalog, rows: Split, labels: np.ndarray) -> Split:
    """The split without the val and test images whose class has no training image, and a word on them."""
    held = np.concatenate([rows.choose, rows.test])
    unknown = held[labels[held] < 0]
    if not len(unknown):
        return rows
    names = ", ".join(repr(catalog.classes[label]) for label in np.unique(catalog.labels[unknown]))
    return dataclasses.replace(
        rows,
        choose=np.setdiff1d(rows.choose, unknown),
        test=np.setdiff1d(rows.test, unknown),
        how=f"{rows.how}; {len(unknown):,} of these left out, since their class has no training image: {names}",
    )


def without_copies(split: Split, digests: np.ndarray) -> Split:
    """The split whose test rows hold no copy of an image that is fitted or chooses C."""
    copies = np.isin(digests[split.test], digests[np.concatenate([split.train, split.choose])])
    if not copies.any():
        return split
    how = f"{split.how}; {int(copies.sum()):,} copies of fitted images are left out of the test"
    return dataclasses.replace(split, test=split.test[~copies], how=how)


def _held_out(catalog: Catalog, rows: np.ndarray, share: float, seed: int) -> Split:
    """A share of each class, at least one image of every class that has two or more."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(catalog.labels[rows]):
        members = rows[catalog.labels[rows] == label]
        if len(members) > 1:
            count = min(max(1, round(share * len(members))), len(members) - 1)
            chosen.append(random.choice(members, count, replace=False))
    test = np.sort(np.concatenate(chosen)) if chosen else rows[:0]
    train = np.setdiff1d(rows, test)
    return Split(
        train,
        rows[:0],
        test,
        f"{len(train):,} images to fit, {len(test):,} held out to test ({100 * share:.0f} % of each class, seed {seed})",
    )
