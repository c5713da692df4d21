"""How every picture of this project looks, and the one door to matplotlib.

Figures are made without pyplot: no global state, no window, no backend to choose.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # "as" hands the types on to the other modules of this room
    from matplotlib.axes import Axes as Axes
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
