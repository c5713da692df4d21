"""Which images a probe learns from and which test it: n per class, drawn anew in each repeat.

The draws of one repeat are nested (the 15 are among the 30) and share their test images, so that the difference
between two numbers of images per class is not the difference between two samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.errors import HeadError, OptionError
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS

Shots = int | Literal["all"]
Array = npt.NDArray[Any]

#: Of each class, where the data have no split and all images that need not test are asked for.
TESTING_SHARE = 0.2

_NONE, _TRAIN, _VAL, _TEST = (SPLITS.index(name) for name in ("none", "train", "val", "test"))


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a catalog that a probe may use.

    Parameters
    ----------
    learn : int array
        Rows to draw from.
    test : int array
        Rows of the data's own test (or val) split; empty where every draw is tested on the rest of ``learn``.
    how : str
        Where both come from, in words.
    notes : tuple of str
        What was left out, and why.
    """

    learn: Array
    test: Array
    how: str
    notes: tuple[str, ...] = ()

    @property
    def has_split(self) -> bool:
        """Whether the data say which images test."""
        return len(self.test) > 0

    @property
    def rows(self) -> Array:
        """All rows of the pool, ascending."""
        return np.union1d(self.learn, self.test)


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows to learn from and rows to test on, both ascending."""

    shots: Shots
    repeat: int
    learn: Array
    test: Array


def check_shots(shots: Sequence[Shots], repeats: int) -> tuple[Shots, ...]:
    """Numbers of images per class, ascending and each once, "all" last; raises OptionError."""
    numbers = sorted({n for n in shots if n != "all"})
    if not shots or repeats < 1 or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise OptionError(
            f"shots = {list(shots)} and repeats = {repeats} cannot be drawn.",
            "Use whole numbers of at least 1, or 'all' for the whole train split.",
        )
    return (*numbers, "all") if "all" in shots else tuple(numbers)


def find_pool(
    catalog: Catalog, usable: Array, shots: Sequence[Shots], repeats: int, limit: int, seed: int
) -> Pool:
    """The images that can be drawn, no more of them than the draws need.

    Parameters
    ----------
    catalog : Catalog
    usable : bool array [N]
        Rows that may be used, as far as is known.
    shots : sequence
        See :func:`check_shots`.
    limit : int
        Most images to test on.

    Raises
    ------
    HeadError
        If there are not two classes with enough images.
    """
    rows = np.flatnonzero(usable & (catalog.labels >= 0))
    if not len(rows):
        raise HeadError(
            "there are no labelled images.",
            "Put the images into one folder per class, or give a list or CSV with labels.",
        )
    learn, test, how, notes = _by_split(catalog.splits, rows)
    least = 1 if len(test) else 2
    counts = np.bincount(catalog.labels[learn], minlength=len(catalog.classes))
    present = np.unique(catalog.labels[rows])
    few = [k for k in present.tolist() if counts[k] < least]
    if few:
        notes.append(
            f"{_names(catalog.classes, few)} left out: {'no train image' if least == 1 else 'a single image'}"
        )
    kept = np.flatnonzero(counts >= least)
    if len(kept) < 2:
        raise HeadError(
            f"{len(kept)} class has enough labelled images, and a probe tells classes apart.",
            "Give images of at least two classes, two or more of each.",
        )
    learn, test = (part[np.isin(catalog.labels[part], kept)] for part in (learn, test))
    random = np.random.default_rng([seed, 0])
    if "all" not in shots:
        largest = max(n for n in shots if isinstance(n, int))
        each = largest * max(2, repeats) if len(test) else 2 * largest + -(-limit // len(kept))
        learn = np.sort(np.concatenate(_first(catalog.labels, learn, np.full(len(kept), each), random)))
    test = balanced(catalog.labels, test, limit, random)
    return Pool(learn, test, how, tuple(notes))


def _by_split(splits: Array, rows: Array) -> tuple[Array, Array, str, list[str]]:
    """Rows to draw from, rows to test on (none: the rest), how, and notes: as the data's own splits say."""
    part = splits[rows]
    own = np.isin(part, (_VAL, _TEST)).any()
    if not own:
        return rows, rows[:0], "drawn from all images, tested on the rest", []
    if not (part == _TRAIN).any():
        raise HeadError(
            "the data have a val or test split, but no labelled image in train.", "Add a train folder."
        )
    tests = _TEST if (part == _TEST).any() else _VAL
    learn, test = rows[part == _TRAIN], rows[part == tests]
    others = len(rows) - len(learn) - len(test)
    notes = [f"{others:,} images that are neither in train nor in {SPLITS[tests]} are not used"]
    return learn, test, f"drawn from train, tested on {SPLITS[tests]}", notes if others else []


