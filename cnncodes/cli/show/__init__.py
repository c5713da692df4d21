"""`cnncodes show`: see what the network sees. One file per command; their names and order are here."""

from __future__ import annotations

from collections.abc import Callable

from cnncodes.cli.show import (
    activations,
    attributions,
    augment,
    dead,
    dense,
    filters,
    fool,
    invert,
    neighbours,
    occlude,
    strongest,
)
from cnncodes.cli.show import map as map_command

SUMMARY = """
See what the network sees: one picture from each command.

    cnncodes show filters --weights starter
"""

COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("filters", filters.filters),
    ("activations", activations.activations),
    ("dead", dead.dead),
    ("strongest", strongest.strongest),
    ("map", map_command.map_),
    ("occlude", occlude.occlude),
    ("saliency", attributions.saliency),
    ("guided", attributions.guided),
    ("deconv", attributions.deconv),
    ("gradcam", attributions.gradcam),
    ("invert", invert.invert),
    ("fool", fool.fool),
    ("neighbours", neighbours.neighbours),
    ("dense", dense.dense),
    ("augment", augment.augment),
)
