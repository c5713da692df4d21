"""The strongest images as a picture: a row for each unit, the field cut out and drawn in the image."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cnncodes.pictures.colours import class_names, unwritten
from cnncodes.pictures.confusion import shortened
from cnncodes.pictures.drawing import new_sheet, plain
from cnncodes.pictures.strongest import Strongest
from cnncodes.pictures.thumbnails import crossed

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure

Bytes = npt.NDArray[np.uint8]

WIDTH = 2000  # pixels of the sheet, about; tiles are as large as that allows, between:
SMALLEST_TILE, LARGEST_TILE = 84, 200
GAP = 6  # pixels between tiles
HEADINGS = "what the unit sees", "where that is in the image"
SHORT_HEADINGS = "seen", "in the image"  # above a single tile
FRAME = (255, 214, 10)
DIMMED = 0.6  # brightness outside the field
DOT = 0.2  # of the crop's side: smaller fields are marked only, in the bright image
BLANK = (228, 228, 228)  # of a patch, beyond the border of the crop: no image has just this all over


def draw_strongest(found: Strongest) -> Figure:
    """A row for each unit, its strongest images from the left: the patches, and the crops that they were cut from.

    Where the field covers most of the crop, only the crops are drawn, with the field as a frame; fully connected
    stages see the whole crop.
    """
    small = found.is_small
    blocks = 2 if small else 1
    tile = int(np.clip((WIDTH - 150) / (blocks * found.k) - GAP, SMALLEST_TILE, LARGEST_TILE))
    text = float(np.clip(0.085 * tile, 8.0, 12.5 if small else 11.0))  # points, of the captions
    line = round(2.9 * text)  # pixels
    margin = round(16 * text)  # for the units' names
    step_x, step_y = tile + GAP, tile + line + 2 * GAP
    lefts = [margin, margin + found.k * step_x + tile // 4][:blocks]
    head = line if small else 0
    width, height = lefts[-1] + found.k * step_x - GAP, head + len(found.units) * step_y - GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    figure, axes, _ = new_sheet(width, height, _title(found), note=_note(found))
    if small:
        for left, heading in zip(lefts, HEADINGS if found.k > 1 else SHORT_HEADINGS, strict=True):
            axes.text(left, head / 2, heading, fontsize=1.2 * text, va="center", fontweight="bold")
    for place in range(len(found.units)):
        top = head + place * step_y
        _name_unit(found, place, axes, top + line + tile / 2, text)
        for rank in range(found.k):
            row = int(found.rows[place, rank])
            if row < 0:
                continue
            for number, (left, picture) in enumerate(
                zip(lefts, _tiles(found, place, rank, tile), strict=True)
            ):
                x = left + rank * step_x
                sheet[top + line : top + line + tile, x : x + tile] = picture
                room = max(6, int((tile + GAP) / (1.14 * text)))
                caption = _caption(found, place, rank, None if blocks == 1 else number, room)
                axes.text(x, top + line / 2 + 2, caption, fontsize=text, va="center", parse_math=False)
        if found.rows[place, 0] < 0:
            axes.text(
                margin, top + line + tile / 2, "no image excites this unit", fontsize=1.2 * text, va="center"
            )
    axes.imshow(sheet, interpolation="none", aspect="auto", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    return figure


def _name_unit(found: Strongest, place: int, axes: Axes, middle: float, text: float) -> None:
    """Number of a unit, its class if it has one, and on how many of the images it fires."""
    step = 2.6 * text
    lines = [f"unit {found.units[place]}"]
    if found.names:
        lines += shortened([plain(found.names[place])], 14)
    share = float(found.firing[place])
    often = "over 99" if 0.995 <= share < 1 else f"{100 * share:.0f}"  # 100 % is said of all images alone
    lines += [f"fires on {often} %"] if found.rectified else []
    for number, words in enumerate(lines):
        y = middle + (number - (len(lines) - 1) / 2) * step
        weight = "bold" if number == 0 else "normal"
        axes.text(0, y, words, fontsize=text * (1.15 if number == 0 else 0.9), va="center", fontweight=weight,
                  parse_math=False)  # fmt: skip


def _caption(found: Strongest, place: int, rank: int, block: int | None, room: int) -> str:
    """Value and class (else the file's name); in two blocks the value above the patch, the class above the crop.

    Of at most ``room`` characters: of a long name the middle is left out, the value stays.
    """
    row = int(found.rows[place, rank])
    value = f"{found.values[place, rank]:#.3g}".rstrip(".")  # 5.80, 12.3, 104
    label, name = found.catalog.labels[row], found.catalog.names[row]
    kind = class_names(found.catalog.classes)[label] if label >= 0 else PurePosixPath(name).stem
    (short,) = shortened([kind], room if block else max(6, room - len(value) - 2))
    return f"{value}  {short}" if block is None else (value, short)[block]


def _tiles(found: Strongest, place: int, rank: int, tile: int) -> list[Bytes]:
    """The patch, if it is small, and the crop with the field in it, ``[tile, tile, 3]`` each."""
    crop = found.crops.get(int(found.rows[place, rank]))
    if crop is None:
        return [crossed(tile)] * (2 if found.is_small else 1)
    if found.field is None:
        return [_resized(crop, tile, tile)]
    framed = _framed(crop, found.box(place, rank), tile)
    return [_patch(found, place, rank, crop, tile), framed] if found.is_small else [framed]


def _patch(found: Strongest, place: int, rank: int, crop: Bytes, tile: int) -> Bytes:
    """The field as large as the tile, ``[tile, tile, 3]``; blank where it leaves the crop."""
    assert found.field is not None
    field = found.field
    patch = np.full((tile, tile, 3), BLANK, np.uint8)
    top, bottom, left, right = found.box(place, rank)
    y, x = (field.start + field.jump * int(number) for number in found.places[place, rank])
    inner = [round(edge * tile / field.size) for edge in (top - y, bottom - y, left - x, right - x)]
    seen = _resized(crop[top:bottom, left:right], inner[1] - inner[0], inner[3] - inner[2])
    patch[inner[0] : inner[1], inner[2] : inner[3]] = seen
    return patch


def _framed(crop: Bytes, box: tuple[int, int, int, int], tile: int) -> Bytes:
    """A crop ``[tile, tile, 3]`` with the box's edge drawn: darker outside, unless the box is a mere dot."""
    picture = _resized(crop, tile, tile)
    top, bottom, left, right = (round(edge * tile / len(crop)) for edge in box)
    width = max(2, tile // 64)
    if (bottom - top) * (right - left) < (DOT * tile) ** 2:  # around the field, so that this can be seen
        top, left = max(top - width, 0), max(left - width, 0)
        bottom, right = min(bottom + width, tile), min(right + width, tile)
        _draw_edge(picture, (max(top - 1, 0), bottom + 1, max(left - 1, 0), right + 1), 1, (0, 0, 0))
        _draw_edge(picture, (top, bottom, left, right), width, FRAME)
        return picture
    out = (picture * DIMMED).astype(np.uint8)
    out[top:bottom, left:right] = picture[top:bottom, left:right]
    _draw_edge(out, (top, bottom, left, right), width, FRAME)
    return out


def _draw_edge(
    picture: Bytes, box: tuple[int, int, int, int], width: int, colour: tuple[int, int, int]
) -> None:
    """Draw the edge of a box (top, bottom, left, right) into a picture, inside the box."""
    top, bottom, left, right = box
    edge = np.zeros(picture.shape[:2], bool)
    edge[top:bottom, left:right] = True
    edge[top + width : bottom - width, left + width : right - width] = False
    picture[edge] = colour


def _resized(picture: Bytes, height: int, width: int) -> Bytes:
    """A picture in another size, bicubic."""
    values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    values = F.interpolate(values, size=(max(height, 1), max(width, 1)), mode="bicubic", antialias=True)
    return np.asarray(values[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


def _title(found: Strongest) -> str:
    images = f"{found.images:,} image{'' if found.images == 1 else 's'}"
    units = f"unit {found.units[0]}" if len(found.units) == 1 else f"{len(found.units)} units"
    return (
        f"What excites {units} of {found.stage} most, of {images} of {plain(found.catalog.root.name) or '/'}"
    )


def _note(found: Strongest) -> str:
    """What the numbers and the frames are, and which images stand in several rows."""
    side, value = found.side, "activation" if found.rectified else "value"
    text = f"Weights {plain(found.weights)}. Above each image"
    kind = "class" if (found.catalog.labels >= 0).any() else "name"
    whole = f"{side} x {side}"
    if found.field is None:
        text += f" the unit's {value} and the image's {kind}; the unit sees the whole crop of {whole} pixels."
    elif found.is_small:
        text += (
            f" the unit's {value}, and the image's {kind}. What the unit sees is {found.field.size} x {found.field.size} pixels"
            f" of {whole}, grey beyond the border."
        )
    else:
        text += (
            f" the unit's {value} there and the image's {kind}. The frame is what the unit sees: {found.field.size} x"
            f" {found.field.size} pixels, cut at the border of the crop ({whole})."
        )
    return " ".join(part for part in (text + _shared(found), unwritten(found.catalog.classes)) if part)


def _shared(found: Strongest) -> str:
    """How many images excite several of the units: rows that look alike may well be the same images."""
    images, counts = np.unique(found.rows[found.rows >= 0], return_counts=True)
    several = int((counts > 1).sum())
    if not several:
        return ""
    return f" {several:,} of the {len(images):,} images drawn excite{'s' if several == 1 else ''} several of the units."
