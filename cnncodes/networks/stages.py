"""Stages of a network as records, and the arithmetic that course notes do by hand. No torch here.

A stage maps a shape to a shape. Convolutional shapes are ``(channels, height, width)``, the others
``(features,)``. Output sizes follow ``out = floor((in + 2 padding - kernel) / stride) + 1`` (CS231n,
*Convolutional Networks*), pooling in ceil mode rounds up, as Caffe does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Shape = tuple[int, ...]
Padding = int | Literal["same"]


class DoesNotFitError(ValueError):
    """A shape that a stage cannot take; the network turns it into an InputSizeError with the sizes that fit."""


@dataclass(frozen=True)
class Stage(ABC):
    """One named step of a network."""

    name: str  # conv1, pool5, fc7, ...
    key: str = field(default="", kw_only=True)  # prefix of its tensors as torchvision has it (features.0)

    kind: ClassVar[str]

    @property
    def relu(self) -> bool:
        """Whether the stage ends in a ReLU."""
        return False

    @property
    def prefix(self) -> str:
        """Prefix of this stage's tensors in a state dict."""
        return self.key or self.name

    @abstractmethod
    def output_shape(self, incoming: Shape) -> Shape:
        """Shape of the result for one image; raises DoesNotFitError."""

    def weight_shape(self, incoming: Shape) -> Shape:
        """Shape of the weight tensor, ``()`` for a stage without parameters. The bias has its first length."""
        return ()

    def tensor_shapes(self, incoming: Shape) -> dict[str, Shape]:
        """Shape of each tensor by the end of its key: weight and bias; empty for a stage without parameters."""
        shape = self.weight_shape(incoming)
        return {"weight": shape, "bias": shape[:1]} if shape else {}

    def parameters(self, incoming: Shape) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self.tensor_shapes(incoming).values())

    def multiply_adds(self, incoming: Shape) -> int:
        """Multiplications (each with its addition) for one image, biases not counted."""
        return 0

    def connections(self, incoming: Shape) -> int:
        """``out^2 (k^2 c_in / groups + 1) c_out``: multiply-adds plus one for each biased output."""
        work = self.multiply_adds(incoming)
        return work + math.prod(self.output_shape(incoming)) if work else 0


def _grid(incoming: Shape, name: str) -> tuple[int, int, int]:
    if len(incoming) != 3:
        raise DoesNotFitError(f"{name} needs (channels, height, width), not {incoming}")
    return incoming[0], incoming[1], incoming[2]


@dataclass(frozen=True)
class Convolution(Stage):
    """Convolution with bias, then ReLU; kernel and stride are in pixels of the incoming grid.

    Padding "same" is TensorFlow's: ``out = ceil(in / stride)``, the odd pixel on the right and below.
    """

    channels: int = 0
    kernel: int = 3
    stride: int = 1
    padding: Padding = 0
    groups: int = 1  # 2 repeats the 2012 paper's two towers

    kind = "conv"

    @property
    def relu(self) -> bool:
        return True

    def pads(self, size: int) -> tuple[int, int]:
        """Zeros before and after one side of ``size`` pixels."""
        if self.padding != "same":
            return self.padding, self.padding
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2

    def output_shape(self, incoming: Shape) -> Shape:
        _, height, width = _grid(incoming, self.name)
        return (self.channels, self._side(height), self._side(width))

    def _side(self, size: int) -> int:
        room = size + sum(self.pads(size)) - self.kernel
        if room < 0:
            raise DoesNotFitError(f"{self.name} has a {self.kernel} px kernel and gets {size} px")
        return room // self.stride + 1

    def weight_shape(self, incoming: Shape) -> Shape:
        return (self.channels, incoming[0] // self.groups, self.kernel, self.kernel)

    def multiply_adds(self, incoming: Shape) -> int:
        _, height, width = self.output_shape(incoming)
        return height * width * math.prod(self.weight_shape(incoming))


@dataclass(frozen=True)
class MaxPool(Stage):
    """Maximum over windows; ``ceil`` keeps the last, partly covered window (Caffe)."""

    kernel: int = 3
    stride: int = 2
    ceil: bool = False

    kind = "pool"

    def output_shape(self, incoming: Shape) -> Shape:
        channels, height, width = _grid(incoming, self.name)
        return (channels, self._side(height), self._side(width))

    def _side(self, size: int) -> int:
        room = size - self.kernel
        if room < 0:
            raise DoesNotFitError(f"{self.name} has a {self.kernel} px window and gets {size} px")
        if not self.ceil:
            return room // self.stride + 1
        side = -(-room // self.stride) + 1
        # The last window must start inside the picture.
        return side - 1 if (side - 1) * self.stride >= size else side


@dataclass(frozen=True)
class LocalResponseNorm(Stage):
    """``b = a / (k + alpha * sum of a^2 over n channels)^beta`` (Krizhevsky et al. 2012, section 3.3).

    ``alpha`` multiplies the sum itself, as the paper writes it. Caffe and torch divide theirs by ``n``:
    their 1e-4 is 2e-5 here.
    """

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    kind = "norm"

    def output_shape(self, incoming: Shape) -> Shape:
        return _grid(incoming, self.name)


@dataclass(frozen=True)
class Linear(Stage):
    """Fully connected stage, then ReLU unless ``relu=False``.

    ``pool_to``: the incoming grid is first pooled on average to this side (torchvision's AdaptiveAvgPool2d), so that other input sizes
    work; the identity at the network's own input size. ``rank``: the matrix is a product of two, ``left [features, rank]`` and
    ``right [rank, in]``, and computed as such.
    """

    features: int = 0  # length of the output
    relu: bool = True  # False for the classifier, whose values are logits
    pool_to: int | None = None
    rank: int | None = None

    kind = "fc"

    def _flat(self, incoming: Shape) -> int:
        if self.pool_to is not None and len(incoming) == 3:
            return incoming[0] * self.pool_to**2
        return math.prod(incoming)

    def output_shape(self, incoming: Shape) -> Shape:
        return (self.features,)

    def weight_shape(self, incoming: Shape) -> Shape:
        return (self.features, self._flat(incoming))

    def tensor_shapes(self, incoming: Shape) -> dict[str, Shape]:
        if self.rank is None:
            return super().tensor_shapes(incoming)
        rows, columns = self.weight_shape(incoming)
        return {"left": (rows, self.rank), "right": (self.rank, columns), "bias": (rows,)}

    def multiply_adds(self, incoming: Shape) -> int:
        rows, columns = self.weight_shape(incoming)
        return rows * columns if self.rank is None else self.rank * (rows + columns)


def channel_axis(shape: Shape) -> int:
    """Where the channels of a value for one image are: first of ``(channels, height, width)``, last of tokens and of maps
    that a network keeps as ``(height, width, channels)``."""
    maps = len(shape) == 3 and (shape[0] != shape[1] or shape[1] == shape[2])
    return 0 if len(shape) == 1 or maps else len(shape) - 1
