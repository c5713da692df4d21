"""What the units of a layer are and do: the filters of a convolution, and what a layer gives on one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.core.errors import OptionError, StageError
from cnncodes.core.records import to_value
from cnncodes.networks import Convolution
from cnncodes.pictures import drawing
from cnncodes.pictures.attribution import as_maps, gradcam_layer
from cnncodes.pictures.classifier import crop_caution, crop_words, note_of
from cnncodes.pictures.drawing import COLOURS, CUT, cut_middle, limit, new_panels, set_title, show_image
from cnncodes.pictures.sheets import mosaic, tile_corners

if TYPE_CHECKING:
    from cnncodes.pictures.classifier import Classifier, SeenImage
    from cnncodes.pictures.drawing import Array, Axes, Bytes, Figure
    from cnncodes.weights import Weights

Floats = npt.NDArray[np.float32]
Count = TypeVar("Count", bound=int | None)
SHEET, LARGEST = 1560, 160  # dots of filters that read pixels: all side by side, and of one, about
SHOWN = 36  # maps, unless more are asked for
BARS = 10  # of a fully connected stage, whose units have no places
FINEST = 32  # a map is drawn at least so many dots high, so that its label has room above it


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of one stage."""

    weights: str  # name of the weights
    stage: str
    values: Array  # [units, channels, height, width]; channels as RGB where the stage reads pixels


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
    reading = next((path for path, value in kernels.items() if value.shape[1] == 3), "")
    path = layer if layer in weights.architecture.output_shapes() or not reading else reading
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
    drawn = _around_zero(filters.values[:units]).transpose(0, 2, 3, 1)
    gap = 10  # dots
    columns = min(len(drawn), max(8, math.ceil(math.sqrt(1.8 * len(drawn)))))
    large = max(1, round(min(SHEET / columns - gap, LARGEST) / width))  # whole dots for each weight
    tiles, strip = with_strip(drawn, large, 26 / (large * height), 255)
    what = f"{len(drawn)} of {count}" if len(drawn) < count else f"All {count}"
    title = f"{what} filters of {filters.stage} ({filters.weights}): {height} x {width} px, each scaled alone, grey is 0"
    picture = mosaic(tiles, columns, gap)
    figure, axes, size = drawing.new_sheet(picture.shape[1], picture.shape[0], title)
    axes.imshow(picture, interpolation="nearest")
    corners = tile_corners(len(tiles), tiles.shape[1], tiles.shape[2], columns, gap)
    for unit, (x, y) in enumerate(corners.tolist()):
        axes.text(x, y + strip - 4, f"{unit}", fontsize=min(size, 12), color="0.3", va="baseline")
    return figure


def _around_zero(values: Array) -> Bytes:
    """Each of n filters as bytes, its largest magnitude as 1 or 255: grey (128) means "no weight"."""
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    return np.asarray(np.round(128 + 127 * values / np.where(largest > 0, largest, 1)), np.uint8)


def strongest_channels(values: Array, channels: int) -> Array:
    """For each unit the channels with the largest weights, int ``[units, channels]``, by their sum of squares."""
    strength = np.square(values).sum(axis=(2, 3))
    return np.argsort(-strength, axis=1, kind="stable")[:, :channels]


