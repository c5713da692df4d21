"""The nearest images of an image: by their codes, and by their pixels.

Krizhevsky et al. 2012, figure 4: images whose codes are close show the same kind of thing, though their pixels may
have nothing in common; images whose pixels are close have the same colours in the same places.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import Metric, mean_of_crops, nearest
from cnncodes.errors import CodesFileError, OptionError, WeightsMismatchError
from cnncodes.images import Catalog, crops_of, file_digest
from cnncodes.pictures.map_record import moved
from cnncodes.pictures.queries import find_row, read_query
from cnncodes.pictures.sources import CodesSource
from cnncodes.pictures.thumbnails import read_thumbnails

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

PIXELS = 32  # side of the squares whose pixels are compared
DRAWN = 12  # neighbours that a picture has room for
FEW = 6  # neighbours unless more are asked for


@dataclass(frozen=True)
class Neighbour:
    """One answer: an image of the file.

    Parameters
    ----------
    row : int
        Of the codes file.
    name : str
    label : int
        Its class; -1 for none.
    class_name : str or None
    distance : float
        By the codes' metric, or between pixels of 0 to 1: their root mean square difference.
    copy : bool
        Whether the file is the query's, byte for byte, or the distance is 0.
    """

    row: int
    name: str
    label: int
    class_name: str | None
    distance: float
    copy: bool


@dataclass(frozen=True)
class Query:
    """An image with its neighbours, the nearest first.

    Parameters
    ----------
    name : str
        In the codes file, or of the new file.
    path : str
    row : int
        Of the codes file; -1 for a new image.
    label : int
        Its class; -1 for none.
    class_name : str or None
    by_codes, by_pixels : tuple of Neighbour
        ``by_pixels`` is empty if too few of the images can be read.
    """

    name: str
    path: str
    row: int
    label: int
    class_name: str | None
    by_codes: tuple[Neighbour, ...]
    by_pixels: tuple[Neighbour, ...]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What :func:`find_neighbours` found.

    Parameters
    ----------
    file : str
        Name of the codes file.
    weights, layer, metric : str
    k : int
    images : int
        How many were compared by their codes.
    problems : dict of str to str
        Name and reason of each of these that cannot be read any more, and so has no pixels.
    catalog : Catalog
        Of the codes file.
    queries : tuple of Query
    choice : str, default ""
        Why this layer, for the title; empty where it was named, or is the only one.
    """

    file: str
    weights: str
    layer: str
    metric: Metric
    k: int
    images: int
    problems: dict[str, str]
    catalog: Catalog
    queries: tuple[Query, ...]
    choice: str = ""

    @property
    def unreadable(self) -> int:
        """How many images cannot be read any more."""
        return len(self.problems)

    @property
    def pictures(self) -> list[str]:
        """Paths of all images that are drawn: of each query itself, its first 12 neighbours by codes, and by pixels."""
        return [
            path
            for query in self.queries
            for path in (
                query.path,
                *(
                    str(self.catalog.path(found.row))
                    for found in query.by_codes[:DRAWN] + query.by_pixels[:DRAWN]
                ),
            )
        ]

    def share(self, by: str) -> float | None:
        """Share of the neighbours (``"by_codes"`` or ``"by_pixels"``) that have their query's class; None without
        classes. Copies of the query are left out: that an image is like itself says nothing of the codes."""
        same = [
            found.label == query.label
            for query in self.queries
            for found in getattr(query, by)
            if query.label >= 0 and found.label >= 0 and not found.copy
        ]
        return sum(same) / len(same) if same else None

    def to_json(self) -> str:
        """JSON object: the settings, and one entry for each query with its neighbours."""
        values = {
            "codes": self.file, "weights": self.weights, "layer": self.layer, "metric": self.metric, "k": self.k,
            "images": self.images, "unreadable": self.problems, "pixels": PIXELS,
            "queries": [asdict(query) for query in self.queries],
        }  # fmt: skip
        return json.dumps(values)


