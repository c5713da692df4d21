"""Why an image is nearly of one colour: 16-bit files of cameras that use the lower part of the range only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnncodes.images.decode import sixteen_bit_range

WHITE = 65_535  # of 16 bits


def colour_words(share: float, highest: int | None = None) -> str:
    """What is said of an image of one colour, and the cause, if it is that of :func:`highest_of_dark`."""
    words = f"{100 * share:.0f} % of it is one colour"
    return words if highest is None else f"{words}, a 16-bit image with values up to {highest:,} of {WHITE:,}"


def highest_of_dark(path: str | Path) -> int | None:
    """Largest value of a 16-bit image that uses a quarter of the range at most, as cameras of 10 to 14 bits write them.

    Decoded they are nearly black. None of any other image, and of one that is black throughout.
    """
    values = sixteen_bit_range(path)
    return values[1] if values is not None and 0 < values[1] < (WHITE + 1) // 4 else None


def stretch_words(named: int, highest: Sequence[int]) -> str:
    """How many of the images that are named as of one colour are dark 16-bit images, and what can be done."""
    if not highest:
        return ""
    count = f"{len(highest)} of the {named} named are 16-bit images" if named > 1 else "it is a 16-bit image"
    uses = "use" if named > 1 else "uses"
    factor = 2 ** (16 - max(highest).bit_length())
    return (
        f"; {count} that {uses} only values up to {max(highest):,} of {WHITE:,} and so nearly black: multiply all images by "
        f"{factor} first, such as with Pillow: Image.open(old).point(lambda value: value * {factor}).save(new)"
    )
