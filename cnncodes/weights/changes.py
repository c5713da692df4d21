"""Weights with another input size, other class names: what travels with the numbers changes, the numbers do not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnncodes.core.errors import WeightsError, WeightsMismatchError
from cnncodes.core.files import read_text
from cnncodes.weights.record import Weights

WORDNET_ID = r"n\d{8}"  # ImageNet's own names of its classes: n01440764 is a tench


def with_input(weights: Weights, size: int | None = None, resize: int | None = None) -> Weights:
    """The same weights with another preprocessing: a square of ``size`` pixels out of a picture resized to ``resize``.

    Parameters
    ----------
    weights : Weights
    size : int, optional
        Side of the crop in pixels. Left out, it stays.
    resize : int, optional
        Of the shorter side (or of both, see :class:`~cnncodes.weights.Preprocessing`), in pixels. Left out, it keeps
        its ratio to the crop.

    Raises
    ------
    InputSizeError
        If the network cannot take the size.
    OptionError
        If the crop would be larger than the resized picture.
    """
    old = weights.preprocessing
    size = old.crop if size is None else size
    weights.architecture.output_shapes(size)  # raises for what does not fit
    resized = round(old.resize * size / old.crop) if resize is None else resize
    changed = replace(old, crop=size, resize=resized)
    if changed == old:
        return weights
    return replace(weights, preprocessing=changed, evidence={})  # a test was one of the old input


def with_class_names(weights: Weights, names: Sequence[str]) -> Weights:
    """The same weights with these names of their classes, in the order of the logits.

    Raises
    ------
    WeightsMismatchError
        If there are more or fewer names than classes, or two classes would have one name.
    """
    classes = weights.architecture.classes or 0
    if len(names) != classes:
        raise WeightsMismatchError(
            f"{len(names):,} class names do not fit the {classes:,} classes of weights '{weights.name}'.",
            "Give one name for each class, in the order of the network's outputs.",
        )
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in first:
            raise WeightsMismatchError(
                f"classes {first[name] + 1:,} and {place + 1:,} would both be named '{name[:80]}'.",
                "Tell them apart: an evaluation and a prediction know a class by its name alone.",
            )
        first[name] = place
    return replace(weights, classes=tuple(names))


def read_class_names(path: str | Path, weights: Weights) -> tuple[str, ...]:
    """Names for the classes of weights out of a text file, one a line, in the order of the logits.

    Where the weights' classes are WordNet ids and every line begins with one (``n01440764 tench``), as in the
    list that came with Caffe, a line names the class of that id, in any order, and others are passed over.

    Raises
    ------
    WeightsError
        If the file cannot be read as text.
    WeightsMismatchError
        If a class of the weights is in no line.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise WeightsError(
            f"the class names in '{path}' cannot be read: {reason}.",
            "Name a text file with one class name a line.",
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    present = weights.classes or ()
    matches = [re.fullmatch(rf"({WORDNET_ID})\s+(.+)", line) for line in lines]
    if not present or not all(re.fullmatch(WORDNET_ID, name) for name in present) or not all(matches):
        return tuple(lines)
    named = {match[1]: match[2] for match in matches if match}
    missing = [name for name in present if name not in named]
    if missing:
        raise WeightsMismatchError(
            f"{len(missing):,} of the {len(present):,} classes have no name in '{path}', the first is {missing[0]}.",
            f"Add a line for each: {missing[0]} NAME.",
        )
    return tuple(named[name] for name in present)
