"""Pictures: everything that ends as an image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.pictures.curves import draw_curves
    from cnncodes.pictures.map import codes_map
    from cnncodes.pictures.rates import draw_rates

_HOMES = {"codes_map": "map", "draw_curves": "curves", "draw_rates": "rates"}

__all__ = ["codes_map", "draw_curves", "draw_rates"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.pictures.{_HOMES[name]}"), name)
