"""Many small pictures as one: grids of tiles, and numbers as shades of grey. Arrays in, arrays out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


def mosaic(tiles: Array, columns: int | None = None, gap: int = 1, fill: float = 255) -> Array:
    """Put tiles side by side, row by row.

    Parameters
    ----------
    tiles : array [n, height, width] or [n, height, width, 3]
    columns : int, optional
        By default about as many as rows.
    gap : int, default 1
        Pixels between tiles.
    fill : float, default 255
        What gaps and absent tiles are filled with.

    Returns
    -------
    array [rows * (height + gap) - gap, columns * (width + gap) - gap(, 3)]
        Of the tiles' dtype.
    """
    count, height, width = tiles.shape[:3]
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *tiles.shape[3:])
    out = np.full(shape, fill, tiles.dtype)
    for place, tile in enumerate(tiles):
        y, x = (place // columns) * (height + gap), (place % columns) * (width + gap)
        out[y : y + height, x : x + width] = tile
    return out


def tile_corners(count: int, height: int, width: int, columns: int | None = None, gap: int = 1) -> Array:
    """Upper left corners ``(x, y)`` of the tiles of :func:`mosaic`, int ``[count, 2]``, for labels and frames."""
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    places = np.arange(count)
    return np.stack([(places % columns) * (width + gap), (places // columns) * (height + gap)], axis=1)


def stretch(values: Array, each: bool = True) -> Bytes:
    """Numbers as bytes: the smallest becomes 0, the largest 255.

    Parameters
    ----------
    values : float array [n, ...]
    each : bool, default True
        Stretch every one of the n alone; otherwise all by the same numbers. What does not vary becomes 0.
    """
    axes = tuple(range(1 if each else 0, values.ndim))
    low = values.min(axis=axes, keepdims=True)
    span = values.max(axis=axes, keepdims=True) - low
    scaled = (values - low) / np.where(span > 0, span, 1)
    result: Bytes = np.round(255 * scaled).astype(np.uint8)
    return result


def around_zero(values: Array, each: bool = True) -> Bytes:
    """Numbers as bytes with zero in the middle (128): the largest magnitude becomes 1 or 255.

    So grey means "no weight" in pictures of filters (Krizhevsky et al. 2012, figure 3).
    """
    axes = tuple(range(1 if each else 0, values.ndim))
    largest = np.abs(values).max(axis=axes, keepdims=True)
    scaled = 128 + 127 * values / np.where(largest > 0, largest, 1)
    result: Bytes = np.round(scaled).astype(np.uint8)
    return result
