"""Which rows of a catalog are fitted, which choose, and which are kept to test: the same in every command.

Where the data do not say it, images are drawn by :func:`draw_rows`, from their names, labels and the seed alone. The images
of a class are ranked by a hash of their names, and the first ranks are drawn: the order of the rows, the place of the folder
and unreadable files change nothing, and a folder that has grown keeps most of its test images. Files with the same bytes
stay on one side.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import mean_of_crops, nearest
from cnncodes.core.errors import HeadError, OptionError
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_files
from cnncodes.images.listing import SPLITS

SplitRule = Literal["auto", "none"] | float
HELD_OUT = 0.2  # of each class, to test
#: Of the usual distance between a test image and the nearest that is fitted: nearer is the same picture, stored anew.
SAME_PICTURE = 0.0005
MOST_PAIRS = 4 * 10**8  # of codes that are compared; so many take about a minute on two cores
_EQUAL = 1e-10  # cosine distance of two codes of one picture: rounding
_ROWS = 2**14  # fitted ones at a time
WATCHED = 0.1  # of each class of the images to fit, where a training has to choose an epoch

_NONE, _TRAIN, _VAL, _TEST = (SPLITS.index(name) for name in ("none", "train", "val", "test"))


@dataclass(frozen=True, eq=False)
class Split:
    """Rows (int64, ascending) for each purpose, and how they were chosen."""

    train: np.ndarray
    choose: np.ndarray  # empty where C is chosen by folds of ``train``
    test: np.ndarray  # empty where all rows are fitted
    how: str  # in words
    #: Whether the data name the test images, or they were drawn, or none is kept.
    kind: Literal["own", "drawn", "none"] = "own"
    share: float = 0.0  # of each class, where test images were drawn
    seed: int = 0  # of whatever was drawn
    copies: int = 0  # images with the same bytes as another, that a draw kept on one side
    #: Further images that stay on one side. A command that does not know them may have these on another side, and no others.
    near_copies: int = 0
    #: Images of the test split that do not test, see :func:`without_copies`.
    left_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def record(self, catalog: Catalog) -> dict[str, Any]:
        """What the split is, for JSON; ``test_names`` is equal where the same images test, in whatever order and folder."""
        keys = _keys(catalog.names)
        names = b"\0".join(sorted(keys[row] for row in self.test.tolist()))
        fields = {name: getattr(self, name) for name in ("kind", "share", "seed", "copies", "near_copies")}
        parts = {name: len(getattr(self, name)) for name in ("train", "choose", "test", "left_out")}
        return {**fields, **parts, "test_names": hashlib.sha256(names).hexdigest()[:16]}


def is_divided(catalog: Catalog) -> bool:
    """Whether the data name images to test or to choose with, so that none need be drawn to test."""
    labelled = catalog.splits[catalog.labels >= 0]
    return bool(np.isin(labelled, (_VAL, _TEST)).any())


def split_rows(
    catalog: Catalog,
    usable: np.ndarray,
    rule: SplitRule = "auto",
    seed: int = 0,
    *,
    same: np.ndarray | None = None,
    near: np.ndarray | None = None,
) -> Split:
    """Rows to fit, to choose C on, and to test on.

    Parameters
    ----------
    catalog : Catalog
    usable : bool ndarray [N]
        Rows that have codes, as far as is known. Others are in no part, and do not change what is drawn.
    rule : {"auto", "none"} or float, default "auto"
        - "auto": the catalog's own splits. With train, val and test, C is chosen on val; with only one of val
          and test, that one tests and C is chosen by folds of train. Without val and test, a fifth of each class
          is drawn to test.
        - "none": everything is fitted, nothing tests.
        - a share between 0 and 1: that share of each class tests, whatever the splits say.
    seed : int, default 0
    same, near : int64 ndarray [N], optional
        Copies, see :func:`cnncodes.heads.splits.draw_rows`.

    Raises
    ------
    HeadError
        If no labelled row is left to fit.
    OptionError
        For another rule.
    """
    rows = np.flatnonzero(catalog.labels >= 0)
    if not usable[rows].any():
        raise HeadError(
            "there are no labelled images to learn from.",
            "Put the images into one folder per class, or give a list or CSV with labels; codes must be extracted again.",
        )
    if isinstance(rule, float) and 0 < rule < 1:
        return _held_out(catalog, rows, usable, rule, seed, same, near)
    if rule not in ("auto", "none"):
        raise OptionError(f"split {rule!r} is not known.", "Use auto, none, or a share such as 0.2.")
    if rule == "auto" and not is_divided(catalog):
        return _held_out(catalog, rows, usable, HELD_OUT, seed, same, near)
    rows = rows[usable[rows]]
    if rule == "none":
        how = f"all {len(rows):,} images are fitted, none is kept to test"
        return Split(rows, rows[:0], rows[:0], how, "none", seed=seed)
    split = catalog.splits[rows]
    train, val, test = (rows[split == place] for place in (_TRAIN, _VAL, _TEST))
    if not len(train):
        raise HeadError(
            "the data have splits, but no labelled image in train.",
            "Add a train folder, or use --split none or a share such as --split 0.2.",
        )
    unnamed = int((split == _NONE).sum())
    others = f"; {unnamed:,} without a split are left out" if unnamed else ""
    if len(val) and len(test):
        how = f"train {len(train):,}, val {len(val):,} (chooses), test {len(test):,}{others}"
        return Split(train, val, test, how, seed=seed)
    name, tested = ("test", test) if len(test) else ("val", val)
    how = f"train {len(train):,}, {name} {len(tested):,} (tests){others}"
    return Split(train, rows[:0], tested, how, seed=seed)


def with_watched(
    catalog: Catalog, split: Split, *, same: np.ndarray | None = None, near: np.ndarray | None = None
) -> Split:
    """The split with a tenth of each class of ``train`` in ``choose``, where that is empty: a training watches it.

    It stays empty where every class is one image, or one group of copies.
    """
    if len(split.choose):
        return split
    drawn = draw_rows(catalog, split.train, WATCHED, split.seed, same, near)
    how = f"{split.how}; {len(drawn):,} of the images to fit are watched, to choose the epoch"
    return dataclasses.replace(split, train=np.setdiff1d(split.train, drawn), choose=drawn, how=how)


def draw_rows(
    catalog: Catalog,
    rows: np.ndarray,
    share: float,
    seed: int,
    same: np.ndarray | None = None,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """A share of each class among some rows, by the ranks of their names; the other rows change nothing.

    At least one image of every class that has more than one, or more than one group of copies; never all. ``same`` [N] is what
    ``images.digests.identical_files`` gives, which is the default: every command can know it. ``near`` [N] are groups of images
    that are copies of each other, exact or nearly (``advice.findings.groups_of``): they are brought to one side after the draw,
    which stays the same for all other images.
    """
    labels, keys = catalog.labels, _keys(catalog.names)
    groups = exact = _groups(identical_files(catalog) if same is None else same)
    units = _units(labels, rows, exact, keys, seed)
    drawn: set[int] = set()
    counts = np.bincount(labels[rows])
    for label, parts in units.items():
        count = int(counts[label])
        drawn |= _filled(parts, min(max(1, round(share * count)), count - 1))
    if near is not None:
        groups, joined = near, _nearly_copied(rows, exact, near)
        inside = drawn & set(joined.tolist())
        drawn -= inside
        for label, parts in _units(labels, joined, near, keys, seed).items():
            drawn |= _filled(parts, sum(labels[row] == label for row in inside))
        units = _units(labels, rows, near, keys, seed)
    for parts in units.values():
        if len(parts) > 1 and drawn.isdisjoint(row for part in parts for row in part):
            smallest = min(parts, key=len)
            drawn |= set(smallest)
    return _without_lost(labels, rows, groups, drawn)


def compact_labels(catalog: Catalog, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels 0..K-1 of the classes that some rows have (int64 ``[N]``), -1 for all others, and the names of these classes."""
    present = np.unique(catalog.labels[rows])
    labels = np.where(np.isin(catalog.labels, present), np.searchsorted(present, catalog.labels), -1)
    return labels, tuple(catalog.classes[label] for label in present)


