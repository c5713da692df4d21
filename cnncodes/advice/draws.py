"""Which images a probe learns from and which test it: n per class, drawn anew in each repeat.

The draws of one repeat are nested (the 15 are among the 30), and all are tested on the images that every command tests on
(:func:`cnncodes.heads.split_rows`), so that the difference between two numbers of images per class is not the difference
between two samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, OptionError
from cnncodes.heads.splits import split_rows
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS

Shots = int | Literal["all"]
Array = npt.NDArray[Any]

NOTHING_TESTS = ("no image can be used to test.", "Look at the files of the test images, or add images.")


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a catalog that a probe may use.

    Parameters
    ----------
    learn : int array
        Rows to draw from.
    test : int array
        Rows that test every draw.
    how : str
        Where both come from, in words.
    notes : tuple of str
        What was left out, and why.
    split : dict
        See :meth:`cnncodes.heads.Split.record`.
    """

    learn: Array
    test: Array
    how: str
    notes: tuple[str, ...] = ()
    split: dict[str, Any] = field(default_factory=dict)

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
    catalog: Catalog,
    usable: Array,
    shots: Sequence[Shots],
    repeats: int,
    limit: int,
    seed: int,
    same: Array | None = None,
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
    same : int64 array [N], optional
        Copies, as for :func:`cnncodes.heads.split_rows`.

    Raises
    ------
    HeadError
        If there are not two classes with enough images.
    """
    split = split_rows(catalog, usable, "auto", seed, same=same)
    learn, test, notes = split.train, split.test, []
    labels = catalog.labels
    if not len(test):
        raise HeadError(*NOTHING_TESTS)
    if split.kind == "drawn":
        how = f"drawn from {len(learn):,}, tested on those held out ({100 * split.share:.0f} % of each class, seed {seed})"
        kept, why = np.intersect1d(labels[learn], labels[test]), "a single image"
    else:
        name = SPLITS[int(catalog.splits[test].max())]
        how = f"drawn from train, tested on {name}"
        kept, why = np.unique(labels[learn]), "no train image"
        if others := int((usable & (labels >= 0)).sum()) - len(learn) - len(test):
            notes = [f"{others:,} images that are neither in train nor in {name} are not used"]
    if few := np.setdiff1d(labels[usable & (labels >= 0)], kept).tolist():
        notes.append(f"{_names(catalog.classes, few)} left out: {why}")
    if len(kept) < 2:
        raise HeadError(
            f"{len(kept)} class has enough labelled images, and a probe tells classes apart.",
            "Give images of at least two classes, two or more of each.",
        )
    learn, test = (part[np.isin(labels[part], kept)] for part in (learn, test))
    random = np.random.default_rng([seed, 0])
    if "all" not in shots:
        each = max(n for n in shots if isinstance(n, int)) * max(2, repeats)
        learn = np.sort(np.concatenate(_first(labels, learn, np.full(len(kept), each), random)))
    return Pool(learn, balanced(labels, test, limit, random), how, tuple(notes), split.record(catalog))


def draw(
    labels: Array, classes: Sequence[str], pool: Pool, shots: Sequence[Shots], repeats: int, seed: int
) -> tuple[list[Draw], list[str]]:
    """All draws, and notes on the numbers of images for which all that there are were taken.

    Parameters
    ----------
    labels : int array [N]
        Of all rows of the catalog: places in ``classes``.
    classes : sequence of str
    pool : Pool
        Only of images that could be read.
    """
    present, counts = np.unique(labels[pool.learn], return_counts=True)
    most, notes = int(counts.min()), []
    if large := [str(n) for n in shots if n != "all" and n > most]:
        notes.append(
            f"{' and '.join(large)} images per class are more than the smallest class, {classes[present[counts.argmin()]]!r}, "
            f"has to learn from: {most} instead"
        )
    numbers = dict.fromkeys(n if n == "all" else min(n, most) for n in shots)
    draws = []
    for repeat in range(repeats):
        random = np.random.default_rng([seed, 1, repeat])
        shuffled = _first(labels, pool.learn, np.full(len(counts), len(pool.learn)), random)
        for n in numbers:
            if n == "all" and repeat:
                continue  # the same images again
            rows = np.concatenate([part if n == "all" else part[:n] for part in shuffled])
            draws.append(Draw(n, repeat, np.sort(rows), pool.test))
    return draws, notes


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
