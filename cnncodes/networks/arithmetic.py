"""The arithmetic of a network at one input size: which pixels a unit sees, and the stage table of `cnncodes info NETWORK`.

A unit of a stage sees a window of ``kernel`` units of the stage below, so its receptive field grows by ``(kernel - 1) * jump``
pixels and the next unit's lies ``stride`` jumps further; padding shifts the first one to the left (Araujo, Norris and
Sim 2019, *Computing Receptive Fields of Convolutional Neural Networks*, equations 1 to 4). No torch here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from cnncodes.core.records import to_value
from cnncodes.networks.network import Network
from cnncodes.networks.stages import Convolution, Linear, MaxPool, Shape, Stage

BYTES = 4  # float32
TOTALS = ("parameters", "connections", "multiply_adds", "forward_bytes", "backward_bytes", "model_bytes")


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one stage see along one side of a square image; all units of a place see the same.

    ``spans`` has for each unit along the side the first pixel that it sees, and the one after the last. It is shorter than
    ``size`` at the borders, where there is padding, or (pooling in ceil mode) a window is only partly covered.
    """

    size: int  # pixels along one side, as far as nothing cuts it
    jump: int  # pixels from one unit's field to the next one's
    start: int  # first pixel of the first unit's field; negative where it begins in the padding
    spans: tuple[tuple[int, int], ...]

    @property
    def centres(self) -> tuple[float, ...]:
        """Middle of each unit's whole field in pixels; outside the image where padding makes up most of it."""
        return tuple(self.start + (self.size - 1) / 2 + self.jump * place for place in range(len(self.spans)))


def receptive_fields(network: Network, input_size: int | None = None) -> dict[str, ReceptiveField]:
    """The fields of all stages for square images of ``input_size`` pixels (the network's own size by default).

    Normalisation looks at other channels alone, and groups divide channels, so that neither changes a field. A fully
    connected stage has one place, which sees everything that the grid before it sees. Raises InputSizeError.
    """
    side = input_size or network.input_size
    below = ReceptiveField(1, 1, 0, tuple((pixel, pixel + 1) for pixel in range(side)))
    found = {}
    incoming, outgoing = network.incoming_shapes(side), network.output_shapes(side)
    for stage, shape in zip(network.stages, incoming, strict=True):
        kernel, stride, padding = window_of(stage, shape)
        grid = outgoing[stage.name]
        spans = []
        for place in range(grid[1] if len(grid) == 3 else 1):
            first = place * stride - padding  # padding is no unit, and neither is what lies beyond
            seen = below.spans[max(first, 0) : max(first + kernel, 0)]
            spans.append((seen[0][0], seen[-1][1]) if seen else (0, 0))
        size, start = below.size + (kernel - 1) * below.jump, below.start - padding * below.jump
        below = found[stage.name] = ReceptiveField(size, below.jump * stride, start, tuple(spans))
    return found


def window_of(stage: Stage, incoming: Shape) -> tuple[int, int, int]:
    """Kernel, stride and leading padding of the window that a stage slides over its incoming grid.

    A fully connected stage sees all of the grid; what is no grid, and a normalisation, is passed on place by place.
    """
    if isinstance(stage, Convolution):
        return stage.kernel, stage.stride, stage.pads(incoming[1])[0]
    if isinstance(stage, MaxPool):
        return stage.kernel, stage.stride, 0
    if isinstance(stage, Linear) and len(incoming) == 3:
        return incoming[1], 1, 0
    return 1, 1, 0


@dataclass(frozen=True)
class StageRow:
    """One stage at one input size; sizes in pixels, memory in bytes per image (float32)."""

    name: str
    kind: str
    shape: Shape
    kernel: int | None
    stride: int | None
    padding: int | str | None
    groups: int | None
    receptive_field: int
    parameters: int
    connections: int
    multiply_adds: int
    forward_bytes: int


@dataclass(frozen=True)
class StageTable:
    """Rows and totals of a network at an input size.

    ``forward_bytes`` counts the input and what every stage gives, each once (a ReLU is part of its stage);
    ``backward_bytes`` adds the gradient of each, so it is twice that: CS231n's rule.
    """

    network: str
    input_size: int
    rows: tuple[StageRow, ...]

    @property
    def parameters(self) -> int:
        """Number of weights and biases of the network."""
        return sum(row.parameters for row in self.rows)

    @property
    def connections(self) -> int:
        """Sum over the stages."""
        return sum(row.connections for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def forward_bytes(self) -> int:
        """Activations of one image, the input included, in bytes (float32)."""
        return 3 * self.input_size**2 * BYTES + sum(row.forward_bytes for row in self.rows)

    @property
    def backward_bytes(self) -> int:
        """Activations and their gradients for one image, in bytes."""
        return 2 * self.forward_bytes

    @property
    def model_bytes(self) -> int:
        """Size of the float32 weights in bytes."""
        return self.parameters * BYTES

    def to_json(self) -> str:
        """JSON object with rows and totals."""
        return json.dumps(to_value(self) | to_value(self, *TOTALS))


def stage_table(network: Network, input_size: int | None = None) -> StageTable:
    """The table of ``network`` for square images of ``input_size`` pixels (its own size by default); raises InputSizeError."""
    size = input_size or network.input_size
    rows = []
    fields = receptive_fields(network, size)
    for stage, incoming in zip(network.stages, network.incoming_shapes(size), strict=True):
        shape = stage.output_shape(incoming)
        windowed = isinstance(stage, Convolution | MaxPool)
        kernel, stride = window_of(stage, incoming)[:2] if windowed else (None, None)
        padding, groups = (stage.padding, stage.groups) if isinstance(stage, Convolution) else (None, None)
        rows.append(
            StageRow(
                stage.name, stage.kind, shape, kernel, stride, padding, groups, fields[stage.name].size,
                stage.parameters(incoming), stage.connections(incoming), stage.multiply_adds(incoming), math.prod(shape) * BYTES,
            )
        )  # fmt: skip
    return StageTable(network.name, size, tuple(rows))