def with_known_classes(catalog: Catalog, rows: Split, labels: np.ndarray) -> Split:
    """The split without the val and test images whose class has no training image, and a word on them."""
    held = np.concatenate([rows.choose, rows.test])
    unknown = held[labels[held] < 0]
    if not len(unknown):
        return rows
    names = ", ".join(repr(catalog.classes[label]) for label in np.unique(catalog.labels[unknown]))
    choose, test = (np.setdiff1d(part, unknown) for part in (rows.choose, rows.test))
    how = f"{rows.how}; {len(unknown):,} of these left out, since their class has no training image: {names}"
    return dataclasses.replace(rows, choose=choose, test=test, how=how)


def without_copies(
    split: Split, same: np.ndarray, codes: CodesFile | None = None, stage: str | None = None
) -> Split:
    """The split whose test rows hold no copy of an image that is fitted or chooses: those are in ``left_out``.

    Copies have the same number in ``same`` [N] (``images.digests.identical_files``) or, where there are ``codes`` of the images,
    nearly the same code of ``stage``: the same picture in another file.
    """
    fitted = np.concatenate([split.train, split.choose])
    copied, unknown = np.isin(same[split.test], same[fitted][same[fitted] >= 0]), ""
    if codes is not None and stage is not None:
        rows, tested = (part[codes.state[part] == DONE] for part in (fitted, split.test))
        if len(rows) * len(tested) <= MOST_PAIRS:
            copied |= np.isin(split.test, tested[_same_pictures(codes, stage, rows, tested)])
        else:
            unknown = "; there are too many to look for copies in other files"
    how = split.how
    if copied.any():
        how += f"; {int(copied.sum()):,} images of the test split are copies of fitted ones, and are left out"
    return dataclasses.replace(
        split, test=split.test[~copied], left_out=split.test[copied], how=how + unknown
    )


