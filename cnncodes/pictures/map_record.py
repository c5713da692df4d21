"""The map of a codes file as a record: which images, where each lies, and how well the classes hold together."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import Metric, mean_of_crops, nearest
from cnncodes.errors import CatalogError, CodesFileError, OptionError
from cnncodes.errors import nearest as nearest_name
from cnncodes.images import Catalog
from cnncodes.images.listing import SPLITS
from cnncodes.pictures.map import LABEL, SMALLEST, Method, Progress, codes_map
from cnncodes.pictures.sources import CodesSource

Array = npt.NDArray[Any]

NEIGHBOURS = 10  # of each image, for the purity
MOST = 2500  # images on a map, if nothing else is asked for: as many as a grid shows


@dataclass(frozen=True)
class Purity:
    """Of the ten nearest neighbours of a labelled image, the share that has its class; the mean over images.

    Of copies only the first takes part: that an image is like itself says nothing of the codes.

    Parameters
    ----------
    on_map : float
        By distance on the map.
    in_codes : float
        By the cosine of the codes: what the map can show at best, roughly.
    by_chance : float
        If neighbours were drawn at random.
    """

    on_map: float
    in_codes: float
    by_chance: float


@dataclass(frozen=True, eq=False)
class CodesMap:
    """Images of a codes file on a map.

    Parameters
    ----------
    file : str
        Name of the codes file.
    weights, layer : str
        What made the codes.
    method : {"tsne", "pca", "umap"}
    seed : int
    perplexity : float
    rows : int array [N]
        Rows of the codes file that are on the map.
    of : int
        How many there were to choose from: images of the split that were read.
    split : {"all", "none", "train", "val", "test"}
    catalog : Catalog
        Of these N images.
    points : float array [N, 2]
        x to the right, y upwards, in no unit.
    purity : Purity or None
        None where fewer than two classes, or too few images, have labels.
    choice : str, default ""
        Why this layer, for the title; empty where it was named, or is the only one.
    """

    file: str
    weights: str
    layer: str
    method: Method
    seed: int
    perplexity: float
    rows: npt.NDArray[np.int64]
    of: int
    split: str
    catalog: Catalog
    points: npt.NDArray[np.float64]
    purity: Purity | None
    choice: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def label(self) -> str:
        """Name of the method with what decides it: ``t-SNE, perplexity 30, seed 0``."""
        settings = {"tsne": f", perplexity {self.perplexity:g}", "umap": f", {self.perplexity:g} neighbours"}
        return LABEL[self.method] + settings.get(self.method, "") + f", seed {self.seed}"

    def to_json(self) -> str:
        """JSON object: the settings, the purity, and one entry with name, class, split and place for each image."""
        names, labels, splits = self.catalog.names, self.catalog.labels, self.catalog.splits
        images = [
            {
                "name": name,
                "row": int(row),
                "class": self.catalog.classes[label] if label >= 0 else None,
                "split": SPLITS[split],
                "x": float(x),
                "y": float(y),
            }
            for name, row, label, split, (x, y) in zip(
                names, self.rows, labels, splits, self.points, strict=True
            )
        ]
        values = {
            "codes": self.file, "weights": self.weights, "layer": self.layer, "method": self.method,
            "seed": self.seed, "perplexity": self.perplexity, "split": self.split, "of": self.of,
            "purity": None if self.purity is None else vars(self.purity), "images": images,
        }  # fmt: skip
        return json.dumps(values)


def read_map(
    codes: str | os.PathLike[str] | CodesSource,
    *,
    layer: str | None = None,
    method: Method = "tsne",
    seed: int = 0,
    perplexity: float = 30.0,
    split: str = "all",
    limit: int | None = MOST,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CodesMap:
    """The map of the images of a codes file; see :func:`~cnncodes.pictures.map.codes_map`.

    Parameters
    ----------
    codes : path of a codes file, or CodesSource
        Of images by way of :func:`~cnncodes.pictures.sources.codes_for`. Images that are pending or unreadable are
        left out.
    layer : str, optional
        By default the deepest of the file.
    method, seed, perplexity
        As for :func:`~cnncodes.pictures.map.codes_map`.
    split : {"all", "train", "val", "test", "none"}, default "all"
        Only images of this split.
    limit : int or None, default 2500
        At most so many images, spread evenly over the file; None for all. More have a map too, but
        not all of them a cell of the grid.
    root : path, optional
        Where the images are now, if they were moved.
    progress : callable(share, text), optional

    Raises
    ------
    CodesFileError
        If the file cannot be read, lacks the layer, or no image is left.
    OptionError
        If the split or the method is not known, or fewer than five images are left.
    """
    if split not in ("all", *SPLITS):
        raise OptionError(f"split '{split}' is not known.", nearest_name(split, ("all", *SPLITS)))
    source = CodesSource.of(codes, layer, root)
    with CodesFile(source.path) as file:
        stage, choice = source.choose(file)
        usable = file.state == DONE
        if split != "all":
            usable &= file.catalog.splits == SPLITS.index(split)
        rows = np.flatnonzero(usable)
        if not len(rows):
            where = f" in split '{split}'" if split != "all" else ""
            raise CodesFileError(f"'{source.name}' has no extracted image{where}.", "Extract first, or name another split.")  # fmt: skip
        of = len(rows)
        rows = evenly(rows, limit)
        if len(rows) < SMALLEST:
            where = f" of split '{split}'" if split != "all" else f" of '{source.name}'"
            raise OptionError(
                f"{len(rows)} image{'s' if len(rows) > 1 else ''}{where} make{'' if len(rows) > 1 else 's'} no map: nearness means nothing among so few.",
                f"Give {SMALLEST} or more, better hundreds; 'cnncodes show neighbours' compares a single image with others.",
            )
        values = mean_of_crops(file.read(stage, rows))
        catalog = moved(file.catalog, source.root).subset(rows)
        points = codes_map(values, method, seed, perplexity, progress)
        return CodesMap(
            source.name, file.settings.weights, stage, method, seed, perplexity,
            rows, source.images or of, split, catalog, points, purity(values, points, catalog.labels, file.digests()[rows]),
            choice,
        )  # fmt: skip


def purity(
    codes: Array, points: Array, labels: npt.ArrayLike, digests: npt.ArrayLike | None = None
) -> Purity | None:
    """How pure the neighbourhoods are, on a map ``[N, 2]`` and in its codes ``[N, length]``; see :class:`Purity`.

    Copies are images of equal codes (that are not all zero), or of equal ``digests`` ``[N]`` of their files, where 0 is
    unknown. None with fewer than two classes, or with no more labelled images than ten.
    """
    known = np.flatnonzero((np.asarray(labels) >= 0) & ~_copies(codes, digests))
    own = np.asarray(labels)[known]
    count = len(known)
    if count <= NEIGHBOURS or len(np.unique(own)) < 2:
        return None

    def share(rows: Array, metric: Metric) -> float:
        places, _ = nearest(rows[known], rows[known], NEIGHBOURS, metric, leave_out=np.arange(count))
        return float((own[places] == own[:, None]).mean())

    sizes = np.bincount(own)
    by_chance = float((sizes * (sizes - 1)).sum() / (count * (count - 1)))
    return Purity(share(points, "l2"), share(codes, "cosine"), by_chance)


def _copies(codes: Array, digests: npt.ArrayLike | None) -> npt.NDArray[np.bool_]:
    """Whether a row is a copy of an earlier one."""
    seen: set[object] = set()
    out = np.zeros(len(codes), np.bool_)
    files = np.zeros(len(codes), np.uint64) if digests is None else np.asarray(digests)
    for place, (code, file) in enumerate(zip(codes, files.tolist(), strict=True)):
        marks = {hashlib.sha256(code.tobytes()).digest()} if code.any() else set()
        marks |= {file} if file else set()
        out[place] = not seen.isdisjoint(marks)
        seen |= marks
    return out


def evenly(rows: Array, limit: int | None) -> Array:
    """At most ``limit`` of the rows, spread evenly, the first and the last among them."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]


def rows_of(catalog: Catalog, usable: Array, split: str, limit: int | None) -> Array:
    """Usable rows of a split, at most ``limit`` of them; raises CatalogError if there is none."""
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")
    if split != "all":
        usable = usable & (catalog.splits == SPLITS.index(split))
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise CatalogError(f"no image is in split '{split}'.", "Name another split, or all.")
    return evenly(rows, limit)


def moved(catalog: Catalog, root: str | os.PathLike[str] | None) -> Catalog:
    """The catalog, with its images below another root."""
    if root is None:
        return catalog
    return Catalog(Path(root), catalog.names, catalog.labels, catalog.splits, catalog.classes)