def find_neighbours(
    codes: str | os.PathLike[str] | CodesSource,
    images: Sequence[str | os.PathLike[str]],
    *,
    k: int | None = None,
    layer: str | None = None,
    metric: Metric = "cosine",
    weights: Weights | str | None = None,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """The nearest images by codes and by pixels, both exact.

    Parameters
    ----------
    codes : path of a codes file, or CodesSource
        Of images by way of :func:`~cnncodes.pictures.sources.codes_for`.
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
    device : str, default "auto"
        For new images: auto, cpu, cuda, cuda:N or mps.
    progress : callable(done, total), optional
        Called while the images are read.

    Raises
    ------
    OptionError
        If an image is neither in the file nor there, or is one of the file and another file as well, or the codes file
        has no ``k`` others, or none at all.
    WeightsMismatchError
        If the weights did not make the file.
    ImageError
        If a new image cannot be read.
    CodesFileError
        If the file cannot be read, lacks the layer, or the code of a query is not there.
    """
    source = CodesSource.of(codes, layer, root)
    with CodesFile(source.path) as file:
        stage, choice = source.choose(file)
        catalog = moved(file.catalog, source.root)
        rows = [_row_of(os.fspath(image), file, catalog, source.name) for image in images]
        paths = [
            str(catalog.path(row)) if row >= 0 else os.fspath(image)
            for image, row in zip(images, rows, strict=True)
        ]
        wanted = _codes_of(file, stage, rows, paths, weights or source.weights, device)
        done = np.flatnonzero(file.state == DONE)
        if k is None:
            k = max(1, min(FEW, len(done) - any(row >= 0 for row in rows)))
        by_codes = nearest(file, wanted, k, metric, layer=stage, leave_out=rows)
        by_pixels, problems = _by_pixels(catalog, done, rows, paths, k, progress)
        digests = file.digests()
        queries = tuple(
            _query(catalog, digests, row, path, _answers(by_codes, place), _answers(by_pixels, place))
            for place, (row, path) in enumerate(zip(rows, paths, strict=True))
        )
        return Neighbours(
            source.name, file.settings.weights, stage, metric, k, len(done), problems, catalog, queries, choice
        )  # fmt: skip


def _row_of(image: str, file: CodesFile, catalog: Catalog, where: str) -> int:
    """Row of an image of the file whose code is there; -1 for another file."""
    row = find_row(image, catalog, where)
    if row < 0:
        return row
    names = catalog.names
    if image == names[row]:
        _refuse_two(image, row, file, catalog, where)
    if file.state[row] != DONE:
        reason = file.problems().get(names[row])
        raise CodesFileError(
            f"'{where}' has no code of '{names[row]}': "
            + (f"it could not be read ({reason})." if reason else "it is not extracted yet."),
            "Name another image." if reason else "Repeat the extract command: it goes on where it stopped.",
        )
    return row


def _refuse_two(image: str, row: int, file: CodesFile, catalog: Catalog, where: str) -> None:
    """Raise OptionError if a name of the file is also the path of another image; that of a copy does no harm."""
    own = catalog.path(row)
    if not Path(image).is_file() or (own.exists() and own.samefile(image)):
        return
    if file_digest(image) not in (int(file.digests()[row]), file_digest(str(own)) if own.is_file() else 0):
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
    """Codes of the queries, ``[Q, length]``: from the file, or computed for those that are not in it (row -1)."""
    new = [place for place, row in enumerate(rows) if row < 0]
    old = [place for place, row in enumerate(rows) if row >= 0]
    parts = []
    if old:
        parts.append(mean_of_crops(file.read(stage, np.array([rows[place] for place in old]))))
    if new:
        parts.append(_compute(file, stage, [paths[place] for place in new], weights, device))
    found = np.concatenate(parts).astype(np.float32)
    return found[np.argsort(np.array(old + new))]


def _compute(
    file: CodesFile, stage: str, paths: Sequence[str], weights: Weights | str | None, device: str
) -> Array:
    """Codes ``[images, length]`` of new images, as the file's own were made."""
    from cnncodes.codes.compute import Encoder, choose_device
    from cnncodes.weights import Weights, load_weights

    settings = file.settings
    crops = []
    for path in paths:
        picture = read_query(path, settings.preprocessing)
        crops.append(crops_of(picture, settings.preprocessing, settings.crops))
    if isinstance(weights, Weights):
        loaded = weights
    else:
        loaded = load_weights(weights or settings.weights, network=settings.network)
    if loaded.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{loaded.name}' ({loaded.fingerprint[:12]}) did not make '{file.path}' "
            f"({settings.weights_sha256[:12]}).",
            "Name the right weights with --weights.",
        )
    return mean_of_crops(Encoder(loaded, settings, choose_device(device))(np.stack(crops))[stage])


def _by_pixels(
    catalog: Catalog,
    done: Array,
    rows: Sequence[int],
    paths: Sequence[str],
    k: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[tuple[Array, Array] | None, dict[str, str]]:
    """Rows and distances, each ``[Q, k]``, by pixels, and name and reason of the images that cannot be read.

    None instead, if a query cannot be read, or too few of the others.
    """
    files = [str(catalog.path(row)) for row in done] + list(paths)
    small = read_thumbnails(files, PIXELS, (lambda count: progress(count, len(files))) if progress else None)
    squares = small.rgb.reshape(len(files), -1)
    readable = np.array([place for place in range(len(done)) if place not in small.problems], np.int64)
    lost = {catalog.names[done[place]]: why for place, why in small.problems.items() if place < len(done)}
    asked = range(len(done), len(files))
    others = len(readable) - any(row >= 0 for row in rows)  # a query of the file is no neighbour of itself
    if others < k or any(place in small.problems for place in asked):
        return None, lost
    place_of = {int(done[place]): count for count, place in enumerate(readable)}
    leave_out = [place_of.get(row, -1) for row in rows]
    places, distances = nearest(squares[readable], squares[len(done) :], k, "l2", leave_out=leave_out)
    return (done[readable[places]], distances / (255 * PIXELS * np.sqrt(3))), lost


def _answers(found: tuple[Array, Array] | None, place: int) -> list[tuple[int, float]]:
    """Row and distance of each neighbour of one query, out of those of all queries, ``[Q, k]`` each."""
    return [] if found is None else list(zip(found[0][place].tolist(), found[1][place].tolist(), strict=True))


def _query(
    catalog: Catalog,
    digests: Array,
    row: int,
    path: str,
    by_codes: list[tuple[int, float]],
    by_pixels: list[tuple[int, float]],
) -> Query:
    """One query (row -1: a new image) with its neighbours, in which copies of it are known by their files' digests."""
    own = int(digests[row]) if row >= 0 else file_digest(path)
    label = int(catalog.labels[row]) if row >= 0 else -1
    both = [
        tuple(
            _neighbour(catalog, found, distance, own != 0 and int(digests[found]) == own)
            for found, distance in answers
        )
        for answers in (by_codes, by_pixels)
    ]
    name = catalog.names[row] if row >= 0 else Path(path).name
    return Query(name, path, row, label, _class_name(catalog, label), both[0], both[1])


def _neighbour(catalog: Catalog, row: int, distance: float, same_file: bool) -> Neighbour:
    label = int(catalog.labels[row])
    copy = same_file or distance == 0
    return Neighbour(row, catalog.names[row], label, _class_name(catalog, label), distance, copy)


def _class_name(catalog: Catalog, label: int) -> str | None:
    return catalog.classes[label] if label >= 0 else None
