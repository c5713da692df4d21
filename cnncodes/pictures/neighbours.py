"""The nearest images of an image: by their codes, and by their pixels (Krizhevsky et al. 2012, figure 4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import Metric, mean_of_crops, nearest
from cnncodes.codes.stream import stream
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CodesFileError, ImageError, OptionError, WeightsMismatchError
from cnncodes.core.records import to_value
from cnncodes.images import Catalog, file_digest
from cnncodes.pictures.codes_source import CodesSource, find_row
from cnncodes.pictures.drawing import cut_middle, plain, show_sheet
from cnncodes.pictures.sheets import Legend, class_sheet, framed, label_colours, read_thumbnails, unwritten

if TYPE_CHECKING:
    from cnncodes.pictures.codes_source import PathLike
    from cnncodes.pictures.drawing import Array, Figure
    from cnncodes.weights import Weights


PIXELS = 32  # side of the squares whose pixels are compared
DRAWN = 12  # neighbours that a picture has room for
FEW = 6  # neighbours unless more are asked for
WIDTH = 2000  # pixels of the sheet, about; tiles are as large as that allows, between:
SMALLEST_TILE, LARGEST_TILE = 56, 160
FRAME = 1 / 18  # of the tile's side
GAP = 6  # pixels between tiles
METRICS = {"cosine": "cosine distance", "l2": "Euclidean distance"}


@dataclass(frozen=True)
class Neighbour:
    """One answer: an image of the file."""

    row: int  # of the codes file
    name: str
    label: int  # its class; -1 for none
    class_name: str | None
    distance: float  # by the codes' metric, or between pixels of 0 to 1: their root mean square difference
    copy: bool  # whether the file is the query's, byte for byte, or the distance is 0


@dataclass(frozen=True)
class Query:
    """An image with its neighbours, the nearest first."""

    name: str  # in the codes file, or of the new file
    path: str
    row: int  # of the codes file; -1 for a new image
    label: int  # its class; -1 for none
    class_name: str | None
    by_codes: tuple[Neighbour, ...]
    by_pixels: tuple[Neighbour, ...]  # empty if too few of the images can be read


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What :func:`find_neighbours` found."""

    file: str  # name of the codes file
    weights: str
    layer: str
    metric: Metric
    k: int
    images: int  # how many were compared by their codes
    problems: dict[str, str]  # name and reason of each that cannot be read any more, and so has no pixels
    catalog: Catalog  # of the codes file
    queries: tuple[Query, ...]
    choice: str = ""  # why this layer, for the title; empty where it was named, or is the only one

    @property
    def pictures(self) -> list[str]:
        """Paths of all images that are drawn: of each query itself, its first 12 neighbours by codes, and by pixels."""
        paths = []
        for query in self.queries:
            shown = query.by_codes[:DRAWN] + query.by_pixels[:DRAWN]
            paths += [query.path, *(self.catalog.reader[found.row] for found in shown)]
        return paths

    def share(self, by: str) -> float | None:
        """Share of the neighbours (``"by_codes"`` or ``"by_pixels"``) that have their query's class; None without classes.

        Copies of the query are left out: that an image is like itself says nothing of the codes.
        """
        same = [
            found.label == query.label
            for query in self.queries
            for found in getattr(query, by)
            if query.label >= 0 and found.label >= 0 and not found.copy
        ]
        return sum(same) / len(same) if same else None

    def to_json(self) -> dict[str, Any]:
        """The settings, and one entry for each query with its neighbours."""
        named = ("weights", "layer", "metric", "k", "images", "queries")
        more = {"codes": self.file, "unreadable": self.problems, "pixels": PIXELS}
        return {**to_value(self, *named), **more}


