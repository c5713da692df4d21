"""What a reader finds in a file, before it is known to be the weights of a network."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import glob
import hashlib
import os
import platform
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.errors import CnnCodesError, OutputExistsError, WeightsError, WeightsMissingError
from cnncodes.files import output_file
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.statistics import SourceStatistics

if TYPE_CHECKING:
    import numpy as np
    import torch

MEGABYTE = 2**20
CHUNK = MEGABYTE  # read at a time
SHOWN = 3  # tensors named in an error; the others are counted
PARTIAL = ".part"  # ends the names of files that are being written
SILENT = 24 * 3600.0  # seconds without a byte after which a writer on another machine is taken for dead


@dataclass(frozen=True, eq=False)
class FileContent:
    """Tensors as they are in the file, with the little that some formats say about them.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Keys of a state dict; any floating dtype.
    network : str or None
        Name of the network, where the file says it.
    preprocessing : Preprocessing or None
        Where the format implies it.
    classes : tuple of str or None
    source : str or None
        Where the numbers came from, where the file says it.
    fingerprint : str or None
        What the file says it is; to be compared.
    seen : tuple of int
    statistics : SourceStatistics or None
    class_sets : tuple of str
    watched : tuple of int
    evidence : dict
        See :class:`~cnncodes.weights.Weights`.
    hint : str
        A name in the file that may tell networks of equal shapes apart.
    """

    tensors: Mapping[str, torch.Tensor]
    network: str | None = None
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    source: str | None = None
    fingerprint: str | None = None
    seen: tuple[int, ...] = ()
    statistics: SourceStatistics | None = None
    class_sets: tuple[str, ...] = ()
    hint: str = ""
    watched: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


def damaged(path: Path, reason: str) -> WeightsError:
    """The error for a file that is not what its name says, with the reason in a few words."""
    return WeightsError(
        f"the weights file '{path}' cannot be read: {reason}.",
        "It is damaged, incomplete or of another format: fetch or copy it again.",
    )


def as_float32(path: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as float32, contiguous; raises WeightsError for integers, sparse and empty-handed ones."""
    import torch

    strided = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not strided or not tensor.is_floating_point():
        raise damaged(
            path, f"tensor '{key[:80]}' is {tensor.dtype} on {tensor.device}, not plain floating point"
        )
    return tensor.detach().to(torch.float32).contiguous()


def require_finite(what: str, arrays: Mapping[str, np.ndarray], error: type[CnnCodesError]) -> None:
    """Raise an error for arrays with NaN or infinite numbers, which would spoil every result without a word."""
    import numpy as np

    counts = {key: array.size - int(np.count_nonzero(np.isfinite(array))) for key, array in arrays.items()}
    bad = [f"{key[:80]} ({count:,} of {arrays[key].size:,})" for key, count in counts.items() if count]
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise error(
            f"{what} has {sum(counts.values()):,} numbers that are NaN or infinite, in {len(bad)} of its "
            f"{len(counts)} tensors: {', '.join(bad[:SHOWN])}{more}.",
            "Use a file from before the training failed, or copy it again: with these numbers every result would be NaN.",
        )


def require_file(path: Path) -> int:
    """Size in bytes of a file that must be there; raises WeightsMissingError or WeightsError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
            raise WeightsError(
                f"the weights file '{path}' is {kind}.", "Name the file that holds the weights."
            )
        return found.st_size
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsMissingError(
            f"the weights file '{path}' does not exist.",
            "Check the path; names such as random:0 work without a file.",
        ) from None
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in it
        raise WeightsError(
            f"the weights file '{path}' cannot be opened: {_reason(error)}.",
            "Check its name and permissions.",
        ) from error


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes; raises WeightsError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(
            f"the weights file '{path}' cannot be opened: {_reason(error)}.",
            "Check its name and permissions.",
        ) from error
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool, error: type[CnnCodesError] = WeightsError) -> Iterator[Path]:
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
            f"'{path}' cannot be written: {_reason(reason)}.",
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


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
