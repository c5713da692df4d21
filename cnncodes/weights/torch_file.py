"""Reader of `.pth`, `.pt` and `.ckpt` files: state dicts only, nothing in the file is run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnncodes.core.errors import WeightsError
from cnncodes.weights.content import FileContent, damaged, first_line, require_file

NESTED = ("state_dict", "model_state_dict", "model")
#: Classes in checkpoints beside tensors. None of them is used: a stand-in takes its place.
HARMLESS = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    "argparse.Namespace",
    *(
        f"{home}.{kind}Path"
        for home in ("pathlib", "pathlib._local")
        for kind in ("Posix", "Windows", "PurePosix")
    ),
)


def read_torch_file(path: Path) -> FileContent:
    """The state dict in a file of ``torch.save``, in today's format or the one before 2020.

    The file holds the state dict itself, or a dictionary with it under ``state_dict``, ``model_state_dict``, ``model``, or under another
    name if there is only one. Raises WeightsError if the file is damaged, holds something else, or tries to run code.
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
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    if not stored or sum(part.file_size for part in parts) > size:
        raise damaged(path, "its parts claim to be larger than the file")


def _stand_in(name: str) -> type:
    """A class that takes any arguments and state, and ignores them."""
    module, _, last = name.rpartition(".")
    ignored = dict.fromkeys(("__init__", "__setstate__"), lambda *_: None)
    return type(last, (), {"__module__": module, "__new__": lambda cls, *_: object.__new__(cls)} | ignored)


def _load(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*map(_stand_in, HARMLESS)]):
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
        raise damaged(path, f"{type(error).__name__}: {first_line(error)}") from error


def _state_dict(path: Path, loaded: Any) -> dict[str, Any]:
    """The mapping of keys to tensors, wherever it is."""
    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates += [loaded[name] for name in NESTED if name in loaded]
        others = [value for value in loaded.values() if _is_state_dict(value)]
        candidates += others if len(others) == 1 else []
    for candidate in candidates:
        if _is_state_dict(candidate):
            return dict(candidate)
    raise WeightsError(
        f"the weights file '{path}' holds no state dict, but a {type(loaded).__name__}.",
        f"Expected is a dictionary of tensors, or one under {', '.join(repr(name) for name in NESTED)}.",
    )


def _is_state_dict(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(entry, torch.Tensor) for key, entry in value.items())
    )
