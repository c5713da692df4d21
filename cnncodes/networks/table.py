"""The stage table: the arithmetic of a network at one input size, for `cnncodes info NETWORK` and for notes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from cnncodes.core.records import to_value
from cnncodes.networks.network import Network
from cnncodes.networks.receptive_field import receptive_fields, window_of
from cnncodes.networks.stages import Convolution, MaxPool, Shape

BYTES = 4  # float32
TOTALS = ("parameters", "connections", "multiply_adds", "forward_bytes", "backward_bytes", "model_bytes")


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
        kernel, stride, _ = window_of(stage, incoming)
        padding, groups = (stage.padding, stage.groups) if isinstance(stage, Convolution) else (None, None)
        shape = stage.output_shape(incoming)
        windowed = isinstance(stage, Convolution | MaxPool)
        rows.append(
            StageRow(
                name=stage.name,
                kind=stage.kind,
                shape=shape,
                kernel=kernel if windowed else None,
                stride=stride if windowed else None,
                padding=padding,
                groups=groups,
                receptive_field=fields[stage.name].size,
                parameters=stage.parameters(incoming),
                connections=stage.connections(incoming),
                multiply_adds=stage.multiply_adds(incoming),
                forward_bytes=math.prod(shape) * BYTES,
            )
        )
    return StageTable(network.name, size, tuple(rows))
