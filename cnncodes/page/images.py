"""Images of the run as small files inside the page."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.images.decode import Picture, decode
from cnncodes.page.record import Bytes
from cnncodes.pictures.drawing import save_figure
from cnncodes.pictures.sheets import crossed, read_thumbnails

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure

CARD = 176  # pixels, a side of the images that stand alone
SHEET_QUALITIES = (62, 45, 30)  # of the map's thumbnails: the first with which they fit
LARGEST_FILE = 5_000_000  # bytes of all thumbnails of the map
MOST_PIXELS = 12_000_000  # pixels of all thumbnails of the map: telephones refuse images above 16 million


def tile_side(images: int) -> int:
    """Side of the map's thumbnails in pixels: as large as a sheet of all of them allows, 96 at most."""
    return int(min(96, max(24, math.sqrt(MOST_PIXELS / max(images, 1)))))


def on_screen(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places of a map ``[n, 2]`` in 0..1, y downwards."""
    span = np.ptp(points, axis=0)
    places: npt.NDArray[np.float64] = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    places[:, 1] = 1 - places[:, 1]
    return places


def read_images(
    files: Sequence[str], cards: Sequence[int], tiles: Sequence[int], progress: Callable[[int, int], None]
) -> tuple[dict[int, bytes], Bytes, dict[int, str]]:
    """Thumbnails of rows, each image decoded once; ``cards`` are rows that stand alone, ``tiles`` those on the map.

    Gives the WebP of each card that can be read, the tiles uint8 ``[tiles, side, side, 3]``, and why rows cannot be read.
    """
    side, on_map = tile_side(len(tiles)), set(tiles)
    alone, first = sorted(on_map - set(cards)), len(cards)
    total = first + len(alone)
    large = read_thumbnails([files[row] for row in cards], CARD, lambda done: progress(done, total))
    small = read_thumbnails([files[row] for row in alone], side, lambda done: progress(first + done, total))
    missing = {int(cards[place]): reason for place, reason in large.problems.items()}
    missing |= {int(alone[place]): reason for place, reason in small.problems.items()}
    drawn = {row: webp(large.rgb[place], 72) for place, row in enumerate(cards) if row not in missing}
    pixels = dict(zip(alone, small.rgb, strict=True))
    for row, rgb in zip(cards, large.rgb, strict=True):
        if row in on_map:
            pixels[row] = crossed(side) if row in missing else np.asarray(decode(rgb).resize((side, side)))
    sheet = np.stack([pixels[row] for row in tiles]) if len(tiles) else np.zeros((0, side, side, 3), np.uint8)
    return drawn, sheet, missing


def sheet_of(tiles: Bytes) -> tuple[Bytes, int]:
    """All tiles on one sheet, row by row, uint8 ``[height, width, 3]``, and how many stand in a row."""
    count, side = len(tiles), tiles.shape[1]
    columns = max(1, math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    sheet = np.full((rows, columns, side, side, 3), 255, np.uint8)
    sheet.reshape(-1, side, side, 3)[:count] = tiles
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3), columns


def one_file(tiles: Bytes) -> tuple[bytes, int, int]:
    """All tiles as one WebP file, as good as :data:`LARGEST_FILE` allows; their side, and how many stand in a row."""
    for quality in SHEET_QUALITIES:
        sheet, columns = sheet_of(tiles)
        image = webp(sheet, quality)
        if len(image) <= LARGEST_FILE:
            return image, tiles.shape[1], columns
    return one_file(tiles[:, ::2, ::2])


def webp(rgb: Bytes | Picture, quality: int) -> bytes:
    """An image, as uint8 ``[height, width, 3]`` or decoded, as a WebP file."""
    picture = decode(np.ascontiguousarray(rgb)) if isinstance(rgb, np.ndarray) else rgb
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=quality, method=4)
    return stream.getvalue()


def webp_of_figure(figure: Figure) -> tuple[bytes, int, int]:
    """A figure as a WebP file, with its width and height in pixels."""
    with tempfile.TemporaryDirectory() as folder:
        picture = decode(save_figure(figure, Path(folder) / "figure.png"))
    return webp(picture, 85), picture.width, picture.height
