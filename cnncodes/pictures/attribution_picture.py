"""Attributions as pictures: one method beside the image, or all together, each with a legend in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnncodes.errors import OptionError
from cnncodes.pictures.drawing import add_ends_bar, faded, new_panels, plain, wrapped
from cnncodes.pictures.overlay import opacity, show_around_grey, show_heat, show_heat_over, show_image
from cnncodes.pictures.question import short
from cnncodes.pictures.subject import crop_words

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Attribution
    from cnncodes.pictures.drawing import Axes, Figure

COUNTS = "how much the score depends on a pixel"
CELL, BELOW = 3.8, 0.6  # inches: width of a panel, and room for the legend below it
_COLOURED = {"guided": "guided backpropagation", "deconv": "deconvolution"}
#: How each is read, for the free place among all of them.
_HINTS = {
    "saliency": "Saliency: single pixels; noisy, and no sign.",
    "guided": "Guided backpropagation: clear patterns, but much the same for every class.",
    "deconv": "Deconvolution: patterns that the network likes; hardly where, or for which class.",
    "gradcam": "Grad-CAM: regions; coarse, but it can tell classes apart.",
}


def draw_attribution(attribution: Attribution) -> Figure:
    """One method beside the image, with a legend of its colours."""
    question, method = attribution.question, attribution.method
    panels = 3 if method == "saliency" else 2
    figure, axes = _panels(1, panels, question.heading)
    show_image(axes[0], question.rgb, crop_words(question.seen))
    _draw(figure, axes[1], attribution)
    if method == "saliency":
        over = show_heat_over(axes[2], question.rgb, attribution.strength, "the same over the image")
        top = float(over.get_clim()[1] or 1)
        add_ends_bar(figure, faded(over, opacity), axes[2], COUNTS, {0.0: "not at all", top: "most"})
    return figure


def draw_attributions(attributions: Sequence[Attribution]) -> Figure:
    """Several methods, three panels in a row, all about one class in one image; each has its own scale.

    Raises
    ------
    OptionError
        If there is none.
    """
    if not attributions:
        raise OptionError("there is no attribution to draw.", "Give at least one.")
    question = attributions[0].question
    count = len(attributions) + 1
    columns = min(count, 3)
    figure, axes = _panels(-(-count // columns), columns, question.heading)
    show_image(axes[0], question.rgb, crop_words(question.seen))
    for place, attribution in zip(axes[1:], attributions, strict=False):
        _draw(figure, place, attribution)
    if len(axes) > count:
        _draw_hints(axes[count], attributions)
    return figure


def _panels(rows: int, columns: int, heading: str) -> tuple[Figure, list[Axes]]:
    """Panels with room for a legend below each; images start at one height."""
    figure, axes = new_panels(rows, columns, CELL, heading, aspect=(CELL + BELOW) / CELL)
    for place in axes:
        place.set_anchor("N")
    return figure, axes


def _draw(figure: Figure, axes: Axes, attribution: Attribution) -> None:
    """One method with its legend below."""
    method, values = attribution.method, attribution.values
    name = short(plain(attribution.question.name), 24)
    if method == "saliency":
        heat = show_heat(axes, attribution.strength, "saliency: |gradient| of the score")
        top = float(heat.get_clim()[1] or 1)
        add_ends_bar(figure, heat, axes, COUNTS, {0.0: "not at all", top: "most"})
    elif method == "gradcam":
        nothing = not values.any()
        title = f"Grad-CAM of {attribution.layer}" + (": nothing speaks for it" if nothing else "")
        heat = show_heat_over(axes, attribution.question.rgb, values, title, cut=False)
        ends = {0.0: "not at all", float(values.max()) or 1.0: "most here"}
        add_ends_bar(figure, faded(heat, opacity), axes, f"speaks for '{name}'", ends)
    else:
        show_around_grey(axes, values, _COLOURED[method])
        legend = (  # both are nearly the same whichever class is asked for: the words promise no more
            f"grey: no influence; strong contrast or colour:\na pattern behind '{name}',\n"
            "much the same behind other classes"
        )
        axes.set_xlabel(legend, fontsize=10, loc="left", parse_math=False)


def _draw_hints(axes: Axes, attributions: Sequence[Attribution]) -> None:
    """A sentence for each method on how to read it, in a panel that is free."""
    axes.set_title("How to read them", fontsize=11, loc="left")
    lines = []
    for attribution in attributions:
        lines += [*wrapped(_HINTS[attribution.method], int(12 * CELL)), ""]
    axes.text(0, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=11, parse_math=False)
