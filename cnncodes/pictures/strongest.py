"""The images that excite a unit most: one pass over the data, the best of each unit kept.

What a unit looks for is seen from what excites it: the images, cut to its receptive field (Zeiler and Fergus 2014,
figure 2; Girshick et al. 2014, figure 4).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes import CodesFile, Pipeline
from cnncodes.codes.compute import Encoder, available_cores, choose_device
from cnncodes.codes.file import DONE
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.errors import CatalogError, CodesFileError, OptionError, nearest
from cnncodes.evaluation.scores import is_codes, one_path
from cnncodes.images import Catalog
from cnncodes.images.catalog import SPLITS
from cnncodes.images.loader import Loader
from cnncodes.networks import ReceptiveField, receptive_fields
from cnncodes.pictures.best import Best, require_finite
from cnncodes.pictures.map_record import moved, rows_of
from cnncodes.pictures.sources import images_for
from cnncodes.pictures.subject import load_subject
from cnncodes.weights import Weights

if TYPE_CHECKING:
    from cnncodes.evaluation.scores import Data

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Progress = Callable[[int, int, int], None]
Blocks = Iterator[tuple[Array, Array]]

MOST_UNITS, MOST_IMAGES = 24, 16  # of one picture
IMAGES, PAIRS = 9, 6  # of each unit, if nothing is asked for; pairs where what a unit sees is drawn as well
LARGE_FIELD = (
    0.6  # of the crop's side: from there a patch shows little else than the crop, and only this is drawn
)
BLOCK_NUMBERS = 2**24  # read from a codes file at once
CENTRE_CROP = {"mirror": 0, "ten": 4}  # which of the kept crops it is


@dataclass(frozen=True, eq=False)
class Strongest:
    """The images that excite some units most, the strongest first.

    Parameters
    ----------
    weights : str
        Name of the weights.
    stage : str
    units : tuple of int
        U units, in the order in which they are shown.
    of_units : int
        How many the stage has.
    names : tuple of str
        Classes of the units, where the stage is the network's classifier and the weights name them; else empty.
    rectified : bool
        Whether the units end in a ReLU, so that only what is above 0 excites them.
    side : int
        Side of a crop in pixels.
    field : ReceptiveField or None
        Of the stage; None where it has no places and each unit sees the whole crop.
    catalog : Catalog
        All images that were looked at.
    images : int
        How many of these could be read.
    values : float32 array [U, k]
        Largest activation over the places of each image; NaN where there is no image: where a unit that ends in a
        ReLU fires on fewer than k.
    rows : int64 array [U, k]
        Rows of the catalog; -1 for none.
    places : int64 array [U, k, 2]
        Row and column of the most excited place; of equal ones the first.
    firing : float array [U]
        Share of the images that excite the unit, that is, give it more than 0.
    crops : dict of int to uint8 array [side, side, 3]
        Row of the catalog -> RGB of the crop, of all images that are shown and can (still) be read.
    problems : dict of str to str
        Name and reason of every image that cannot be read.
    """

    weights: str
    stage: str
    units: tuple[int, ...]
    of_units: int
    names: tuple[str, ...]
    rectified: bool
    side: int
    field: ReceptiveField | None
    catalog: Catalog
    images: int
    values: Array
    rows: Array
    places: Array
    firing: Array
    crops: dict[int, Bytes]
    problems: dict[str, str]

    @property
    def is_small(self) -> bool:
        """Whether the units see so little of a crop that this is worth drawing beside it."""
        return _is_small(self.field, self.side)

    @property
    def k(self) -> int:
        """Images for each unit, at most."""
        return int(self.values.shape[1])

    def box(self, unit: int, rank: int) -> tuple[int, int, int, int]:
        """Top, bottom, left and right (exclusive) of the receptive field inside the crop, in pixels.

        ``unit`` is a place in :attr:`units`, ``rank`` 0 for the strongest.
        """
        if self.field is None:
            return 0, self.side, 0, self.side
        row, column = self.places[unit, rank]
        return *self.field.spans[row], *self.field.spans[column]

    def class_name(self, row: int) -> str | None:
        """Class of an image of the catalog, if it has one."""
        label = self.catalog.labels[row]
        return self.catalog.classes[label] if label >= 0 else None

    def to_json(self) -> dict[str, Any]:
        """Settings, and for each unit its images with value, place and field."""
        return {
            "weights": self.weights,
            "stage": self.stage,
            "images": self.images,
            "crop": self.side,
            "receptive_field": self.field.size if self.field else self.side,
            "units": [self._unit(place, unit) for place, unit in enumerate(self.units)],
            "unreadable": self.problems,
        }

    def _unit(self, place: int, unit: int) -> dict[str, Any]:
        found = []
        for rank, row in enumerate(self.rows[place].tolist()):
            if row >= 0:
                top, bottom, left, right = self.box(place, rank)
                found.append(
                    {
                        "image": self.catalog.names[row],
                        "class": self.class_name(row),
                        "value": float(self.values[place, rank]),
                        "place": self.places[place, rank].tolist() if self.field else None,
                        "field": {"top": top, "bottom": bottom, "left": left, "right": right},
                    }
                )
        named = {"class": self.names[place]} if self.names else {}
        return {"unit": unit, **named, "firing": float(self.firing[place]), "strongest": found}


def find_strongest(
    data: Data,
    layer: str = "pool5",
    units: int | Sequence[int] = 6,
    *,
    weights: Weights | str | os.PathLike[str] | None = None,
    network: str | None = None,
    k: int | None = None,
    split: str = "all",
    limit: int | None = None,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
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
    weights : Weights, name or path, optional
        For images: as :func:`cnncodes.pictures.subject.load_subject` takes them, "imagenet" by default. A codes
        file says itself what made it.
    network : str, optional
        Where the weights do not say it.
    k : int, optional
        Images for each unit: 9 by default, and 6 of a stage that sees little of a crop, whose pictures take two places.
    split : {"all", "train", "val", "test", "none"}, default "all"
    limit : int, optional
        Only so many images, spread evenly over the catalog.
    root : path, optional
        Where the images of a codes file are now, if they were moved.
    device, workers
        Where the network runs, and the decoding threads; as for extraction.
    progress : callable(done, total, unreadable), optional

    Raises
    ------
    StageError, OptionError
        If there is no such stage, unit or split; or options do not go together.
    CatalogError, CodesFileError
        If there are no images, none can be read, or the codes have no such layer or no places.
    """
    if split not in ("all", *SPLITS):
        raise OptionError(f"split '{split}' is not known.", nearest(split, ("all", *SPLITS)))
    if k is not None and not 1 <= k <= MOST_IMAGES:
        raise OptionError(f"{k} images for each unit cannot be shown.", f"Use 1 to {MOST_IMAGES}.")
    report = progress or (lambda done, total, unreadable: None)
    if not isinstance(data, Catalog) and is_codes(data):
        if weights is not None:
            raise OptionError(
                f"'{one_path(data)}' holds codes that were made already, so weights have no use.",
                "Leave --weights out, or give the images instead of the codes file.",
            )
        with CodesFile(one_path(data)) as file:
            return _in_codes(file, layer, units, k, split, limit, root, report)
    if root is not None:
        raise OptionError("--root is for codes files, and images are given.", "Leave it out.")
    if isinstance(weights, Weights):
        catalog, _ = images_for(data)
    else:
        catalog, named = images_for(data, weights)
        weights = load_subject(named, network=network, device=device).weights
    catalog = catalog.subset(rows_of(catalog, np.ones(len(catalog), bool), split, limit))
    return _in_images(catalog, weights, layer, units, k, device, workers, report)


