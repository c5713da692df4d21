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

SHOWN = 3  # items named in an error; the others are counted


@dataclass(frozen=True, eq=False)
class FileContent:
    """Tensors as they are in the file, and what its format says about them; see :class:`~cnncodes.weights.Weights`."""

    tensors: Mapping[str, torch.Tensor]  # any floating dtype
    network: str | None = None
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    source: str | None = None
    fingerprint: str | None = None  # as the file states it
    seen: tuple[int, ...] = ()
    watched: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    origin: Origin = "file"
    hint: str = ""  # a name in the file that may tell networks of equal shapes apart


def damaged(path: Path, reason: str) -> WeightsError:
    """The error for a file that is not what its name says, with the reason in a few words."""
    return WeightsError(
        f"the weights file '{path}' cannot be read: {reason}.",
        "It is damaged, incomplete or of another format: download or copy it again.",
    )


def first_line(error: BaseException) -> str:
    """Why a library failed, in a few words."""
    return str(error).strip().partition("\n")[0][:160].rstrip(".") or type(error).__name__


def first_of(items: list[str]) -> str:
    """The first of some items, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(item if len(item) <= 120 else f"{item[:117]}..." for item in items[:SHOWN]) + more


def require_finite(what: str, arrays: Mapping[str, np.ndarray], error: type[CnnCodesError]) -> None:
    """Raise ``error`` for arrays with NaN or infinite numbers, which would make every result NaN without a warning."""
    import numpy as np

    counts = {key: array.size - int(np.count_nonzero(np.isfinite(array))) for key, array in arrays.items()}
    bad = [f"{key[:80]} ({count:,} of {arrays[key].size:,})" for key, count in counts.items() if count]
    if bad:
        raise error(
            f"{what} has {sum(counts.values()):,} numbers that are NaN or infinite, in {len(bad)} of its "
            f"{len(counts)} tensors: {first_of(bad)}.",
            "Use a file from before the training failed, or copy it again: every result would be NaN.",
        )


def require_file(path: Path) -> int:
    """Size in bytes of a file that must be there; raises WeightsMissingError or WeightsError."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsMissingError(
            f"the weights file '{path}' does not exist.",
            "Check the path; names such as starter and random:0 need no file.",
        ) from None
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in it
        raise _not_opened(path, error) from error
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise WeightsError(f"the weights file '{path}' is {kind}.", "Name the file that holds the weights.")
    return found.st_size


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes; raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _not_opened(path, error) from error


def _not_opened(path: Path, error: Exception) -> WeightsError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return WeightsError(
        f"the weights file '{path}' cannot be opened: {reason}.", "Check its name and permissions."
    )
