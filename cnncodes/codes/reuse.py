"""Codes that another file has already: rows of the same images are copied, the others are computed."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.rows import RowWriter
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.structure import layout, write_copied
from cnncodes.core.errors import CodesFileError
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import file_digests

COPIED = 256  # rows at a time


@dataclass(frozen=True, eq=False)
class Reuse:
    """Rows of a new file whose images are in another one: int64 ``[M]``, ascending, and their rows there."""

    path: Path
    rows: np.ndarray
    there: np.ndarray


def find_known(
    path: Path, catalog: Catalog, settings: ExtractionSettings, size: np.ndarray, mtime: np.ndarray
) -> Reuse:
    """The images of a catalog whose codes a file has, by their digests (:func:`known_digests`).

    Parameters
    ----------
    path : path of the other codes file
    catalog : Catalog
    settings : ExtractionSettings
        Of the new file.
    size, mtime : ndarray [N]
        Of the images, as :func:`~cnncodes.images.catalog.stat_files` gives them.

    Raises
    ------
    CodesFileError
        If it was made with other weights or settings, or lacks a layer.
    """
    with CodesFile(path) as codes:
        same = dataclasses.replace(codes.settings, batch_size=settings.batch_size)
        if set(settings.stages) <= set(same.stages):
            same = dataclasses.replace(same, stages=settings.stages)
        if differences := same.differences(settings):
            raise CodesFileError(
                f"codes of '{path}' cannot be used again: they were made otherwise ({'; '.join(differences[:4])}).",
                f"Take its settings (--like {path}), or leave out --from to compute all images.",
            )
        digests, found = codes.digests(), known_digests(codes, catalog, size, mtime)
        done = np.flatnonzero((codes.state == DONE) & (digests != 0))
    unique, first = np.unique(digests[done], return_index=True)
    place = np.minimum(np.searchsorted(unique, found), max(len(unique) - 1, 0))
    rows = np.flatnonzero((unique[place] == found) if len(unique) else np.zeros(0, bool))
    return Reuse(path, rows, done[first[place[rows]]])


def known_digests(
    codes: CodesFile, catalog: Catalog, size: np.ndarray, mtime: np.ndarray
) -> npt.NDArray[np.uint64]:
    """Digest of each image that a codes file may have: uint64 ``[N]``, 0 where no file of its size has codes there.

    Only these are read, and of them none that has the name and time of one there, too. Parameters as for :func:`find_known`.
    """
    digests, files = codes.digests(), list(zip(*(part.tolist() for part in codes.files()), strict=True))
    done = np.flatnonzero((codes.state == DONE) & (digests != 0))
    names = codes.catalog.reader
    known = {(names[row], *files[row]): digests[row] for row in done.tolist()}
    found = np.zeros(len(catalog), np.uint64)
    maybe = np.flatnonzero(np.isin(size, np.array([files[row][0] for row in done.tolist()], np.uint64)))
    here = catalog.reader
    for row in maybe.tolist():
        found[row] = known.get((here[row], int(size[row]), int(mtime[row])), 0)
    unread = maybe[(found[maybe] == 0) & (size[maybe] > 0)]  # else at a URL: it is known by its name alone
    found[unread] = file_digests(catalog.subset(unread))
    return found


def copy_known(known: Reuse, target: Path) -> None:
    """Copy the codes into a new file, whose rows are done then."""
    write_copied(target, known.rows)
    with closing(RowWriter(target, layout(target))) as writer, CodesFile(known.path) as codes:
        stages, digests = layout(target).layers, codes.digests()
        for run in np.split(np.arange(len(known.rows)), np.flatnonzero(np.diff(known.rows) > 1) + 1):
            for start in range(0, len(run), COPIED):
                part = run[start : start + COPIED]
                there = known.there[part]
                values = {stage: codes.read(stage, there) for stage in stages}
                writer.write(int(known.rows[part[0]]), values, {}, digests[there])
