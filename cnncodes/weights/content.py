"""What a reader finds in a file, before it is known to be the weights of a network."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.core.errors import CnnCodesError, WeightsError, WeightsMissingError
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cnncodes.weights.record import Origin

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
    watched : tuple of int
    evidence : dict
    origin : str
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
    hint: str = ""
    watched: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    origin: Origin = "file"


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


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
