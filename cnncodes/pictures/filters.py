"""The weights of a convolution as pictures: what its units look for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import StageError
from cnncodes.networks import Convolution
from cnncodes.pictures.activations import with_strip
from cnncodes.pictures.drawing import add_ends_bar, new_panels, new_sheet
from cnncodes.pictures.thumbnails import around_zero, mosaic, tile_corners

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure
    from cnncodes.weights import Weights

SHEET, LARGEST = 1560, 160  # dots of filters that read pixels: all side by side, and of one, about


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of one stage."""

    weights: str  # name of the weights
    stage: str
    values: npt.NDArray[Any]  # [units, channels, height, width]; channels as RGB where the stage reads pixels


def read_filters(weights: Weights, stage: str = "conv1") -> Filters:
    """The filters of a convolution; raises StageError if the stage is none."""
    network = weights.architecture
    if not network.stages:
        return _of_library(weights, stage)
    name = network.select_one(stage)
    found = network.stage(name)
    if not isinstance(found, Convolution):
        names = [stage.name for stage in network.stages if isinstance(stage, Convolution)]
        raise StageError(f"stage '{name}' has no filters.", f"Name a convolution: {', '.join(names)}.")
    values = weights.tensors[f"{found.prefix}.weight"].float().numpy()
    if values.shape[1] == 3 and weights.preprocessing.channels == "BGR":
        values = values[:, ::-1]
    return Filters(weights.name, found.name, values)


def _of_library(weights: Weights, layer: str) -> Filters:
    """The kernels of a module, or of the first one that reads pixels where the network has no layer of that name."""
    kernels = {
        key.removesuffix(".weight"): value for key, value in weights.tensors.items() if value.dim() == 4
    }
    known = weights.architecture.output_shapes()
    reading = next((path for path, value in kernels.items() if value.shape[1] == 3), "")
    path = layer if layer in known or not reading else reading
    if path not in kernels:
        raise StageError(
            f"layer '{layer}' of {weights.network} has no filters.",
            f"Name one of its {len(kernels)} convolutions, such as {', '.join(list(kernels)[:3])}.",
        )
    return Filters(weights.name, path, kernels[path].float().numpy())


def draw_filters(filters: Filters, units: int = 256, channels: int = 12) -> Figure:
    """Filters as a grid with the numbers of their units, grey for zero: in colour where they read pixels, else by channel.

    Every filter is scaled by its own largest magnitude, so that weak ones can be seen too. At most ``units`` are drawn. Of a stage
    that does not read pixels, ``channels`` rows have a unit each, with so many channels for which it has the largest weights.
    """
    if filters.values.shape[1] != 3:
        return _draw_by_channel(filters, channels)
    count, _, height, width = filters.values.shape
    drawn = around_zero(filters.values[:units]).transpose(0, 2, 3, 1)
    gap = 10  # dots
    columns = min(len(drawn), max(8, math.ceil(math.sqrt(1.8 * len(drawn)))))
    large = max(1, round(min(SHEET / columns - gap, LARGEST) / width))  # whole dots for each weight
    tiles, strip = with_strip(drawn, large, 26 / (large * height), 255)
    what = f"{len(drawn)} of {count}" if len(drawn) < count else f"All {count}"
    title = f"{what} filters of {filters.stage} ({filters.weights}): {height} x {width} px, each scaled alone, grey is 0"
    picture = mosaic(tiles, columns, gap)
    figure, axes, size = new_sheet(picture.shape[1], picture.shape[0], title)
    axes.imshow(picture, interpolation="nearest")
    corners = tile_corners(len(tiles), tiles.shape[1], tiles.shape[2], columns, gap)
    for unit, (x, y) in enumerate(corners.tolist()):
        axes.text(x, y + strip - 4, f"{unit}", fontsize=min(size, 12), color="0.3", va="baseline")
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
    tiles, strip = with_strip(scaled.reshape(rows * columns, height, width).astype(float), 8, 0.3)
    title = (
        f"Units 0 to {rows - 1} of {count} of {filters.stage} ({filters.weights}), a row each: the {columns} of {depth} "
        f"channels with the largest weights. What they look for: cnncodes show strongest --layer {filters.stage}"
    )
    figure, (axes,) = new_panels(cell=8.0, title=title, aspect=1.06)
    gap = 4
    picture = mosaic(tiles, columns, gap, np.nan)
    image = axes.imshow(picture, interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    corners = tile_corners(len(tiles), tiles.shape[1], tiles.shape[2], columns, gap)
    for channel, (x, y) in zip(chosen.ravel().tolist(), corners.tolist(), strict=True):
        axes.text(x, y + 0.85 * strip, f"{channel}", fontsize=8.5, color="0.35")
    for unit, (x, y) in enumerate(corners[::columns].tolist()):
        middle = y + strip + 4 * height
        axes.text(x - 2 * gap, middle, f"unit {unit}", fontsize=11, ha="right", va="center")
    ends = {0.0: "negative", 128.0: "0", 255.0: "positive"}
    add_ends_bar(figure, image, axes, "weight; each unit (row) is scaled alone", ends)
    return figure
