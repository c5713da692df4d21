"""What codes must beat: raw pixels, and a histogram of colours and edges.

Both read each image as Pillow resizes it to a square (its proportions are not kept), in RGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Loader
from cnncodes.weights.preprocessing import Preprocessing

Array = npt.NDArray[Any]

#: Name of each baseline, and what it is called in place of a layer.
BASELINES = {"pixels": "32 x 32 RGB", "histogram": "colours, edges"}

PIXEL_SIDE = 32
HISTOGRAM_SIDE = 128
COLOUR_LEVELS = 4  # of each channel: 4 * 4 * 4 colours
CELLS = 4  # along each side: 4 * 4 cells of edges
DIRECTIONS = 9  # of edges, over 180 degrees
_BATCH = 64


def baseline_features(
    catalog: Catalog, kind: str, *, workers: int = 2
) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Features of all images of a catalog.

    Parameters
    ----------
    catalog : Catalog
    kind : {"pixels", "histogram"}
        See :func:`pixels_of` and :func:`histogram_of`.
    workers : int, default 2
        Decoding threads.

    Returns
    -------
    features : float32 array [N, 3072] or [N, 208]
        Zeros for images that cannot be read.
    problems : dict of int to str
        Row and reason of those.
    """
    side, compute = (PIXEL_SIDE, pixels_of) if kind == "pixels" else (HISTOGRAM_SIDE, histogram_of)
    batches = [range(start, min(start + _BATCH, len(catalog))) for start in range(0, len(catalog), _BATCH)]
    loader = Loader(catalog, batches, Preprocessing(resize=side, crop=side, fit="squash"), workers=workers)
    parts, problems = [], {}
    for batch in loader:
        parts.append(compute(batch.pixels[:, 0]))
        problems.update(batch.problems)
    return np.concatenate(parts), problems


def pixels_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pixels uint8 [B, 32, 32, 3] as rows [B, 3072] from -1 (black) over 0 (middle grey) to 1 (white)."""
    return (images.reshape(len(images), -1) / np.float32(127.5) - 1).astype(np.float32)


def histogram_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A histogram of colours and one of edges, side by side and with equal weight.

    - Colours: the share of pixels in each of 4 x 4 x 4 boxes of RGB, its square root taken (so that
      the row has length 1 and rare colours count; Arandjelovic and Zisserman 2012), 64 numbers.
    - Edges: in each of 4 x 4 cells, the lengths of the grey values' gradients (central differences) summed
      over 9 directions of 20 degrees, light to dark and dark to light alike; each cell is brought to length 1
      and then all cells together. That is a histogram of oriented gradients (Dalal and Triggs 2005) without
      overlapping blocks or interpolation, 144 numbers.

    Parameters
    ----------
    images : uint8 array [B, H, W, 3]
        H and W are multiples of 4.

    Returns
    -------
    float32 array [B, 208]
    """
    return np.stack([np.concatenate([_colours(image), _edges(image)]) for image in images]).astype(np.float32)


def _colours(image: npt.NDArray[np.uint8]) -> Array:
    """Square roots of the shares of 64 colours."""
    level = (image // (256 // COLOUR_LEVELS)).astype(np.int64)
    colour = (level[..., 0] * COLOUR_LEVELS + level[..., 1]) * COLOUR_LEVELS + level[..., 2]
    shares = np.bincount(colour.ravel(), minlength=COLOUR_LEVELS**3) / colour.size
    return np.sqrt(shares)


def _edges(image: npt.NDArray[np.uint8]) -> Array:
    """Lengths of gradients by cell and direction."""
    grey = image.mean(axis=2)
    down, right = np.gradient(grey)
    length = np.hypot(down, right)
    direction = np.minimum((np.arctan2(down, right) % np.pi) * (DIRECTIONS / np.pi), DIRECTIONS - 1).astype(
        int
    )
    rows, columns = np.indices(grey.shape)
    cell = (rows * CELLS // grey.shape[0]) * CELLS + columns * CELLS // grey.shape[1]
    place = cell * DIRECTIONS + direction
    sums = np.bincount(place.ravel(), weights=length.ravel(), minlength=CELLS * CELLS * DIRECTIONS)
    cells = sums.reshape(CELLS * CELLS, DIRECTIONS)
    lengths = np.linalg.norm(cells, axis=1, keepdims=True)
    flat: Array = (cells / np.where(lengths > 0, lengths, 1)).ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-12)
