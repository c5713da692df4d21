"""Attributions as pictures: one method beside the image, or all side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnncodes.errors import OptionError
from cnncodes.pictures.drawing import add_colour_bar, new_panels
from cnncodes.pictures.overlay import show_around_grey, show_heat, show_heat_over, show_image

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Attribution
    from cnncodes.pictures.drawing import Axes, Figure, ScalarMappable

PER_LEVEL = "change of the score per 1,000 grey levels"
_COLOURED = {"guided": "guided backpropagation", "deconv": "deconvolution"}


def draw_attribution(attribution: Attribution) -> Figure:
    """One method beside the image, with a colour bar where numbers are drawn as heat."""
    question, method = attribution.question, attribution.method
    panels = 3 if method == "saliency" else 2
    figure, axes = new_panels(columns=panels, cell=4.0, title=question.title, aspect=0.9)
    show_image(axes[0], question.rgb, "the image, as the network sees it")
    if method == "saliency":
        strength = 1000 * attribution.strength
        show_heat(axes[1], strength, "saliency: largest |gradient| of R, G, B")
        heat = show_heat_over(axes[2], question.rgb, strength, "the same over the image")
        add_colour_bar(figure, heat, axes[2], f"{PER_LEVEL} (cut at 99.5 %)")
    else:
        found = _draw(axes[1], attribution)
        if found is not None:
            add_colour_bar(figure, found, axes[1], f"weighted sum of the maps of {attribution.layer}")
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
    figure, axes = new_panels(columns=len(attributions) + 1, cell=2.6, title=question.title)
    show_image(axes[0], question.rgb, "the image")
    for place, attribution in zip(axes[1:], attributions, strict=True):
        if attribution.method == "saliency":
            show_heat(place, attribution.strength, "saliency: |gradient|")
        else:
            _draw(place, attribution)
    return figure


def _draw(axes: Axes, attribution: Attribution) -> ScalarMappable | None:
    if attribution.method != "gradcam":
        title = f"{_COLOURED[attribution.method]}, grey is 0"
        show_around_grey(axes, attribution.values, title)
        return None
    nothing = not attribution.values.any()
    title = f"Grad-CAM of {attribution.layer}" + (": nothing speaks for the class" if nothing else "")
    return show_heat_over(axes, attribution.question.rgb, attribution.values, title, cut=False)
