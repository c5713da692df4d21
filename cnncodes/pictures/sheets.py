"""Sheets of small images: tiles and thumbnails, and a colour, a mark and a legend for each class."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.compute import available_cores
from cnncodes.images.loader import Loader
from cnncodes.pictures import drawing
from cnncodes.pictures.drawing import cut_middle, legend_name, plain
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnncodes.images.decode import Source
    from cnncodes.pictures.drawing import Array, Axes, Bytes, Figure

NO_CLASS = (150, 150, 150)
NAMED = 30  # classes in a legend
LONGEST_NAME = 28  # characters
NUMBERED = 4  # classes that a note explains
PLACED = 7  # classes with a colour of their own in an image; the rest share one
STRENGTH = 0.6  # of the colours over the image
#: Of Okabe and Ito (2008), in an order in which the first are as different as can be.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9", "#F0E442")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
BATCH = 64
GREY, CROSS = 205, 140  # of the tile of an image that cannot be read


def class_colours(count: int) -> Bytes:
    """Colours of ``count`` classes, uint8 ``[count, 3]``: chosen ones for up to eight, else evenly spaced hues."""
    if count <= len(COLOURS):
        return np.frombuffer(bytes.fromhex("".join(COLOURS[:count]).replace("#", "")), np.uint8).reshape(
            -1, 3
        )
    # Neighbouring hues differ in lightness, too.
    hues = [colorsys.hls_to_rgb(k / count, (0.38, 0.72, 0.55)[k % 3], 0.65) for k in range(count)]
    return np.asarray(np.round(255 * np.array(hues)), np.uint8)


def class_mark(place: int, count: int) -> str:
    """The mark of a class (-1: none) in a scatter plot: discs for up to eight classes, else all kinds in turn."""
    return MARKS[0] if place < 0 or count <= len(COLOURS) else MARKS[place % len(MARKS)]


def label_colours(classes: int) -> Bytes:
    """Colours to be indexed by labels, uint8 ``[classes + 1, 3]``: grey comes last, where label -1 finds it."""
    return np.concatenate([class_colours(classes), np.array([NO_CLASS], np.uint8)])


def class_names(classes: Sequence[str]) -> list[str]:
    """Names of classes as pictures write them: ``class 2`` (from 0) where no font has the characters; see :func:`unwritten`."""
    names = map(plain, classes)
    return [name if drawing.drawable(name) == name else f"class {place}" for place, name in enumerate(names)]


def unwritten(classes: Sequence[str]) -> str:
    """Which classes :func:`class_names` numbers, with the escapes of their names; empty where all are written."""
    entries = [
        f"{number} is {cut_middle(name, 2 * LONGEST_NAME)}"
        for name, number in zip(classes, class_names(classes), strict=True)
        if number != plain(name)
    ]
    more = f" and {len(entries) - NUMBERED:,} more" if len(entries) > NUMBERED else ""
    return f"{'; '.join(entries[:NUMBERED])}{more}: no font here has these characters." if entries else ""


class Legend:
    """Classes with their colours, as many columns as fit, for the foot of a sheet of ``width`` pixels.

    ``labels`` ``[N]`` are those of the images that are drawn, -1 for none; of more than 30 classes the largest are named,
    with their images if ``counted``. ``lines`` is the height in lines of text.
    """

    def __init__(self, labels: Array, classes: Sequence[str], width: int, counted: bool = True) -> None:
        self.classes = len(classes)
        counts = np.bincount(labels + 1, minlength=len(classes) + 1)
        largest = [label for label in np.argsort(-counts[1:], kind="stable") if counts[label + 1]][:NAMED]
        self.labels = sorted(int(label) for label in largest) + ([-1] if counts[0] else [])
        written = [*class_names(classes), "no class"]
        self.names = [
            cut_middle(written[label], LONGEST_NAME) + (f" ({counts[label + 1]:,})" if counted else "")
            for label in self.labels
        ]
        self.more = int((counts[1:] > 0).sum()) - len(largest)
        if self.more:
            self.names.append(f"and {self.more:,} more classes")
        inches, size = drawing.text_size(width)
        room = size * (0.5 * max(map(len, self.names)) + 2.6)  # points that a column needs
        self.columns = max(1, min(len(self.names), int(inches * 72 / room)))
        self.lines = 1.12 * math.ceil(len(self.names) / self.columns) + 0.3

    def draw(self, axes: Axes, size: float, marks: bool) -> None:
        """Draw it below, with the marks of a scatter plot, or squares."""
        colours = label_colours(self.classes) / 255
        area = (3.2 if marks else 6) * size
        handles = [
            axes.scatter(
                [], [], area, [colours[label]], marker=class_mark(label, self.classes) if marks else "s"
            )
            for label in self.labels
        ]
        if self.more:
            handles.append(axes.scatter([], [], 0))
        axes.figure.legend(
            handles, list(map(legend_name, self.names)), loc="upper left", ncols=self.columns, frameon=False, fontsize=size,
            bbox_to_anchor=(0, axes.get_position().y0), bbox_transform=axes.figure.transFigure,
            handletextpad=0.3, columnspacing=1.4, labelspacing=0.35, borderpad=0.2, borderaxespad=0.4,
        )  # fmt: skip


def class_sheet(
    size: tuple[int, int], title: str, note: str, legend: Legend | None, marks: bool = False
) -> tuple[Figure, Axes]:
    """A :func:`~cnncodes.pictures.drawing.new_sheet` of ``size`` (height and width) with a legend, if there is one."""
    figure, axes, text = drawing.new_sheet(size[1], size[0], title, legend.lines if legend else 0.0, note)
    if legend:
        legend.draw(axes, text, marks)
    return figure, axes


def draw_classes(
    figure: Figure,
    axes: Axes,
    rgb: Bytes,
    best: Array,
    on_pixels: np.ma.MaskedArray[Any, Any],
    names: Sequence[str],
) -> None:
    """Colour the image by the class that is the largest there, and name the commonest below with their shares.

    ``best`` is the class at each place, ``on_pixels`` the same at each pixel, masked where there is no place.
    """
    found, counts = np.unique(best, return_counts=True)
    named = found[np.argsort(-counts, kind="stable")[:PLACED]]
    place = np.full(len(names), len(named))
    place[named] = np.arange(len(named))
    colours = label_colours(len(named))
    shown = drawing.pale(rgb).astype(float)
    inside = ~np.ma.getmaskarray(on_pixels)
    over = colours[place[on_pixels.data[inside].astype(int)]]
    shown[inside] = (1 - STRENGTH) * shown[inside] + STRENGTH * over
    axes.imshow(shown.round().astype(np.uint8), interpolation="nearest")
    entries = [(drawing.short(names[k], 24), float((best == k).mean())) for k in named]
    if others := len(found) - len(named):
        rest = 1 - sum(part for _, part in entries)
        entries.append((f"{others} other class{'es' if others > 1 else ''}", rest))
    for (name, part), colour in zip(entries, colours, strict=False):
        label = legend_name(f"{name} {100 * part:.0f} %")
        axes.plot([], [], marker="s", markersize=10, linestyle="", color=colour / 255, label=label)
    figure.legend(loc="outside lower right", ncols=min(len(entries), 4), fontsize=11, frameon=False)


def tile_corners(count: int, height: int, width: int, columns: int | None = None, gap: int = 1) -> Array:
    """Upper left corners ``(x, y)`` of tiles side by side, row by row, int ``[count, 2]``; about as many columns as rows."""
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    places = np.arange(count)
    return np.stack([(places % columns) * (width + gap), (places // columns) * (height + gap)], axis=1)


def mosaic(tiles: Array, columns: int | None = None, gap: int = 1, fill: float = 255) -> Array:
    """Tiles ``[n, height, width]`` or ``[n, height, width, 3]`` at their :func:`tile_corners`, ``fill`` between them."""
    height, width = tiles.shape[1:3]
    corners = tile_corners(len(tiles), height, width, columns, gap)
    right, bottom = corners.max(axis=0) + np.array([width, height])
    out = np.full((bottom, right, *tiles.shape[3:]), fill, tiles.dtype)
    for tile, (x, y) in zip(tiles, corners, strict=True):
        out[y : y + height, x : x + width] = tile
    return out


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
    side = rgb.shape[1] + 2 * width
    out = np.broadcast_to(colours[:, None, None], (len(rgb), side, side, 3)).astype(np.uint8)
    out[:, width:-width, width:-width] = rgb
    return out
