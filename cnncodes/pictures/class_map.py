"""The class at each place of an image: colours over its pale picture, and a legend that names the commonest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.pictures.colours import NO_CLASS, class_colours
from cnncodes.pictures.drawing import legend_name, plain
from cnncodes.pictures.overlay import pale
from cnncodes.pictures.question import short

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
NAMED = 7  # classes with a colour of their own; the rest share one
NO_ANSWER = (225, 225, 225)
STRENGTH = 0.6  # of the colours over the image
LONGEST_NAME = 24  # characters


def commonest(best: Array, most: int = NAMED) -> tuple[Array, Array]:
    """The classes that are found at most places, commonest first, and the share of the places of each."""
    found, counts = np.unique(best, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return found[order], counts[order] / best.size


def draw_classes(
    figure: Figure,
    axes: Axes,
    rgb: Bytes,
    best: Array,
    on_pixels: np.ma.MaskedArray[Any, Any],
    names: Sequence[str],
    *,
    shares: bool = False,
    size: float = 9,
    columns: int = 4,
    where: Literal["outside lower right", "lower right"] = "outside lower right",
    no_answer: int | None = None,
) -> None:
    """Colour the image by the class that is the largest there, and name the classes below.

    Parameters
    ----------
    figure : Figure
        Gets the legend.
    axes : Axes
    rgb : uint8 array [height, width, 3]
    best : int array [rows, columns]
        The class at each place.
    on_pixels : masked int array [height, width]
        The class at each pixel; masked where there is no place.
    names : sequence of str
        Of all classes.
    shares : bool, default False
        Whether the legend says at how many of the places each class is found.
    size : float, default 9
        Of the legend's text, in points.
    columns : int, default 4
        Of the legend.
    where : {"outside lower right", "lower right"}
        Of the legend in the figure: below the panels, or over what is kept free for it.
    no_answer : int, optional
        Place among the names of what stands for no class; light grey.
    """
    named, parts = commonest(best)
    others = len(np.unique(best)) - len(named)
    place = np.full(len(names), len(named))
    place[named] = np.arange(len(named))
    colours = np.concatenate([class_colours(len(named)), np.array([NO_CLASS], np.uint8)])
    if no_answer is not None:
        colours[:-1][named == no_answer] = NO_ANSWER
    shown = pale(rgb).astype(float)
    inside = ~np.ma.getmaskarray(on_pixels)
    over = colours[place[on_pixels.data[inside].astype(int)]]
    shown[inside] = (1 - STRENGTH) * shown[inside] + STRENGTH * over
    axes.imshow(shown.round().astype(np.uint8), interpolation="nearest")
    entries = [(short(plain(names[k]), LONGEST_NAME), part) for k, part in zip(named, parts, strict=True)]
    if others:
        entries.append((f"{others} other class{'es' if others > 1 else ''}", 1 - parts.sum()))
    for (name, part), colour in zip(entries, colours, strict=False):
        label = legend_name(f"{name} {100 * part:.0f} %" if shares else name)
        axes.plot([], [], marker="s", markersize=size - 1, linestyle="", color=colour / 255, label=label)
    legend = figure.legend(loc=where, ncols=min(len(entries), columns), fontsize=size, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
