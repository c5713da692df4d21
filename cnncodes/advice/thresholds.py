"""The numbers that advice decides by: ``thresholds.toml``, beside this module, where a person can read and edit them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from cnncodes.core.errors import OptionError, nearest
from cnncodes.core.files import parse_toml, read_text

SHIPPED = Path(__file__).with_name("thresholds.toml")


@dataclass(frozen=True)
class Thresholds:
    """One number per entry of ``thresholds.toml``, which says what each means and where it comes from."""

    large_images: float
    large_per_class: float
    similar_standard_errors: float
    knowing_standard_errors: float
    training_cost: float
    few_per_class: float
    imbalance: float
    near_copy: float
    wrong_label: float
    wrong_label_other: float
    stray_distance: float
    one_colour: float


def load_thresholds(path: str | os.PathLike[str] | None = None) -> Thresholds:
    """The shipped numbers, some of them replaced by those of a person's own file.

    Raises
    ------
    OptionError
        If the file cannot be read, or has an entry that is not known or no positive number.
    """
    values = _read(SHIPPED)
    if path is not None:
        values |= _read(Path(path))
    return Thresholds(**values)


def _read(path: Path) -> dict[str, float]:
    try:
        table = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"the thresholds '{path}' cannot be read: {error}.", f"Start from a copy of '{SHIPPED}'."
        ) from None
    known = [field.name for field in fields(Thresholds)]
    found = {}
    for name, entry in table.items():
        if name not in known:
            raise OptionError(f"'{path}' has a threshold '{name}', which there is not.", nearest(name, known))
        value = entry.get("value") if isinstance(entry, dict) else entry
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise OptionError(
                f"threshold '{name}' of '{path}' is {value!r}.", "Give a positive number: value = 100."
            )
        found[name] = float(value)
    return found