def _same_pictures(codes: CodesFile, stage: str, fitted: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Whether each tested row has the code of a fitted one, but for rounding: bool ``[tested]``."""
    none = np.zeros(len(tested), np.bool_)
    if not len(fitted) or not len(tested):
        return none
    asked, distance = mean_of_crops(codes.read(stage, tested)), np.full(len(tested), np.inf)
    for start in range(0, len(fitted), _ROWS):  # there may be no memory for all of them
        there = mean_of_crops(codes.read(stage, fitted[start : start + _ROWS]))
        distance = np.minimum(distance, nearest(there, asked, 1)[1][:, 0])
    apart = distance[distance > _EQUAL]
    if not len(apart):  # all images have one code, which tells nothing
        return none
    found: np.ndarray = distance <= max(_EQUAL, SAME_PICTURE * float(np.median(apart)))
    return found


def _held_out(
    catalog: Catalog,
    rows: np.ndarray,
    usable: np.ndarray,
    share: float,
    seed: int,
    same: np.ndarray | None,
    near: np.ndarray | None,
) -> Split:
    """A share of each class to test, drawn among all its images, whether they can be read or not."""
    same = identical_files(catalog) if same is None else same
    test = draw_rows(catalog, rows, share, seed, same, near)
    train = np.setdiff1d(rows, test)
    # of a class whose other images cannot be read, those that were drawn are fitted
    test = test[np.isin(catalog.labels[test], catalog.labels[train[usable[train]]])]
    train = np.setdiff1d(rows, test)
    train, test = train[usable[train]], test[usable[test]]
    rows = rows[usable[rows]]
    copies = int((same[rows] >= 0).sum())
    nearly = 0 if near is None else len(_nearly_copied(rows, _groups(same), near))
    how = f"{len(train):,} images to fit, {len(test):,} held out to test ({100 * share:.0f} % of each class, seed {seed})"
    if copies:
        how += f"; {copies:,} images are exact copies, and stay on one side with the others"
    if nearly:
        how += f"; {nearly:,} images are nearly copies of others, and stay on one side with them"
    return Split(train, rows[:0], test, how, "drawn", share, seed, copies, nearly)


def _groups(same: np.ndarray) -> np.ndarray:
    """For each image the least row with the same content; its own where there is none."""
    first = np.arange(len(same))
    numbers, least, place = np.unique(same, return_index=True, return_inverse=True)
    return np.where(same < 0, first, least[place]) if len(numbers) else first


def _nearly_copied(rows: np.ndarray, exact: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The rows whose group is more than one picture with its exact copies; both kinds of groups by their least row."""
    larger = near[rows[near[rows] != exact[rows]]]
    return rows[np.isin(near[rows], larger)]


def _keys(names: Sequence[str]) -> list[bytes]:
    """What an image is drawn by: its name below the folder that all share, in NFC, so that it is the same everywhere.

    Images elsewhere, which a table of labels added, are drawn by their folder and name, and change nothing for the others.
    """
    parts = [(name.split("/"), name.startswith(("/", "../"))) for name in names]
    folders = [part[:-1] for part, elsewhere in parts if not elsewhere]
    shared = len(os.path.commonprefix(folders))  # noqa: RUF071 - of lists, whose entries are whole folders
    below = ("/".join(part[-2:] if elsewhere else part[shared:]) for part, elsewhere in parts)
    return [unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape") for name in below]


def _units(
    labels: np.ndarray, rows: np.ndarray, groups: np.ndarray, keys: Sequence[bytes], seed: int
) -> dict[int, list[list[int]]]:
    """Rows of each group, by the class that most of the group have; those of a class by the rank of their first name."""
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(groups[row]), []).append(row)
    ranked: dict[int, list[tuple[bytes, bytes, list[int]]]] = {}
    for part in members.values():
        first = min(keys[row] for row in part)
        rank = hashlib.blake2b(b"%d\0%b" % (seed, first), digest_size=8).digest()
        most = int(np.bincount(labels[part]).argmax())  # copies with different labels: that of most
        ranked.setdefault(most, []).append((rank, first, part))
    return {label: [part for *_, part in sorted(ranked[label])] for label in sorted(ranked)}


def _filled(parts: Sequence[list[int]], wanted: int) -> set[int]:
    """Rows of the first groups, as long as they are not more than wanted."""
    taken: set[int] = set()
    for part in parts:
        if len(taken) + len(part) <= wanted:
            taken |= set(part)
    return taken


def _without_lost(labels: np.ndarray, rows: np.ndarray, groups: np.ndarray, drawn: set[int]) -> np.ndarray:
    """The drawn rows, ascending, but for groups that hold the last images of a class."""
    chosen = np.array(sorted(drawn), np.int64)
    left = np.setdiff1d(rows, chosen)
    lost = np.setdiff1d(labels[chosen], labels[left])  # all images of a class were copies of another's
    back = np.unique(groups[chosen[np.isin(labels[chosen], lost)]])
    return chosen[~np.isin(groups[chosen], back)]
