"""Which pixels a unit sees: the arithmetic of receptive fields, stage by stage.

A unit of a stage sees a window of ``kernel`` units of the stage below, so the field grows by ``(kernel - 1) * jump``
pixels and the next unit's lies ``stride`` jumps further; padding shifts the first one to the left (Araujo, Norris and
Sim 2019, *Computing Receptive Fields of Convolutional Neural Networks*, equations 1 to 4). No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnncodes.networks.network import Network
from cnncodes.networks.stages import Convolution, Linear, MaxPool, Shape, Stage


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one stage see along one side of a square image; all units of a place see the same.

    ``spans`` has for each unit along the side the first pixel that it sees, and the one after the last. It is shorter than ``size`` at the
    borders, where there is padding, or (pooling in ceil mode) a window is only partly covered.
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
    field = ReceptiveField(1, 1, 0, tuple((pixel, pixel + 1) for pixel in range(side)))
    found = {}
    shapes = (*network.incoming_shapes(side), network.output_shapes(side)[network.stages[-1].name])
    for stage, incoming, outgoing in zip(network.stages, shapes, shapes[1:], strict=False):
        field = _through(stage, incoming, outgoing, field)
        found[stage.name] = field
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


def _through(stage: Stage, incoming: Shape, outgoing: Shape, below: ReceptiveField) -> ReceptiveField:
    """The field after one more stage."""
    kernel, stride, padding = window_of(stage, incoming)
    units = outgoing[1] if len(outgoing) == 3 else 1
    spans = []
    for place in range(units):
        first = place * stride - padding  # padding is no unit, and neither is what lies beyond
        seen = below.spans[max(first, 0) : max(first + kernel, 0)]
        spans.append((seen[0][0], seen[-1][1]) if seen else (0, 0))
    return ReceptiveField(
        size=below.size + (kernel - 1) * below.jump,
        jump=below.jump * stride,
        start=below.start - padding * below.jump,
        spans=tuple(spans),
    )