def find_neighbours(
    codes: PathLike | CodesSource,
    images: Sequence[PathLike],
    *,
    k: int | None = None,
    layer: str | None = None,
    metric: Metric = "cosine",
    weights: Weights | str | None = None,
    root: PathLike | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Neighbours:
    """The nearest images by codes and by pixels, both exact.

    Parameters
    ----------
    codes : path of a codes file, or CodesSource
    images : sequence of names or paths
        Each is an image of the file (its name there, the end of it, or its path), which is no neighbour of itself, or
        any other image, whose code is computed first.
    k : int, optional
        How many; by default 6, or all others where there are fewer.
    layer : str, optional
        By default the deepest of the file.
    metric : {"cosine", "l2"}, default "cosine"
        Between codes. Pixels are always compared by their differences: of the central square at 32 x 32, RGB.
    weights : Weights or str, optional
        For new images: the weights, or where they are now; by default as the file says.
    root : path, optional
        Where the images are now, if they were moved.
    device, progress

    Raises
    ------
    OptionError
        If an image is neither in the file nor there, or both, or the file has no ``k`` others, or none at all.
    WeightsMismatchError
        If the weights did not make the file.
    ImageError, CodesFileError
        If an image or the file cannot be read, or the layer or the code of a query is not there.
    """
    source = CodesSource.of(codes, layer, root)
    with CodesFile(source.path) as file:
        stage, choice = source.choose(file)
        catalog = file.catalog.at(source.root)
        asked = [os.fspath(image) for image in images]
        rows = [_row_of(image, file, catalog, source.name) for image in asked]
        paths = [catalog.reader[row] if row >= 0 else image for image, row in zip(asked, rows, strict=True)]
        wanted = _codes_of(file, stage, rows, paths, weights or source.weights, device)
        done = np.flatnonzero(file.state == DONE)
        if k is None:
            k = max(1, min(FEW, len(done) - any(row >= 0 for row in rows)))
        by_codes = nearest(file, wanted, k, metric, layer=stage, leave_out=rows)
        by_pixels, problems = _by_pixels(catalog, done, rows, paths, k, progress)
        digests = file.digests()
        queries = []
        for place, (row, path) in enumerate(zip(rows, paths, strict=True)):
            both = ([] if found is None else list(zip(*(part[place].tolist() for part in found), strict=True))
                    for found in (by_codes, by_pixels))  # fmt: skip
            queries.append(_query(catalog, digests, row, path, *both))
        return Neighbours(
            source.name, file.settings.weights, stage, metric, k, len(done), problems, catalog, tuple(queries), choice
        )  # fmt: skip


def _row_of(image: str, file: CodesFile, catalog: Catalog, where: str) -> int:
    """Row of an image of the file whose code is there; -1 for another file."""
    row = find_row(image, catalog, where)
    if row < 0:
        return row
    name = catalog.names[row]
    if image == name:
        _refuse_two(image, row, file, catalog, where)
    if file.state[row] != DONE:
        reason = file.problems().get(name)
        raise CodesFileError(
            f"'{where}' has no code of '{name}': "
            + (f"it could not be read ({reason})." if reason else "it is not extracted yet."),
            "Name another image." if reason else "Repeat the extract command: it goes on where it stopped.",
        )
    return row


def _refuse_two(image: str, row: int, file: CodesFile, catalog: Catalog, where: str) -> None:
    """Raise OptionError if a name of the file is also the path of another image; that of a copy does no harm."""
    own = catalog.path(row)
    if not Path(image).is_file() or (own.exists() and own.samefile(image)):
        return
    if file_digest(image) not in (int(file.digests()[row]), file_digest(str(own))):
        raise OptionError(
            f"'{image}' is an image of '{where}', and another file of that name is here.",
            f"Give the whole path of the one you mean: {own} or {Path(image).absolute()}.",
        )


def _codes_of(
    file: CodesFile,
    stage: str,
    rows: Sequence[int],
    paths: Sequence[str],
    weights: Weights | str | None,
    device: str,
) -> Array:
    """Codes of the queries, ``[Q, length]``: from the file, or computed as the file's own for those not in it (row -1)."""
    new = [path for row, path in zip(rows, paths, strict=True) if row < 0]
    computed: list[Array] = []
    if new:
        for block in stream(new, _weights_of(file, weights), file.settings, Compute(device)):
            for row, reason in block.problems.items():
                problem = f"'{new[row]}' cannot be read: {reason.rstrip('.')}."
                raise ImageError(problem, f"Replace or remove '{new[row]}'.")
            computed += list(mean_of_crops(block.codes[stage]))
    rest = iter(computed)
    own = (next(rest) if row < 0 else mean_of_crops(file.read(stage, np.array([row])))[0] for row in rows)
    return np.array(list(own), np.float32)


def _weights_of(file: CodesFile, weights: Weights | str | None) -> Weights:
    """The weights that made the file; raises WeightsMismatchError for others."""
    from cnncodes.weights import Weights, load_weights

    settings = file.settings
    loaded = weights
    if not isinstance(loaded, Weights):
        loaded = load_weights(loaded or settings.weights, network=settings.network)
    if loaded.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{loaded.name}' ({loaded.fingerprint[:12]}) did not make '{file.path}' "
            f"({settings.weights_sha256[:12]}).",
            "Name the right weights with --weights.",
        )
    return loaded


def _by_pixels(
    catalog: Catalog, done: Array, rows: Sequence[int], paths: Sequence[str], k: int, progress: Progress
) -> tuple[tuple[Array, Array] | None, dict[str, str]]:
    """Rows and distances ``[Q, k]`` by pixels (None if a query or too many others are unreadable), and why images cannot be read."""
    files = [catalog.reader[row] for row in done] + list(paths)
    small = read_thumbnails(files, PIXELS, lambda count: progress("reading images", count, len(files), ""))
    squares = small.rgb.reshape(len(files), -1)
    readable = np.array([place for place in range(len(done)) if place not in small.problems], np.int64)
    lost = {catalog.names[done[place]]: why for place, why in small.problems.items() if place < len(done)}
    others = len(readable) - any(row >= 0 for row in rows)  # a query of the file is no neighbour of itself
    if others < k or any(place >= len(done) for place in small.problems):
        return None, lost
    place_of = {int(done[place]): count for count, place in enumerate(readable)}
    leave_out = [place_of.get(row, -1) for row in rows]
    places, distances = nearest(squares[readable], squares[len(done) :], k, "l2", leave_out=leave_out)
    return (done[readable[places]], distances / (255 * PIXELS * np.sqrt(3))), lost


