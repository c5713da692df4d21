"""Pictures: everything that ends as an image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Attribution, attribute, attribute_all
    from cnncodes.pictures.attribution_picture import draw_attribution, draw_attributions
    from cnncodes.pictures.curves import draw_curves
    from cnncodes.pictures.map import codes_map
    from cnncodes.pictures.occlusion import Occlusion, draw_occlusion, occlude
    from cnncodes.pictures.rates import draw_rates

_HOMES = {
    "Attribution": "attribution",
    "Occlusion": "occlusion",
    "attribute": "attribution",
    "attribute_all": "attribution",
    "codes_map": "map",
    "draw_attribution": "attribution_picture",
    "draw_attributions": "attribution_picture",
    "draw_curves": "curves",
    "draw_occlusion": "occlusion",
    "draw_rates": "rates",
    "occlude": "occlusion",
}

__all__ = [
    "Attribution",
    "Occlusion",
    "attribute",
    "attribute_all",
    "codes_map",
    "draw_attribution",
    "draw_attributions",
    "draw_curves",
    "draw_occlusion",
    "draw_rates",
    "occlude",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.pictures.{_HOMES[name]}"), name)
