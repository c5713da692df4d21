"""Files that are written whole or not at all, and the lock that refuses a second writer."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import glob
import hashlib
import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path

from cnncodes.core.errors import CnnCodesError, CodesFileError, OutputBusyError, OutputExistsError
from cnncodes.core.files import reason_of, require_regular

PARTIAL = ".part"  # ends the names of files that are being written
SILENT = 24 * 3600.0  # seconds without a byte after which a writer on another machine is taken for dead
HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the advisory lock of an output while writing it; a second process is refused.

    The lock is a file beside the output, since HDF5 takes locks of its own on the output itself, and readers
    must be able to open that while it grows. The system drops the lock of a killed process.

    Raises
    ------
    OutputBusyError
        If another process holds it.
    """
    place = Path(os.path.realpath(path))  # two links to one file have one lock
    lock = place.with_name(place.name + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            held = _try_lock(descriptor)
        except CodesFileError:
            lock.unlink(missing_ok=True)
            raise
        if not (held and _is_same_file(lock, descriptor)):
            raise OutputBusyError(
                f"another process is writing '{path}'.",
                "Wait until it ends, or choose another output with -o.",
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()
    finally:
        os.close(descriptor)


def _is_same_file(lock: Path, descriptor: int) -> bool:
    """Whether the lock was not removed and made anew by others between our opening and our locking it."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise CodesFileError(
            f"the output cannot be locked: {error.strerror}.", "Choose an output on another disk with -o."
        ) from error
    return True


def check_folder(path: Path) -> None:
    """Raise OutputExistsError if the folder that an output would be in does not exist."""
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' for the output does not exist.",
            f"Make it: mkdir -p '{path.parent}'.",
        )


def output_file(path: Path, error: type[CnnCodesError] = CnnCodesError) -> Path:
    """The file that is written under this name: where its links end, if it is one.

    Raises
    ------
    CnnCodesError
        If what is there is no regular file: a folder, a pipe, or a device, whose place a file must not take. Of the class ``error``.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        require_regular(target.stat(), target)
    except FileNotFoundError:
        pass
    except OSError as reason:
        raise error(f"'{path}' cannot be written: {reason_of(reason)}.", "Choose another name.") from reason
    return target


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool, error: type[CnnCodesError] = CnnCodesError) -> Iterator[Path]:
    """An empty file beside ``path`` to write to, which takes its place once it is whole and on the disk.

    A link stays one: the file that it leads to is replaced. Nothing stays beside that if it fails, and what a killed process
    has left there goes with the next writing. Two processes may write the same file at once: each has a name of its own,
    and the last one stays.

    Raises
    ------
    OutputExistsError
        If ``path`` exists and ``overwrite`` is false.
    CnnCodesError
        If it cannot be written, or something is there that is no regular file: of the class ``error``.
    """
    target = output_file(path, error)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", "Choose another name, or overwrite it (--overwrite)."
        )
    partial = target.with_name(f".{target.name}.{_machine()}-{os.getpid()}{PARTIAL}")
    remove_left(target.parent, glob.escape(target.name))
    try:
        partial.write_bytes(b"")  # also over one of a killed process that had this one's number
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as reason:
        raise error(
            f"'{path}' cannot be written: {reason_of(reason)}.",
            "Check the folder, its permissions and the free space.",
        ) from reason
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_whole(path: Path, text: str, error: type[CnnCodesError] = CnnCodesError) -> None:
    """Write a small text file, over an old one; a kill leaves the old or the new one, never half a file."""
    with replacing(path, overwrite=True, error=error) as whole:
        whole.write_text(text, encoding="utf-8", errors="surrogateescape")


def partials(folder: Path, pattern: str) -> list[Path]:
    """What was to take the place of the files of a glob pattern, and is still being written or was left by a kill."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(PARTIAL)]
    return sorted(
        folder / name
        for name in names
        if fnmatch.fnmatchcase(name.removesuffix(PARTIAL).rpartition(".")[0], f".{pattern}")
    )


def remove_left(folder: Path, pattern: str) -> None:
    """Remove those :func:`partials` whose writer was killed."""
    with contextlib.suppress(OSError):
        for left in filter(_is_left, partials(folder, pattern)):
            left.unlink(missing_ok=True)


def remove_partials(folder: Path, pattern: str) -> None:
    """Remove all :func:`partials`, for one who holds the lock of the output: nobody else is writing it."""
    for left in partials(folder, pattern):
        left.unlink(missing_ok=True)


def _is_left(partial: Path) -> bool:
    """Whether the process that was writing is dead; of one on another machine, whether it has written nothing for a day."""
    found = re.fullmatch(r".*\.([0-9a-f]{8})-(\d{1,9})\.part", partial.name)
    if (
        found and found[1] == _machine() and os.name != "nt"
    ):  # Windows would end the process that is asked for
        return int(found[2]) != os.getpid() and not _is_alive(int(found[2]))
    try:
        return time.time() - partial.stat().st_mtime > SILENT
    except FileNotFoundError:  # it has just taken its place
        return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@functools.cache
def _machine() -> str:
    """Eight letters of this machine: process numbers mean something on it only."""
    return hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]
