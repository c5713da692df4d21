"""Images of a catalog as small squares, with a cross where one cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnncodes.codes.compute import available_cores
from cnncodes.images.decode import Source
from cnncodes.images.loader import Loader
from cnncodes.weights.preprocessing import Preprocessing

Bytes = npt.NDArray[np.uint8]

BATCH = 64
GREY, CROSS = 205, 140  # of the tile of an image that cannot be read


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Small squares.

    Parameters
    ----------
    rgb : uint8 array [n, side, side, 3]
        The central square of each image; a grey tile with a cross where it cannot be read.
    problems : dict of int to str
        Place in ``rgb`` -> reason, of those.
    """

    rgb: Bytes
    problems: dict[int, str]


def read_thumbnails(
    images: Sequence[Source], side: int, progress: Callable[[int], None] | None = None
) -> Thumbnails:
    """The central squares of images, ``side`` x ``side`` pixels, in the order given.

    Parameters
    ----------
    images : sequence of images
        Paths, or anything that :func:`cnncodes.images.decode.decode` takes.
    side : int
        Pixels.
    progress : callable(done), optional
        Called with the number of images that were read.
    """
    small = Preprocessing(resize=side, crop=side, decoding="reduced")
    batches = [range(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    rgb = np.empty((len(images), side, side, 3), np.uint8)
    problems: dict[int, str] = {}
    for batch in Loader(images, batches, small, workers=available_cores()):
        rgb[batch.rows[0] : batch.rows[-1] + 1] = batch.pixels[:, 0]
        problems |= batch.problems
        if progress:
            progress(batch.rows[-1] + 1)
    for place in problems:
        rgb[place] = crossed(side)
    return Thumbnails(rgb, problems)


def crossed(side: int) -> Bytes:
    """The tile of an image that cannot be read: grey with a cross, uint8 ``[side, side, 3]``."""
    tile = np.full((side, side, 3), GREY, np.uint8)
    y, x = np.mgrid[:side, :side]
    width = max(1, side // 24)
    tile[(abs(y - x) < width) | (abs(y + x - side + 1) < width)] = CROSS
    return tile


def framed(rgb: Bytes, colours: Bytes, width: int = 3) -> Bytes:
    """Squares ``[n, side, side, 3]`` with frames of ``width`` pixels around them, in colours ``[n, 3]``."""
    n, side = rgb.shape[:2]
    out = np.empty((n, side + 2 * width, side + 2 * width, 3), np.uint8)
    out[:] = colours[:, None, None]
    out[:, width : width + side, width : width + side] = rgb
    return out
