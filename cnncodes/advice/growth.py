"""A run whose images have changed: what it knows of them, and what is kept while it is made again.

The files that the new result is made of, and the result itself, are kept under names that begin with ``before-`` until the new report
is written: the split says which images test, and the codes of known images are not computed again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnncodes.advice.division import relative_names
from cnncodes.advice.finished import read_split
from cnncodes.advice.run_record import (
    ASIDE,
    BEFORE,
    CODES,
    REPORT,
    SPLIT,
    Earlier,
    RunNote,
    RunReport,
    remove_run,
)
from cnncodes.codes.file import CodesFile
from cnncodes.codes.reuse import known_digests
from cnncodes.core.errors import CnnCodesError, ResumeError
from cnncodes.core.files import read_text
from cnncodes.core.records import to_value
from cnncodes.core.words import quoted
from cnncodes.images.catalog import SPLITS, Catalog, class_names, stat_files


@dataclass(frozen=True, eq=False)
class Known:
    """The images of a catalog that a run had before.

    Parameters
    ----------
    earlier : Catalog
        Of the run's ``split.csv``.
    there : int64 array [N]
        Row of each image of the catalog in the earlier one; -1 where it is new.
    new, gone, gone_tests, renamed, relabelled : int
        How many images, and how many of those that are gone were test images.
    """

    earlier: Catalog
    there: npt.NDArray[np.int64]
    new: int
    gone: int
    gone_tests: int
    renamed: int
    relabelled: int

    @property
    def splits(self) -> npt.NDArray[np.uint8]:
        """What each image was for, uint8 ``[N]``; none where it is new."""
        return np.where(self.there >= 0, self.earlier.splits[self.there], 0).astype(np.uint8)

    def words(self) -> list[str]:
        """What has changed beside new images: ``["2 images are gone, 1 of the test"]``."""
        parts = []
        if self.gone:
            tests = f", {self.gone_tests:,} of the test" if self.gone_tests else ""
            parts.append(f"{_images(self.gone)} gone{tests}")
        if self.renamed:
            parts.append(f"{_images(self.renamed)} renamed")
        if self.relabelled:
            parts.append(f"{self.relabelled:,} {'has' if self.relabelled == 1 else 'have'} another label")
        return parts


def _images(count: int) -> str:
    return f"{count:,} {'image is' if count == 1 else 'images are'}"


def known_images(folder: Path, catalog: Catalog, prefix: str = "") -> Known | None:
    """Which images of a catalog the run in a folder had, by name and content; None if it had not divided any yet.

    Without a codes file, which has the contents' digests, an image is known by its name alone.
    """
    path = folder / f"{prefix}{SPLIT}"
    if not path.exists():
        return None
    earlier, names = read_split(path), relative_names(path, catalog)
    row_of = {name: row for row, name in enumerate(earlier.names)}
    there = np.array([row_of.get(name, -1) for name in names], np.int64)
    codes = folder / f"{prefix}{CODES}"
    if codes.exists():
        with CodesFile(codes) as file:
            digests, found = file.digests(), known_digests(file, catalog, *stat_files(catalog))
            same_rows = _same_names(earlier.names, file.catalog.names)
        if same_rows:  # not where a later run was cut off after it had begun other codes
            there[(there >= 0) & (digests[there] != 0) & (found != digests[there])] = -1  # another picture
            lost = np.setdiff1d(np.flatnonzero(digests), there)  # not there under their name
            left = {digests[row]: row for row in lost[::-1]}
            for row in np.flatnonzero(there < 0):
                there[row] = left.pop(found[row], -1)
    known = np.flatnonzero(there >= 0)
    gone = np.setdiff1d(np.arange(len(earlier)), there)
    labels = [class_names(each) for each in (catalog, earlier)]
    return Known(
        earlier,
        there,
        new=len(catalog) - len(known),
        gone=len(gone),
        gone_tests=int((earlier.splits[gone] == SPLITS.index("test")).sum()),
        renamed=sum(names[row] != earlier.names[there[row]] for row in known.tolist()),
        relabelled=sum(labels[0][row] != labels[1][there[row]] for row in known.tolist()),
    )


def _same_names(split: Sequence[str], codes: Sequence[str]) -> bool:
    """Whether a split and a codes file have the same images in the same order, each named from a folder of its own."""
    ends = (os.path.basename(name) if os.path.isabs(name) else name for name in codes)  # noqa: PTH117, PTH119
    return len(split) == len(codes) and all(map(str.endswith, split, ends))


def is_unchanged(note: RunNote, catalog: Catalog) -> bool:
    """Whether the images of a finished run are those that it had after all, so that only their time was another one.

    Raises
    ------
    ResumeError
        If fewer than half of the run's images are there, or none of a class: it is one of other images.
    """
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
    if known is not None and (lost := _lost_classes(known, catalog)):
        raise ResumeError(
            f"no image of {quoted(lost[0])}{f' and {len(lost) - 1} other classes' if len(lost) > 1 else ''}, which the run in "
            f"'{folder}' knows, is among these {len(catalog):,}.",
            "Look whether images or lines of a list are missing; without the class, choose another folder with -o, or start anew "
            "with --overwrite.",
        )
    same = (
        (folder / REPORT).exists()
        and known is not None
        and not (known.new or known.renamed or known.relabelled)
        and np.array_equal(known.there, np.arange(len(known.earlier)))
        and note["inputs"]["splits"] == note.asked["splits"]
    )
    if same:
        note.keep(inputs=note.asked)
    return same


def _lost_classes(known: Known, catalog: Catalog) -> list[str]:
    """Classes of the run whose images are all gone: half a list looks like this. Other names for a class are none of it."""
    labels = class_names(known.earlier)
    left = {*class_names(catalog), *(labels[row] for row in known.there[known.there >= 0].tolist())}
    return sorted({label for label in labels if label is not None} - left)


def set_aside(note: RunNote) -> None:
    """Keep what of a run is of use for the next one, and begin that: killed in between, it can be repeated."""
    folder = note.path.parent
    for name in ASIDE:  # the report first: what is not whole must not look finished
        if (folder / name).exists():
            (folder / name).replace(folder / f"{BEFORE}{name}")
    remove_run(folder, anew=True)
    history = note.values.get("history", [])
    with contextlib.suppress(OSError, CnnCodesError):
        report = RunReport.from_json(read_text(folder / f"{BEFORE}{REPORT}"))
        earlier = to_value(Earlier.of(report))
        history = [*(entry for entry in history if entry != earlier), earlier]
    note.restart(history=history)


def remove_before(folder: Path) -> None:
    """Take away what :func:`set_aside` has kept, once there is a new result."""
    for name in ASIDE:
        (folder / f"{BEFORE}{name}").unlink(missing_ok=True)
