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

WIDE = 13.2  # inches of the picture
HIGH = 6.0  # inches of a panel, at most
NOTES = 4.6  # inches that the notes have beside a legend
STACKED = 3.0  # how many times as wide as high an image is whose panels stand one above another
HEADING, TITLE, SMALL = 15, 12, 11  # points
WARNING = "#B00020"
NOT_ASKED = "no window has its middle here"


def draw_dense(found: DenseMap) -> Figure:
    """The image with the window where the class is surest, that class by place, and the largest class at each place.

    Where one class is the largest at all places, the title says it in place of the third panel. Below stand what somebody
    should beware of, how long it took, and the legend.
    """
    height, width = found.rgb.shape[:2]
    classes = len(np.unique(found.best))
    panels, ratio = (3 if classes > 1 else 2), width / height
    stacked = ratio > STACKED
    wide = min(max(2.6 * ratio, 10.4), WIDE) if stacked else min(max(panels * HIGH * ratio + 0.6, 9.5), WIDE)
    columns = 1 if stacked else panels
    figure, axes = new_panels(panels // columns, columns, cell=wide / columns)
    above = _head(figure, found, wide)
    legend_columns = max(1, int((wide - NOTES) / 2.85))
    entries = min(classes, NAMED + 1) if classes > 1 else 0
    notes = _notes(found, NOTES if entries else wide)
    foot = 0.15 + max(0.2 * len(notes), 0.26 * -(-entries // legend_columns))
    panel = ((wide - 0.9) / ratio + 0.42) if stacked else (wide / columns - 0.3) / max(ratio, 0.5) + 0.5
    tall = panel * (panels // columns) + above + foot
    figure.set_size_inches(wide, tall)
    figure.get_layout_engine().set(  # type: ignore[union-attr]
        rect=(0, foot / tall, 1, 1 - (foot + above) / tall), h_pad=0.08  # type: ignore[call-arg]
    )  # fmt: skip
    for text in figure.texts:  # the heading: from inches below the upper edge to a share of the height
        text.set_y(1 - text.get_position()[1] / tall)
    for place, (line, colour) in enumerate(notes):
        y = (foot - 0.08 - 0.2 * place) / tall
        figure.text(0.01, y, line, fontsize=SMALL, color=colour, va="top", parse_math=False)

    _draw_window(axes[0], found)
    _draw_class(figure, axes[1], found, stacked)
    if classes > 1:
        draw_classes(
            figure, axes[2], found.rgb, found.best, on_pixels(found, found.best), found.names,
            shares=True, size=TITLE, columns=legend_columns, where="lower right",
            no_answer=len(found.classes),
        )  # fmt: skip
        _shade_rim(axes[2], found)
        _title(axes[2], f"class with the largest {found.unit}\nin the window around each square", stacked)
    return figure


def _head(figure: Figure, found: DenseMap, wide: float) -> float:
    """Write the heading, its y in inches below the upper edge; the inches that it needs."""
    if len(np.unique(found.best)) == 1:
        name, at = found.names[int(found.best[0, 0])], f"at all {found.best.size} places"
        share = f"'{short(plain(name))}' {at}" if name in found.classes else f"{name} {at}"
    else:
        share = f"{found.describe()} of the places"
    text = f"Which class is where in {found.image}? {share} ({found.subject})"
    if found.unreliable:
        text = f"Unreliable here, as {100 * (1 - found.crops.agree):.0f} % of real crops say something else: {text}"
    y = 0.08
    for part, size, colour in (
        (text, HEADING, WARNING if found.unreliable else "black"),
        (f"{found.answer[0].upper()}{found.answer[1:]}. {found.drawn}", TITLE, "#333333"),
    ):
        for line in wrapped(part, int(wide * 72 / (0.53 * size))):
            figure.text(0.01, y, line, fontsize=size, color=colour, va="top", parse_math=False)
            y += 1.32 * size / 72
    return y + 0.05


def _notes(found: DenseMap, inches: float) -> list[tuple[str, str]]:
    """Lines below the panels with their colours: what to beware of, and how long it took."""
    characters = int(inches * 72 / (0.57 * SMALL))
    notes = [(line, WARNING) for note in found.cautions() for line in wrapped(f"Beware: {note}.", characters)]
    return notes + [(line, "#555555") for line in wrapped(_speed(found), characters)]


def _draw_class(figure: Figure, axes: Axes, found: DenseMap, stacked: bool) -> None:
    """One class by place, and the frame of the window where it is the surest."""
    values = found.values[found.place]
    axes.imshow(pale(found.rgb), interpolation="nearest")
    heat = axes.imshow(on_pixels(found, values), cmap=HEAT, alpha=0.8, interpolation="nearest")
    if found.unit == "probability":
        heat.set_clim(0, max(float(values.max()), 0.01))
    _shade_rim(axes, found)
    _outline(axes, found, found.crop, COLOURS[0], 1.5)
    name = short(plain(found.classes[found.place]), 24)
    _title(axes, f"{found.unit} of '{name}'\nin the window around each square", stacked)
    if not stacked:
        add_colour_bar(figure, heat, axes, found.unit)
    else:  # beside the panels that stand above one another, so that all stay as wide
        every = list(figure.axes)
        anchor = (0.0, 0.5 if len(every) == 3 else 0.0)
        figure.colorbar(
            heat, ax=every, fraction=0.03, pad=0.01, shrink=0.8 / len(every), aspect=8, anchor=anchor
        )
    bar = figure.axes[-1]
    bar.tick_params(labelsize=SMALL)
    bar.yaxis.label.set_fontsize(SMALL)
    if found.unit == "probability":
        low, high = heat.get_clim()
        ticks = (low, high) if stacked else (low, high / 2, high)
        bar.set_yticks(ticks, [f"{100 * tick:.{0 if tick >= 0.1 else 1}f} %" for tick in ticks])


def on_pixels(found: DenseMap, values: Array) -> np.ma.MaskedArray[Any, Any]:
    """Values by place as values by pixel: a square of ``step`` pixels around each window's middle; masked beyond."""
    start = round(found.first - found.step / 2 + 0.5)
    rows, columns = ((np.arange(length) - start) // found.step for length in found.rgb.shape[:2])
    inside = np.outer((rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1]))
    spread = values[rows.clip(0, values.shape[0] - 1)][:, columns.clip(0, values.shape[1] - 1)]
    return np.ma.masked_array(spread, ~inside)


def _draw_window(axes: Axes, found: DenseMap) -> None:
    """The image, the crop where the class is the surest, and the square in its middle where its answer is drawn."""
    height, width = found.rgb.shape[:2]
    axes.imshow(found.rgb, interpolation="nearest")
    _outline(axes, found, found.crop, COLOURS[0], 2.5)
    _outline(axes, found, found.step, COLOURS[1], 2.5)
    _title(
        axes,
        f"image at {width} x {height} px: what the frame holds\nis answered at the square in its middle",
        width > STACKED * height,
    )


def _outline(axes: Axes, found: DenseMap, side: int, colour: str, line: float) -> None:
    """A square around the middle of the window where the class is the surest."""
    row, column = np.unravel_index(found.values[found.place].argmax(), found.best.shape)
    left, top = np.array([column, row]) * found.step + found.first - side / 2
    across, down = left + side * np.array([0, 1, 1, 0, 0]), top + side * np.array([0, 0, 1, 1, 0])
    axes.plot(across, down, color="white", linewidth=2 * line)
    axes.plot(across, down, color=colour, linewidth=line)
    axes.set_xlim(-0.5, found.rgb.shape[1] - 0.5)
    axes.set_ylim(found.rgb.shape[0] - 0.5, -0.5)


def _shade_rim(axes: Axes, found: DenseMap) -> None:
    """Hatch what no window has its middle in, and say so: else the squares seem to point beside a thing at the rim."""
    height, width = found.rgb.shape[:2]
    inside = ~np.ma.getmaskarray(on_pixels(found, found.best))
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0] - 0.5, rows[-1] + 0.5, columns[0] - 0.5, columns[-1] + 0.5
    low, wide = height - 0.5, width - 0.5
    for x0, x1, y0, y1 in (
        (-0.5, wide, -0.5, top), (-0.5, wide, bottom, low), (-0.5, left, top, bottom), (right, wide, top, bottom)
    ):  # fmt: skip
        if x1 > x0 and y1 > y0:
            axes.fill(
                [x0, x1, x1, x0], [y0, y0, y1, y1], facecolor=(1, 1, 1, 0.2), edgecolor=(1, 1, 1, 0.6), hatch="/", linewidth=0
            )  # fmt: skip
    axes.text(
        0.015 * width, (bottom + low) / 2, NOT_ASKED, fontsize=SMALL - 1, ha="left", va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )  # fmt: skip


def _speed(found: DenseMap) -> str:
    rows, columns = found.values.shape[1:]
    places = f"{rows} x {columns} windows of {found.crop} px, {found.step} px apart"
    if found.sliding:
        return f"{places}, each computed as a crop, in {found.crops.seconds:.1f} s."
    return (
        f"{places}, computed together in {found.seconds:.1f} s; as single crops {found.crops.seconds:.1f} s."
    )


def _title(axes: Axes, text: str, one_line: bool) -> None:
    axes.set_title(
        text.replace("\n", " ") if one_line else text, fontsize=TITLE, loc="left", parse_math=False
    )
