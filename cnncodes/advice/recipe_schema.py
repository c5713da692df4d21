"""What may stand in a recipe, and in which ranges: one record for each method, with the records of its sections."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal, get_args

from cnncodes.core.records import Meta, check_fields, fields_of
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Fit, Preprocessing

Method = Literal["linear", "finetune", "train"]
METHODS: tuple[Method, ...] = get_args(Method)

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
    C: (
        Annotated[float, Meta(gt=0)]
        | Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1)]
        | Literal["auto"]
    ) = "auto"
    normalize: Literal["l2", "standard", "none"] = "l2"

    def __post_init__(self) -> None:
        check_fields(self, "head")


@dataclass(frozen=True)
class Start:
    """[network] of a recipe that starts from weights."""

    weights: str = "imagenet"


@dataclass(frozen=True)
class Images:
    """[images] of a recipe that starts from weights.

    Parameters
    ----------
    fit : {"shorter", "pad", "squash"}, optional
        How a photograph becomes a square, see :func:`cnncodes.weights.with_fit`; by default as recorded with the weights.
    """

    fit: Fit | None = None


@dataclass(frozen=True)
class New:
    """[network] of a recipe that trains a new network."""

    name: str = "alexnet"


@dataclass(frozen=True)
class RecipeFile:
    """What every recipe file says; the record of a method has its sections, too."""

    summary: str
    method: Method
    source: str
    when: When = field(default_factory=When)


def _file(**parts: type) -> Any:
    fields = [(name, kind, field(default_factory=kind)) for name, kind in parts.items()]
    return make_dataclass("RecipeFile", fields, bases=(RecipeFile,), frozen=True)


#: ``train.network`` stands in [network].
FILES: dict[Method, Any] = {
    "linear": _file(network=Start, images=Images, extract=ExtractSettings, head=HeadSettings),
    "finetune": _file(network=Start, images=Images, train=TrainingSettings),
    "train": _file(network=New, images=Preprocessing, train=TrainingSettings),
}


@dataclass
class Key:
    """A key of a section: the type of its value, and the methods it is for."""

    kind: Any
    methods: tuple[Method, ...]


@functools.cache
def sections() -> dict[str, dict[str, Key]]:
    """Every section and its keys; "" has those that stand before the first section."""
    table: dict[str, dict[str, Key]] = {"": {}}

    def add(section: str, key: str, kind: Any, method: Method) -> None:
        if inside := fields_of(kind):  # a record is a section of its own, also in [train]
            for name, (inner, _) in inside.items():
                add(key, name, inner, method)
        else:
            keys = table.setdefault(section, {})
            keys[key] = Key(kind, (*(keys[key].methods if key in keys else ()), method))

    for method, record in FILES.items():
        for key, (kind, _) in fields_of(record).items():
            add("", key, kind, method)
    return table
