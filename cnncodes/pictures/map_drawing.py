"""The map of codes as pictures: the images themselves on a grid, and a point for each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.pictures.colours import Legend, class_mark, label_colours, unwritten
from cnncodes.pictures.drawing import new_sheet, plain
from cnncodes.pictures.grid import LARGEST, grid_places, grid_shape
from cnncodes.pictures.map_record import NEIGHBOURS, CodesMap, evenly
from cnncodes.pictures.thumbnails import Thumbnails, framed, read_thumbnails

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure

Bytes = npt.NDArray[np.uint8]

WIDTH = 2400  # pixels that a grid of many images is wide; of few, tiles are at most this large:
SMALLEST_TILE, LARGEST_TILE = 36, 128
#: Of the tile's side, and pixels at least. Tiles touch, so that frames of one class grow together to a region: that
#: is seen at a glance, when each frame alone is too thin to be.
FRAME, THINNEST = 1 / 12, 4
GAP = 1  # pixels around each image, in white, where there are no classes to be told
POINTS_WIDTH, POINTS_HEIGHT = 1440, (640, 1050)  # pixels of the map of points


@dataclass(frozen=True, eq=False)
class Grid:
    """Images of a map on a grid.

    Parameters
    ----------
    shown : int array [n]
        Places in the map of the images that are drawn.
    cells : int array [n, 2]
        Row and column of each; no two are the same.
    rows, columns : int
    tile : int
        Side of one cell in pixels, with its frame.
    labelled : bool
        Whether any image has a class, which its frame tells.
    """

    shown: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    rows: int
    columns: int
    tile: int
    labelled: bool

    @property
    def frame(self) -> int:
        """Width of the frame in the colour of the class, in pixels."""
        return max(THINNEST, round(FRAME * self.tile)) if self.labelled else GAP

    @property
    def thumbnail(self) -> int:
        """Side of the image in a cell, in pixels."""
        return self.tile - 2 * self.frame


def arrange(found: CodesMap, largest: int = LARGEST) -> Grid:
    """A cell for each image of the map, by :func:`~cnncodes.pictures.grid.grid_places`.

    Of more than ``largest`` images, so many are drawn, spread evenly over the file.
    """
    shown = evenly(np.arange(len(found)), largest)
    rows, columns = grid_shape(len(shown))
    cells = grid_places(found.points[shown], rows, columns)
    tile = int(np.clip(WIDTH // columns, SMALLEST_TILE, LARGEST_TILE))
    return Grid(shown, cells, rows, columns, tile, bool((found.catalog.labels[shown] >= 0).any()))


def map_thumbnails(found: CodesMap, grid: Grid, progress: Callable[[int], None] | None = None) -> Thumbnails:
    """The images of a grid, in its order and as large as its cells; ``progress`` is told how many are read."""
    return read_thumbnails([str(found.catalog.path(place)) for place in grid.shown], grid.thumbnail, progress)


def draw_map(found: CodesMap, grid: Grid | None = None, thumbnails: Thumbnails | None = None) -> Figure:
    """The images themselves, framed in the colours of their classes.

    Parameters
    ----------
    found : CodesMap
    grid : Grid, optional
        By default that of :func:`arrange`.
    thumbnails : Thumbnails, optional
        By default those of :func:`map_thumbnails`.
    """
    grid = grid or arrange(found)
    thumbnails = thumbnails or map_thumbnails(found, grid)
    sheet = _sheet(found, grid, thumbnails)
    drawn = "Each" if len(grid.shown) == len(found) else f"{len(grid.shown):,} of them, each"
    cells = f"{drawn} in a cell of its own, near its place on the map."
    lost = len(thumbnails.problems)
    crosses = f"{lost:,} cannot be read any more (crosses)." if lost else ""
    height, width = sheet.shape[:2]
    legend = Legend(found.catalog.labels, found.catalog.classes, width) if grid.labelled else None
    note = _note(found, cells, crosses)
    figure, axes, size = new_sheet(width, height, _title(found), legend.lines if legend else 0.0, note)
    axes.imshow(sheet, interpolation="none", aspect="auto", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if legend:
        legend.draw(axes, size, marks=False)
    return figure


def _sheet(found: CodesMap, grid: Grid, thumbnails: Thumbnails) -> Bytes:
    """The grid itself, uint8 ``[rows * tile, columns * tile, 3]``; cells without an image are white."""
    colours = label_colours(len(found.catalog.classes))[found.catalog.labels[grid.shown]]
    if not grid.labelled:
        colours[:] = 255
    sheet = np.full((grid.rows * grid.tile, grid.columns * grid.tile, 3), 255, np.uint8)
    for tile, (row, column) in zip(framed(thumbnails.rgb, colours, grid.frame), grid.cells, strict=True):
        sheet[row * grid.tile :, column * grid.tile :][: grid.tile, : grid.tile] = tile
    return sheet


def draw_map_points(found: CodesMap) -> Figure:
    """A point for each image in the colour of its class."""
    low, span = found.points.min(axis=0), np.ptp(found.points, axis=0)
    width = POINTS_WIDTH
    height = int(np.clip(width * span[1] / (span[0] or 1.0), *POINTS_HEIGHT))
    legend = Legend(found.catalog.labels, found.catalog.classes, width)
    note = _note(found, "A point for each image.")
    figure, axes, size = new_sheet(width, height, _title(found), legend.lines, note)
    labels, classes = found.catalog.labels, len(found.catalog.classes)
    colours = label_colours(classes) / 255
    # Both axes in one scale: distances are what a map shows.
    room = 0.96 * min(
        side / length if length else 1.0 for side, length in zip((width, height), span, strict=True)
    )
    middle = low + span / 2
    x = width / 2 + (found.points[:, 0] - middle[0]) * room
    y = height / 2 - (found.points[:, 1] - middle[1]) * room
    area = float(np.clip(45_000 / len(found), 9, 80))
    # Classes take turns (in a fixed random order), so that the last does not cover all others.
    order = np.random.default_rng(0).permutation(len(found))
    for part in np.array_split(order, max(1, min(20, len(found) // 50))):
        for label in np.unique(labels[part]):
            chosen = part[labels[part] == label]
            mark = class_mark(int(label), classes)
            axes.scatter(
                x[chosen], y[chosen], area, colours[label][None], marker=mark, alpha=0.8,
                edgecolor="white", linewidth=0.4,
            )  # fmt: skip
    legend.draw(axes, size, marks=True)
    return figure


def _title(found: CodesMap) -> str:
    """What is seen: how far the classes lie apart, if that can be said, else of what this is a map."""
    name = plain(found.catalog.root.name) or "/"
    if found.purity is None:
        return f"{name}: images whose {found.layer} codes are alike lie close together"
    on_map, by_chance = round(100 * found.purity.on_map), round(100 * found.purity.by_chance)
    return f"{name}: {on_map} % of an image's {NEIGHBOURS} nearest on the map share its class ({by_chance} % by chance)"


def _note(found: CodesMap, *more: str) -> str:
    """How the map was made, and what a viewer should know before believing it."""
    part = f"{len(found):,} of {found.of:,}" if len(found) < found.of else f"{found.of:,}"
    split = f" (split {found.split})" if found.split != "all" else ""
    split += ", spread evenly over them," if len(found) < found.of else ""
    layer = f"{found.layer} codes" + (f" ({found.choice})" if found.choice else "")
    made = f"{part} images{split} by their {layer}, weights {plain(found.weights)}: {found.label}."
    codes = ""
    if found.purity is not None:
        codes = f"In the codes themselves, {round(100 * found.purity.in_codes)} % of the {NEIGHBOURS} nearest share the class."
    return " ".join(text for text in (made, *more, codes, unwritten(found.catalog.classes)) if text)
