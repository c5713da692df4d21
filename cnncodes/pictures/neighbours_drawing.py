"""Neighbours as a picture: each query at the left, its nearest by codes, and its nearest by pixels."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.pictures.colours import Legend, label_colours
from cnncodes.pictures.confusion import shortened
from cnncodes.pictures.drawing import new_sheet, plain
from cnncodes.pictures.neighbours import DRAWN, PIXELS, Neighbour, Neighbours
from cnncodes.pictures.thumbnails import Thumbnails, framed, read_thumbnails

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure

WIDTH = 2000  # pixels of the sheet, about; tiles are as large as that allows, between:
SMALLEST_TILE, LARGEST_TILE = 56, 160
FRAME = 1 / 24  # of the tile's side
GAP = 6  # pixels between tiles
METRICS = {"cosine": "cosine distance", "l2": "Euclidean distance"}


def thumbnail_side(found: Neighbours) -> int:
    """Side in pixels of the thumbnails that :func:`draw_neighbours` wants."""
    tile = _tile(found)
    return tile - 2 * _frame(tile)


def draw_neighbours(found: Neighbours, thumbnails: Thumbnails | None = None) -> Figure:
    """A row for each query, as in Krizhevsky et al. 2012, figure 4, with the distance below each neighbour.

    Parameters
    ----------
    found : Neighbours
    thumbnails : Thumbnails, optional
        Of ``found.pictures``, :func:`thumbnail_side` pixels wide; by default they are read.
    """
    thumbnails = thumbnails or read_thumbnails(found.pictures, thumbnail_side(found))
    tile, k = _tile(found), min(found.k, DRAWN)
    small = float(np.clip(0.075 * tile, 8.0, 10.5))  # points, of the captions
    line = round(2.6 * small)  # pixels
    step_x, step_y = tile + GAP, tile + line + GAP
    apart = tile // 3
    lefts = [0, step_x + apart, step_x + apart + k * step_x + apart]  # of the query and the two blocks
    blocks = 3 if any(query.by_pixels for query in found.queries) else 2
    width = lefts[blocks - 1] + k * step_x - GAP
    height = line + len(found.queries) * step_y
    labels = [
        label
        for query in found.queries
        for label in (query.label, *(answer.label for answer in query.by_codes[:k] + query.by_pixels[:k]))
    ]
    legend = Legend(np.array(labels, np.int32), found.catalog.classes, width, counted=False)
    tiles = framed(thumbnails.rgb, label_colours(len(found.catalog.classes))[labels], _frame(tile))
    sheet = np.full((height, width, 3), 255, np.uint8)
    figure, axes, size = new_sheet(width, height, _title(found), legend.lines)
    room = int(k * step_x / (1.7 * small))  # characters of a heading
    heads = [
        "query",
        _fitting(room, f"nearest by {found.layer} codes", f"by {found.layer} codes", "codes"),
        _fitting(room, f"nearest by pixels at {PIXELS} x {PIXELS}", "nearest by pixels", "pixels"),
    ]
    for left, head in list(zip(lefts, heads, strict=True))[:blocks]:
        axes.text(
            left, line / 2, head, fontsize=1.25 * small, va="center", fontweight="bold", parse_math=False
        )
    places = iter(range(len(tiles)))
    for number, query in enumerate(found.queries):
        top = line + number * step_y
        drawn = [(lefts[0], plain(PurePosixPath(query.name).stem))]
        drawn += [
            (lefts[1] + place * step_x, _caption(answer)) for place, answer in enumerate(query.by_codes[:k])
        ]
        drawn += [
            (lefts[2] + place * step_x, _caption(answer)) for place, answer in enumerate(query.by_pixels[:k])
        ]
        for left, caption in drawn:
            sheet[top : top + tile, left : left + tile] = tiles[next(places)]
            (short,) = shortened([caption], max(6, int((tile + GAP) / (1.16 * small))))
            axes.text(left, top + tile + line / 2, short, fontsize=small, va="center", parse_math=False)
    axes.imshow(sheet, interpolation="none", aspect="auto", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    legend.draw(axes, size, marks=False)
    return figure


def _caption(answer: Neighbour) -> str:
    if answer.copy:
        return "copy" if answer.distance < 0.0005 else f"copy, {answer.distance:.3f}"
    return f"{answer.distance:.3f}"


def _fitting(room: int, *texts: str) -> str:
    """The first text of at most ``room`` characters, else the last."""
    return next((text for text in texts if len(text) <= room), texts[-1])


def _title(found: Neighbours) -> str:
    count = "nearest" if found.k == 1 else f"{found.k} nearest"
    text = (
        f"The {count} of {found.images:,} images of {plain(found.catalog.root.name) or '/'} by {found.layer} codes "
        f"({found.choice + '; ' if found.choice else ''}weights {plain(found.weights)}, {METRICS[found.metric]})"
    )
    if any(query.by_pixels for query in found.queries):
        text += f" and by pixels ({PIXELS} x {PIXELS} RGB; root mean square difference, 1 is black against white)"
    text += f"; the first {DRAWN} are shown." if found.k > DRAWN else "."
    shares = found.share("by_codes"), found.share("by_pixels")
    if shares[0] is not None and shares[1] is not None:
        text += f" Of the query's class (colour of the frame): {100 * shares[0]:.0f} % by codes, {100 * shares[1]:.0f} % by pixels."
    if found.unreadable:
        text += f" {found.unreadable:,} images cannot be read any more: not compared by pixels, crosses."
    return text


def _tile(found: Neighbours) -> int:
    columns = 1 + 2 * min(found.k, DRAWN)
    return int(np.clip(WIDTH / (columns + 0.67) - GAP, SMALLEST_TILE, LARGEST_TILE))


def _frame(tile: int) -> int:
    return max(2, round(FRAME * tile))
