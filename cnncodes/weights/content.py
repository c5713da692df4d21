"""What a reader finds in a file, before it is known to be the weights of a network."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.errors import CnnCodesError, OutputExistsError, WeightsError, WeightsMissingError
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.statistics import SourceStatistics

if TYPE_CHECKING:
    import torch

MEGABYTE = 2**20
CHUNK = MEGABYTE  # read at a time


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
        See :class:`~cnncodes.weights.Weights`.
    """

    tensors: Mapping[str, torch.Tensor]
    network: str | None = None
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    source: str | None = None
    fingerprint: str | None = None
    seen: tuple[int, ...] = ()
    statistics: SourceStatistics | None = None


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

    Nothing stays beside ``path`` if it fails.

    Raises
    ------
    OutputExistsError
        If ``path`` exists and ``overwrite`` is false.
    CnnCodesError
        If it cannot be written: of the class ``error``.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", "Choose another name, or overwrite it (--overwrite)."
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.touch()
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as reason:
        raise error(
            f"'{path}' cannot be written: {_reason(reason)}.",
            "Check the folder, its permissions and the free space.",
        ) from reason
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
