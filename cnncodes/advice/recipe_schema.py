"""What may stand in a recipe: sections, keys, and the types of their values, read from the records they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cnncodes.core.errors import OptionError
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Preprocessing

Method = Literal["linear", "finetune", "train"]
METHODS: tuple[Method, ...] = get_args(Method)
TRAINED: tuple[Method, ...] = ("finetune", "train")

#: Where a method's numbers differ from TrainingSettings' own: nothing is pretrained in a new network, so all of
#: it learns at one rate, and takes many more epochs.
METHOD_DEFAULTS: dict[Method, dict[str, Any]] = {
    "linear": {},
    "finetune": {},
    "train": {"epochs": 90, "batch_size": 128, "middle_rate": 1.0, "early_rate": 1.0},
}


@dataclass(frozen=True)
class When:
    """For which images a recipe is: the two questions of CS231n's transfer learning notes.

    Parameters
    ----------
    size : {"small", "large", "any"}, default "any"
    similarity : {"similar", "different", "any"}, default "any"
        To the images that the weights were trained on.
    text : str
        The same in plain words.
    """

    size: Literal["small", "large", "any"] = "any"
    similarity: Literal["similar", "different", "any"] = "any"
    text: str = ""


@dataclass(frozen=True)
class ExtractSettings:
    """The codes that a linear recipe wants.

    Parameters
    ----------
    layers : str, default "fc7"
        As ``cnncodes extract --layers``.
    crops : {"center", "mirror", "ten", "mirror-mean", "ten-mean"}, default "center"
    """

    layers: str = "fc7"
    crops: Literal["center", "mirror", "ten", "mirror-mean", "ten-mean"] = "center"


@dataclass(frozen=True)
class HeadSettings:
    """The head that a linear recipe fits; see :func:`cnncodes.heads.fit_linear`.

    Parameters
    ----------
    kind : {"svm", "softmax"}, default "svm"
    layer : str, default "fc7"
        One stage, or "auto".
    C : float, tuple of float, or "auto", default "auto"
    normalize : {"l2", "standard", "none"}, default "l2"
    """

    kind: Literal["svm", "softmax"] = "svm"
    layer: str = "fc7"
    C: float | tuple[float, ...] | Literal["auto"] = "auto"
    normalize: Literal["l2", "standard", "none"] = "l2"

    def __post_init__(self) -> None:
        if self.C == "auto":
            return
        values = self.C if isinstance(self.C, tuple) else (self.C,)
        if not values or not all(0 < float(value) < float("inf") for value in values):
            raise OptionError(f"head.C = {self.C} cannot be used.", "Give positive numbers, or 'auto'.")


@dataclass(frozen=True)
class Key:
    """A key of a section: the type of its value, and the methods it is for."""

    kind: Any
    methods: tuple[Method, ...] = METHODS


Sections = dict[str, dict[str, Key]]


def sections() -> Sections:
    """Every section and its keys; "" has those that stand before the first section."""
    table: Sections = {
        "": {"summary": Key(str), "method": Key(Method), "source": Key(str)},
        "when": keys_of(When),
        "network": {"name": Key(str, ("train",)), "weights": Key(str, ("linear", "finetune"))},
        "images": keys_of(Preprocessing, ("train",)),
        "extract": keys_of(ExtractSettings, ("linear",)),
        "head": keys_of(HeadSettings, ("linear",)),
        "train": {},
    }
    for name, kind in get_type_hints(TrainingSettings).items():
        record = record_in(kind)
        if record is None:
            table["train"][name] = Key(kind, TRAINED)
        else:
            table.setdefault(name, {}).update(keys_of(record, TRAINED))
    return table


def nested_records() -> dict[str, type]:
    """The fields of TrainingSettings that are records, each a section of its own: network."""
    found = {name: record_in(kind) for name, kind in get_type_hints(TrainingSettings).items()}
    return {name: record for name, record in found.items() if record is not None}


def keys_of(record: type, methods: tuple[Method, ...] = METHODS) -> dict[str, Key]:
    """The fields of a record as keys."""
    return {name: Key(kind, methods) for name, kind in get_type_hints(record).items()}


def record_in(kind: Any) -> type | None:
    """The dataclass in ``Record`` or ``Record | None``, else None."""
    for part in parts_of(kind):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def choices_of(kind: Any) -> tuple[str, ...]:
    """The words of a type that is nothing but a choice of words, else nothing."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def describe(kind: Any) -> str:
    """What a value of the type looks like, in words."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    named = []
    for part in parts_of(kind):
        if get_origin(part) is Literal:
            named.append(" or ".join(f'"{word}"' for word in get_args(part)))
        elif get_origin(part) is tuple:
            length = "several" if Ellipsis in get_args(part) else str(len(get_args(part)))
            named.append(f"{length} numbers in [ ]")
        elif part is not NoneType:
            named.append(words.get(part, str(part)))
    return ", or ".join(named)


def convert(value: object, kind: Any) -> Any:
    """A value as TOML gives it, as the type wants it; raises TypeError if it does not fit."""
    for part in parts_of(kind):
        if get_origin(part) is Literal and isinstance(value, str) and value in get_args(part):
            return value
        if part is float and type(value) in (int, float):
            return float(value)  # type: ignore[arg-type]
        if get_origin(part) is tuple and isinstance(value, list):
            return _tuple(value, get_args(part))
        if isinstance(part, type) and type(value) is part:
            return value
    raise TypeError


def parse(text: str, kind: Any) -> Any:
    """A value as it is typed after ``--set name=``, as the type wants it; raises TypeError if it does not fit."""
    for part in parts_of(kind):
        try:
            return _parse_part(text, part)
        except (KeyError, ValueError, TypeError):
            continue
    raise TypeError


def _parse_part(text: str, part: Any) -> Any:
    if part is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return words[text.lower()]
    if part in (int, float, str):
        return part(text)
    if get_origin(part) is tuple:
        return _tuple([float(number) for number in text.strip("[] ").split(",")], get_args(part))
    return convert(text, part)


def _tuple(values: Iterable[object], kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    values = list(values)
    if Ellipsis in kinds:
        kinds = (kinds[0],) * len(values)
    if len(values) != len(kinds):
        raise TypeError
    return tuple(convert(value, kind) for value, kind in zip(values, kinds, strict=True))
