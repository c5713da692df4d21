"""Pictures: everything that ends as an image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.pictures.activations import Activations, draw_activations, read_activations
    from cnncodes.pictures.attribution import Attribution, attribute, attribute_all
    from cnncodes.pictures.attribution_picture import draw_attribution, draw_attributions
    from cnncodes.pictures.augmentation import Augmented, augment, augment_by
    from cnncodes.pictures.augmentation_drawing import draw_augment
    from cnncodes.pictures.curves import draw_curves
    from cnncodes.pictures.dead import Firing, count_firing
    from cnncodes.pictures.dead_drawing import draw_dead
    from cnncodes.pictures.dense import DenseMap, dense_map, draw_dense
    from cnncodes.pictures.drawing import save_png
    from cnncodes.pictures.filters import Filters, draw_filters, read_filters
    from cnncodes.pictures.fooling import Fooled, draw_fooled, fool
    from cnncodes.pictures.inversion import Inversions, invert
    from cnncodes.pictures.inversion_drawing import draw_inversions
    from cnncodes.pictures.map import codes_map
    from cnncodes.pictures.map_drawing import draw_map, draw_map_points
    from cnncodes.pictures.map_record import CodesMap, read_map
    from cnncodes.pictures.neighbours import Neighbours, find_neighbours
    from cnncodes.pictures.neighbours_drawing import draw_neighbours
    from cnncodes.pictures.occlusion import Occlusion, draw_occlusion, occlude
    from cnncodes.pictures.rates import draw_rates
    from cnncodes.pictures.sources import CodesSource, codes_for
    from cnncodes.pictures.strongest import Strongest, find_strongest
    from cnncodes.pictures.strongest_drawing import draw_strongest
    from cnncodes.pictures.subject import Subject, View, load_subject, view_of

_HOMES = {
    "Augmented": "augmentation",
    "augment": "augmentation",
    "augment_by": "augmentation",
    "draw_augment": "augmentation_drawing",
    "Filters": "filters",
    "Subject": "subject",
    "View": "subject",
    "draw_filters": "filters",
    "load_subject": "subject",
    "read_filters": "filters",
    "save_png": "drawing",
    "view_of": "subject",
    "Firing": "dead",
    "count_firing": "dead",
    "draw_dead": "dead_drawing",
    "Activations": "activations",
    "draw_activations": "activations",
    "read_activations": "activations",
    "Attribution": "attribution",
    "CodesMap": "map_record",
    "CodesSource": "sources",
    "codes_for": "sources",
    "DenseMap": "dense",
    "Fooled": "fooling",
    "Inversions": "inversion",
    "fool": "fooling",
    "invert": "inversion",
    "draw_fooled": "fooling",
    "draw_inversions": "inversion_drawing",
    "Neighbours": "neighbours",
    "Occlusion": "occlusion",
    "Strongest": "strongest",
    "attribute": "attribution",
    "attribute_all": "attribution",
    "codes_map": "map",
    "dense_map": "dense",
    "draw_dense": "dense",
    "draw_attribution": "attribution_picture",
    "draw_attributions": "attribution_picture",
    "draw_curves": "curves",
    "draw_map": "map_drawing",
    "draw_map_points": "map_drawing",
    "draw_neighbours": "neighbours_drawing",
    "draw_occlusion": "occlusion",
    "draw_rates": "rates",
    "draw_strongest": "strongest_drawing",
    "find_strongest": "strongest",
    "find_neighbours": "neighbours",
    "occlude": "occlusion",
    "read_map": "map_record",
}

__all__ = [
    "Activations",
    "Attribution",
    "Augmented",
    "CodesMap",
    "CodesSource",
    "DenseMap",
    "Filters",
    "Firing",
    "Fooled",
    "Inversions",
    "Neighbours",
    "Occlusion",
    "Strongest",
    "Subject",
    "View",
    "attribute",
    "attribute_all",
    "augment",
    "augment_by",
    "codes_for",
    "codes_map",
    "count_firing",
    "dense_map",
    "draw_activations",
    "draw_attribution",
    "draw_attributions",
    "draw_augment",
    "draw_curves",
    "draw_dead",
    "draw_dense",
    "draw_filters",
    "draw_fooled",
    "draw_inversions",
    "draw_map",
    "draw_map_points",
    "draw_neighbours",
    "draw_occlusion",
    "draw_rates",
    "draw_strongest",
    "find_neighbours",
    "find_strongest",
    "fool",
    "invert",
    "load_subject",
    "occlude",
    "read_activations",
    "read_filters",
    "read_map",
    "save_png",
    "view_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.pictures.{_HOMES[name]}"), name)
