"""The picture of `show dense`: one window and its square, the map of a class, and the class at each place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.pictures.class_map import NAMED, draw_classes
from cnncodes.pictures.drawing import COLOURS, add_colour_bar, new_panels, plain, wrapped
from cnncodes.pictures.overlay import HEAT, pale
from cnncodes.pictures.question import short

if TYPE_CHECKING:
    from cnncodes.pictures.dense import Array, DenseMap
    from cnncodes.pictures.drawing import Axes, Figure

CELL = 4.4  # inches of a panel
HEADING, TITLE, SMALL = 15, 12, 11  # points
LEGEND_COLUMNS = 3
WARNING = "#B00020"


def draw_dense(found: DenseMap) -> Figure:
    """The image with the window where the class is surest, that class by place, and the largest class at each place.

    Below stand what somebody should beware of, how long it took, and the legend.
    """
    height, width = found.rgb.shape[:2]
    heading = _lines(f"Which class is where in {found.image}? {found.describe()} of the places ({found.subject})",
                     3 * CELL, HEADING)  # fmt: skip
    notes = [
        (line, WARNING) for caution in found.cautions() for line in _lines(f"Beware: {caution}.", CELL, SMALL)
    ]
    notes += [(line, "#555555") for line in _lines(_speed(found), CELL, SMALL - 1)]
    entries = min(len(np.unique(found.best)), NAMED + 1)
    foot = 0.1 + max(0.2 * len(notes), 0.26 * -(-entries // LEGEND_COLUMNS))  # inches
    figure, axes = new_panels(columns=3, cell=CELL)
    above = 0.1 + 0.28 * len(heading)
    tall = CELL * max(height / width, 0.4) * 0.93 + 0.5 + above + foot
    figure.set_size_inches(3 * CELL, tall)
    figure.get_layout_engine().set(rect=(0, foot / tall, 1, 1 - foot / tall), h_pad=0.08)  # type: ignore[union-attr, call-arg]
    figure.suptitle("\n".join(heading), fontsize=HEADING, x=0.01, ha="left", parse_math=False)
    for place, (line, colour) in enumerate(notes):
        y = (foot - 0.08 - 0.2 * place) / tall
        figure.text(0.01, y, line, fontsize=SMALL, color=colour, va="top", parse_math=False)

    _draw_window(axes[0], found)
    name = short(plain(found.classes[found.place]), 24)
    axes[1].imshow(pale(found.rgb), interpolation="nearest")
    values = found.values[found.place]
    heat = axes[1].imshow(on_pixels(found, values), cmap=HEAT, alpha=0.8, interpolation="nearest")
    if found.unit == "probability":
        heat.set_clim(0, max(float(values.max()), 0.01))
    _title(axes[1], f"{found.unit} of '{name}'\nin the window around each square")
    add_colour_bar(figure, heat, axes[1], found.unit)
    for part in (bar := figure.axes[-1]).get_yticklabels():
        part.set_fontsize(SMALL)
    bar.yaxis.label.set_fontsize(SMALL)
    draw_classes(
        figure, axes[2], found.rgb, found.best, on_pixels(found, found.best), found.classes,
        shares=True, size=TITLE, columns=LEGEND_COLUMNS, where="lower right",
    )  # fmt: skip
    _title(axes[2], f"class with the largest {found.unit}\nin the window around each square")
    return figure


def on_pixels(found: DenseMap, values: Array) -> np.ma.MaskedArray[Any, Any]:
    """Values by place as values by pixel: a square of ``step`` pixels around each window's middle; masked beyond."""
    start = round(found.first - found.step / 2 + 0.5)
    rows, columns = ((np.arange(length) - start) // found.step for length in found.rgb.shape[:2])
    inside = np.outer((rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1]))
    spread = values[rows.clip(0, values.shape[0] - 1)][:, columns.clip(0, values.shape[1] - 1)]
    return np.ma.masked_array(spread, ~inside)


def _draw_window(axes: Axes, found: DenseMap) -> None:
    """The image, the crop where the class is the surest, and the square in its middle where its answer is drawn."""
    row, column = np.unravel_index(found.values[found.place].argmax(), found.best.shape)
    axes.imshow(found.rgb, interpolation="nearest")
    middle = np.array([column, row]) * found.step + found.first
    for side, colour in ((found.crop, COLOURS[0]), (found.step, COLOURS[1])):
        left, top = middle - side / 2
        across, down = left + side * np.array([0, 1, 1, 0, 0]), top + side * np.array([0, 0, 1, 1, 0])
        axes.plot(across, down, color="white", linewidth=5)
        axes.plot(across, down, color=colour, linewidth=2.5)
    axes.set_xlim(-0.5, found.rgb.shape[1] - 0.5)
    axes.set_ylim(found.rgb.shape[0] - 0.5, -0.5)
    height, width = found.rgb.shape[:2]
    _title(
        axes, f"image at {width} x {height} px: what the frame holds\nis answered at the square in its middle"
    )


def _speed(found: DenseMap) -> str:
    rows, columns = found.values.shape[1:]
    places = f"{rows} x {columns} windows of {found.crop} px, {found.step} px apart"
    rim = "No window has its middle near the rim."
    if found.sliding:
        return f"{places}, each computed as a crop, in {found.crops.seconds:.1f} s. {rim}"
    return f"{places}, computed together in {found.seconds:.1f} s; as single crops {found.crops.seconds:.1f} s. {rim}"


def _lines(text: str, inches: float, size: float) -> list[str]:
    """The text in lines that fit."""
    return wrapped(text, int(inches * 72 / (0.57 * size)))


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=TITLE, loc="left", parse_math=False)
