"""A network: ordered stages with shapes, no numbers in it. What it computes with weights is in `torch_network`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from cnncodes.core.errors import InputSizeError, NetworkError, StageError
from cnncodes.networks.names import parse_stages
from cnncodes.networks.stages import DoesNotFitError, Linear, Shape, Stage

LARGEST_INPUT = 4096  # px; beyond, a single conv1 activation of AlexNet takes over 0.25 GB an image


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
        return self.activation == "relu" and not stage.endswith(":linear") and (found.relu or passed_on)

    def incoming_shapes(self, input_size: int | None = None) -> tuple[Shape, ...]:
        """Shape that each stage receives for one square RGB image; raises InputSizeError."""
        return self._shapes(input_size or self.input_size)[:-1]

    def output_shapes(self, input_size: int | None = None) -> dict[str, Shape]:
        """Shape of what each stage gives for one square RGB image; raises InputSizeError."""
        return dict(zip(self.stage_names, self._shapes(input_size or self.input_size)[1:], strict=True))

    def tensor_shapes(self) -> dict[str, Shape]:
        """Shape of every tensor of the state dict, in order: ``{"features.0.weight": (64, 3, 11, 11), ...}``."""
        shapes: dict[str, Shape] = {}
        for stage, incoming in zip(self.stages, self.incoming_shapes(), strict=True):
            shapes |= {f"{stage.prefix}.{end}": shape for end, shape in stage.tensor_shapes(incoming).items()}
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())

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
        stages = (
            replace(stage, rank=ranks[stage.name])
            if isinstance(stage, Linear) and stage.name in ranks
            else stage
            for stage in self.stages
        )
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
        if not 1 <= input_size <= LARGEST_INPUT:
            raise DoesNotFitError(f"sizes run from 1 to {LARGEST_INPUT} px")
        shapes: list[Shape] = [(3, input_size, input_size)]
        for stage in self.stages:
            incoming = shapes[-1]
            outgoing = stage.output_shape(incoming)
            if isinstance(stage, Linear) and stage.pool_to is None and len(incoming) == 3:
                usual = self._grid_before(stage)
                if usual != incoming:
                    raise DoesNotFitError(f"{stage.name} is made for {usual} and gets {incoming}")
            shapes.append(outgoing)
        return tuple(shapes)

    def _grid_before(self, stage: Stage) -> Shape:
        """What a fully connected stage without pooling gets at the network's own input size."""
        shape: Shape = (3, self.input_size, self.input_size)
        for earlier in self.stages[: self.stages.index(stage)]:
            shape = earlier.output_shape(shape)
        return shape


def check_classes(classes: int) -> None:
    """Raise NetworkError unless a classifier can have so many classes."""
    if classes < 1:
        raise NetworkError(f"a classifier of {classes} classes is not possible.", "Use 1 or more classes.")
