"""Which images are fitted and which are kept to test, for a whole run: copies never stand on both sides."""

from __future__ import annotations

import csv
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import CatalogError
from cnncodes.heads.splits import HELD_OUT, SplitRule, split_rows
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.weights.content import replacing

Array = npt.NDArray[Any]

VAL_SHARE = 0.1  # of the images to fit, where a training needs a val split and the data have none
_NONE, _TRAIN, _VAL, _TEST = (SPLITS.index(name) for name in ("none", "train", "val", "test"))


@dataclass(frozen=True, eq=False)
class Division:
    """A split of a catalog, and how it came about.

    Parameters
    ----------
    splits : uint8 ndarray [N]
        As in a catalog: train and test, and val where the data have all three.
    groups : int64 ndarray [N]
        Images of one group are copies of each other and stand on one side; each image alone by default.
    how : str
        In words.
    """

    splits: Array
    groups: Array
    how: str

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with this split."""
        return dataclasses.replace(catalog, splits=self.splits)


def is_divided(catalog: Catalog) -> bool:
    """Whether the data name images to test or to choose with, so that nothing has to be drawn."""
    labelled = catalog.splits[catalog.labels >= 0]
    return bool(np.isin(labelled, (_VAL, _TEST)).any())


def own_division(catalog: Catalog) -> Division:
    """The data's own split. A val split without a test split tests: whatever is chosen is chosen inside train.

    Raises
    ------
    HeadError
        If no labelled image is in train.
    """
    split = split_rows(catalog, np.ones(len(catalog), np.bool_))
    splits = np.zeros(len(catalog), np.uint8)
    splits[split.train], splits[split.choose], splits[split.test] = _TRAIN, _VAL, _TEST
    how = f"the data's own: {split.how}"
    if not len(split.choose) and not (catalog.splits == _TEST).any():
        how += "; settings are chosen inside train"
    return Division(splits, np.arange(len(catalog)), how)


def draw_division(
    catalog: Catalog, usable: Array, groups: Array, *, share: float = HELD_OUT, seed: int = 0
) -> Division:
    """A share of each class to test, drawn by groups.

    Parameters
    ----------
    catalog : Catalog
        With labels; its splits are not looked at.
    usable : bool array [N]
        Images that can be read.
    groups : int64 array [N]
        See :func:`cnncodes.advice.copies.groups_of`.
    share : float, default 0.2
    seed : int, default 0
    """
    rows = np.flatnonzero(usable & (catalog.labels >= 0))
    test = _draw(catalog.labels, rows, groups, share, seed)
    splits = np.zeros(len(catalog), np.uint8)
    splits[rows], splits[test] = _TRAIN, _TEST
    _, counts = np.unique(groups[rows], return_counts=True)
    together = int(counts[counts > 1].sum())
    how = (
        f"drawn, since the data have no split: {len(rows) - len(test):,} images to fit, {len(test):,} to test "
        f"({100 * share:.0f} % of each class, seed {seed})"
    )
    if together:
        how += f"; {together:,} images that are copies of others, or nearly, stay on one side with them"
    return Division(splits, groups, how)


def for_training(catalog: Catalog, groups: Array, seed: int = 0) -> tuple[Catalog, SplitRule]:
    """What a training gets, and its split rule: it watches val images or none at all, never those that test.

    Parameters
    ----------
    catalog : Catalog
        With train and test, and val where the data have it.
    groups : int64 array [N]
        As in :class:`Division`.
    seed : int, default 0

    Returns
    -------
    Catalog
        With a val split. Where none can be kept out of train, only the images to learn from are labelled.
    {"auto", "none"}
    """
    divided = with_val(catalog, groups, seed)
    if (divided.splits == _VAL).any():
        return divided, "auto"
    labels = np.where(divided.splits == _TRAIN, divided.labels, -1).astype(divided.labels.dtype)
    return dataclasses.replace(divided, labels=labels), "none"


def with_val(catalog: Catalog, groups: Array, seed: int = 0) -> Catalog:
    """The catalog with a val split inside train, for a training that has to choose when to stop.

    A tenth of each class; where all copies together are more than that in every class, the smallest group of each. As it
    was, where every class is one group.
    """
    if (catalog.splits == _VAL).any():
        return catalog
    rows = np.flatnonzero(catalog.splits == _TRAIN)
    drawn = _draw(catalog.labels, rows, groups, VAL_SHARE, seed)
    if not len(drawn):
        drawn = _smallest(catalog.labels, rows, groups)
    splits = catalog.splits.copy()
    splits[drawn] = _VAL
    return dataclasses.replace(catalog, splits=splits)


def _draw(labels: Array, rows: Array, groups: Array, share: float, seed: int) -> Array:
    """Rows of whole groups, up to a share of each class; no class loses its last image."""
    random = np.random.default_rng(seed)
    by_class = _by_class(labels, rows, groups)
    drawn: list[int] = []
    for label in sorted(by_class):
        count = int((labels[rows] == label).sum())
        wanted = min(max(1, round(share * count)), count - 1)
        taken = 0
        for place in random.permutation(len(by_class[label])).tolist():
            part = by_class[label][place]
            if taken + len(part) <= wanted:
                drawn += part
                taken += len(part)
    return _without_lost(labels, rows, groups, drawn)


def _smallest(labels: Array, rows: Array, groups: Array) -> Array:
    """Rows of the smallest group of every class that has more than one; no class loses its last image."""
    parts = [min(parts, key=len) for parts in _by_class(labels, rows, groups).values() if len(parts) > 1]
    return _without_lost(labels, rows, groups, [row for part in parts for row in part])


def _by_class(labels: Array, rows: Array, groups: Array) -> dict[int, list[list[int]]]:
    """Rows of each group, by the class that most of the group have."""
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(groups[row]), []).append(row)
    by_class: dict[int, list[list[int]]] = {}
    for part in members.values():
        most = np.bincount(labels[part]).argmax()  # copies with different labels: that of most
        by_class.setdefault(int(most), []).append(part)
    return by_class


def _without_lost(labels: Array, rows: Array, groups: Array, drawn: list[int]) -> Array:
    """The drawn rows, ascending, but for groups that hold the last images of a class."""
    chosen = np.array(sorted(drawn), np.int64)
    left = np.setdiff1d(rows, chosen)
    lost = np.setdiff1d(labels[chosen], labels[left])  # all images of a class were copies of another's
    back = np.unique(groups[chosen[np.isin(labels[chosen], lost)]])
    return chosen[~np.isin(groups[chosen], back)]


def write_division(path: Path, catalog: Catalog, division: Division) -> None:
    """Write a CSV that every command takes as DATA: filename (relative to the CSV), label, split, group."""
    with (
        replacing(path, overwrite=True, error=CatalogError) as whole,
        whole.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("filename", "label", "split", "group"))
        for row, name in enumerate(_relative(path, catalog)):
            label = int(catalog.labels[row])
            kind = "" if label < 0 else catalog.classes[label]
            split = SPLITS[division.splits[row]] if division.splits[row] else ""
            writer.writerow((name, kind, split, int(division.groups[row])))


def read_division(path: Path, catalog: Catalog, how: str) -> Division:
    """Read what :func:`write_division` wrote for this catalog.

    Raises
    ------
    CatalogError
        If the file names other images, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = list(csv.DictReader(file))
        splits = np.array([SPLITS.index(line["split"] or "none") for line in lines], np.uint8)
        groups = np.array([int(line["group"]) for line in lines], np.int64)
        same = [line["filename"] for line in lines] == _relative(path, catalog)
    except (OSError, ValueError, KeyError, csv.Error):
        same = False
    if not same:
        raise CatalogError(
            f"'{path}' is not the split of these images.",
            "Choose another folder with -o, or restore the file.",
        )
    return Division(splits, groups, how)


def _relative(path: Path, catalog: Catalog) -> list[str]:
    folder = path.resolve().parent
    return [os.path.relpath(file, folder) for file in catalog.files]