def _query(catalog: Catalog, digests: Array, row: int, path: str, *both: list[tuple[int, float]]) -> Query:
    """One query (row -1: a new image) with its neighbours, in which copies of it are known by their files' digests."""
    own = int(digests[row]) if row >= 0 else file_digest(path)

    def classed(row: int) -> tuple[int, str | None]:
        label = int(catalog.labels[row]) if row >= 0 else -1
        return label, catalog.classes[label] if label >= 0 else None

    by_codes, by_pixels = (
        tuple(
            Neighbour(
                found, catalog.names[found], *classed(found), distance,
                distance == 0 or (own != 0 and int(digests[found]) == own),
            )
            for found, distance in answers
        )
        for answers in both
    )  # fmt: skip
    name = catalog.names[row] if row >= 0 else Path(path).name
    return Query(name, path, row, *classed(row), by_codes, by_pixels)


def draw_neighbours(found: Neighbours) -> Figure:
    """A row for each query, as in Krizhevsky et al. 2012, figure 4, with the distance below each neighbour."""
    k = min(found.k, DRAWN)
    tile = int(np.clip(WIDTH / (1.67 + 2 * k) - GAP, SMALLEST_TILE, LARGEST_TILE))
    frame = max(3, round(FRAME * tile))
    thumbnails = read_thumbnails(found.pictures, tile - 2 * frame)
    text = float(np.clip(0.075 * tile, 8.0, 10.5))  # points, of the captions
    line, step, apart = round(2.6 * text), tile + GAP, tile // 3  # pixels
    by_pixels = any(query.by_pixels for query in found.queries)
    blocks = [step + apart + block * (k * step + apart) for block in range(2 if by_pixels else 1)]
    width = blocks[-1] + k * step - GAP
    sheet = np.full((line + len(found.queries) * (step + line), width, 3), 255, np.uint8)
    rows = [(query, (query.by_codes[:k], query.by_pixels[:k])) for query in found.queries]
    labels = np.array([label for query, both in rows for label in
                       (query.label, *(answer.label for answers in both for answer in answers))], np.int32)  # fmt: skip
    classes = found.catalog.classes
    legend = Legend(labels, classes, width, counted=False) if (labels >= 0).any() else None
    figure, axes = class_sheet((len(sheet), width), _title(found), _note(found), legend)
    heads = ("query", f"by {found.layer} codes", f"by pixels at {PIXELS} x {PIXELS}")
    for left, head in zip((0, *blocks), heads, strict=False):
        head = cut_middle(head, max(6, int(k * step / (1.7 * text))))
        axes.text(left, line / 2, head, fontsize=1.25 * text, va="center", fontweight="bold")
    tiles = iter(framed(thumbnails.rgb, label_colours(len(classes))[labels], frame))
    room = max(6, int(step / (1.16 * text)))
    for number, (query, both) in enumerate(rows):
        top = line + number * (step + line)
        drawn = [(0, plain(PurePosixPath(query.name).stem))]
        for left, answers in zip(blocks, both, strict=False):
            drawn += [(left + place * step, _caption(answer)) for place, answer in enumerate(answers)]
        for left, caption in drawn:
            sheet[top : top + tile, left : left + tile] = next(tiles)
            axes.text(left, top + tile + line / 2, cut_middle(caption, room), fontsize=text, va="center")
    show_sheet(axes, sheet)
    return figure


def _caption(answer: Neighbour) -> str:
    if answer.copy:
        return "copy" if answer.distance < 0.0005 else f"copy, {answer.distance:.3f}"
    return f"{answer.distance:.3f}"


def _title(found: Neighbours) -> str:
    """What is seen: how many neighbours are of the query's class, if that can be said, else what they are."""
    count = "nearest image" if found.k == 1 else f"{found.k} nearest"
    both = {f"{found.layer} codes": found.share("by_codes"), "pixels": found.share("by_pixels")}
    parts = [f"{100 * share:.0f} % by {words}" for words, share in both.items() if share is not None]
    if parts:
        return f"Of the query's class among the {count}: {', '.join(parts)}"
    name = plain(found.catalog.root.name) or "/"
    return f"The {count} of {found.images:,} images of {name} by {found.layer} codes"


def _note(found: Neighbours) -> str:
    """How the neighbours were found, and what the frames and numbers are."""
    note = (
        f"{found.images:,} images of {plain(found.catalog.root.name) or '/'}, weights {plain(found.weights)}"
    )
    note += f" ({found.layer} is {found.choice})" if found.choice else ""
    note += f". Below each image its distance: the {METRICS[found.metric]} of codes"
    if any(query.by_pixels for query in found.queries):
        note += ", the root mean square difference of pixels (1: black against white)"
    note += f". The first {DRAWN} are shown." if found.k > DRAWN else "."
    if found.share("by_codes") is not None:
        note += " The colour of the frame is the class."
    if found.problems:
        note += f" {len(found.problems):,} images cannot be read any more: not compared by pixels, crosses."
    return f"{note} {unwritten(found.catalog.classes)}".rstrip()