def draw(
    labels: Array,
    classes: Sequence[str],
    pool: Pool,
    shots: Sequence[Shots],
    repeats: int,
    limit: int,
    seed: int,
) -> tuple[list[Draw], list[str]]:
    """All draws, and notes on the numbers of images that could not be drawn.

    Parameters
    ----------
    labels : int array [N]
        Of all rows of the catalog: places in ``classes``.
    classes : sequence of str
    pool : Pool
        Only of images that could be read.

    Raises
    ------
    HeadError
        If no number of images can be drawn.
    """
    present, counts = np.unique(labels[pool.learn], return_counts=True)
    kept_back = 0 if pool.has_split else 1  # something must be left to test on
    possible = [n for n in shots if n == "all" or n <= counts.min() - kept_back]
    notes = []
    if skipped := [str(n) for n in shots if n not in possible]:
        notes.append(
            f"{' and '.join(skipped)} images per class left out: "
            f"the smallest class, {classes[present[counts.argmin()]]!r}, has {counts.min()}"
            + (", and one must be left to test on" if kept_back else "")
        )
    if not possible:
        raise HeadError(
            f"no number of images per class can be drawn: {'; '.join(notes)}.",
            f"Use --shots {max(counts.min() - kept_back, 1)} or fewer, or give the smallest class more images.",
        )
    largest = max((n for n in possible if n != "all"), default=0)
    draws = []
    for repeat in range(repeats):
        random = np.random.default_rng([seed, 1, repeat])
        shuffled = _first(labels, pool.learn, np.full(len(counts), len(pool.learn)), random)
        ends = [_end(len(part), largest, "all" in possible, pool.has_split) for part in shuffled]
        test = pool.test
        if not pool.has_split:
            rest = np.concatenate([part[end:] for part, end in zip(shuffled, ends, strict=True)])
            test = balanced(labels, rest, limit, random)
        for n in possible:
            if n == "all" and pool.has_split and repeat:
                continue  # the same images again
            parts = [part[: end if n == "all" else n] for part, end in zip(shuffled, ends, strict=True)]
            draws.append(Draw(n, repeat, np.sort(np.concatenate(parts)), test))
    return draws, notes


def _end(count: int, largest: int, everything: bool, has_split: bool) -> int:
    """How many of a class's images may be drawn in one repeat; the rest test."""
    if has_split:
        return count
    return max(largest, count - max(1, round(TESTING_SHARE * count))) if everything else largest


def balanced(labels: Array, rows: Array, limit: int, random: np.random.Generator) -> Array:
    """At most ``limit`` of the rows, ascending, the same number of each class as far as it has so many."""
    if len(rows) <= limit:
        return np.sort(rows)
    counts = np.unique(labels[rows], return_counts=True)[1]
    each, left = np.zeros_like(counts), limit
    for place, k in enumerate(np.argsort(counts, kind="stable")):  # small classes leave room to the large
        each[k] = min(counts[k], left // (len(counts) - place))
        left -= each[k]
    return np.sort(np.concatenate(_first(labels, rows, np.maximum(each, 1), random)))


def _first(labels: Array, rows: Array, each: Array, random: np.random.Generator) -> list[Array]:
    """For each class of the rows, ascending: so many of its rows, in random order."""
    return [
        random.permutation(rows[labels[rows] == k])[:count]
        for k, count in zip(np.unique(labels[rows]), each, strict=True)
    ]


def _names(classes: Sequence[str], chosen: Sequence[int]) -> str:
    """Up to three of the classes by name."""
    more = f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""
    return f"class{'es' if len(chosen) > 1 else ''} {', '.join(repr(classes[k]) for k in chosen[:3])}{more}"
