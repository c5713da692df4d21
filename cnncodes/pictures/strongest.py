"""The images that excite a unit most, cut to its receptive field (Zeiler and Fergus 2014, figure 2).

One pass over the data, in which the best of each unit are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from cnncodes.codes import CodesFile
from cnncodes.codes.compute import available_cores
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.stream import settings_of
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CodesFileError, OptionError
from cnncodes.core.records import to_value
from cnncodes.images import Catalog
from cnncodes.images.loader import Loader
from cnncodes.networks import ReceptiveField, receptive_fields
from cnncodes.pictures import codes_source
from cnncodes.pictures.classifier import load_classifier
from cnncodes.pictures.codes_source import Blocks
from cnncodes.pictures.drawing import cut_middle, new_sheet, plain, show_sheet
from cnncodes.pictures.sheets import class_names, crossed, unwritten
from cnncodes.pictures.units import check_units
from cnncodes.weights import Weights

if TYPE_CHECKING:
    from cnncodes.evaluation.scores import Data
    from cnncodes.pictures.codes_source import PathLike
    from cnncodes.pictures.drawing import Array, Axes, Bytes, Figure

Box = tuple[int, int, int, int]  # top, bottom, left and right
Asked = tuple[int | Sequence[int], int | None]  # these units or so many, and how many images of each

MOST_UNITS, MOST_IMAGES = 24, 16  # of one picture
IMAGES, PAIRS = 9, 6  # of each unit, if nothing is asked for; pairs where what a unit sees is drawn as well
LARGE_FIELD = 0.6  # of the crop's side: from there only the crop is drawn, as a patch shows little else
CENTRE_CROP = {"mirror": 0, "ten": 4}  # which of the kept crops it is
WIDTH = 2000  # pixels of the sheet, about; tiles are as large as that allows, between:
SMALLEST_TILE, LARGEST_TILE = 84, 200
GAP = 6  # pixels between tiles
HEADINGS = "what the unit sees", "where that is in the image"
SHORT_HEADINGS = "seen", "in the image"  # above a single tile
FRAME = (255, 214, 10)
DIMMED = 0.6  # brightness outside the field
DOT = 0.2  # of the crop's side: smaller fields are marked only, in the bright image
BLANK = (228, 228, 228)  # of a patch, beyond the border of the crop: no image has just this all over


@dataclass(frozen=True, eq=False)
class Strongest:
    """The images that excite U units most, the strongest first."""

    weights: str  # name of the weights
    stage: str
    units: tuple[int, ...]  # in the order in which they are shown
    names: tuple[str, ...]  # classes of the units, where the stage is the classifier and they are known
    rectified: bool  # whether the units end in a ReLU, so that only what is above 0 excites them
    side: int  # of a crop in pixels
    field: ReceptiveField | None  # of the stage; None where each unit sees the whole crop
    catalog: Catalog  # all images that were looked at
    images: int  # how many of these could be read
    values: Array  # float32 [U, k], the largest over the places of an image; NaN where fewer than k excite the unit
    rows: Array  # int64 [U, k] of the catalog; -1 for none
    places: Array  # int64 [U, k, 2], row and column of the most excited place; of equal ones the first
    firing: Array  # [U], share of the images that give the unit more than 0
    crops: dict[int, Bytes]  # row -> RGB of the crop, of all images that are shown and can (still) be read
    problems: dict[str, str]  # name and reason of every image that cannot be read

    @property
    def is_small(self) -> bool:
        """Whether the units see so little of a crop that this is worth drawing beside it."""
        return _is_small(self.field, self.side)

    @property
    def k(self) -> int:
        """Images for each unit, at most."""
        return int(self.values.shape[1])

    def box(self, unit: int, rank: int) -> Box:
        """The receptive field inside the crop, in pixels; ``unit`` is a place in :attr:`units`."""
        if self.field is None:
            return 0, self.side, 0, self.side
        row, column = self.places[unit, rank]
        return *self.field.spans[row], *self.field.spans[column]

    def to_json(self) -> dict[str, Any]:
        """Settings, and for each unit its images with value, place and field."""
        units = []
        for place, unit in enumerate(self.units):
            named = {"class": self.names[place]} if self.names else {}
            images = [self._image(place, rank, row) for rank, row in enumerate(self.rows[place]) if row >= 0]
            units.append({"unit": unit, **named, "firing": self.firing[place], "strongest": images})
        size = self.field.size if self.field else self.side
        own = {"weights": self.weights, "stage": self.stage, "images": self.images}
        crops = {"crop": self.side, "receptive_field": size}
        found: dict[str, Any] = to_value({**own, **crops, "units": units, "unreadable": self.problems})
        return found

    def _image(self, place: int, rank: int, row: int) -> dict[str, Any]:
        label = self.catalog.labels[row]
        return {
            "image": self.catalog.names[row],
            "class": self.catalog.classes[label] if label >= 0 else None,
            "value": float(self.values[place, rank]),
            "place": self.places[place, rank] if self.field else None,
            "field": dict(zip(("top", "bottom", "left", "right"), self.box(place, rank), strict=True)),
        }


class Best:
    """The k strongest images of each of C units, kept while blocks of images come in the order of their rows.

    Where ``positive``, an image that gives a unit 0 does not excite it.
    """

    def __init__(self, units: int, k: int, positive: bool) -> None:
        self.values = np.full((units, k), -np.inf, np.float32)  # the strongest first
        self.rows = np.full((units, k), -1, np.int64)  # -1 where fewer than k excite a unit
        self.places = np.zeros((units, k), np.int64)
        self.firing = np.zeros(units, np.int64)  # images that give a unit more than 0
        self.count = 0  # images
        self._positive = positive
        self._sum, self._squares = np.zeros(units), np.zeros(units)

    def add(self, rows: Array, codes: Array) -> None:
        """Look at more images: rows ``[n]``, codes ``[n, C, places]``; equal values keep the order of rows."""
        if not len(rows):
            return
        places = codes.argmax(axis=2)
        values = np.take_along_axis(codes, places[..., None], axis=2)[..., 0].astype(np.float32)  # [n, C]
        self.count += len(values)
        self.firing += (values > 0).sum(axis=0)
        self._sum += values.sum(axis=0, dtype=np.float64)
        self._squares += np.square(values, dtype=np.float64).sum(axis=0)
        if self._positive:
            values = np.where(values > 0, values, -np.inf)
        rows = np.where(np.isfinite(values), rows[:, None], -1)
        kept = (self.values, self.rows, self.places)
        joined = [
            np.concatenate([old, new.T], axis=1)
            for old, new in zip(kept, (values, rows, places), strict=True)
        ]
        order = np.argsort(-joined[0], axis=1, kind="stable")[:, : self.values.shape[1]]
        self.values, self.rows, self.places = (np.take_along_axis(part, order, axis=1) for part in joined)

    def most_varying(self, count: int) -> list[int]:
        """Units whose largest activation in an image varies most over the images."""
        spread = self._squares - self._sum**2 / max(self.count, 1)
        return [int(unit) for unit in np.argsort(-spread, kind="stable")[:count]]


def find_strongest(
    data: Data,
    layer: str = "pool5",
    units: int | Sequence[int] = 6,
    *,
    weights: Weights | PathLike | None = None,
    network: str | None = None,
    k: int | None = None,
    split: str = "all",
    limit: int | None = None,
    root: PathLike | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Strongest:
    """The images, and the places in them, that excite units of a stage most; at most one place of each image.

    One pass, in which the best ``k`` of every unit are kept: memory does not grow with the number of images. Images
    that are equally strong come in the order of the catalog.

    Parameters
    ----------
    data : images, as :func:`cnncodes.images.read_catalog` takes them, the folder of a run, or a codes file that has the stage
    layer : str, default "pool5"
    units : int or sequence of int, default 6
        So many units, those whose strongest activations in an image vary most over the images; or which.
    k : int, optional
        Images for each unit: 9 by default, and 6 of a stage that sees little of a crop, whose pictures take two places.
    weights, network, split, limit, root, device, workers, progress
        As for :func:`~cnncodes.pictures.codes_source.codes_for`.

    Raises
    ------
    StageError, OptionError
        If there is no such stage, unit or split; or options do not go together.
    CatalogError, CodesFileError
        If there are no images, none can be read, or the codes have no such layer or no places.
    """
    codes_source.check_split(split, limit)
    if k is not None and not 1 <= k <= MOST_IMAGES:
        raise OptionError(f"{k} images for each unit cannot be shown.", f"Use 1 to {MOST_IMAGES}.")
    asked = (units, k)
    kind, path = codes_source.kind_of(data)
    if kind == "codes":
        if weights is not None:
            raise OptionError(
                f"'{path}' holds codes that were made already, so weights have no use.",
                "Leave --weights out, or give the images instead of the codes file.",
            )
        with CodesFile(path) as file:
            rows = codes_source.rows_of(file.catalog, None, split, limit)
            return _in_codes(file, layer, asked, rows, root, progress)
    codes_source.refuse_root(root)
    catalog, named = codes_source.images_for(data, None if isinstance(weights, Weights) else weights)
    if not isinstance(weights, Weights):
        weights = load_classifier(named, network=network, device=device).weights
    catalog = catalog.subset(codes_source.rows_of(catalog, None, split, limit))
    return _in_images(catalog, weights, layer, asked, Compute(device, workers, progress=progress))


def _in_images(catalog: Catalog, weights: Weights, layer: str, asked: Asked, compute: Compute) -> Strongest:
    network = weights.architecture
    settings = settings_of(weights, (network.select_one(layer),), len(catalog))
    if not network.stages:
        settings = replace(settings, pool="max")
    problems: dict[str, str] = {}
    blocks = codes_source.computed_blocks(catalog, weights, settings, compute, "looking", problems)
    classifies = settings.stages[0] == network.stage_names[-1] and network.classes
    names = weights.class_names() if classifies else None
    return _collect(settings, catalog, blocks, asked, problems, names or ())


def _in_codes(
    file: CodesFile, layer: str, asked: Asked, rows: Array, root: PathLike | None, progress: Progress
) -> Strongest:
    stage = file.settings.architecture.select_one(layer)
    file.read(stage, slice(0, 0))  # is it there?
    file.require_complete()
    settings = replace(file.settings, stages=(stage,))
    if settings.crops.endswith("-mean") and len(file.stage_shape(stage)) == 3:
        raise CodesFileError(
            f"'{file.path}' holds the mean of several crops ({settings.crops}), in which no place can be found.",
            "Give the images instead, or extract with --crops center.",
        )
    catalog = file.catalog.at(root).subset(rows)
    names = set(catalog.names)
    problems = {name: why for name, why in file.problems().items() if name in names}
    blocks = codes_source.stored_blocks(file, (stage,), rows, "looking", progress)
    return _collect(settings, catalog, blocks, asked, problems)


def _collect(
    settings: ExtractionSettings,
    catalog: Catalog,
    blocks: Blocks,
    asked: Asked,
    problems: dict[str, str],
    classes: Sequence[str] = (),
) -> Strongest:
    """Go over the blocks once, choose the units, and read what is shown of them."""
    stage = settings.stages[0]
    shape = settings.stage_shapes()[stage]
    units = asked[0]
    check_units(units, stage, shape[0], MOST_UNITS)
    side = settings.preprocessing.crop
    spatial = len(shape) == 3 and bool(settings.architecture.stages)  # else the fields are not known
    field = receptive_fields(settings.architecture, side)[stage.partition(":")[0]] if spatial else None
    rectified = settings.relu(stage)
    best = Best(shape[0], asked[1] or (PAIRS if _is_small(field, side) else IMAGES), positive=rectified)
    for rows, found in blocks:
        codes = found[stage] if found[stage].ndim == 2 else found[stage][:, CENTRE_CROP[settings.crops]]
        finite = np.isfinite(codes).all(axis=tuple(range(1, codes.ndim)))
        if not finite.all():  # else a unit has no strongest image
            raise CodesFileError(
                f"the code of '{catalog.names[rows[finite.argmin()]]}' holds NaN or infinity.",
                "Extract it again, or leave that image out; if it stays so, the weights are not sound.",
            )
        best.add(rows, codes.reshape(len(codes), shape[0], math.prod(shape[1:])))
    codes_source.refuse_unreadable(catalog, problems if not best.count else {})
    chosen = best.most_varying(units) if isinstance(units, int) else list(dict.fromkeys(units))
    rows = best.rows[chosen]
    crops, lost = _read_crops(catalog, np.unique(rows[rows >= 0]).tolist(), settings)
    return Strongest(
        settings.weights, stage, tuple(chosen), tuple(classes[unit] for unit in chosen) if classes else (), rectified, side,
        field, catalog, best.count, np.where(rows >= 0, best.values[chosen], np.float32(np.nan)), rows,
        np.stack(np.divmod(best.places[chosen], shape[2] if spatial else 1), axis=-1),
        best.firing[chosen] / best.count, crops, problems | lost,
    )  # fmt: skip


def _is_small(field: ReceptiveField | None, side: int) -> bool:
    return field is not None and field.size < LARGE_FIELD * side


def _read_crops(
    catalog: Catalog, rows: list[int], settings: ExtractionSettings
) -> tuple[dict[int, Bytes], dict[str, str]]:
    """RGB crops of rows, which are decoded once more, and name and reason of those that cannot be read."""
    crops: dict[int, Bytes] = {}
    problems: dict[str, str] = {}
    batches = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    for batch in Loader(catalog, batches, settings.preprocessing, workers=available_cores()):
        rgb = batch.pixels[:, 0, :, :, :: 1 if settings.preprocessing.channels == "RGB" else -1]
        for place, row in enumerate(batch.rows):
            if row in batch.problems:
                problems[catalog.names[row]] = batch.problems[row]
            else:
                crops[row] = np.ascontiguousarray(rgb[place])
    return crops, problems


def draw_strongest(found: Strongest) -> Figure:
    """A row for each unit, its strongest images from the left: the patches, and the crops that they were cut from.

    Where the field covers most of the crop, only the crops are drawn, with the field as a frame; fully connected
    stages see the whole crop.
    """
    small = found.is_small
    blocks = 2 if small else 1
    tile = int(np.clip((WIDTH - 150) / (blocks * found.k) - GAP, SMALLEST_TILE, LARGEST_TILE))
    text = float(np.clip(0.085 * tile, 8.0, 12.5 if small else 11.0))  # points, of the captions
    line, margin = round(2.9 * text), round(16 * text)  # pixels, of a caption and for the units' names
    step_x, step_y = tile + GAP, tile + line + 2 * GAP
    lefts = [margin, margin + found.k * step_x + tile // 4][:blocks]
    head = line if small else 0
    width, height = lefts[-1] + found.k * step_x - GAP, head + len(found.units) * step_y - GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    figure, axes, _ = new_sheet(width, height, _title(found), note=_note(found))
    if small:
        for left, heading in zip(lefts, HEADINGS if found.k > 1 else SHORT_HEADINGS, strict=True):
            axes.text(left, head / 2, heading, fontsize=1.2 * text, va="center", fontweight="bold")
    room = max(6, int((tile + GAP) / (1.14 * text)))
    for place in range(len(found.units)):
        top = head + place * step_y + line
        _name_unit(found, place, axes, top + tile / 2, text)
        for rank in range(int((found.rows[place] >= 0).sum())):
            pictures, captions = _tiles(found, place, rank, tile), _captions(found, place, rank, room)
            for left, picture, caption in zip(lefts, pictures, captions, strict=True):
                x = left + rank * step_x
                sheet[top : top + tile, x : x + tile] = picture
                axes.text(x, top - line / 2 + 2, caption, fontsize=text, va="center")
        if found.rows[place, 0] < 0:
            none = "no image excites this unit"
            axes.text(margin, top + tile / 2, none, fontsize=1.2 * text, va="center")
    show_sheet(axes, sheet)
    return figure


def _name_unit(found: Strongest, place: int, axes: Axes, middle: float, text: float) -> None:
    """Number of a unit, its class if it has one, and on how many of the images it fires."""
    lines = [f"unit {found.units[place]}", *([cut_middle(found.names[place], 14)] if found.names else [])]
    share = float(found.firing[place])
    often = "over 99" if 0.995 <= share < 1 else f"{100 * share:.0f}"  # 100 % is said of all images alone
    lines += [f"fires on {often} %"] if found.rectified else []
    for number, words in enumerate(lines):
        y = middle + (number - (len(lines) - 1) / 2) * 2.6 * text
        weight, size = ("bold", 1.15) if number == 0 else ("normal", 0.9)
        axes.text(0, y, words, fontsize=text * size, va="center", fontweight=weight)


def _captions(found: Strongest, place: int, rank: int, room: int) -> tuple[str, ...]:
    """Value and class (else the file's name), in ``room`` characters; of a small field one above each of its two tiles."""
    row = int(found.rows[place, rank])
    value = f"{found.values[place, rank]:#.3g}".rstrip(".")  # 5.80, 12.3, 104
    label, name = found.catalog.labels[row], found.catalog.names[row]
    kind = class_names(found.catalog.classes)[label] if label >= 0 else PurePosixPath(name).stem
    if found.is_small:
        return value, cut_middle(kind, room)
    return (f"{value}  {cut_middle(kind, max(6, room - len(value) - 2))}",)


def _tiles(found: Strongest, place: int, rank: int, tile: int) -> list[Bytes]:
    """The patch, if it is small, and the crop with the field in it, ``[tile, tile, 3]`` each."""
    crop, field = found.crops.get(int(found.rows[place, rank])), found.field
    if crop is None:
        return [crossed(tile)] * (2 if found.is_small else 1)
    picture = _resized(crop, tile, tile)
    if field is None:
        return [picture]
    box = found.box(place, rank)
    tiles = [_with_field(picture, tuple(round(edge * tile / found.side) for edge in box))]
    if found.is_small:
        top, bottom, left, right = box
        y, x = (field.start + field.jump * int(number) for number in found.places[place, rank])
        inner = [round(edge * tile / field.size) for edge in (top - y, bottom - y, left - x, right - x)]
        patch = np.full((tile, tile, 3), BLANK, np.uint8)  # what leaves the crop stays blank
        seen = _resized(crop[top:bottom, left:right], inner[1] - inner[0], inner[3] - inner[2])
        patch[inner[0] : inner[1], inner[2] : inner[3]] = seen
        tiles.insert(0, patch)
    return tiles


def _with_field(picture: Bytes, box: tuple[int, ...]) -> Bytes:
    """A picture with the box's edge drawn: darker outside, unless the box is a mere dot, which gets a frame around it."""
    tile = len(picture)
    top, bottom, left, right = box
    width = max(2, tile // 64)
    if (bottom - top) * (right - left) < (DOT * tile) ** 2:
        top, left = max(top - width, 0), max(left - width, 0)
        bottom, right = min(bottom + width, tile), min(right + width, tile)
        _draw_edge(picture, (max(top - 1, 0), bottom + 1, max(left - 1, 0), right + 1), 1, (0, 0, 0))
        out = picture
    else:
        out = (picture * DIMMED).astype(np.uint8)
        out[top:bottom, left:right] = picture[top:bottom, left:right]
    _draw_edge(out, (top, bottom, left, right), width, FRAME)
    return out


def _draw_edge(picture: Bytes, box: Box, width: int, colour: tuple[int, int, int]) -> None:
    """Draw the edge of a box into a picture, inside the box."""
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
    """What the numbers and the frames are, and how many images stand in several rows: such rows look alike."""
    value = "activation" if found.rectified else "value"
    kind = "class" if (found.catalog.labels >= 0).any() else "name"
    size = "the whole crop" if found.field is None else f"{found.field.size} x {found.field.size} pixels"
    frame = ", framed" if found.field and not found.is_small else ""
    note = f"Weights {plain(found.weights)}. Above: {value} and {kind}. A unit sees {size} of {found.side} x {found.side}{frame}."
    images, counts = np.unique(found.rows[found.rows >= 0], return_counts=True)
    if several := int((counts > 1).sum()):
        note += f" {several:,} of the {len(images):,} images drawn excite several of the units."
    return f"{note} {unwritten(found.catalog.classes)}".rstrip()
