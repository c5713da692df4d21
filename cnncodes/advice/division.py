"""Which images are fitted and which are kept to test, for a whole run: copies never stand on both sides."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import CodesFile
from cnncodes.core.errors import CatalogError
from cnncodes.core.files import LARGEST_TEXT, read_text
from cnncodes.core.outputs import replacing
from cnncodes.heads.splits import HELD_OUT, Split, draw_rows, split_rows, with_watched, without_copies
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.digests import identical_files
from cnncodes.images.readers import is_url

Array = npt.NDArray[Any]

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
    record : dict
        See :meth:`cnncodes.heads.Split.record`; empty of runs of before it was kept.
    left_out : int64 array
        Test images that do not test, since they are copies of images to fit.
    """

    splits: Array
    groups: Array
    how: str
    record: dict[str, Any] = field(default_factory=dict)
    left_out: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with this split."""
        return dataclasses.replace(catalog, splits=self.splits)

    @property
    def values(self) -> dict[str, Any]:
        """What is kept of it in a note, beside its file."""
        return {"split": self.how, "split_record": self.record, "left_out": self.left_out.tolist()}


def own_division(catalog: Catalog, codes: CodesFile | None = None, stage: str | None = None) -> Division:
    """The data's own split. A val split without a test split tests: whatever is chosen is chosen inside train.

    Copies of images to fit do not test; parameters as for :func:`cnncodes.heads.splits.without_copies`.

    Raises
    ------
    HeadError
        If no labelled image is in train.
    """
    split = split_rows(catalog, np.ones(len(catalog), np.bool_))
    split = without_copies(split, identical_files(catalog), codes, stage)
    splits = np.zeros(len(catalog), np.uint8)
    splits[split.train], splits[split.choose], splits[split.test] = _TRAIN, _VAL, _TEST
    splits[split.left_out] = _TEST
    how = f"the data's own: {split.how}"
    if not len(split.choose) and not (catalog.splits == _TEST).any():
        how += "; settings are chosen inside train"
    return Division(splits, np.arange(len(catalog)), how, split.record(catalog), split.left_out)


def draw_division(
    catalog: Catalog,
    usable: Array,
    groups: Array,
    *,
    same: Array | None = None,
    share: float = HELD_OUT,
    seed: int = 0,
) -> Division:
    """A share of each class to test, as every command draws it (:func:`cnncodes.heads.split_rows`), groups on one side.

    Parameters
    ----------
    catalog : Catalog
        With labels; its splits are not looked at.
    usable : bool array [N]
        Images that can be read.
    groups : int64 array [N]
        See :func:`cnncodes.advice.copies.groups_of`.
    same : int64 array [N], optional
        See :func:`cnncodes.images.digests.identical_files`.
    share : float, default 0.2
    seed : int, default 0
    """
    split = split_rows(catalog, usable, share, seed, same=same, near=groups)
    splits = np.zeros(len(catalog), np.uint8)
    splits[split.train], splits[split.test] = _TRAIN, _TEST
    how = f"drawn, since the data have no split: {split.how}"
    if split.near_copies:
        how += " (only 'run' compares codes: other commands may have these on another side, and no others)"
    return Division(splits, groups, how, split.record(catalog))


def grown_division(
    catalog: Catalog,
    usable: Array,
    groups: Array,
    earlier: Array,
    *,
    same: Array | None = None,
    share: float = HELD_OUT,
    seed: int = 0,
) -> Division:
    """The split of a set that has changed: images stay on their side, and new ones are fitted.

    New copies of test images test, too; those that are copies of images on both sides are left out. Of classes without a test image
    a share is drawn. Parameters as for :func:`draw_division`; ``earlier`` (uint8 ``[N]``) has the split of known images, none of others.
    """
    able = usable & (catalog.labels >= 0)
    splits = np.where(able, earlier, _NONE).astype(np.uint8)
    splits[splits == _VAL] = _TRAIN
    stay, new = int((splits == _TEST).sum()), able & (splits == _NONE)
    copies = new & np.isin(groups, groups[splits == _TEST])
    splits[new] = np.where(copies[new], _TEST, _TRAIN)
    untested = able & ~np.isin(catalog.labels, catalog.labels[splits == _TEST])
    drawn = draw_rows(catalog, np.flatnonzero(untested), share, seed, same, groups)
    splits[drawn] = _TEST
    both = np.intersect1d(groups[splits == _TRAIN], groups[splits == _TEST])
    moved = np.zeros(len(new), np.bool_)
    moved[drawn] = True
    left_out = (new | moved) & np.isin(groups, both)
    splits[left_out] = _NONE
    train, test = (np.flatnonzero(splits == kind) for kind in (_TRAIN, _TEST))
    tests, moved = splits == _TEST, moved & (splits == _TEST)
    parts = (new & (splits == _TRAIN), copies & tests & ~moved, new & moved, new & left_out)
    how = _joined(*(int(part.sum()) for part in parts))
    if known := int((moved & ~new).sum()):
        how += f"; {known:,} training {'image tests' if known == 1 else 'images test'} now, for classes without a test image"
    if known := int((left_out & ~new).sum()):
        how += (
            f"; {known:,} known {'is' if known == 1 else 'are'} left out, as copies of images on both sides"
        )
    how += f"; the {stay:,} test images stay"
    record = Split(train, train[:0], test, how, "drawn", share, seed).record(catalog)
    return Division(splits, groups, how, {**record, "kind": "kept"})


def _joined(train: int, copies: int, drawn: int, left_out: int) -> str:
    """What becomes of new images, in words."""
    new = train + copies + drawn + left_out
    if not new:
        return "no image is new"
    text = "1 image is new" if new == 1 else f"{new:,} images are new"
    if new == train:
        return f"{text}: {'it joins' if new == 1 else 'they join'} the training set"
    parts = {
        "for training": train,
        "to test, as copies of test images": copies,
        "to test, for classes without a test image": drawn,
        "left out, as copies of images on both sides": left_out,
    }
    return f"{text}: {', '.join(f'{count:,} {what}' for what, count in parts.items() if count)}"


def for_training(catalog: Catalog, groups: Array, seed: int = 0) -> Split:
    """What a training learns from and watches: val images, else some of train, else none; never those that test.

    Parameters
    ----------
    catalog : Catalog
        With train and test, and val where the data have it.
    groups : int64 array [N]
        As in :class:`Division`.
    seed : int, default 0
    """
    train, val = (np.flatnonzero(catalog.splits == kind) for kind in (_TRAIN, _VAL))
    return with_watched(catalog, Split(train, val, train[:0], "as the run has it", seed=seed), near=groups)


def write_division(path: Path, catalog: Catalog, division: Division) -> None:
    """Write a CSV that every command takes as DATA: filename (relative to the CSV), label, split, group."""
    with (
        replacing(path, overwrite=True, error=CatalogError) as whole,
        whole.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("filename", "label", "split", "group"))
        for row, name in enumerate(relative_names(path, catalog)):
            label = int(catalog.labels[row])
            kind = "" if label < 0 else catalog.classes[label]
            split = SPLITS[division.splits[row]] if division.splits[row] else ""
            writer.writerow((name, kind, split, int(division.groups[row])))


def read_division(path: Path, catalog: Catalog, values: Mapping[str, Any]) -> Division:
    """Read what :func:`write_division` wrote for this catalog; ``values`` are :attr:`Division.values`, as a note has them.

    Raises
    ------
    CatalogError
        If the file names other images, or cannot be read.
    """
    same = False
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, csv.Error):
        text = read_text(path, limit=LARGEST_TEXT, errors="surrogateescape")
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
        splits = np.array([SPLITS.index(line["split"] or "none") for line in lines], np.uint8)
        groups = np.array([int(line["group"]) for line in lines], np.int64)
        same = [line["filename"] for line in lines] == relative_names(path, catalog)
    if not same:
        raise CatalogError(
            f"'{path}' is not the split of these images.",
            "Choose another folder with -o, or restore the file.",
        )
    left_out = np.array(values.get("left_out", ()), np.int64)  # old notes lack it, and the record
    return Division(splits, groups, values["split"], values.get("split_record", {}), left_out)


def relative_names(path: Path, catalog: Catalog) -> list[str]:
    """The images as a list beside ``path`` names them."""
    folder = path.resolve().parent
    return [file if is_url(file) else os.path.relpath(file, folder) for file in catalog.files]
