"""Download of published weights: resumed after an interruption, verified before the file gets its name."""

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
from io import BufferedRandom
from pathlib import Path
from urllib.parse import urlsplit

from cnncodes.core.errors import DiskFullError, OutputBusyError, WeightsError
from cnncodes.weights.content import file_sha256
from cnncodes.weights.imagenet import Progress, PublishedWeights, missing

TIMEOUT = 30.0  # s without a byte before a server counts as silent
BLOCK = 1 << 18  # bytes between two calls of `progress`


def download(
    entry: PublishedWeights, path: Path, progress: Progress | None = None, *, url: str | None = None
) -> Path:
    """Download ``entry`` to ``path`` (from ``url``: tests and mirrors) and verify it; a verified file that is there is left alone.

    The bytes collect in ``path`` + ``.part``. An interrupted download continues by an HTTP range request, and a broken connection is
    opened again as long as each attempt brings bytes. Raises WeightsMissingError if the server does not answer, WeightsError if what
    arrived has the wrong sha256 or the file cannot be written, DiskFullError if there is no room.
    """
    if _is_there(entry, path):
        return path
    partial, url = path.with_name(path.name + ".part"), url or entry.url
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as file, _only_one(file, path):
            if _is_there(entry, path):  # another process finished it while this one waited for the lock
                return path
            resumed = file.seek(0, 2) > 0
            _receive(entry, url, file, progress)
            if resumed and not _digest(file).startswith(entry.sha256_prefix):
                file.truncate(0)  # the start was of another file, or damaged
                _receive(entry, url, file, progress)
            if not (digest := _digest(file)).startswith(entry.sha256_prefix):
                file.truncate(0)
                raise WeightsError(
                    f"what {urlsplit(url).netloc} sent for weights '{entry.name}' is not {entry.file_name}: its sha256 "
                    f"starts with {digest[:8]}, not {entry.sha256_prefix}.",
                    f"Nothing was kept. Try again, or put the file into {path.parent} by hand.",
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
def _only_one(file: BufferedRandom, path: Path) -> Iterator[None]:
    """Two processes must not append to the same file; without locks (Windows) the sha256 protects."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputBusyError(
                f"another process is downloading {path.name}.", "Wait until it has finished."
            ) from None
    yield


def _receive(entry: PublishedWeights, url: str, file: BufferedRandom, progress: Progress | None) -> None:
    """Append what is missing, over as many connections as it takes while each brings bytes."""
    while True:
        before = file.seek(0, 2)
        try:
            if _append(entry, url, file, progress):
                return
            broken: Exception = http.client.IncompleteRead(b"")
        except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            broken = error  # the network; any other OSError is the disk's
        if file.seek(0, 2) <= before:
            reason = f", and {urlsplit(url).netloc} does not answer ({getattr(broken, 'reason', broken)})"
            raise missing(entry, Path(file.name).parent, reason) from broken


def _append(entry: PublishedWeights, url: str, file: BufferedRandom, progress: Progress | None) -> bool:
    """Append the answer to one request to the file; whether the file has all bytes now."""
    answer = _ask(url, file.seek(0, 2))
    if answer is None:
        return True
    body, done = answer
    with body:
        total = done + int(body.headers.get("Content-Length") or entry.size - done)
        file.truncate(done)
        if shutil.disk_usage(Path(file.name).parent).free < total - done:
            raise _no_room(entry, Path(file.name))
        while done < total and (block := body.read(min(BLOCK, total - done))):
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(done, total)
        file.flush()
        return done == total


def _ask(url: str, have: int) -> tuple[http.client.HTTPResponse, int] | None:
    """The answer to a request for the bytes from ``have`` on, and the byte it starts at; None if no byte is missing."""
    request = urllib.request.Request(url, headers={"User-Agent": "cnncodes"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        body = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                raise
            return None if error.headers.get("Content-Range") == f"bytes */{have}" else _ask(url, 0)
    if body.status != http.client.PARTIAL_CONTENT:  # a server without ranges sends everything
        return body, 0
    span = str(body.headers.get("Content-Range"))
    if not re.match(f"bytes {have}-", span):
        body.close()
        raise http.client.HTTPException(f"unusable range '{span}'")
    return body, have


def _no_room(entry: PublishedWeights, path: Path) -> DiskFullError:
    free = shutil.disk_usage(path.parent).free
    return DiskFullError(
        f"weights '{entry.name}' need {entry.size / 2**20:.0f} MB in {path.parent}, and {free / 2**20:.0f} MB are free.",
        "Free some space, or choose another folder by setting TORCH_HOME.",
    )


def _digest(file: BufferedRandom) -> str:
    file.flush()
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
