"""The weights of a convolution as pictures: what its units look for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import StageError
from cnncodes.networks import Convolution
from cnncodes.pictures.drawing import add_ends_bar, new_panels
from cnncodes.pictures.mosaic import around_zero, mosaic, tile_corners

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

    Every filter is scaled by its own largest magnitude, so that weak ones can be seen too. Of a stage that does not read
    pixels, a row has the channels for which its unit has the largest weights: with most of the others it does little.

    Parameters
    ----------
    filters : Filters
    units : int, default 256
        At most so many units are drawn.
    channels : int, default 12
        Of a stage that does not read pixels, so many units (rows) and channels of each (columns) are drawn.
    """
    if filters.values.shape[1] != 3:
        return _draw_by_channel(filters, channels)
    count, _, height, width = filters.values.shape
    drawn = around_zero(filters.values[:units]).transpose(0, 2, 3, 1)
    what = f"{len(drawn)} of {count} filters" if len(drawn) < count else f"{count} filters"
    title = (
        f"{filters.stage} of {filters.weights}: {what}, {height} x {width} px, each scaled alone, grey is 0"
    )
    figure, (axes,) = new_panels(cell=6.5, title=title)
    axes.imshow(mosaic(drawn), interpolation="nearest")
    return figure


def strongest_channels(values: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """For each unit the channels with the largest weights, int ``[units, channels]``, by their sum of squares."""
    strength = np.square(values).sum(axis=(2, 3))
    return np.argsort(-strength, axis=1, kind="stable")[:, :channels]


def _draw_by_channel(filters: Filters, most: int) -> Figure:
    """The first units in rows, in each its strongest channels with their numbers above."""
    count, depth, height, width = filters.values.shape
    values = filters.values[:most]
    chosen = strongest_channels(values, most)
    scaled = np.take_along_axis(around_zero(values), chosen[:, :, None, None], axis=1)
    rows, columns = chosen.shape
    large = scaled.repeat(8, axis=2).repeat(8, axis=3).astype(float)  # room for a number above each
    strip = max(10, round(0.3 * large.shape[2]))
    tiles = np.pad(large, ((0, 0), (0, 0), (strip, 0), (0, 0)), constant_values=np.nan)
    tiles = tiles.reshape(rows * columns, *tiles.shape[2:])
    title = (
        f"{filters.stage} of {filters.weights}: filters of {height} x {width} weights. Rows: units 0 to {rows - 1} of "
        f"{count}. In each row the {columns} of {depth} channels that count most, by number"
    )
    figure, (axes,) = new_panels(cell=8.0, title=title, aspect=1.06)
    gap = 4
    image = axes.imshow(
        mosaic(tiles, columns, gap, np.nan), interpolation="nearest", cmap="gray", vmin=0, vmax=255
    )
    corners = tile_corners(len(tiles), tiles.shape[1], tiles.shape[2], columns, gap)
    for channel, (x, y) in zip(chosen.ravel().tolist(), corners.tolist(), strict=True):
        axes.text(x, y + 0.85 * strip, f"{channel}", fontsize=8.5, color="0.35")
    for unit, (x, y) in enumerate(corners[::columns].tolist()):
        middle = y + strip + large.shape[2] / 2
        axes.text(x - 2 * gap, middle, f"unit {unit}", fontsize=11, ha="right", va="center")
    ends = {0.0: "negative", 128.0: "0", 255.0: "positive"}
    add_ends_bar(figure, image, axes, "weight; each unit (row) is scaled alone", ends)
    return figure