def _in_images(
    catalog: Catalog,
    weights: Weights,
    layer: str,
    units: int | Sequence[int],
    k: int | None,
    device: str,
    workers: int | None,
    report: Progress,
) -> Strongest:
    """From images, batch by batch as they come out of the network."""
    network = weights.architecture
    settings = ExtractionSettings(
        weights.network, (network.select_one(layer),), weights.name, weights.fingerprint,
        weights.preprocessing, batch_size=default_batch_size(len(catalog)), classes=network.classes,
    )  # fmt: skip
    _check_units(units, settings)
    place = choose_device(device)
    problems: dict[str, str] = {}
    blocks = _computed(catalog, Encoder(weights, settings, place), workers or place.cores, problems, report)
    last = settings.stages[0] == network.stage_names[-1]
    names = weights.class_names() if last and network.classes else None
    return _collect(settings, catalog, blocks, units, k, problems, names or ())


def _in_codes(
    file: CodesFile,
    layer: str,
    units: int | Sequence[int],
    k: int | None,
    split: str,
    limit: int | None,
    root: str | os.PathLike[str] | None,
    report: Progress,
) -> Strongest:
    """The same from a codes file, which is read block by block."""
    stage = file.settings.architecture.select_one(layer)
    file.read(stage, slice(0, 0))  # is it there?
    file.require_complete()
    settings = replace(file.settings, stages=(stage,))
    if settings.crops.endswith("-mean") and len(file.stage_shape(stage)) == 3:
        raise CodesFileError(
            f"'{file.path}' holds the mean of several crops ({settings.crops}), in which no place can be found.",
            "Give the images instead, or extract with --crops center.",
        )
    _check_units(units, settings)
    rows = rows_of(file.catalog, np.ones(len(file), bool), split, limit)
    catalog = moved(file.catalog, root).subset(rows)
    readable = file.state[rows] == DONE
    names = set(catalog.names)
    problems = {name: why for name, why in file.problems().items() if name in names}

    def blocks() -> Blocks:
        length = int(np.prod(file.stage_shape(stage))) * settings.kept_crops
        step = max(1, BLOCK_NUMBERS // length)
        for start in range(0, len(rows), step):
            own = np.flatnonzero(readable[start : start + step]) + start
            read = file.read(stage, rows[own])
            if read.ndim == 3:
                read = read[:, CENTRE_CROP[settings.crops]]
            yield own, read
            report(min(start + step, len(rows)), len(rows), len(problems))

    return _collect(settings, catalog, blocks(), units, k, problems)


def _computed(
    catalog: Catalog, encoder: Encoder, workers: int, problems: dict[str, str], report: Progress
) -> Blocks:
    """Rows that can be read and their codes, batch by batch; the names of others go to ``problems``."""
    size = encoder.settings.batch_size
    rows = range(len(catalog))
    batches = [rows[start : start + size] for start in rows[::size]]
    for batch, codes in Pipeline(catalog, batches, encoder, workers=workers):
        problems |= {catalog.names[row]: reason for row, reason in batch.problems.items()}
        own = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
        yield np.array(batch.rows, np.int64)[own], codes[encoder.settings.stages[0]][own]
        report(int(batch.rows[-1]) + 1, len(catalog), len(problems))


def _collect(
    settings: ExtractionSettings,
    catalog: Catalog,
    blocks: Blocks,
    units: int | Sequence[int],
    k: int | None,
    problems: dict[str, str],
    classes: Sequence[str] = (),
) -> Strongest:
    """Go over the blocks once, choose the units, and read what is shown of them."""
    stage = settings.stages[0]
    shape = settings.stage_shapes()[stage]
    rectified = settings.relu(stage)
    side = settings.preprocessing.crop
    field = (
        receptive_fields(settings.architecture, side)[stage.partition(":")[0]] if len(shape) == 3 else None
    )
    best = Best(shape[0], k or (PAIRS if _is_small(field, side) else IMAGES), positive=rectified)
    for rows, codes in blocks:
        require_finite(codes, [catalog.names[row] for row in rows])
        best.add(rows, codes.reshape(len(codes), shape[0], math.prod(shape[1:])))
    if not best.count:
        reason = f": {next(iter(problems.values()))}" if problems else ""
        raise CatalogError(
            f"none of the {len(catalog):,} images could be read{reason.rstrip('.')}.", "Look at the files."
        )
    chosen = best.most_varying(units) if isinstance(units, int) else list(dict.fromkeys(units))
    rows = best.rows[chosen]
    found = Strongest(
        settings.weights,
        stage,
        tuple(chosen),
        shape[0],
        tuple(classes[unit] for unit in chosen) if classes else (),
        rectified,
        side,
        field,
        catalog,
        best.count,
        np.where(rows >= 0, best.values[chosen], np.float32(np.nan)),
        rows,
        np.stack(np.divmod(best.places[chosen], shape[2] if len(shape) == 3 else 1), axis=-1),
        best.firing[chosen] / best.count,
        {},
        problems,
    )
    return _with_crops(found, settings)


def _is_small(field: ReceptiveField | None, side: int) -> bool:
    return field is not None and field.size < LARGE_FIELD * side


def _check_units(units: int | Sequence[int], settings: ExtractionSettings) -> None:
    stage = settings.stages[0]
    count = settings.stage_shapes()[stage][0]
    asked = units if isinstance(units, int) else len(set(units))
    if not 1 <= asked <= min(MOST_UNITS, count):
        raise OptionError(
            f"{asked} units cannot be shown in one picture.", f"Use 1 to {min(MOST_UNITS, count)}."
        )
    absent = [] if isinstance(units, int) else [unit for unit in units if not 0 <= unit < count]
    if absent:
        raise OptionError(
            f"unit {absent[0]} is not there: stage '{stage}' has {count:,} units.", f"Use 0 to {count - 1}."
        )


def _with_crops(found: Strongest, settings: ExtractionSettings) -> Strongest:
    """The record with the crops of its images, which are decoded once more."""
    rows = np.unique(found.rows[found.rows >= 0]).tolist()
    batches = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    crops: dict[int, Bytes] = {}
    problems = dict(found.problems)
    for batch in Loader(found.catalog, batches, settings.preprocessing, workers=available_cores()):
        rgb = (
            batch.pixels[:, 0] if settings.preprocessing.channels == "RGB" else batch.pixels[:, 0, :, :, ::-1]
        )
        crops |= {row: np.ascontiguousarray(rgb[place]) for place, row in enumerate(batch.rows)}
        for row, reason in batch.problems.items():
            crops.pop(row)
            problems[found.catalog.names[row]] = reason
    return replace(found, crops=crops, problems=problems)
