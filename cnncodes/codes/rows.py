"""Rows of a codes file, written past HDF5 so that the file is valid at every moment: a kill loses at most the rows since the last sync.

The order of writes makes that true: codes first, then ``fdatasync``, then the states that call them done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.codes.file import DONE, UNREADABLE, open_for_writing
from cnncodes.codes.structure import PROBLEM_BYTES, Layout, Place, layout
from cnncodes.core.errors import CodesFileError, DiskFullError, OptionError
from cnncodes.core.files import reason_of
from cnncodes.core.outputs import PARTIAL

if TYPE_CHECKING:
    from cnncodes.codes.stream import Block

SYNC_SECONDS = 2.0  # at most this much work is lost by a kill
SYNC_BYTES = 256 * 2**20  # and at most this much waits for the disk
#: Of a file into which others write: each write is on the disk when it ends, and touches no byte beside it (NFS writes whole pages else).
SHARED = os.O_RDWR | getattr(os, "O_DSYNC", 0)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PwriteRows:
    """Rows written with ``pwrite`` at the offsets that HDF5 reported. Several processes may write disjoint rows."""

    def __init__(self, path: Path, layout: Layout, flags: int = os.O_RDWR) -> None:
        self._layout = layout
        self._descriptor = os.open(path, flags)

    def write_codes(self, start: int, layers: Mapping[str, np.ndarray], digests: np.ndarray) -> None:
        """Of consecutive rows from ``start``: codes ``[rows, ...]`` of each stage, and digests (uint64)."""
        for stage, values in layers.items():
            self._write(self._layout.layers[stage], start, values)
        self._write(self._layout.digest, start, digests)

    def write_states(self, start: int, states: np.ndarray, problems: Mapping[int, bytes]) -> None:
        """States (uint8) of consecutive rows, and before them the reasons of single rows."""
        for row, reason in problems.items():
            self._write(self._layout.problem, row, np.array([reason], f"S{PROBLEM_BYTES}"))
        self._write(self._layout.state, start, states)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fdatasync(self._descriptor) if hasattr(os, "fdatasync") else os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, place: Place, start: int, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, dtype=place.dtype).view("u1").data.cast("B")
        offset = place.offset + start * place.row_bytes
        while data:
            try:
                written = os.pwrite(self._descriptor, data, offset)
            except OSError as error:
                full = error.errno in NO_SPACE
                raise (DiskFullError if full else CodesFileError)(
                    f"a row cannot be written: {error.strerror}.",
                    ("Make room on the disk" if full else "Check the disk")
                    + " and repeat the command: it goes on with the rows that are pending.",
                ) from error
            data, offset = data[written:], offset + written


class Hdf5Rows:
    """:class:`PwriteRows` through h5py, for systems without ``pwrite`` (Windows).

    The file is open in HDF5 while the work runs: killed between two flushes it may not open again.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_for_writing(path)

    def write_codes(self, start: int, layers: Mapping[str, np.ndarray], digests: np.ndarray) -> None:
        rows = slice(start, start + len(digests))
        for stage, values in layers.items():
            self._file["layers"][stage][rows] = values
        self._file["images/digest"][rows] = digests

    def write_states(self, start: int, states: np.ndarray, problems: Mapping[int, bytes]) -> None:
        for row, reason in problems.items():
            self._file["images/problem"][row] = reason
        self._file["images/state"][start : start + len(states)] = states

    def sync(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RowWriter:
    """Writes batches as they come and calls rows done only when they are on the disk.

    With ``shared``, workers write into the file, too (:class:`InPlace`).
    """

    def __init__(self, path: Path, layout: Layout, shared: bool = False) -> None:
        flags = SHARED if shared else os.O_RDWR
        self._rows = PwriteRows(path, layout, flags) if hasattr(os, "pwrite") else Hdf5Rows(path)
        self._waiting: list[tuple[int, np.ndarray, dict[int, bytes]]] = []
        self._waiting_bytes = 0
        self._synced = time.monotonic()
        self._failed = False

    def write_block(self, block: Block, stages: Sequence[str], wanted: np.ndarray) -> None:
        """Write the wanted rows of a block; where a worker has written its codes, mark them only."""
        for first, part, problems in runs(block, wanted):
            if block.codes:
                layers = {stage: block.codes[stage][part] for stage in stages}
                self.write(first, layers, problems, block.digests[part])
            else:
                self.mark(first, part.stop - part.start, problems)

    def write(
        self, start: int, layers: Mapping[str, np.ndarray], problems: Mapping[int, str], digests: np.ndarray
    ) -> None:
        """Write one batch of consecutive rows from ``start``: codes ``[rows, ...]`` of each layer, digests (uint64) of the files.

        ``problems`` has the reason for each unreadable row of the file; its codes become NaN.
        """
        self._rows.write_codes(start, without(problems, start, layers), digests)
        self._waiting_bytes += sum(values.nbytes for values in layers.values())
        self.mark(start, len(digests), problems)

    def mark(self, start: int, count: int, problems: Mapping[int, str]) -> None:
        """Call so many rows done with the next sync; their codes are written."""
        states = np.full(count, DONE, dtype=np.uint8)
        states[[row - start for row in problems]] = UNREADABLE
        self._waiting.append((start, states, {row: short(reason) for row, reason in problems.items()}))
        if self._waiting_bytes > SYNC_BYTES or time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring everything to the disk, then mark the rows done.

        After a failure nothing more is ever marked: the system reports lost pages only once.
        """
        self._failed = True
        try:
            self._rows.sync()
        except OSError as error:
            raise CodesFileError(
                f"the codes did not reach the disk: {error.strerror}.",
                "Check the disk and repeat the command: it goes on with the rows that are pending.",
            ) from error
        self._failed = False
        for start, states, problems in self._waiting:
            self._rows.write_states(start, states, problems)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; after a failed sync only close."""
        try:
            if not self._failed:
                self.sync()
                self._rows.sync()
        finally:
            self._rows.close()


@dataclass(frozen=True, eq=False)
class InPlace:
    """Writes codes where they are computed: by workers that see the file. Their states are left to the one that has the lock.

    The mark is a file beside it that is there as long as that one works: whoever does not see it would write into another file of
    this name.
    """

    path: Path
    mark: Path
    layout: Layout
    wanted: np.ndarray  # bool [N]: rows without codes so far

    @cached_property
    def _rows(self) -> PwriteRows:
        try:
            if self.mark.exists():
                return PwriteRows(self.path, self.layout, SHARED)
            problem = "it is not there"
        except OSError as error:
            problem = reason_of(error)
        raise CodesFileError(
            f"a worker on '{platform.node()}' cannot write into '{self.path}' of this command: {problem}.",
            "Put the output into a folder that all workers share and may write to, or leave out --write in-place.",
        )

    def write(self, block: Block) -> Block:
        """Write the wanted rows of a block; returns it without its codes."""
        for first, part, problems in runs(block, self.wanted):
            layers = {stage: block.codes[stage][part] for stage in self.layout.layers}
            self._rows.write_codes(first, without(problems, first, layers), block.digests[part])
        return replace(block, codes={})


@contextlib.contextmanager
def in_place(path: Path, wanted: np.ndarray) -> Iterator[InPlace]:
    """The way for workers to write into a codes file, whose lock is held here."""
    if not hasattr(os, "O_DSYNC"):
        raise OptionError(
            "this system cannot write into one file from several processes.", "Leave out --write in-place."
        )
    path = path.resolve()
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent) as mark:
        yield InPlace(path, Path(mark.name), layout(path), wanted)


