"""What options mean that need more than a type, and what is checked before a command starts its work."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.core.outputs import output_file

if TYPE_CHECKING:
    from cnncodes.weights import Weights


def parse_C(text: str) -> float | list[float] | Literal["auto"]:
    """``auto``, one number, or several separated by commas."""
    if text == "auto":
        return "auto"
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(
            f"--C '{text}' is not a number.", "Use auto, a value, or several: --C 0.1,1,10."
        ) from None
    return values[0] if len(values) == 1 else values


def parse_integers(text: str, option: str) -> list[int]:
    """Positive integers separated by commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise OptionError(
            f"{option} '{text}' is not a list of counts.", f"Use whole numbers: {option} 1,5,10."
        )
    return values


def parse_bytes(text: str, option: str) -> int:
    """A size such as 2G, 1.5GB or 500M, in powers of 1000; a number alone is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise OptionError(
            f"{option} '{text}' is not a size.", f"Use a number with k, M, G or T: {option} 2G."
        )
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


def parse_split(text: str) -> float | Literal["auto", "none"]:
    """``auto``, ``none``, or a share between 0 and 1."""
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise OptionError(f"--split '{text}' is not known.", "Use auto, none, or a share: --split 0.2.")
    return value


def check_free(
    output: str | Path,
    overwrite: bool,
    suffix: str = "",
    what: str = "a model file",
    option: str = "-o",
) -> None:
    """Refuse early what a command could not write after its work; ``option`` is the one that names it."""
    path = Path(output)
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", f"Name a file with {option}.")
    if path.suffix != suffix and suffix:
        raise OptionError(f"{what} ends in {suffix}, not '{path.name}'.", f"Rename the output ({option}).")
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' does not exist.", f"Make it: mkdir -p '{path.parent}'."
        )
    output_file(path, OutputExistsError)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", f"Choose another name with {option}, or use --overwrite."
        )


def check_folder(output: str | Path, names: Sequence[str], option: str = "-o") -> None:
    """Refuse early a folder that cannot be made, or in which files of these names cannot be written."""
    folder = Path(output)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputExistsError(f"'{there}' is a file, not a folder.", f"Name a folder with {option}.")
    effective = os.access in os.supports_effective_ids
    for place in (there, *(folder / name for name in names)):
        if place != there and place.is_dir():
            raise OutputExistsError(
                f"'{place}' is a folder; a file of this name is to be written.",
                f"Name another folder with {option}.",
            )
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise OutputExistsError(f"'{place}' may not be written.", f"Name another folder with {option}.")


def check_picture(output: str | Path, overwrite: bool, option: str = "-o") -> None:
    """:func:`check_free` for a picture, whose suffix says its format."""
    from cnncodes.pictures.drawing import check_format

    check_format(output)
    check_free(output, overwrite, option=option)


def fit_entries(fit: str | None) -> list[str]:
    """Entries of a recipe for --fit."""
    if fit is None:
        return []
    return ["extract.crops=ten"] if fit == "ten" else [f"images.fit={'shorter' if fit == 'crop' else fit}"]


def load_weights(reporter: Reporter, name: str, network: str | None, fit: str | None = None) -> Weights:
    """Weights by name, with a note about what their file has besides the network, or lacks; ``fit``: see ``with_fit``."""
    from cnncodes.weights import load_weights as load
    from cnncodes.weights import with_fit

    weights = load(name, network=network)
    weights = weights if fit is None else with_fit(weights, fit)
    if weights.left_out is not None:
        reporter.note(f"weights '{name}': {weights.left_out}")
    return weights
