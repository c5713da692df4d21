"""Reader of `.pth` and `.pt` files: state dicts only, nothing in the file is run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnncodes.errors import WeightsError
from cnncodes.weights.content import FileContent, damaged, require_file

NESTED = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before, or inside of, a key


def read_torch_file(path: Path) -> FileContent:
    """The state dict in a file written by ``torch.save``, in today's format or the one before 2020.

    The file may hold the state dict itself, or a dictionary with it under ``state_dict``,
    ``model_state_dict`` or ``model``; ``module.`` in the keys is dropped.

    Raises
    ------
    WeightsError
        If the file is damaged, holds something else, or tries to run code.
    """
    _check_archive(path, require_file(path))
    return FileContent(tensors=_state_dict(path, _load(path)))


def _check_archive(path: Path, size: int) -> None:
    """Refuse archives whose parts claim to be larger than the file: torch allocates what they declare."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(2) == b"PK":
                    raise damaged(path, "it ends before its zip directory")
            return  # the format before 2020, one pickle after another
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise damaged(path, f"its zip directory is broken ({error})") from error
    if (
        any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        or sum(p.file_size for p in parts) > size
    ):
        raise damaged(path, "its parts claim to be larger than the file")


def _load(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]{1,80})", str(error)):
            raise WeightsError(
                f"the weights file '{path}' asks for '{named[1]}': loading it could run code, so it was not loaded.",
                "Ask its author for a state dict (torch.save(model.state_dict(), FILE)) or for safetensors.",
            ) from error
        raise damaged(path, "its pickle is broken") from error
    except MemoryError as error:
        raise damaged(path, "it declares more memory than there is") from error
    except Exception as error:  # a broken pickle can raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:160].rstrip(".")
        raise damaged(path, f"{type(error).__name__}: {reason}") from error


def _state_dict(path: Path, loaded: Any) -> dict[str, Any]:
    """The mapping of keys to tensors, wherever it is."""
    import torch

    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates += [loaded[name] for name in NESTED if name in loaded]
    for candidate in candidates:
        if (
            isinstance(candidate, Mapping)
            and candidate
            and all(
                isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in candidate.items()
            )
        ):
            return {_without_wrappers(key): value for key, value in candidate.items()}
    raise WeightsError(
        f"the weights file '{path}' holds no state dict, but a {type(loaded).__name__}.",
        f"Expected is a dictionary of tensors, or one under {', '.join(repr(name) for name in NESTED)}.",
    )


def _without_wrappers(key: str) -> str:
    for wrapper in WRAPPERS:
        key = key.removeprefix(wrapper).replace(f".{wrapper}", ".")
    return key
