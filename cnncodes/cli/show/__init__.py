"""`cnncodes show`: one picture from each command. Those of one image (or none), those of many, and all of one."""

from __future__ import annotations

from collections.abc import Callable

from cnncodes.cli.show import many_images, one_image, slides

SUMMARY = """
Draw what a network sees.

Each command writes one picture, but for `all`, which writes every picture of one image.

    cnncodes show filters --weights starter
"""

COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("filters", one_image.filters),
    ("activations", one_image.activations),
    ("dead", many_images.dead),
    ("strongest", many_images.strongest),
    ("map", many_images.map_),
    ("occlude", one_image.occlude),
    *one_image.ATTRIBUTIONS.items(),
    ("invert", one_image.invert),
    ("fool", one_image.fool),
    ("neighbours", many_images.neighbours),
    ("dense", one_image.dense),
    ("augment", one_image.augment),
    ("all", slides.all_),
)
