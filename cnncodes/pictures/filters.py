"""The weights of a convolution as pictures: what its units look for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from cnncodes.errors import StageError
from cnncodes.networks import Convolution
from cnncodes.pictures.drawing import new_panels
from cnncodes.pictures.mosaic import around_zero, mosaic

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure
    from cnncodes.weights import Weights


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of one stage.

    Parameters
    ----------
    weights : str
        Name of the weights.
    stage : str
    values : float array [units, channels, height, width]
        Channels as RGB where the stage reads pixels.
    """

    weights: str
    stage: str
    values: npt.NDArray[Any]


def read_filters(weights: Weights, stage: str = "conv1") -> Filters:
    """The filters of a convolution.

    Raises
    ------
    StageError
        If the stage is none of the network's convolutions.
    """
    network = weights.architecture
    name = network.select_one(stage)
    found = network.stage(name)
    if not isinstance(found, Convolution):
        names = [stage.name for stage in network.stages if isinstance(stage, Convolution)]
        raise StageError(f"stage '{name}' has no filters.", f"Name a convolution: {', '.join(names)}.")
    values = weights.tensors[f"{found.prefix}.weight"].float().numpy()
    if values.shape[1] == 3 and weights.preprocessing.channels == "BGR":
        values = values[:, ::-1]
    return Filters(weights.name, found.name, values)


def draw_filters(filters: Filters, units: int = 256, channels: int = 12) -> Figure:
    """Filters as a grid, grey for zero: in colour where they read pixels, else by channel.

    Every filter is scaled by its own largest magnitude, so that weak ones can be seen too.

    Parameters
    ----------
    filters : Filters
    units : int, default 256
        At most so many units are drawn.
    channels : int, default 12
        Of a stage that does not read pixels, so many units (rows) and channels (columns) are drawn.
    """
    values = filters.values
    count, depth, height, width = values.shape
    in_colour = depth == 3
    if in_colour:
        drawn = around_zero(values[:units]).transpose(0, 2, 3, 1)
        picture = mosaic(drawn)
        what = f"{len(drawn)} of {count} filters" if len(drawn) < count else f"{count} filters"
        title = f"{filters.stage} of {filters.weights}: {what}, {height} x {width} px, each scaled alone, grey is 0"
    else:
        rows, columns = min(count, channels), min(depth, channels)
        scaled = around_zero(values[:rows])[:, :columns]
        picture = mosaic(scaled.reshape(rows * columns, height, width), columns)
        title = (
            f"{filters.stage} of {filters.weights}: units 0 to {rows - 1} of {count} (rows), "
            f"their weights for channels 0 to {columns - 1} of {depth} (columns), each unit scaled alone; "
            "white is positive, grey 0, black negative"
        )
    figure, (axes,) = new_panels(cell=6.5, title=title)
    axes.imshow(picture, interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    return figure
