"""The numbers that advice decides by: ``thresholds.toml``, beside this module, where a person can read and edit them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cnncodes.core.errors import OptionError
from cnncodes.core.files import parse_toml, read_text
from cnncodes.core.records import Meta, from_value, mistakes

Positive = Annotated[float, Meta(gt=0)]
SHIPPED = Path(__file__).with_name("thresholds.toml")


@dataclass(frozen=True)
class Thresholds:
    """One number per entry of ``thresholds.toml``, which says what each means and where it comes from."""

    few_shot_per_class: Positive
    large_images: Positive
    large_per_class: Positive
    similar_standard_errors: Positive
    knowing_standard_errors: Positive
    training_cost: Positive
    few_per_class: Positive
    imbalance: Positive
    near_copy: Positive
    wrong_label: Positive
    wrong_label_other: Positive
    stray_distance: Positive
    one_colour: Positive
    little_seen: Positive
    fit_standard_errors: Positive


def load_thresholds(path: str | os.PathLike[str] | None = None) -> Thresholds:
    """The shipped numbers, some of them replaced by those of a person's own file."""
    values = _read(SHIPPED)
    if path is not None:
        values |= _read(Path(path))
    return from_value(values, Thresholds)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"the thresholds '{path}' cannot be read: {error}.", f"Start from a copy of '{SHIPPED}'."
        ) from None
    found = {name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in table.items()}
    for mistake in mistakes(found, Thresholds):
        if mistake.kind != "missing":  # the others are the shipped ones
            raise OptionError(f"'{path}', {mistake.path[-1]}: {mistake.problem}", mistake.remedy)
    return found
