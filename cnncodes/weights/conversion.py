"""Weights written to another file, with another input size, class names, rank or type of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.core.errors import OptionError, WeightsError, WeightsMismatchError
from cnncodes.core.files import read_text
from cnncodes.networks import Linear
from cnncodes.weights.preprocessing import Preprocessing, fitted
from cnncodes.weights.record import AnyWeights, Weights
from cnncodes.weights.resolve import load_weights
from cnncodes.weights.safetensors_file import save_weights

if TYPE_CHECKING:
    import torch

WORDNET_ID = r"n\d{8}"  # ImageNet's names of its classes: n01440764 is a tench


def convert(
    name: AnyWeights,
    path: str | Path,
    *,
    network: str | None = None,
    overwrite: bool = False,
    input_size: int | None = None,
    resize: int | None = None,
    class_names: str | Path | None = None,
    rank: int | None = None,
    int8: bool = False,
    expand: bool = False,
) -> Weights:
    """Load weights and write them to ``path`` with everything that must travel.

    Parameters
    ----------
    name, network
        See :func:`load_weights`, whose errors and those of :func:`save_weights` are raised here, too.
    path : str or Path
        Ends in ``.safetensors``.
    input_size, resize : int, optional
        Pixels; see :func:`with_input`.
    class_names : str or Path, optional
        A text file; see :func:`read_class_names`.
    rank : int, optional
        Fully connected matrices become two factors of this rank.
    int8 : bool, default False
        Store 8-bit integers with a scale for each output: a quarter of the size.
    expand : bool, default False
        Multiply factors out: torchvision's keys and shapes.
    """
    weights = load_weights(name, network=network)
    if input_size is not None or resize is not None:
        weights = with_input(weights, input_size, resize)
    if class_names is not None:
        weights = with_class_names(weights, read_class_names(class_names, weights))
    if int8 or rank is not None:
        weights = replace(weights, evidence={})  # the test was one of other numbers
    if expand:
        weights = expanded(weights)
    if rank is not None:
        weights = with_rank(weights, rank)
    return save_weights(weights, path, overwrite=overwrite, int8=int8)


def with_input(weights: Weights, size: int | None = None, resize: int | None = None) -> Weights:
    """The same weights with another side of the crop in pixels (by default unchanged), and another shorter side.

    ``resize`` may be both sides, see :class:`~cnncodes.weights.Preprocessing`; by default it is in the old ratio to the crop.
    Raises InputSizeError if the network cannot take the size, OptionError if the crop would be larger than the resized image.
    """
    old = weights.preprocessing
    size = old.crop if size is None else size
    weights.architecture.output_shapes(size)  # raises InputSizeError
    resized = round(old.resize * size / old.crop) if resize is None else resize
    return _seeing(weights, replace(old, crop=size, resize=resized))


def with_fit(weights: Weights, fit: str) -> Weights:
    """The same weights, for which photographs are made squares in another way.

    ``fit`` is "crop" (the centre), "pad" (all of the photograph with the mean colour around it) or "squash" (all of it).
    """
    return _seeing(weights, fitted(weights.preprocessing, fit))


def _seeing(weights: Weights, preprocessing: Preprocessing) -> Weights:
    same = preprocessing == weights.preprocessing  # else the test was one of other pixels
    return weights if same else replace(weights, preprocessing=preprocessing, evidence={})


def with_rank(weights: Weights, rank: int) -> Weights:
    """The weights with fully connected matrices, and factors of a larger rank, as the nearest product of two factors.

    Raises OptionError if the rank is below 1, or the network is a library's, whose modules have no factors.
    """
    from cnncodes.networks.torch_network import factors

    if rank < 1:
        raise OptionError(f"a rank of {rank} is not possible.", "Use 1 or more, such as 128.")
    if not weights.architecture.stages:
        raise OptionError(
            f"network '{weights.network}' is built by its library, and its fully connected modules have no factors.",
            "Leave out the rank; --int8 makes its file smaller.",
        )
    if any(key.endswith(".left") and tensor.shape[1] > rank for key, tensor in weights.tensors.items()):
        weights = expanded(weights)
    tensors: dict[str, torch.Tensor] = {}
    linear = {f"{stage.prefix}." for stage in weights.architecture.stages if isinstance(stage, Linear)}
    for key, tensor in weights.tensors.items():
        prefix = key.removesuffix("weight")
        if prefix in linear and prefix != key and rank < min(tensor.shape):
            tensors[f"{prefix}left"], tensors[f"{prefix}right"] = factors(tensor, rank)
        else:
            tensors[key] = tensor
    return replace(weights, tensors=tensors)


def expanded(weights: Weights) -> Weights:
    """The weights with all factors multiplied out: the keys and shapes of other programs."""
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in weights.tensors.items():
        prefix, _, end = key.rpartition(".")
        if end == "left":
            right = weights.tensors[f"{prefix}.right"]
            tensors[f"{prefix}.weight"] = (tensor.double() @ right.double()).float()
        elif end != "right":
            tensors[key] = tensor
    return replace(weights, tensors=tensors)


def with_class_names(weights: Weights, names: Sequence[str]) -> Weights:
    """The same weights with these names of their classes, in the order of the logits.

    Raises WeightsMismatchError if there are more or fewer names than classes, or two classes would have one name.
    """
    classes = weights.architecture.classes or 0
    if len(names) != classes:
        raise WeightsMismatchError(
            f"{len(names):,} class names do not fit the {classes:,} classes of weights '{weights.name}'.",
            "Give one name for each class, in the order of the network's outputs.",
        )
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) != place:
            raise WeightsMismatchError(
                f"classes {first[name] + 1:,} and {place + 1:,} would both be named '{name[:80]}'.",
                "Give each class a name of its own.",
            )
    return replace(weights, classes=tuple(names))


def read_class_names(path: str | Path, weights: Weights) -> tuple[str, ...]:
    """Names for the classes of weights from a text file, one per line, in the order of the logits.

    If the weights' classes are WordNet ids and every line begins with one (``n01440764 tench``), as in Caffe's list, a
    line names the class of that id, in any order. Lines of other ids are ignored. Raises WeightsError if the file cannot be
    read as text, WeightsMismatchError if a class of the weights is in no line.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise WeightsError(
            f"the class names in '{path}' cannot be read: {reason}.",
            "Name a text file with one class name per line.",
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    present = weights.classes or ()
    matches = [re.fullmatch(rf"({WORDNET_ID})\s+(.+)", line) for line in lines]
    if not present or not all(re.fullmatch(WORDNET_ID, name) for name in present) or not all(matches):
        return tuple(lines)
    named = {match[1]: match[2] for match in matches if match}
    if missing := [name for name in present if name not in named]:
        raise WeightsMismatchError(
            f"{len(missing):,} of the {len(present):,} classes have no name in '{path}', the first is {missing[0]}.",
            f"Add a line for each: {missing[0]} NAME.",
        )
    return tuple(named[name] for name in present)
