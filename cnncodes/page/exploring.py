"""What is in images without labels: groups, copies, strange images; in a folder, with a page on which groups get names."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.findings import (
    LEAST_IMAGES,
    MOST_COMPARED,
    NEIGHBOURS,
    at_most,
    groups_of,
    near_pairs,
    pairs_of,
    unusually_far,
)
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.codes import CodesFile, plan_extraction, run_extraction
from cnncodes.codes.file import DONE
from cnncodes.codes.search import mean_of_crops, nearest
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError, ResumeError
from cnncodes.core.files import cells
from cnncodes.core.outputs import replacing, write_whole
from cnncodes.core.records import to_json
from cnncodes.core.words import shell, visible
from cnncodes.evaluation import Prediction
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_contents
from cnncodes.images.listing import Reading
from cnncodes.images.readers import Reader
from cnncodes.images.tables import read_table
from cnncodes.page.html import page_source
from cnncodes.page.images import on_screen, read_images
from cnncodes.page.record import Bytes, Integers, as_text
from cnncodes.page.views import map_document
from cnncodes.pictures.codes_source import evenly
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.map import codes_map, dense_groups, join_neighbours
from cnncodes.weights import AnyWeights, Weights, load_weights

Array = npt.NDArray[Any]

CODES, GROUPS, RECORD, PAGE = "codes.h5", "groups.csv", "explore.json", "explore.html"
HEADER = ("file", "label", "group", "distance", "copy_of", "strange", "problem")
MOST_ON_MAP = 2000  # images in which groups are looked for; of more, so many are spread over the files
LEAST = 5  # images that can be told apart at all
ROWS = 4096  # compared at a time
NO_GROUP = "no group"  # a folder of :func:`as_predictions`
SAMPLES, MOST_SAMPLES = 12, 240  # images of a group, and of all groups together
MOST_ALONE, MOST_STRANGE, MOST_COPIES, MOST_OF_ONE = 24, 48, 24, 8
MOST_NEAR = 9  # shown of an image
MOST_UNREADABLE = 200
MOST_LISTED = 20_000  # images whose names the page has, so that it can save their labels


@dataclass(frozen=True)
class ExploredImage:
    """What is known of one image."""

    file: str  # as the catalog has it
    group: int | None = None  # from 1, the largest
    distance: float | None = None  # cosine, to the mean code of its group: small for what is typical of it
    copy_of: str | None = None  # the first image that shows nearly the same picture
    strange: float | None = None  # unlike all others: times the usual distance that its 10th nearest is away
    problem: str | None = None  # why it could not be read


@dataclass(frozen=True)
class Exploration:
    """What :func:`explore` found."""

    folder: str  # with the codes, groups.csv, this record as explore.json, and the page
    weights: str  # whose codes were compared
    layer: str
    groups: tuple[int, ...]  # images in each group, the largest first
    images: tuple[ExploredImage, ...]  # in the order of the catalog

    @property
    def alone(self) -> int:
        """Images that were read and are in no group."""
        return sum(image.group is None and image.problem is None for image in self.images)

    @property
    def copies(self) -> int:
        """Images that show nearly the same picture as an earlier one."""
        return sum(image.copy_of is not None for image in self.images)

    @property
    def strange(self) -> tuple[ExploredImage, ...]:
        """Images unlike all others, the farthest first."""
        found = [image for image in self.images if image.strange is not None]
        return tuple(sorted(found, key=lambda image: -(image.strange or 0)))

    @property
    def unreadable(self) -> dict[str, str]:
        """Images that could not be read, with the reason."""
        return {image.file: image.problem for image in self.images if image.problem is not None}


@dataclass(frozen=True, eq=False)
class Drawn:
    """The images on the map."""

    rows: Integers  # [n], of the catalog
    points: npt.NDArray[np.float64]  # [n, 2] in no unit, y upwards
    neighbours: Integers  # [n, k], places in rows of the nearest others


def labels_command(data: str, weights: str) -> str:
    """What to type once the groups have names: ``data`` are words of a command, ``weights`` a name."""
    named = "" if weights == "imagenet" else f" --weights {shell(weights)}"
    return f"cnncodes run {data} --labels labels.csv -o out{named}"


def explore(
    catalog: Catalog,
    weights: AnyWeights,
    output: str | os.PathLike[str],
    *,
    layer: str | None = None,
    smallest: int | None = None,
    title: str | None = None,
    data: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Exploration:
    """Find groups, copies and strange images among images without labels, and write a page of them.

    The codes of one layer are computed, a map of them is made, and its dense places are the groups; their number is not asked
    for. Labels that the catalog may have play no part. Interrupted, the same call goes on: the codes are kept in the folder,
    and those of images that were there before are taken over if the folder has grown. Labels that a person has filled into
    ``groups.csv`` stay.

    Parameters
    ----------
    catalog : Catalog
    weights : Weights, name or path
    output : path of a folder
        Made if it is not there.
    layer : str, optional
        By default fc7, or what the classifier of the network reads.
    smallest : int, optional
        Images of the smallest group; by default one in thirty of all, and five at least.
    title : str, optional
        Of the page; by default the name of the images' folder.
    data : str, optional
        How the images are named in a command; by default the catalog's folder.
    device, workers
        As for extraction.
    seed : int, default 0
        Of the map. The same images and seed give the same groups.
    overwrite : bool, default False
        Start anew where the folder has codes of another layer or other weights.
    progress : Progress, optional

    Returns
    -------
    Exploration

    Raises
    ------
    OptionError
        If fewer than five different images can be read, or ``smallest`` is below 2.
    OutputExistsError
        If the folder is a file, or would be in a folder that does not exist, or has labels that a person gave to other images.
    CatalogError
        If the folder has a ``groups.csv`` whose labels cannot be read.
    CodesFileError
        If the folder has codes of another layer or other weights.
    """
    if smallest is not None and smallest < 2:
        raise OptionError(f"a group of {smallest} images is none.", "Give 2 or more, or leave it out.")
    place = Path(output)
    labels = _labels_there(place, catalog, overwrite)
    loaded = load_weights(weights)
    stage = loaded.architecture.select_one(layer) if layer else loaded.architecture.usual_layer
    settings = {"layers": _layers(loaded, stage), "dtype": "float16", "pool": "mean"}  # maps as their means
    options: dict[str, Any] = {**settings, "device": device, "workers": workers}
    try:
        plan = plan_extraction(catalog, place / CODES, loaded, overwrite=overwrite, **options)
    except ResumeError:  # of a file of other images those of the same content are taken over
        known = place / CODES
        plan = plan_extraction(catalog, known, loaded, overwrite=True, reuse=known, **options)
    run_extraction(plan, progress)
    with CodesFile(place / CODES) as codes:
        images, drawn = _look(codes, stage, smallest, seed, progress)
    sizes = np.bincount([image.group for image in images if image.group is not None], minlength=1)[1:]
    exploration = Exploration(str(place), loaded.name, stage, tuple(sizes.tolist()), images)
    _write_table(exploration, catalog, labels, place / GROUPS)
    words = data if data is not None else f"{shell(catalog.root)} --classes-are none"
    said = {"title": title or catalog.root.name, "next_command": labels_command(words, loaded.name)}
    write_page(exploration, catalog, drawn, place / PAGE, progress, **said)
    write_whole(place / RECORD, to_json(exploration))
    return exploration


def _layers(weights: Weights, stage: str) -> list[str]:
    """The layer, and where there is one the last before it that has maps: their means tell best what is strange."""
    network = weights.architecture
    if not network.stages:
        return [stage]
    shapes = network.output_shapes(weights.preprocessing.crop)
    maps = [name for name in network.codes_layers if len(shapes[name]) == 3]
    return list(dict.fromkeys([*maps[-1:], stage]))


def _look(
    codes: CodesFile, stage: str, smallest: int | None, seed: int, progress: Progress
) -> tuple[tuple[ExploredImage, ...], Drawn]:
    """What is known of every image, and the map. Copies take no part in it: ten of one picture are no group."""
    done = np.flatnonzero(codes.state == DONE)
    first = _firsts(codes, stage, done)
    single = done[first[done] == done]
    if len(single) < LEAST:
        raise OptionError(
            f"{len(single)} different images can be read, and {LEAST} are the fewest to be compared.",
            "Give more images.",
        )
    rows = evenly(single, MOST_ON_MAP)
    points = codes_map(_read(codes, stage, rows), "tsne", seed, progress=progress)
    least = None if smallest is None else max(2, round(smallest * len(rows) / len(single)))
    mapped = dense_groups(points, least)
    near, _ = _nearest(codes, stage, rows, single, progress)
    group = np.full(len(codes), -1)
    group[single] = join_neighbours(mapped, near)
    group[rows] = np.where(mapped >= 0, mapped, group[rows])
    group[done] = _by_size(group[first[done]])
    strange = _strange(codes, rows, single, progress)
    distance = _to_centre(codes, stage, done, group)
    names, problems = codes.catalog.names, codes.problems()
    found = (
        ExploredImage(
            names[row],
            int(group[row]) + 1 if group[row] >= 0 else None,
            round(float(distance[row]), 4) if group[row] >= 0 else None,
            names[first[row]] if first[row] != row else None,
            strange.get(row),
            problems.get(names[row]),
        )
        for row in range(len(codes))
    )
    return tuple(found), Drawn(rows, points, near[np.isin(single, rows)])


def _read(codes: CodesFile, stage: str, rows: Integers) -> npt.NDArray[np.float32]:
    return mean_of_crops(codes.read(stage, rows)).astype(np.float32)


def _nearest(
    codes: CodesFile, stage: str, among: Integers, rows: Integers, progress: Progress
) -> tuple[Integers, npt.NDArray[np.float64]]:
    """Of the rows the ten nearest others of those on the map, as places in ``among``, and their cosine distances."""
    shown, count = _read(codes, stage, among), min(NEIGHBOURS, len(among) - 1)
    place_of = np.full(len(codes), -1)
    place_of[among] = np.arange(len(among))
    found = []
    for start in range(0, len(rows), ROWS):
        progress("comparing", start, len(rows), "")
        part = rows[start : start + ROWS]
        found.append(nearest(shown, _read(codes, stage, part), count, leave_out=place_of[part]))
    places, distances = zip(*found, strict=True)
    return np.concatenate(places), np.concatenate(distances)


def _by_size(groups: Integers) -> Integers:
    """The groups numbered anew, the largest first: images that joined may have changed the order."""
    sizes = np.bincount(groups[groups >= 0], minlength=1)
    number = np.empty(len(sizes), np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(groups >= 0, number[groups], -1)


def _to_centre(codes: CodesFile, stage: str, done: Integers, groups: Integers) -> npt.NDArray[np.float64]:
    """Cosine distance of each image to the mean code of its group, all codes at length 1; NaN without a group."""

    def units(rows: Integers) -> npt.NDArray[np.float32]:
        values = _read(codes, stage, rows)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        values /= np.where(length > 0, length, 1)
        return values

    grouped = done[groups[done] >= 0]
    parts = [grouped[start : start + ROWS] for start in range(0, len(grouped), ROWS)]
    sums: Array = np.zeros((int(groups.max()) + 1, int(np.prod(codes.stage_shape(stage)))))
    for part in parts:
        np.add.at(sums, groups[part], units(part))
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    out = np.full(len(codes), np.nan)
    for part in parts:
        out[part] = 1 - np.einsum("ij,ij->i", units(part), centres[groups[part]])
    return out


def _firsts(codes: CodesFile, stage: str, done: Integers) -> Integers:
    """For each image the first one of nearly the same picture; of very many images, of the same bytes."""
    near = np.zeros((0, 2), np.int64)
    if len(done) <= MOST_COMPARED:
        near, _ = near_pairs(mean_of_crops(codes.read(stage, done)), load_thresholds().near_copy)
    same = pairs_of(identical_contents(codes.digests()[done]))
    return groups_of(len(codes), done[np.concatenate([same, near])])


def _strange(codes: CodesFile, among: Integers, rows: Integers, progress: Progress) -> dict[int, float]:
    """Rows far from all others, at most one in a hundred, with how far in units of the usual distance."""
    if len(rows) < LEAST_IMAGES:
        return {}
    _, distances = _nearest(codes, codes.stages[0], among, rows, progress)
    far, ratio = unusually_far(distances[:, -1], load_thresholds().stray_distance)
    most = at_most(len(rows))
    return dict(zip(rows[far[:most]].tolist(), np.round(ratio[:most], 2).tolist(), strict=True))


def _labels_there(place: Path, catalog: Catalog, overwrite: bool) -> dict[str, str]:
    """The labels that a person has filled into the table of the folder, by the paths of the images; makes the folder.

    Raises OutputExistsError if it cannot be made, or if most of these labels are of images that are not among those to be explored.
    """
    if place.exists() and not place.is_dir():
        raise OutputExistsError(f"'{place}' is a file.", "Name a folder with -o.")
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputExistsError(
            f"the folder '{place}' cannot be made: {error.strerror}.", "Name another folder with -o."
        ) from error
    path = place / GROUPS
    if not path.exists():
        return {}
    reading = Reading(path_column="file", label_column="label")
    listed = read_table(os.path.abspath(path), os.path.abspath(place), str(path), reading, gone=True)  # noqa: PTH100
    named = zip(Reader(listed.root, listed.names), listed.labels, strict=True)
    labels = {image: label for image, label in named if label is not None}
    lost = len(labels.keys() - {*catalog.reader})
    if 2 * lost > len(labels) and not overwrite:
        raise OutputExistsError(
            f"'{path}' has labels of {len(labels):,} images, of which {lost:,} are not among these.",
            "Choose another folder with -o, or let them go with --overwrite.",
        )
    return labels


def _write_table(found: Exploration, catalog: Catalog, labels: Mapping[str, str], path: Path) -> None:
    """One line for each image; the label is empty, for a person to fill in, or what a person has filled in before."""
    with (
        replacing(path, overwrite=True, error=CnnCodesError) as whole,
        whole.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        row_of = {image.file: row for row, image in enumerate(found.images)}
        for row, image in enumerate(found.images):
            copied = None if image.copy_of is None else visible(catalog.reader[row_of[image.copy_of]])
            values = (image.group, image.distance, copied, image.strange, image.problem)
            path_of, known = catalog.reader[row], ("" if value is None else value for value in values)
            writer.writerow(cells(visible(path_of), labels.get(path_of, ""), *known))


def as_predictions(found: Exploration) -> list[Prediction]:
    """The images as if a model had named their groups: :func:`cnncodes.evaluation.sort_images` makes folders of them."""
    digits = len(str(len(found.groups)))
    names = (NO_GROUP if image.group is None else f"group {image.group:0{digits}}" for image in found.images)
    return [
        Prediction(image.file, problem=image.problem)
        if image.problem
        else Prediction(image.file, (name,), (0.0,))
        for image, name in zip(found.images, names, strict=True)
    ]


@dataclass(frozen=True)
class Group:
    """One group on the page."""

    number: int  # from 1
    size: int  # images
    rows: tuple[int, ...]  # of those that are shown, the most typical first


def write_page(
    found: Exploration, catalog: Catalog, drawn: Drawn, path: Path, progress: Progress, **values: str
) -> None:
    """Write the page, whole or not at all; ``values`` are its title and next command."""
    images, on_map = found.images, {row: place for place, row in enumerate(drawn.rows.tolist())}
    groups = _groups(found, on_map)
    none = [row for row in on_map if images[row].group is None]
    alone = evenly(np.array(none, np.int64), MOST_ALONE).tolist()
    row_of = {image.file: row for row, image in reversed(list(enumerate(images)))}
    sets: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        if image.copy_of is not None:
            sets[row_of[image.copy_of]].append(row)
    copies = [[first, *rows][:MOST_OF_ONE] for first, rows in list(sets.items())[:MOST_COPIES]]
    strange = [row_of[image.file] for image in found.strange[:MOST_STRANGE]]
    cards = sorted({*alone, *strange, *chain(*copies), *chain(*(group.rows for group in groups))})
    files = [str(file) for file in catalog.reader]
    small, tiles, _ = read_images(
        files, cards, drawn.rows.tolist(), lambda done, total: progress("thumbnails", done, total, "")
    )
    listed = range(len(images)) if len(images) <= MOST_LISTED else sorted(on_map)
    texts = ((as_text(files[row]), images[row].group) for row in listed if images[row].group is not None)
    source = page_source(
        "explore",
        **values,
        found=found,
        names=[image.file for image in images],
        groups=groups,
        alone=alone,
        copies=copies,
        strange=strange,
        unreadable=list(found.unreadable.items())[:MOST_UNREADABLE],
        cards=small,
        on_map=on_map,
        map=_map(found, drawn, tiles),
        listed=len(images) <= MOST_LISTED,
        files=[entry for entry in texts if entry[0]],
    )
    write_whole(path, source)


def _groups(found: Exploration, on_map: dict[int, int]) -> list[Group]:
    """The groups with images from the most typical to the least, of those on the map."""
    members: dict[int, list[int]] = defaultdict(list)
    for row in on_map:
        if (number := found.images[row].group) is not None:
            members[number].append(row)
    each = max(3, min(SAMPLES, MOST_SAMPLES // max(len(found.groups), 1)))
    made = []
    for number, size in enumerate(found.groups, 1):
        rows = sorted(members[number], key=lambda row: found.images[row].distance or 0.0)
        made.append(Group(number, size, tuple(evenly(np.array(rows, np.int64), each).tolist())))
    return made


def _map(found: Exploration, drawn: Drawn, tiles: Bytes) -> dict[str, Any]:
    """What the map's script reads, as :func:`cnncodes.page.views.map_of` has it; the classes are the groups."""
    places = np.round(10_000 * on_screen(drawn.points)).astype(int).tolist()
    entries = [
        [x, y, (found.images[row].group or 0) - 1, -1, plain(found.images[row].file), near[:MOST_NEAR]]
        for (x, y), row, near in zip(places, drawn.rows.tolist(), drawn.neighbours.tolist(), strict=True)
    ]
    classes = [f"group {number}" for number in range(1, len(found.groups) + 1)]
    return map_document(tiles, entries, classes=classes, without="in no group")
