"""A network: ordered stages with shapes, and how they are named. No numbers in it: `torch_network` computes with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from cnncodes.core.errors import InputSizeError, NetworkError, StageError, nearest
from cnncodes.networks.stages import DoesNotFitError, Linear, Shape, Stage

LARGEST_INPUT = 4096  # px; beyond, a single conv1 activation of AlexNet takes over 0.25 GB an image
LINEAR = ":linear"


@dataclass(frozen=True)
class Network:
    """The function: ordered stages, from the pixels upwards.

    ``activation`` ends convolutions and hidden fully connected stages. "tanh" is for the paper's comparison alone.
    """

    name: str
    input_size: int  # side of the square input in pixels that the network was made for
    stages: tuple[Stage, ...]
    activation: Literal["relu", "tanh"] = "relu"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names in order: ``("conv1", "pool1", ...)``."""
        return tuple(stage.name for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """The stage of that name; ``fc7:linear`` finds ``fc7``. Raises StageError."""
        return self.stages[self.stage_names.index(self.select_one(name).partition(":")[0])]

    def select(self, stages: str | Iterable[str]) -> tuple[str, ...]:
        """Canonical names for names, ranges and torchvision's spellings; see :func:`parse_stages`."""
        return parse_stages(self, stages)

    def select_one(self, stage: str) -> str:
        """Canonical name of a single stage; raises StageError, also for what names several or none."""
        names = self.select(stage)
        if len(names) != 1:
            raise StageError(f"'{stage}' names {len(names)} stages of {self.name}.", "Name one, such as fc7.")
        return names[0]

    def is_rectified(self, stage: str) -> bool:
        """Whether values of a stage went through a ReLU: not those of ``:linear``, of the classifier, or after tanh."""
        found = self.stage(stage)
        passed_on = not isinstance(found, Linear)  # pooling and normalisation keep what is not negative
        return self.activation == "relu" and not stage.endswith(LINEAR) and (found.relu or passed_on)

    def incoming_shapes(self, input_size: int | None = None) -> tuple[Shape, ...]:
        """Shape that each stage receives for one square RGB image; raises InputSizeError."""
        return self._shapes(input_size or self.input_size)[:-1]

    def output_shapes(self, input_size: int | None = None) -> dict[str, Shape]:
        """Shape of what each stage gives for one square RGB image; raises InputSizeError."""
        return dict(zip(self.stage_names, self._shapes(input_size or self.input_size)[1:], strict=True))

    def tensor_shapes(self) -> dict[str, Shape]:
        """Shape of every tensor of the state dict, in order: ``{"features.0.weight": (64, 3, 11, 11), ...}``."""
        return {
            f"{stage.prefix}.{end}": shape
            for stage, incoming in zip(self.stages, self.incoming_shapes(), strict=True)
            for end, shape in stage.tensor_shapes(incoming).items()
        }

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(map(math.prod, self.tensor_shapes().values()))

    @property
    def usual_layer(self) -> str:
        """The layer whose values are codes unless others are named: what the classifier reads."""
        return self.late_layers[-1]

    @property
    def codes_layers(self) -> tuple[str, ...]:
        """Layers in order, without normalisations and the classifier: those whose codes are worth a look."""
        names = self.stage_names[:-1] if self.classes is not None else self.stage_names
        return tuple(name for name in names if not name.startswith("norm"))

    @property
    def late_layers(self) -> tuple[str, ...]:
        """Those of them that are fully connected, fc6 and fc7 of an AlexNet; the last where there is none."""
        found = tuple(name for name in self.codes_layers if isinstance(self.stage(name), Linear))
        return found or self.codes_layers[-1:]

    def recipe_layers(self, names: str) -> tuple[str, ...]:
        """The layers that a recipe means: recipes name them as AlexNet does."""
        return self.select(names)

    @property
    def rectified_layers(self) -> tuple[str, ...]:
        """Layers that end in a ReLU."""
        return tuple(stage.name for stage in self.stages if stage.relu)

    @property
    def classes(self) -> int | None:
        """Number of logits; None for a network cut before its classifier."""
        last = self.stages[-1]
        return last.features if isinstance(last, Linear) and not last.relu else None

    def with_classes(self, classes: int) -> Network:
        """The same network with a classifier of ``classes`` logits."""
        last = self.stages[-1]
        if self.classes is None or not isinstance(last, Linear):
            raise NetworkError(f"network '{self.name}' has no classifier.", "Use a network that ends in fc8.")
        check_classes(classes)
        rank = None if classes != last.features else last.rank  # the factors are of the old classes
        return replace(self, stages=(*self.stages[:-1], replace(last, features=classes, rank=rank)))

    def with_ranks(self, ranks: Mapping[str, int | None]) -> Network:
        """The same network, its fully connected stages that are named products of two matrices; None: one matrix."""
        stages = list(self.stages)
        for place, stage in enumerate(stages):
            if isinstance(stage, Linear) and stage.name in ranks:
                stages[place] = replace(stage, rank=ranks[stage.name])
        return replace(self, stages=tuple(stages))

    @cached_property
    def fitting_sizes(self) -> tuple[int, ...]:
        """Input sizes in pixels, up to LARGEST_INPUT, that every stage accepts."""
        smallest = largest = next(size for size in range(1, LARGEST_INPUT) if self._fits(size))
        if self._fits(LARGEST_INPUT):  # a network that accepts the smallest and any size accepts all between
            largest = LARGEST_INPUT
        while largest < LARGEST_INPUT and self._fits(largest + 1):
            largest += 1
        return tuple(range(smallest, largest + 1))

    def _fits(self, input_size: int) -> bool:
        try:
            self._walk(input_size)
        except DoesNotFitError:
            return False
        return True

    def _shapes(self, input_size: int) -> tuple[Shape, ...]:
        try:
            return self._walk(input_size)
        except DoesNotFitError as error:
            sizes = self.fitting_sizes
            span = f"{sizes[0]} px or more" if sizes[-1] == LARGEST_INPUT else f"{sizes[0]} to {sizes[-1]} px"
            raise InputSizeError(
                f"an input of {input_size} px does not fit network '{self.name}': {error}.",
                f"The smallest input is {sizes[0]} px: use {span} ({self.input_size} px is usual).",
            ) from error

    def _walk(self, input_size: int) -> tuple[Shape, ...]:
        """Shape of the pixels and of what each stage gives; raises DoesNotFitError."""
        if not 1 <= input_size <= LARGEST_INPUT:
            raise DoesNotFitError(f"sizes run from 1 to {LARGEST_INPUT} px")
        shapes: list[Shape] = [(3, input_size, input_size)]
        for stage in self.stages:
            incoming = shapes[-1]
            shapes.append(stage.output_shape(incoming))
            fixed = isinstance(stage, Linear) and stage.pool_to is None and len(incoming) == 3
            if fixed and input_size != self.input_size:
                usual = self._walk(self.input_size)[len(shapes) - 2]
                if usual != incoming:
                    raise DoesNotFitError(f"{stage.name} is made for {usual} and gets {incoming}")
        return tuple(shapes)


def check_classes(classes: int) -> None:
    """Raise NetworkError unless a classifier can have so many classes."""
    if classes < 1:
        raise NetworkError(f"a classifier of {classes} classes is not possible.", "Use 1 or more classes.")


def parse_stages(network: Network, stages: str | Iterable[str]) -> tuple[str, ...]:
    """Canonical stage names, in the order asked, each once.

    Parameters
    ----------
    network : Network
    stages : str or iterable of str
        Parts separated by commas, each one of:

        - a stage: ``fc7`` (after its ReLU) or ``fc7:linear`` (before it);
        - a block of numbered stages: ``conv3`` is ``conv3_1, conv3_2, conv3_3`` in VGG;
        - a kind: ``conv``, ``pool``, ``norm``, ``fc``;
        - a range, both ends included: ``conv1-3``, ``conv1-conv5``; it takes the stages of the kinds of its
          two ends, so ``conv4-fc6`` leaves the pooling out;
        - ``all``, ``none``;
        - torchvision's spelling of the network: ``features.10`` (a convolution before its ReLU: ``conv5:linear``),
          ``features.11`` (after: ``conv5``), ``classifier.5`` (``fc7``).

    Returns
    -------
    tuple of str
        Such as ``("fc6", "fc7:linear")``.

    Raises
    ------
    StageError
        For a name that the network does not have; the message has the nearest right one.
    """
    texts = [stages] if isinstance(stages, str) else stages
    parts = [part.strip() for text in texts for part in text.split(",")]
    return tuple(dict.fromkeys(name for part in parts for name in _expand(network, part)))


def torchvision_spellings(network: Network) -> dict[str, str]:
    """Torchvision's module names and the canonical names of the same values."""
    spellings: dict[str, str] = {}
    for stage in network.stages:
        if not stage.key:
            continue
        container, _, place = stage.key.rpartition(".")
        spellings[stage.key] = stage.name + LINEAR if stage.relu else stage.name
        if stage.relu:
            spellings[f"{container}.{int(place) + 1}"] = stage.name
    return spellings


def _expand(network: Network, part: str) -> list[str]:
    """Canonical names for one part between commas."""
    if part in ("all", "none"):
        return list(network.stage_names) if part == "all" else []
    if part in (spellings := torchvision_spellings(network)):
        return [spellings[part]]
    if part.endswith(LINEAR):
        return [_before_relu(network.stages[p]) for p in _places(network, part.removesuffix(LINEAR), part)]
    first, dash, last = part.partition("-")
    if not (dash and last):
        return [network.stage_names[place] for place in _places(network, part, part)]
    if last.isdigit():
        last = re.sub(r"\d.*$", "", first) + last
    start, end = _places(network, first, part)[0], _places(network, last, part)[-1]
    if start > end:
        raise StageError(f"the range '{part}' is backwards in {network.name}.", f"Use '{last}-{first}'.")
    kinds = {network.stages[start].kind, network.stages[end].kind}
    return [stage.name for stage in network.stages[start : end + 1] if stage.kind in kinds]


def _before_relu(stage: Stage) -> str:
    if stage.relu:
        return stage.name + LINEAR
    if stage.kind == "fc":  # the classifier has no ReLU: both names are the same value
        return stage.name
    raise StageError(
        f"'{stage.name}{LINEAR}' does not exist: {stage.name} has no ReLU.", f"Use '{stage.name}'."
    )


def _places(network: Network, word: str, part: str) -> list[int]:
    """Places of the stages that a single word of a part names."""
    for names in (
        network.stage_names,
        tuple(name.rpartition("_")[0] or name for name in network.stage_names),  # conv3 of conv3_1, conv3_2
        tuple(stage.kind for stage in network.stages),
    ):
        if places := [place for place, name in enumerate(names) if name == word]:
            return places
    raise StageError(
        f"network '{network.name}' has no stage '{part}'.",
        nearest(word, network.stage_names) + " Ranges such as conv1-3, kinds such as conv, and all work too.",
    )
