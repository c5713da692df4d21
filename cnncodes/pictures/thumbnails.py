"""Small pictures as arrays: grids of tiles, thumbnails of a catalog's images, numbers as shades of grey."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cnncodes.codes.compute import available_cores
from cnncodes.images.decode import Source
from cnncodes.images.loader import Loader
from cnncodes.pictures.drawing import Array, Bytes
from cnncodes.weights.preprocessing import Preprocessing

BATCH = 64
GREY, CROSS = 205, 140  # of the tile of an image that cannot be read


def tile_corners(count: int, height: int, width: int, columns: int | None = None, gap: int = 1) -> Array:
    """Upper left corners ``(x, y)`` of tiles side by side, row by row, int ``[count, 2]``; about as many columns as rows."""
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    places = np.arange(count)
    return np.stack([(places % columns) * (width + gap), (places // columns) * (height + gap)], axis=1)


def mosaic(tiles: Array, columns: int | None = None, gap: int = 1, fill: float = 255) -> Array:
    """Tiles ``[n, height, width]`` or ``[n, height, width, 3]`` side by side, at their :func:`tile_corners`.

    Gaps and absent tiles are filled with ``fill``.
    """
    height, width = tiles.shape[1:3]
    corners = tile_corners(len(tiles), height, width, columns, gap)
    right, bottom = corners.max(axis=0) + np.array([width, height])
    out = np.full((bottom, right, *tiles.shape[3:]), fill, tiles.dtype)
    for tile, (x, y) in zip(tiles, corners, strict=True):
        out[y : y + height, x : x + width] = tile
    return out


def around_zero(values: Array) -> Bytes:
    """Each of n filters as bytes with zero in the middle (128): its largest magnitude becomes 1 or 255.

    So grey means "no weight" in pictures of filters (Krizhevsky et al. 2012, figure 3).
    """
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    scaled = 128 + 127 * values / np.where(largest > 0, largest, 1)
    return np.asarray(np.round(scaled), np.uint8)


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """The central squares of some images, in their order."""

    rgb: Bytes  # [n, side, side, 3]; a grey tile with a cross where an image cannot be read
    problems: dict[int, str]  # place in rgb -> reason, of those


def read_thumbnails(
    images: Sequence[Source], side: int, progress: Callable[[int], None] | None = None
) -> Thumbnails:
    """The central squares of images, ``side`` x ``side`` pixels; ``progress`` is called with the number that were read."""
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
