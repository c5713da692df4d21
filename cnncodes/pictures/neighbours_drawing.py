"""Neighbours as a picture: each query at the left, its nearest by codes, and its nearest by pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.pictures.colours import Legend, label_colours, unwritten
from cnncodes.pictures.confusion import shortened
from cnncodes.pictures.drawing import new_sheet, plain
from cnncodes.pictures.neighbours import DRAWN, PIXELS, Neighbour, Neighbours, Query
from cnncodes.pictures.thumbnails import Thumbnails, framed, read_thumbnails

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure

WIDTH = 2000  # pixels of the sheet, about; tiles are as large as that allows, between:
SMALLEST_TILE, LARGEST_TILE = 56, 160
FRAME = 1 / 18  # of the tile's side
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
    places = _Places.of(found)
    labels = [label for query in found.queries for label in _labels(query, places.k)]
    shown = np.array(labels, np.int32)
    legend = Legend(shown, found.catalog.classes, places.width, counted=False) if (shown >= 0).any() else None
    tiles = framed(thumbnails.rgb, label_colours(len(found.catalog.classes))[labels], _frame(places.tile))
    sheet = np.full((places.height, places.width, 3), 255, np.uint8)
    figure, axes, size = new_sheet(
        places.width, places.height, _title(found), legend.lines if legend else 0.0, _note(found)
    )
    _write_headings(axes, found, places)
    number = 0
    for row, query in enumerate(found.queries):
        top = places.line + row * places.step_y
        for left, caption in _captions(query, places):
            sheet[top : top + places.tile, left : left + places.tile] = tiles[number]
            number += 1
            (short,) = shortened([caption], max(6, int((places.tile + GAP) / (1.16 * places.text))))
            middle = top + places.tile + places.line / 2
            axes.text(left, middle, short, fontsize=places.text, va="center", parse_math=False)
    edges = (-0.5, places.width - 0.5, places.height - 0.5, -0.5)
    axes.imshow(sheet, interpolation="none", aspect="auto", extent=edges)
    if legend:
        legend.draw(axes, size, marks=False)
    return figure


@dataclass(frozen=True)
class _Places:
    """Where everything stands on the sheet, in pixels.

    Parameters
    ----------
    k : int
        Neighbours that are drawn in each block.
    tile : int
        Side of a thumbnail with its frame.
    text : float
        Size of the captions in points.
    line : int
        Height of a caption, and of the headings.
    lefts : tuple of int
        Left edges of the query and of the blocks.
    width, height : int
        Of the sheet.
    """

    k: int
    tile: int
    text: float
    line: int
    lefts: tuple[int, ...]
    width: int
    height: int

    @property
    def step_x(self) -> int:
        """From one tile to the next in a block."""
        return self.tile + GAP

    @property
    def step_y(self) -> int:
        """From one query to the next."""
        return self.tile + self.line + GAP

    @classmethod
    def of(cls, found: Neighbours) -> _Places:
        """The places of a query and one block, or two, if there are neighbours by pixels."""
        tile, k = _tile(found), min(found.k, DRAWN)
        text = float(np.clip(0.075 * tile, 8.0, 10.5))
        line, step, apart = round(2.6 * text), tile + GAP, tile // 3
        first = step + apart
        blocks = 2 if any(query.by_pixels for query in found.queries) else 1
        lefts = (0, *(first + block * (k * step + apart) for block in range(blocks)))
        height = line + len(found.queries) * (tile + line + GAP)
        return cls(k, tile, text, line, lefts, lefts[-1] + k * step - GAP, height)


def _labels(query: Query, k: int) -> list[int]:
    """Classes of the images in the order in which they are drawn."""
    return [query.label, *(answer.label for answer in query.by_codes[:k] + query.by_pixels[:k])]


def _captions(query: Query, places: _Places) -> list[tuple[int, str]]:
    """Left edge and caption of the images of a row, in the same order."""
    drawn = [(places.lefts[0], plain(PurePosixPath(query.name).stem))]
    for left, answers in zip(places.lefts[1:], (query.by_codes, query.by_pixels), strict=False):
        drawn += [
            (left + place * places.step_x, _caption(answer))
            for place, answer in enumerate(answers[: places.k])
        ]
    return drawn


def _write_headings(axes: Axes, found: Neighbours, places: _Places) -> None:
    room = int(places.k * places.step_x / (1.7 * places.text))  # characters
    heads = (
        "query",
        _fitting(room, f"nearest by {found.layer} codes", f"by {found.layer} codes", "codes"),
        _fitting(room, f"nearest by pixels at {PIXELS} x {PIXELS}", "nearest by pixels", "pixels"),
    )
    for left, head in zip(places.lefts, heads, strict=False):
        axes.text(
            left, places.line / 2, head, fontsize=1.25 * places.text, va="center", fontweight="bold",
            parse_math=False,
        )  # fmt: skip


def _caption(answer: Neighbour) -> str:
    if answer.copy:
        return "copy" if answer.distance < 0.0005 else f"copy, {answer.distance:.3f}"
    return f"{answer.distance:.3f}"


def _fitting(room: int, *texts: str) -> str:
    """The first text of at most ``room`` characters, else the last."""
    return next((text for text in texts if len(text) <= room), texts[-1])


def _title(found: Neighbours) -> str:
    """What is seen: how many neighbours are of the query's class, if that can be said, else what they are."""
    count = "nearest image" if found.k == 1 else f"{found.k} nearest"
    share = {by: found.share(by) for by in ("by_codes", "by_pixels")}
    parts = [
        f"{100 * value:.0f} % by {words}"
        for value, words in zip(share.values(), (f"{found.layer} codes", "pixels"), strict=True)
        if value is not None
    ]
    if parts:
        return f"Of the query's class among the {count}: {', '.join(parts)}"
    both = " and by pixels" if any(query.by_pixels for query in found.queries) else ""
    name = plain(found.catalog.root.name) or "/"
    return f"The {count} of {found.images:,} images of {name} by {found.layer} codes{both}"


def _note(found: Neighbours) -> str:
    """How the neighbours were found, and what the frames and numbers are."""
    note = (
        f"{found.images:,} images of {plain(found.catalog.root.name) or '/'}, weights {plain(found.weights)}. "
        f"Below each image its distance: of codes the {METRICS[found.metric]}"
        + (f" ({found.layer} is {found.choice})" if found.choice else "")
    )
    if any(query.by_pixels for query in found.queries):
        note += f"; of pixels the root mean square difference of {PIXELS} x {PIXELS} RGB (1 is black against white)"
    note += f". The first {DRAWN} are shown." if found.k > DRAWN else "."
    if found.share("by_codes") is not None:
        note += " The colour of the frame is the class."
    if found.unreadable:
        note += f" {found.unreadable:,} images cannot be read any more: not compared by pixels, crosses."
    return f"{note} {unwritten(found.catalog.classes)}".rstrip()


def _tile(found: Neighbours) -> int:
    columns = 1 + 2 * min(found.k, DRAWN)
    return int(np.clip(WIDTH / (columns + 0.67) - GAP, SMALLEST_TILE, LARGEST_TILE))


def _frame(tile: int) -> int:
    return max(3, round(FRAME * tile))
