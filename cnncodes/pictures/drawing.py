"""How every picture of this project looks, and the one door to matplotlib.

Figures are made without pyplot: no global state, no window, no backend to choose.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # "as" hands the types on to the other modules of this room
    from matplotlib.axes import Axes as Axes
    from matplotlib.cm import ScalarMappable as ScalarMappable
    from matplotlib.figure import Figure as Figure

#: Colours that stay apart in print and for most colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS_PER_INCH = 144


def new_figure(
    width: float = 7.0, height: float = 4.5, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its axes, row by row, with the house's look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.set_prop_cycle(color=list(COLOURS))
        place.grid(visible=True, axis="y", alpha=0.3, linewidth=0.5)
    return figure, axes


def new_panels(
    rows: int = 1, columns: int = 1, cell: float = 2.6, title: str | None = None, aspect: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """A figure for images, ``rows`` x ``columns`` panels of ``cell`` inches (``cell * aspect`` high), without ticks.

    Axes come row by row; the title stands above all of them, at the left, broken into lines that fit.
    """
    from matplotlib.figure import Figure

    lines = textwrap.wrap(title, int(11 * columns * cell)) if title else []
    head = 0.1 + 0.2 * len(lines)
    figure = Figure(
        figsize=(columns * cell, rows * (cell * aspect + 0.3) + head), dpi=DOTS_PER_INCH, layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for place in axes:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=11, x=0.01, ha="left")
    return figure, axes


def add_colour_bar(figure: Figure, image: ScalarMappable, axes: Axes | list[Axes], label: str) -> None:
    """A colour bar beside the axes with the unit of its numbers."""
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    temporary = path.with_name(f"{path.name}.part")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path
