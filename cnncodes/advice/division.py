"""Which images are fitted and which are kept to test, for a whole run: copies never stand on both sides, and where the images have
changed, those that a run knows keep their side."""

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

from cnncodes.advice.facts import changed_text, grown_text
from cnncodes.advice.run_folder import BEFORE, RunNote, read_split
from cnncodes.advice.run_record import CODES, REPORT, SPLIT
from cnncodes.codes.file import CodesFile, Files
from cnncodes.codes.planning import known_digests
from cnncodes.core.errors import CatalogError, CnnCodesError, ResumeError
from cnncodes.core.files import LARGEST_TEXT, read_text
from cnncodes.core.outputs import replacing
from cnncodes.core.words import quoted
from cnncodes.heads.splits import HELD_OUT, Split, draw_rows, split_rows, with_watched, without_copies
from cnncodes.images.catalog import SPLITS, Catalog, class_names, stat_files
from cnncodes.images.digests import identical_files
from cnncodes.images.readers import is_url

Array = npt.NDArray[Any]

_NONE, _TRAIN, _VAL, _TEST = (SPLITS.index(name) for name in ("none", "train", "val", "test"))


@dataclass(frozen=True, eq=False)
class Division:
    """A split of a catalog, and how it came about."""

    splits: Array  # uint8 [N], as in a catalog
    groups: Array  # int64 [N]; images of one group are copies of each other and stand on one side
    how: str  # in words
    record: dict[str, Any] = field(default_factory=dict)  # of :meth:`cnncodes.heads.Split.record`
    left_out: Array = field(default_factory=lambda: np.zeros(0, np.int64))  # test rows: copies

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with this split."""
        return dataclasses.replace(catalog, splits=self.splits)

    @property
    def values(self) -> dict[str, Any]:
        """What is kept of it in a note, beside its file."""
        return {"split": self.how, "split_record": self.record, "left_out": self.left_out.tolist()}


def own_division(catalog: Catalog, codes: CodesFile | None = None, stage: str | None = None) -> Division:
    """The data's own split; a val split without test tests. Copies of images to fit do not test. HeadError without train."""
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
    """A share of each class to test, as every command draws it (:func:`cnncodes.heads.split_rows`), groups on one side."""
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
    of = {
        "train": new & (splits == _TRAIN),
        "copies": copies & tests & ~moved,
        "drawn": new & moved,
        "left_out": new & left_out,
        "known_drawn": moved & ~new,
        "known_left_out": left_out & ~new,
    }
    how = grown_text({name: int(part.sum()) for name, part in of.items()} | {"stay": stay})
    record = Split(train, train[:0], test, how, "drawn", share, seed).record(catalog)
    return Division(splits, groups, how, {**record, "kind": "kept"})


def for_training(catalog: Catalog, groups: Array, seed: int = 0) -> Split:
    """What a training learns from and watches: val images, else some of train, else none; never those that test."""
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
    """Read what :func:`write_division` wrote for this catalog; ``values`` are :attr:`Division.values`, as a note has them."""
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


@dataclass(frozen=True, eq=False)
class Known:
    """The images of a catalog that a run had before, and how many are new or have changed."""

    earlier: Catalog  # of the run's ``split.csv``
    there: npt.NDArray[np.int64]  # [N] row in ``earlier``; -1: new
    new: int
    gone: int
    gone_tests: int  # of these, test images
    renamed: int
    relabelled: int

    @property
    def splits(self) -> npt.NDArray[np.uint8]:
        """What each image was for, uint8 ``[N]``; none where it is new."""
        return np.where(self.there >= 0, self.earlier.splits[self.there], 0).astype(np.uint8)

    def words(self) -> list[str]:
        """What has changed beside new images, a clause each."""
        return changed_text(self.gone, self.gone_tests, self.renamed, self.relabelled)


def known_images(folder: Path, catalog: Catalog, prefix: str = "") -> Known | None:
    """Which images of a catalog the run in a folder had, by name and, where it has codes, by content; None before its split."""
    path = folder / f"{prefix}{SPLIT}"
    if not path.exists():
        return None
    earlier, names = read_split(path), relative_names(path, catalog)
    row_of = {name: row for row, name in enumerate(earlier.names)}
    there = np.array([row_of.get(name, -1) for name in names], np.int64)
    codes = folder / f"{prefix}{CODES}"
    if codes.exists():
        with CodesFile(codes) as file:
            digests, found = file.digests(), known_digests(file, catalog, Files(*stat_files(catalog)))
            # Each is named from a folder of its own: in the codes file an absolute path may stand.
            ends = (os.path.basename(name) if os.path.isabs(name) else name for name in file.catalog.names)  # noqa: PTH117, PTH119
            same_rows = len(earlier) == len(file) and all(map(str.endswith, earlier.names, ends))
        if same_rows:  # not where a later run was cut off after it had begun other codes
            there[(there >= 0) & (digests[there] != 0) & (found != digests[there])] = -1  # another picture
            lost = np.setdiff1d(np.flatnonzero(digests), there)  # not there under their name
            left = {digests[row]: row for row in lost[::-1]}
            for row in np.flatnonzero(there < 0):
                there[row] = left.pop(found[row], -1)
    known = np.flatnonzero(there >= 0).tolist()
    gone = np.setdiff1d(np.arange(len(earlier)), there)
    now, then = class_names(catalog), class_names(earlier)
    return Known(
        earlier,
        there,
        new=len(catalog) - len(known),
        gone=len(gone),
        gone_tests=int((earlier.splits[gone] == _TEST).sum()),
        renamed=sum(names[row] != earlier.names[there[row]] for row in known),
        relabelled=sum(now[row] != then[there[row]] for row in known),
    )


def is_unchanged(note: RunNote, catalog: Catalog) -> bool:
    """Whether only files' times of a finished run's images changed; raises ResumeError if half of the images are gone, or a class."""
    folder = note.path.parent
    known = known_images(folder, catalog) or known_images(folder, catalog, BEFORE)
    had, there = (0, 0) if known is None else (len(known.earlier), len(known.earlier) - known.gone)
    if known is None and (folder / CODES).exists():  # interrupted in its first extraction
        with contextlib.suppress(CnnCodesError), CodesFile(folder / CODES) as codes:
            had, there = len(codes), len({*codes.catalog.names} & {*catalog.names})
    if 2 * there < had:
        raise ResumeError(
            f"the run in '{folder}' is of other images: {there:,} of its {had:,} are among these {len(catalog):,}.",
            "Name its images, choose another folder with -o, or start anew with --overwrite.",
        )
    if known is None:
        return False
    labels = class_names(known.earlier)  # other names for a class are no lost class
    left = {*class_names(catalog), *(labels[row] for row in known.there[known.there >= 0].tolist())}
    if lost := sorted({label for label in labels if label is not None} - left):
        raise ResumeError(  # half a list looks like this
            f"no image of {quoted(lost[0])}{f' and {len(lost) - 1} other classes' if len(lost) > 1 else ''}, which the run in "
            f"'{folder}' knows, is among these {len(catalog):,}.",
            "Look whether images or lines of a list are missing; without the class, choose another folder with -o, or start anew "
            "with --overwrite.",
        )
    same = (
        (folder / REPORT).exists()
        and not (known.new or known.renamed or known.relabelled)
        and np.array_equal(known.there, np.arange(len(known.earlier)))
        and note["inputs"]["splits"] == note.asked["splits"]
    )
    if same:
        note.keep(inputs=note.asked)
    return same