def runs(block: Block, wanted: np.ndarray) -> Iterator[tuple[int, slice, dict[int, str]]]:
    """The wanted rows of a block, those side by side together: the first row, their places in the block, and their problems.

    An image that was read before may be out of reach now: its codes must not be lost for another's sake.
    """
    rows = np.asarray(block.rows)
    places = np.flatnonzero(wanted[rows])
    for run in np.split(places, np.flatnonzero(np.diff(rows[places]) > 1) + 1):
        if len(run):
            first, last = int(rows[run[0]]), int(rows[run[-1]])
            problems = {row: reason for row, reason in block.problems.items() if first <= row <= last}
            yield first, slice(int(run[0]), int(run[-1]) + 1), problems


def without(
    problems: Iterable[int], start: int, layers: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Codes of rows from ``start``, NaN in those with a problem: a reader that ignores the state must not learn from zeros."""
    for row in problems:
        for values in layers.values():
            values[row - start] = np.nan
    return layers


def short(reason: str) -> bytes:
    """A reason as UTF-8 that fits its place in the file, cut between characters."""
    line = " ".join(reason.split()).encode("utf-8", "replace")
    if len(line) <= PROBLEM_BYTES:
        return line
    return line[: PROBLEM_BYTES - 3].decode("utf-8", "ignore").encode() + b"..."


def reserve(path: Path) -> None:
    """Reserve the disk space of a file that has its full length: a full disk is a DiskFullError now."""
    need = path.stat().st_size
    check_room(path.parent, need, had=getattr(path.stat(), "st_blocks", 0) * 512)
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, need)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise _full(path.parent, need, _free(path.parent)) from error
            # else a file system that cannot reserve: a full disk is then an error while writing


def check_room(folder: Path, need: int, had: int = 0) -> None:
    """Raise DiskFullError if a file of ``need`` bytes, ``had`` of which it has, finds no room in a folder."""
    if (free := _free(folder, had)) < need:
        raise _full(folder, need, free)


def _free(folder: Path, had: int = 0) -> int:
    """Bytes that one file can have in a folder, by the disk and by the limit on this process's files."""
    free = sys.maxsize  # on a system that cannot say: writing will
    with contextlib.suppress(AttributeError, OSError):
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize + had
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        free = free if limit == resource.RLIM_INFINITY else min(free, limit)
    return free


def _full(folder: Path, need: int, free: int) -> DiskFullError:
    return DiskFullError(
        f"the codes need {need / 1e9:.3f} GB and do not fit: {free / 1e9:.3f} GB can be had at '{folder}'.",
        "Make room, choose another place with -o, fewer --layers, or --dtype float16 (half the size).",
    )
