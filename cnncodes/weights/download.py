"""Download of published weights: resumed where it broke, verified before it gets its name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from cnncodes.core.errors import CnnCodesError, DiskFullError, OutputBusyError, WeightsError
from cnncodes.weights.content import CHUNK, MEGABYTE, file_sha256
from cnncodes.weights.imagenet import Progress, PublishedWeights, missing

TIMEOUT = 30.0  # s without a byte before a server counts as silent
BLOCK = 1 << 18  # bytes between two calls of `progress`


@dataclass(frozen=True)
class _Answer:
    """What the server is about to send: bytes from ``start`` on, of ``total``."""

    body: http.client.HTTPResponse
    start: int
    total: int


def download(
    entry: PublishedWeights, path: Path, progress: Progress | None = None, *, url: str | None = None
) -> Path:
    """Download ``entry`` to ``path`` and verify it; a file that is there and right is left alone.

    The bytes collect in ``path`` + ``.part``. An interrupted download goes on where it stopped, by an HTTP
    range request; a connection that breaks is taken up again as long as each attempt brings something.

    Parameters
    ----------
    entry : PublishedWeights
    path : Path
    progress : callable, optional
        Called with bytes done and bytes in all.
    url : str, optional
        Another address for the same bytes: tests and mirrors.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    WeightsMissingError
        If the server does not answer.
    WeightsError
        If the connection keeps breaking, or what arrived has the wrong sha256.
    DiskFullError
        If there is no room.
    """
    if _is_there(entry, path):
        return path
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as file, _only_one(file, path):
            if _is_there(entry, path):  # another process finished it while this one waited for the lock
                return path
            resumed = file.seek(0, 2) > 0
            _receive(entry, url or entry.url, file, progress)
            if not _right(entry, file) and resumed:  # the start was of another file, or damaged
                file.truncate(0)
                _receive(entry, url or entry.url, file, progress)
            if not _right(entry, file):
                digest = _digest(file)
                file.truncate(0)
                raise WeightsError(
                    f"what {urlsplit(url or entry.url).netloc} sent for weights '{entry.name}' is not "
                    f"{entry.file_name}: its sha256 starts with {digest[:8]}, not {entry.sha256_prefix}.",
                    "Nothing was kept. Try again, or get the file another way and put it into "
                    f"{path.parent} by hand.",
                )
            partial.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(entry, path) from error
        raise WeightsError(
            f"weights '{entry.name}' cannot be written to {path.parent}: {error.strerror or error}.",
            "Check the folder's permissions, or choose another one by setting TORCH_HOME.",
        ) from error
    return path


def _is_there(entry: PublishedWeights, path: Path) -> bool:
    return path.is_file() and file_sha256(path).startswith(entry.sha256_prefix)


@contextlib.contextmanager
def _only_one(file: BinaryIO, path: Path) -> Iterator[None]:
    """Two processes must not append to the same file; without locks (Windows) the sha256 protects."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputBusyError(
            f"another process is downloading {path.name} already.", "Wait until it has finished."
        ) from None
    yield


def _receive(entry: PublishedWeights, url: str, file: BinaryIO, progress: Progress | None) -> None:
    """Append what is missing, over as many connections as it takes while each brings something."""
    while True:
        before = file.seek(0, 2)
        try:
            answer = _ask(entry, url, before)
            if answer is None:  # nothing is missing
                return
            with answer.body:
                file.truncate(answer.start)
                total = _append(entry, answer, file, progress)
            if total == answer.total:
                return
            broken: Exception = http.client.IncompleteRead(b"", answer.total - total)
        except http.client.HTTPException as error:
            broken = error
        except OSError as error:
            if not isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError):
                raise  # the disk, not the network
            broken = error
        if file.seek(0, 2) <= before:
            host = urlsplit(url).netloc
            reason = getattr(broken, "reason", broken)
            raise missing(
                entry, Path(file.name).parent, f", and {host} does not answer ({reason})"
            ) from broken


def _ask(entry: PublishedWeights, url: str, have: int) -> _Answer | None:
    """Ask for the bytes from ``have`` on, None if there are no more; a server may send all of them."""
    request = urllib.request.Request(url, headers={"User-Agent": "cnncodes"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        body = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if whole and int(whole[1]) == have:
                    return None
                return _ask(entry, url, 0)
            raise
    start, total = 0, int(body.headers.get("Content-Length") or entry.size)
    if body.status == http.client.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", body.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != have:
            body.close()
            raise http.client.HTTPException(f"unusable range '{body.headers.get('Content-Range')}'")
        start, total = have, int(span[2])
    return _Answer(body, start, total)


def _append(entry: PublishedWeights, answer: _Answer, file: BinaryIO, progress: Progress | None) -> int:
    """Copy the body to the file's end; returns the bytes that are there now."""
    done = answer.start
    if shutil.disk_usage(str(Path(file.name).parent)).free < answer.total - done:
        raise _no_room(entry, Path(file.name))
    while done < answer.total and (block := answer.body.read(min(BLOCK, answer.total - done))):
        file.write(block)
        done += len(block)
        if progress is not None:
            progress(done, answer.total)
    file.flush()
    return done


def _no_room(entry: PublishedWeights, path: Path) -> CnnCodesError:
    free = shutil.disk_usage(str(path.parent)).free
    return DiskFullError(
        f"weights '{entry.name}' need {entry.size / MEGABYTE:.0f} MB in {path.parent}, "
        f"and {free / MEGABYTE:.0f} MB are free.",
        "Free some space, or choose another folder by setting TORCH_HOME.",
    )


def _right(entry: PublishedWeights, file: BinaryIO) -> bool:
    return _digest(file).startswith(entry.sha256_prefix)


def _digest(file: BinaryIO) -> str:
    file.flush()
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
