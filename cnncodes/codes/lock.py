"""The advisory lock of an output: a second process that would write it is refused."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from cnncodes.errors import CodesFileError, OutputBusyError

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
        if not (_try_lock(descriptor) and _is_same_file(lock, descriptor)):
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