def _draw_by_channel(filters: Filters, most: int) -> Figure:
    """The first units in rows, in each its strongest channels with their numbers above."""
    count, depth, height, width = filters.values.shape
    values = filters.values[:most]
    chosen = strongest_channels(values, most)
    scaled = np.take_along_axis(_around_zero(values), chosen[:, :, None, None], axis=1)
    rows, columns = chosen.shape
    tiles, strip = with_strip(scaled.reshape(rows * columns, height, width).astype(float), 8, 0.3)
    title = (
        f"Units 0 to {rows - 1} of {count} of {filters.stage} ({filters.weights}), a row each: the {columns} of {depth} "
        f"channels with the largest weights. What they look for: cnncodes show strongest --layer {filters.stage}"
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
        middle = y + strip + 4 * height
        axes.text(x - 2 * gap, middle, f"unit {unit}", fontsize=11, ha="right", va="center")
    ends = {0.0: "negative", 128.0: "0", 255.0: "positive"}
    drawing.add_ends_bar(figure, image, axes, "weight; each unit (row) is scaled alone", ends)
    return figure


@dataclass(frozen=True, eq=False)
class Activations:
    """What all units of one stage give on one image."""

    weights: str  # for titles: the weights' name, or the model's file
    stage: str
    image: str  # the file's name
    rgb: Bytes  # [side, side, 3], as the network sees it
    values: Floats  # [units, height, width]; 1 x 1 of a fully connected stage
    rectified: bool  # whether they went through a ReLU, so that "fires" means above 0
    names: tuple[str, ...] = ()  # the classes, where the stage is the network's classifier
    seen: float = 1.0  # share of the photograph's area that the network sees

    @property
    def has_places(self) -> bool:
        """Whether units have a map; those of a fully connected stage have one value."""
        return bool(self.values[0].size > 1)

    @cached_property
    def largest(self) -> Floats:
        """The largest value of each unit anywhere on the image, ``[units]``: what "most active" goes by."""
        return np.asarray(self.values.max(axis=(1, 2)))

    @property
    def fires(self) -> str:
        """What being above 0 is called: after a ReLU a unit fires."""
        why = "before the ReLU" if self.stage.endswith(":linear") else "this stage has no ReLU"
        return "fire" if self.rectified else f"are above 0 ({why})"

    @property
    def firing(self) -> float:
        """Share of the units that are above 0 at one place of the image or more."""
        return float((self.largest > 0).mean())

    def choose(self, units: int | Sequence[int] | None = None) -> list[int]:
        """Numbers of units: so many (36 maps or 10 bars), the most active first, or the named ones; see :func:`check_units`."""
        count = len(self.values)
        if units is None:
            units = SHOWN if self.has_places else BARS
        check_units(min(units, count) if isinstance(units, int) else units, self.stage, count, count)
        if isinstance(units, int):
            return [int(unit) for unit in np.argsort(-self.largest, kind="stable")[:units]]
        return list(dict.fromkeys(units))

    def to_json(self, units: int | Sequence[int] | None = None) -> dict[str, Any]:
        """The chosen units as they are drawn, with their largest and mean value and the share of places above 0."""
        chosen = [
            {
                "unit": unit,
                **({"class": self.names[unit]} if self.names else {}),
                "largest": float(self.largest[unit]),
                "mean": float(self.values[unit].mean()),
                "places": float((self.values[unit] > 0).mean()),
            }
            for unit in self.choose(units)
        ]
        named = ("weights", "stage", "image", "seen", "rectified", "firing")
        return {**to_value(self, *named), "shape": list(self.values.shape), "units": chosen}


def check_units(units: int | Sequence[int], stage: str, count: int, most: int) -> None:
    """Raise OptionError unless a stage of ``count`` units has these, or so many, and a picture has room for ``most``."""
    asked, most = units if isinstance(units, int) else len(set(units)), min(most, count)
    if not 1 <= asked <= most:
        raise OptionError(f"{asked} units cannot be shown in one picture.", f"Use 1 to {most}.")
    absent = [] if isinstance(units, int) else [unit for unit in units if not 0 <= unit < count]
    if absent:
        raise OptionError(
            f"unit {absent[0]} is not there: stage '{stage}' has {count:,} units.", f"Use 0 to {count - 1}."
        )


def parse_units(text: str | None, count: Count) -> Count | tuple[int, ...]:
    """Which units, as a person writes them: ``"1,7,42"`` or ``"7"``; without any, ``count``. Raises OptionError."""
    if text is None:
        return count
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise OptionError(
            f"units '{text}' are no numbers of units.", "Write such as 7 or 1,7,42; --count says how many."
        )
    return tuple(map(int, parts))


def read_activations(classifier: Classifier, image: SeenImage, stage: str | None = None) -> Activations:
    """What one stage gives on an image (``conv5:linear``: before the ReLU); by default the last convolution before the classifier.

    Raises StageError if the network has no such stage.
    """
    network = classifier.weights.architecture
    name = network.select_one(stage or gradcam_layer(classifier))
    with torch.inference_mode():
        value = classifier.network.activations(image.pixels, [name])[name][0]
    values = as_maps(value).float().cpu().numpy()
    is_classifier = name == network.stage_names[-1] and network.classes is not None
    known = classifier.weights.class_names() if is_classifier else None
    rectified = network.is_rectified(name)
    return Activations(
        classifier.name, name, image.name, image.rgb, values, rectified, tuple(known or ()), image.seen
    )


def draw_activations(
    found: Activations, units: int | Sequence[int] | None = None, each: bool = False
) -> Figure:
    """The image as seen, and beside it the units: maps with their numbers, or bars and a sorted profile.

    ``units`` are so many, the most active first, or which; by default 36 maps, or 10 bars. With ``each`` every map is scaled
    alone, so that weak ones can be seen too; else all share one scale, which ends at the 99.5th percentile. Raises OptionError.
    """
    chosen = found.choose(units)
    ordered = chosen == found.choose(len(chosen))
    few = len(chosen) < len(found.values)
    which = f"the {len(chosen)} most active" if few and ordered else f"{len(chosen)}"
    caution = crop_caution(found.seen)
    note = note_of(found.image, found.weights, cautions=[caution] if caution else [])
    if found.has_places:
        return _draw_maps(found, chosen, each, which, note)
    return _draw_profile(found, chosen, which, note)


def _draw_maps(found: Activations, chosen: list[int], each: bool, which: str, note: str) -> Figure:
    title = f"{found.stage}: {which} of {len(found.values):,} units; {100 * found.firing:.0f} % {found.fires} somewhere"
    columns = math.ceil(math.sqrt(len(chosen)))
    maps = found.values[chosen].astype(np.float64)
    top = limit(maps)
    heading = f"maps of {maps.shape[1]} x {maps.shape[2]} places, above each its unit's number"
    if each:
        maps, top = np.stack([own / limit(own) for own in maps]), 1.0
        heading = "each map scaled alone; above it its unit: largest value"
    cell = max(6.0, 0.66 * columns)
    tiles, strip = with_strip(maps, math.ceil(FINEST / min(maps.shape[1:])), 0.22)
    figure, (left, right) = new_panels(1, 2, cell, title, note, 0.9)
    gap = max(1, tiles.shape[2] // 16)
    picture = mosaic(tiles, columns, gap, np.nan)
    show_image(left, found.rgb, crop_words(found.seen))
    # As much room above the photograph as the first map has for its number: they begin and end at one height.
    side, high = len(found.rgb), picture.shape[0]
    left.set_ylim(side - 0.5, -0.5 - side * strip / (high - strip))
    for place in (left, right):
        place.set_anchor("NW")
    low, colours = (0.0, "magma") if found.rectified else (-top, "RdBu_r")
    image = right.imshow(picture, cmap=colours, vmin=low, vmax=top, interpolation="nearest")
    set_title(right, heading)
    points = min(9.0, 72 * cell * 0.78 * strip / high * 0.85)
    corners = tile_corners(len(chosen), tiles.shape[1], tiles.shape[2], columns, gap)
    for unit, (x, y) in zip(chosen, corners, strict=True):
        text = f"{unit}: {found.largest[unit]:#.3g}" if each else f"{unit}"
        right.text(x - 0.5, y + 0.82 * strip - 0.5, text, fontsize=points * (0.8 if each else 1))
    if not each:
        label = (
            f"{'activation' if found.rectified else 'value'}; the scale ends at {100 * CUT:g} % of the values"
        )
        drawing.add_colour_bar(figure, image, right, label)
    return figure


def with_strip(maps: Array, factor: int, height: float, fill: float = np.nan) -> tuple[Array, int]:
    """Maps ``[n, height, width, ...]`` enlarged, with an empty strip above for a number, and the strip's height."""
    large = maps.repeat(factor, axis=1).repeat(factor, axis=2)
    strip = max(6, round(height * large.shape[1]))
    pad = [(0, 0), (strip, 0), *[(0, 0)] * (large.ndim - 2)]
    return np.pad(large, pad, constant_values=fill), strip


def _draw_profile(found: Activations, chosen: list[int], which: str, note: str) -> Figure:
    """Of a fully connected stage: all values in order of size, and bars of the chosen units."""
    values = found.values[:, 0, 0]
    firing = int((values > 0).sum())
    title = f"{found.stage}: {firing:,} of {len(values):,} units {found.fires}, {100 * found.firing:.0f} %"
    height = max(4.9, 0.21 * len(chosen) + 1.2)
    figure, (left, middle, right) = drawing.new_figure(14.0, height, 1, 3, title, note)
    show_image(left, found.rgb, crop_words(found.seen))
    left.set_axis_off()
    left.set_anchor("N")
    ordered, places = np.sort(values)[::-1], np.arange(1, len(values) + 1)
    middle.plot(places, ordered, color=COLOURS[0], linewidth=1.8)
    middle.fill_between(places, ordered, 0, color=COLOURS[0], alpha=0.2)
    middle.axhline(0, color="0.3", linewidth=0.8)
    middle.axvline(firing, color=COLOURS[1], linestyle="--", linewidth=1.2)
    # On the side of the line where there is more room, and above the curve.
    leftmost = firing < len(values) / 2
    above = "fire" if found.rectified else "are above 0"
    middle.annotate(f"{firing:,} of {len(values):,}\n{above}", (firing, 0.97), (6 if leftmost else -6, 0),
                    xycoords=middle.get_xaxis_transform(), textcoords="offset points", va="top",
                    ha="left" if leftmost else "right", color=COLOURS[1], fontsize=14)  # fmt: skip
    middle.set_xlim(0, len(values))
    middle.set_xlabel("units, in order of their value")
    middle.set_ylabel("value")
    set_title(middle, "the values of all units, the largest first")
    _draw_bars(right, found, chosen)
    kind = "classes" if found.names else "units by number"
    set_title(right, f"{kind}: {which}" if len(chosen) < len(values) else f"all {kind}")
    return figure


def _draw_bars(axes: Axes, found: Activations, chosen: list[int]) -> None:
    """One bar for each unit with its number, and its class where it has one; the first on top."""
    labels = [
        (f"{cut_middle(found.names[unit], 26)}  " if found.names else "") + f"{unit}" for unit in chosen
    ]
    places = np.arange(len(chosen))
    axes.barh(places, found.values[chosen, 0, 0], color=COLOURS[0], height=0.75)
    if found.rectified:
        axes.set_xlim(0, 1.05 * float(found.largest.max()) or 1)  # all units named may give 0
    axes.set_yticks(places, labels, fontsize=9, parse_math=False)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", alpha=0.3, linewidth=0.5)
    axes.set_xlabel("value")
    axes.set_ylabel("class and unit" if found.names else "unit")
