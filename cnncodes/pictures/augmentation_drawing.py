"""The picture of `show augment`: each view a column, each step of what happens to it a row; many views as a sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.pictures.drawing import COLOURS, new_panels, plain, wrapped
from cnncodes.pictures.overlay import pale

if TYPE_CHECKING:
    from cnncodes.pictures.augmentation import Augmented, Bytes
    from cnncodes.pictures.drawing import Axes, Figure

IN_STEPS = 8  # views that have a column each; more are a sheet
WIDE = 13.2  # inches
HEADING, TITLE = 15, 12  # points
STRONGEST = 90  # levels that the strongest change of colour is amplified to
MOST_AMPLIFIED = 10
PALE = 0.35  # what is left of the grey outside a frame: of a few pixels, a pale rim would not be seen
STRIP = 0.35  # part of a view's height that the change of colour is shown for


def draw_augment(found: Augmented, whose: str = "") -> Figure:
    """Up to eight views step by step: cut, mirrored, and, if that is asked for, recoloured and by how much.

    Parameters
    ----------
    found : Augmented
    whose : str, optional
        Which training makes them, for the title: ``finetune --weights starter``.
    """
    by = f" ({plain(whose)})" if whose else ""
    text = f"What training makes of {plain(found.image)}{by}: {found.describe()}"
    if found.settings.mixup:
        text += "; mixup, which needs other images, is not shown"
    heading = wrapped(text, int(WIDE * 72 / (0.56 * HEADING)))
    figure = _steps(found, len(heading)) if len(found.views) <= IN_STEPS else _sheet(found, len(heading))
    figure.suptitle("\n".join(heading), fontsize=HEADING, x=0.01, ha="left", parse_math=False)
    return figure


def _steps(found: Augmented, lines: int) -> Figure:
    """A column for each view, a row for each step."""
    count = len(found.views)
    rows = 4 if found.recolours else 2
    columns = max(count, 4)  # a single view would be too large
    cell = WIDE / columns
    size = min(TITLE - 1, 4.2 * cell)  # points
    figure, axes = new_panels(rows, columns, cell=cell)
    heights = [1.0, 1.0, 1.0, STRIP][:rows]
    axes[0].get_gridspec().set_height_ratios(heights)  # type: ignore[union-attr]
    figure.set_size_inches(WIDE, 0.94 * cell * sum(heights) + 0.3 * rows + 0.28 * lines + 0.2)
    grid = np.array(axes, dtype=object).reshape(rows, columns)
    strips, factor = _amplified(found)
    for place in range(count):
        column = list(grid[:, place])
        _show_frame(column[0], found, place, size)
        _show(column[1], found.cut[place], "mirrored" if found.mirrored[place] else "not mirrored", size)
        if found.recolours:
            _show(column[2], found.views[place], _levels(found, place), size)
            _show(column[3], strips[place], "", size)
    names = ["where it is cut", "cut, mirrored" if found.settings.mirror else "cut"]
    names += ["recoloured", f"change\nx {factor:g}"] if found.recolours else []
    for row, name in enumerate(names):
        grid[row, 0].set_ylabel(name, fontsize=TITLE)
    for place in range(count, columns):
        for row in range(rows):
            grid[row, place].set_visible(False)
    return figure


def _sheet(found: Augmented, lines: int) -> Figure:
    """All views side by side, as the network gets them."""
    count = len(found.views)
    columns = math.ceil(math.sqrt(1.6 * count))
    rows = math.ceil(count / columns)
    cell = WIDE / columns
    figure, axes = new_panels(rows, columns, cell=cell)
    size = max(4.0, min(TITLE, 5 * cell))
    figure.set_size_inches(WIDE, rows * (0.96 * cell + 1.6 * size / 72) + 0.28 * lines + 0.2)
    for place, panel in enumerate(axes):
        if place < count:
            _show(
                panel, found.views[place], f"{place + 1}{' mirrored' if found.mirrored[place] else ''}", size
            )
        else:
            panel.set_visible(False)
    return figure


def _show_frame(axes: Axes, found: Augmented, place: int, size: float) -> None:
    """The square, nearly white outside the frame of one view."""
    left, top, right, bottom = found.frames[place]
    outside = (255 - PALE * (255 - pale(found.square).astype(float))).astype(np.uint8)
    rows, columns = slice(round(top), round(bottom)), slice(round(left), round(right))
    outside[rows, columns] = found.square[rows, columns]
    colour = COLOURS[place % 6]  # the seventh is black
    _show(axes, outside, f"{place + 1}: {_where(found, place)}", size)
    box = np.array([left, right, right, left, left]) - 0.5, np.array([top, top, bottom, bottom, top]) - 0.5
    axes.plot(*box, color="white", linewidth=4)
    axes.plot(*box, color=colour, linewidth=2.5)
    axes.set_xlim(-2, len(outside) + 1)
    axes.set_ylim(len(outside) + 1, -2)


def _where(found: Augmented, place: int) -> str:
    """How far a crop lies from the middle, or what part of the area it has."""
    if found.settings.crop_area < 1 and found.settings.random_crop:
        return f"{100 * found.area[place]:.0f} % of the square"
    left, top, right, bottom = found.frames[place]
    across, down = (round((a + b - len(found.square)) / 2) for a, b in ((left, right), (top, bottom)))
    parts = [f"{abs(across)} px {'right' if across > 0 else 'left'}"] if across else []
    parts += [f"{abs(down)} px {'down' if down > 0 else 'up'}"] if down else []
    return ", ".join(parts) or "in the middle"


def _levels(found: Augmented, place: int) -> str:
    """Mean change of each colour: ``red +7, green -3, blue +0``."""
    shift = zip(("red", "green", "blue"), found.shift[place], strict=True)
    return ", ".join(f"{name} {round(float(value)):+d}" for name, value in shift)


def _amplified(found: Augmented) -> tuple[Bytes, float]:
    """What colours changed by, around grey, of a strip in the middle of each view, and how many times as strong."""
    side = len(found.middle)
    top, height = round((1 - STRIP) / 2 * side), max(1, round(STRIP * side))
    change = (found.views.astype(np.float64) - found.cut)[:, top : top + height]
    strongest = float(np.abs(change).mean(axis=(1, 2)).max())
    factor = float(np.clip(np.floor(STRONGEST / max(strongest, 0.1)), 1, MOST_AMPLIFIED))
    return (128 + factor * change).round().clip(0, 255).astype(np.uint8), factor


def _show(axes: Axes, picture: npt.NDArray[np.uint8], text: str, size: float) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(text, fontsize=size, loc="left", parse_math=False)
