"""Attributions as pictures: one method beside the image, or all side by side, each with a legend in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnncodes.errors import OptionError
from cnncodes.pictures.drawing import add_colour_bar, add_ends_bar, new_panels, plain
from cnncodes.pictures.overlay import show_around_grey, show_heat, show_heat_over, show_image
from cnncodes.pictures.question import short

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Attribution
    from cnncodes.pictures.drawing import Axes, Figure

PER_LEVEL = "change of the score per 1,000 grey levels"
_COLOURED = {"guided": "guided backpropagation", "deconv": "deconvolution"}


def draw_attribution(attribution: Attribution) -> Figure:
    """One method beside the image, with a legend of its colours."""
    question, method = attribution.question, attribution.method
    panels = 3 if method == "saliency" else 2
    cell, aspect = (4.3, 0.94) if method == "saliency" else (3.7, 1.1)
    figure, axes = new_panels(columns=panels, cell=cell, title=question.heading, aspect=aspect)
    show_image(axes[0], question.rgb, "the image, as the network sees it")
    axes[0].set_anchor("N")
    if method == "saliency":
        strength = 1000 * attribution.strength
        show_heat(axes[1], strength, "saliency: largest |gradient| of R, G, B")
        heat = show_heat_over(axes[2], question.rgb, strength, "the same over the image")
        add_colour_bar(figure, heat, axes[2], f"{PER_LEVEL} (cut at 99.5 %)")
    else:
        _draw(figure, axes[1], attribution)
    return figure


def draw_attributions(attributions: Sequence[Attribution]) -> Figure:
    """Several methods side by side, all about one class in one image; each has its own scale.

    Raises
    ------
    OptionError
        If there is none.
    """
    if not attributions:
        raise OptionError("there is no attribution to draw.", "Give at least one.")
    question = attributions[0].question
    figure, axes = new_panels(columns=len(attributions) + 1, cell=3.1, title=question.heading, aspect=1.12)
    show_image(axes[0], question.rgb, "the image")
    axes[0].set_anchor("N")
    for place, attribution in zip(axes[1:], attributions, strict=True):
        _draw(figure, place, attribution)
    return figure


def _draw(figure: Figure, axes: Axes, attribution: Attribution) -> None:
    """One method with its legend below."""
    method, values = attribution.method, attribution.values
    name = short(plain(attribution.question.name), 24)
    if method == "saliency":
        heat = show_heat(axes, attribution.strength, "saliency: |gradient|")
        ends = {0.0: "not", float(heat.get_clim()[1] or 1): "most"}
        add_ends_bar(figure, heat, axes, "how much a pixel counts", ends)
    elif method == "gradcam":
        nothing = not values.any()
        title = f"Grad-CAM of {attribution.layer}" + (": nothing speaks for it" if nothing else "")
        heat = show_heat_over(axes, attribution.question.rgb, values, title, cut=False)
        ends = {0.0: "nothing", float(values.max()) or 1.0: "most"}
        add_ends_bar(figure, heat, axes, f"speaks for '{name}'", ends)
    else:
        scale = show_around_grey(axes, values, _COLOURED[method])
        ends = {-1.0: "darker", 0.0: "no matter", 1.0: "lighter"}
        add_ends_bar(figure, scale, axes, f"would speak more for '{name}'", ends)
