"""How often the units of each layer fire, as bars, and what may be concluded from those that never did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.pictures.drawing import new_figure, plain, wrapped

if TYPE_CHECKING:
    from cnncodes.pictures.dead import Firing
    from cnncodes.pictures.drawing import Axes, Figure

#: Per cent of the images between "none" and "all", and what is said of the units in between.
EDGES = (10, 50)
LABELS = ("none", "up to 10 %", "10 to 50 %", "over 50 %", "all of them")
#: Dark grey for none, which is no alarm by itself; the more often, the darker the blue.
FILLS = ("#4d4d4d", "#d6e6f4", "#9dc5e3", "#4a90c4", "#0b4a86")
INKS = ("white", "black", "black", "white", "white")
SMALLEST = 0.045  # share of a layer from which on its number fits into the bar
WIDTH, LINE = 11.0, 118  # inches, and characters of a line of the foot in them


def draw_dead(firing: Firing) -> Figure:
    """One bar for each layer: the shares of its units that fired on none, on some and on all of the images."""
    stages = list(firing.counts)
    foot = wrapped(firing.meaning(), LINE)
    # In inches: title, legend and axis, then bars and foot. Bars stay apart from the words at any number of layers.
    height = 1.95 + 0.46 * len(stages) + 0.21 * len(foot)
    figure, (axes,) = new_figure(WIDTH, height)
    figure.suptitle(plain(firing.summary()), fontsize=15, x=0.01, ha="left", parse_math=False)
    _draw_bars(axes, firing, stages)
    axes.set_title(
        f"{plain(firing.weights)} on {plain(firing.data)}: on how many of the images does a unit fire?",
        fontsize=11, loc="left", pad=30, parse_math=False,
    )  # fmt: skip
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LABELS), fontsize=11, frameon=False,
        handlelength=1, handletextpad=0.5, columnspacing=1.6, borderaxespad=0.3,
    )  # fmt: skip
    figure.supxlabel("\n".join(foot), fontsize=11, x=0.01, ha="left", parse_math=False)
    return figure


def _draw_bars(axes: Axes, firing: Firing, stages: list[str]) -> None:
    shares = how_often(firing)
    places = np.arange(len(stages))
    left = np.zeros(len(stages))
    for share, label, fill, ink in zip(shares.T, LABELS, FILLS, INKS, strict=True):
        axes.barh(places, 100 * share, left=100 * left, color=fill, height=0.72, label=label)
        for place in np.flatnonzero(share >= SMALLEST).tolist():
            middle = 100 * (left[place] + share[place] / 2)
            axes.text(
                middle, place, f"{100 * share[place]:.0f} %", ha="center", va="center", fontsize=11, color=ink
            )
        left = left + share
    for place, stage in enumerate(stages):
        text = f"none: {len(firing.dead(stage)):,} of {len(firing.counts[stage]):,}"
        axes.text(101, place, text, va="center", fontsize=11)
    axes.set_yticks(places, stages, fontsize=12)
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.set_xlim(0, 122)  # room for the numbers behind the bars
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False)
    axes.spines["bottom"].set_bounds(0, 100)
    axes.set_xlabel("% of the layer's units", fontsize=11, loc="left")


def how_often(firing: Firing) -> npt.NDArray[np.float64]:
    """Share of each layer's units that fire on none, up to 10 %, 10 to 50 %, over 50 %, all of the images ``[stages, 5]``."""
    rows = []
    for counts in firing.counts.values():
        # whole numbers: no share falls on the wrong side of an edge
        places = 1 + sum((100 * counts > edge * firing.images).astype(np.int64) for edge in EDGES)
        places = np.where(counts == 0, 0, np.where(counts == firing.images, len(EDGES) + 2, places))
        rows.append(np.bincount(places, minlength=len(LABELS)) / len(counts))
    return np.array(rows)
