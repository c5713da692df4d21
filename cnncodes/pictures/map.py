"""Codes as a map in two dimensions: images whose codes are alike lie close together. The door to scikit-learn, umap, scipy.

Everything runs with one thread, so that a seed gives the same bits whatever the number of cores: with several, the
order in which partial sums meet decides the last bit, and t-SNE makes a different picture of it.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import Metric, mean_of_crops
from cnncodes.codes.search import nearest as nearest_rows
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import CatalogError, CodesFileError, DependencyError, OptionError, nearest
from cnncodes.core.records import to_value
from cnncodes.images import Catalog
from cnncodes.images.listing import SPLITS
from cnncodes.pictures import sheets
from cnncodes.pictures.codes_source import CodesSource, check_split, evenly, rows_of
from cnncodes.pictures.drawing import plain, show_sheet
from cnncodes.pictures.sheets import Legend, Thumbnails

if TYPE_CHECKING:
    from cnncodes.pictures.codes_source import PathLike
    from cnncodes.pictures.drawing import Array, Figure

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Method: TypeAlias = Literal["tsne", "pca", "umap"]

LABEL = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}
#: Principal components that t-SNE and UMAP start from (van der Maaten and Hinton 2008 keep 30): the neighbours are
#: found among eighty times fewer numbers than fc7 has.
COMPONENTS = 50
SMALLEST = 5  # images, and numbers of each, that t-SNE and UMAP need: fewer have no neighbourhoods
NEIGHBOURS = 10  # of each image, for the purity
MOST = 2500  # images on a grid, and on a map if nothing else is asked for: the assignment grows with the cube
WIDTH = 2400  # pixels that a grid of many images is wide; of few, tiles are at most this large:
SMALLEST_TILE, LARGEST_TILE = 36, 128
#: Of the tile's side, and pixels at least. Tiles touch, so that frames of one class grow together to a region: that
#: is seen at a glance, when each frame alone is too thin to be.
FRAME, THINNEST = 1 / 12, 4
GAP = 1  # pixels around each image, in white, where there are no classes to be told
POINTS_WIDTH, POINTS_HEIGHT = 1440, (640, 1050)  # pixels of the map of points


def codes_map(
    codes: Array,
    method: Method = "tsne",
    seed: int = 0,
    perplexity: float = 30.0,
    progress: Progress = no_progress,
) -> Floats:
    """Places of codes on a map.

    Every row is first scaled to length 1: what counts is which units fire, not how strongly.

    Parameters
    ----------
    codes : array [N, length]
    method : {"tsne", "pca", "umap"}, default "tsne"
        t-SNE and UMAP keep neighbourhoods, and their distances between groups mean little; PCA keeps the directions
        of the largest variance. t-SNE and UMAP start from the first 50 principal components. Of fewer than five
        images (or numbers) every method gives the principal components.
    seed : int, default 0
        The same codes and seed give the same bits.
    perplexity : float, default 30
        About how many neighbours count (t-SNE; for UMAP their number). At most a third of the images is used.
    progress : Progress, optional

    Returns
    -------
    float64 array [N, 2]
        In no unit; all zero if all codes are equal. t-SNE and UMAP lie: x spans at least as much as y.

    Raises
    ------
    OptionError
        If the method is not known, the perplexity is below 1, or the codes are no finite numbers ``[N, length]``.
    DependencyError
        If umap-learn is needed and missing.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows = _unit_rows(codes, method, perplexity)
    N = len(rows)
    if N < 2 or not np.any(rows != rows[0]):
        return np.zeros((N, 2))
    alone = method == "pca" or min(N, rows.shape[1]) < SMALLEST
    with threadpool_limits(limits=1):
        progress("mapping", 0.0, 1, "principal components")
        count = min(2 if alone else COMPONENTS, *rows.shape)
        # By random projections (Halko, Martinsson and Tropp 2011).
        model = PCA(count, svd_solver="randomized", random_state=seed, copy=False)
        places = np.asarray(model.fit_transform(rows))
        if not alone:
            progress("mapping", 0.1, 1, f"{LABEL[method]} of {N:,} images")
            places = (_tsne if method == "tsne" else _umap)(places, _reach(perplexity, N), seed)
    progress("mapping", 1.0, 1, "")
    out = np.zeros((N, 2))
    out[:, : min(places.shape[1], 2)] = places[:, :2]
    width, height = np.ptp(out, axis=0)
    if not alone and height > width:  # turned by a quarter: screens are wide, and the axes mean nothing
        return np.stack([out[:, 1], -out[:, 0]], axis=1)
    return out


def _reach(perplexity: float, count: int) -> float:
    """The perplexity that is used for so many images: three times it are looked at, and there must be so many."""
    return min(perplexity, (count - 1) / 3)


def _unit_rows(codes: Array, method: str, perplexity: float) -> npt.NDArray[np.float32]:
    """The rows with length 1, as float32, the one copy that a map makes; OptionError for what has no map."""
    if method not in get_args(Method):
        raise OptionError(f"method '{method}' is not known.", nearest(method, get_args(Method)))
    if not perplexity >= 1:
        raise OptionError(f"a perplexity of {perplexity:g} is not possible.", "Use 5 to 50.")
    if codes.ndim != 2:
        raise OptionError(
            f"codes of shape {codes.shape} have no map.", "Give one row for each image: [N, length]."
        )
    rows: npt.NDArray[np.float32] = codes.astype(np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise OptionError(
            f"row {int(np.argmin(finite))} of the codes is not finite ({int((~finite).sum())} of {len(rows)} are not).",
            "Leave out unreadable images: only rows whose state is 1 (done) are codes.",
        )
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    rows /= np.where(length > 0, length, 1)
    return rows


def _tsne(X: Array, perplexity: float, seed: int) -> Array:
    """t-SNE (van der Maaten and Hinton 2008) of principal components ``[N, d]``, started at the first two (Kobak and Berens 2019)."""
    from sklearn.manifold import TSNE

    start = (1e-4 * X[:, :2] / X[:, 0].std()).astype(np.float32)  # as small as theirs
    return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(X))


def _neighbours(perplexity: float) -> int:
    return max(2, round(perplexity))


def _umap(X: Array, perplexity: float, seed: int) -> Array:
    """UMAP (McInnes, Healy and Melville 2018) of rows ``[N, d]``; raises DependencyError."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what it could do with TensorFlow, and that a seed costs its threads
        try:
            from umap import UMAP
        except ImportError as error:
            raise DependencyError(
                "a UMAP map needs umap-learn, which is not installed.",
                "Run: pip install 'cnncodes[umap]', or use --method tsne.",
            ) from error
        model = UMAP(n_neighbors=_neighbours(perplexity), random_state=seed, n_jobs=1, init="pca")
        return np.asarray(model.fit_transform(X))


@dataclass(frozen=True)
class Purity:
    """Of the ten nearest neighbours of a labelled image, the share that has its class; the mean over images, without copies."""

    on_map: float  # by distance on the map
    in_codes: float  # by the cosine of the codes: what the map can show at best, roughly
    by_chance: float  # if neighbours were drawn at random


@dataclass(frozen=True, eq=False)
class CodesMap:
    """N images of a codes file on a map."""

    file: str  # name of the codes file
    weights: str  # that made the codes
    layer: str
    method: Method
    seed: int
    perplexity: float  # that was used, less than asked for where there are few images
    rows: Integers  # of the codes file, [N]
    of: int  # how many there were to choose from: images of the split that were read
    split: str  # "all", "none", "train", "val" or "test"
    catalog: Catalog  # of these images
    points: Floats  # [N, 2]: x to the right, y upwards, in no unit
    purity: Purity | None  # None where fewer than two classes, or too few images, have labels
    choice: str = ""  # why this layer, for the title; empty where it was named, or is the only one

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def label(self) -> str:
        """Name of the method with what decides it: ``t-SNE, perplexity 30, seed 0``."""
        near = {
            "tsne": f", perplexity {self.perplexity:.3g}",
            "umap": f", {_neighbours(self.perplexity)} neighbours",
        }
        return f"{LABEL[self.method]}{near.get(self.method, '')}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """The settings, the purity, and one entry with name, class, split and place for each image."""
        catalog = self.catalog
        columns = (catalog.names, self.rows.tolist(), catalog.labels, catalog.splits, self.points.tolist())
        images = [
            {"name": name, "row": row, "class": catalog.classes[label] if label >= 0 else None}
            | {"split": SPLITS[split], "x": x, "y": y}
            for name, row, label, split, (x, y) in zip(*columns, strict=True)
        ]
        named = ("weights", "layer", "method", "seed", "perplexity", "split", "of", "purity")
        return {**to_value(self, *named), "codes": self.file, "images": images}


def read_map(
    codes: PathLike | CodesSource,
    *,
    layer: str | None = None,
    method: Method = "tsne",
    seed: int = 0,
    perplexity: float = 30.0,
    split: str = "all",
    limit: int | None = MOST,
    root: PathLike | None = None,
    progress: Progress = no_progress,
) -> CodesMap:
    """The map of the images of a codes file, but for pending and unreadable ones.

    Parameters
    ----------
    codes : path of a codes file, or CodesSource
    layer : str, optional
        By default the deepest of the file.
    method, seed, perplexity, progress
        As for :func:`codes_map`.
    split : {"all", "train", "val", "test", "none"}, default "all"
    limit : int or None, default 2500
        At most so many images, spread evenly over the file; None for all, of which not all have a cell of the grid.
    root : path, optional
        Where the images are now, if they were moved.

    Raises
    ------
    CodesFileError
        If the file cannot be read, lacks the layer, or no image is left.
    OptionError
        If the split or the method is not known, or fewer than five images are left.
    """
    check_split(split, limit)
    source = CodesSource.of(codes, layer, root)
    where = f" of split '{split}'" if split != "all" else ""
    with CodesFile(source.path) as file:
        stage, choice = source.choose(file)
        try:
            usable = rows_of(file.catalog, file.state == DONE, split)
        except CatalogError as error:
            raise CodesFileError(
                f"'{source.name}' has no extracted image{where}.", "Extract first, or name another split."
            ) from error
        rows = evenly(usable, limit)
        if len(rows) < SMALLEST:
            images = f"{len(rows)} image{'s' if len(rows) > 1 else ''}{where or f' of {source.name!r}'}"
            raise OptionError(
                f"{images} make{'' if len(rows) > 1 else 's'} no map: nearness means nothing among so few.",
                f"Give {SMALLEST} or more, better hundreds; 'cnncodes show neighbours' compares a single image with others.",
            )
        values = mean_of_crops(file.read(stage, rows))
        catalog = file.catalog.at(source.root).subset(rows)
        points = codes_map(values, method, seed, perplexity, progress)
        pure = purity(values, points, catalog.labels, file.digests()[rows])
        return CodesMap(
            source.name, file.settings.weights, stage, method, seed, _reach(perplexity, len(rows)),
            rows, source.images or len(usable), split, catalog, points, pure, choice,
        )  # fmt: skip


def purity(
    codes: Array, points: Array, labels: npt.ArrayLike, digests: npt.ArrayLike | None = None
) -> Purity | None:
    """How pure the neighbourhoods are, on a map ``[N, 2]`` and in its codes ``[N, length]``; None for too few images or classes.

    Copies, of which only the first takes part, have equal codes (not all zero), or equal ``digests`` of their files (0: unknown).
    """
    known = np.flatnonzero((np.asarray(labels) >= 0) & ~_copies(codes, digests))
    own = np.asarray(labels)[known]
    count = len(known)
    if count <= NEIGHBOURS or len(np.unique(own)) < 2:
        return None

    def share(rows: Array, metric: Metric) -> float:
        places, _ = nearest_rows(rows[known], rows[known], NEIGHBOURS, metric, leave_out=np.arange(count))
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


def grid_shape(count: int, aspect: float = 4 / 3) -> tuple[int, int]:
    """Rows and columns of the smallest grid for ``count`` cells that is about ``aspect`` times as wide as high."""
    columns = max(1, math.ceil(math.sqrt(count * aspect)))
    return max(1, math.ceil(count / columns)), columns


def grid_places(points: Array, rows: int, columns: int) -> Integers:
    """A cell of its own for each point ``[N, 2]``, stretched to the grid, the sum of squared distances least (Crouse 2016)."""
    from scipy.optimize import linear_sum_assignment

    cells = np.indices((rows, columns)).reshape(2, -1).T
    cost = ((on_grid(points, rows, columns)[:, None] - cells) ** 2).sum(axis=-1)  # [N, cells]
    return np.asarray(cells[linear_sum_assignment(cost)[1]], np.int64)


def on_grid(points: Array, rows: int, columns: int) -> Floats:
    """Points ``[N, 2]`` (x, y upwards) in units of cells, their box to the outer cells' centres: row and column."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    scaled = np.where(span > 0, (points - low) / np.where(span > 0, span, 1), 0.5)  # [N, 2] in 0..1
    return np.stack([(1 - scaled[:, 1]) * (rows - 1), scaled[:, 0] * (columns - 1)], axis=1)


@dataclass(frozen=True, eq=False)
class Grid:
    """Images of a map on a grid."""

    shown: Integers  # [n] places in the map of the images that are drawn
    cells: Integers  # [n, 2] row and column of each; no two are the same
    rows: int
    columns: int
    tile: int  # side of one cell in pixels, with its frame
    labelled: bool  # whether any image has a class, which its frame tells

    @property
    def frame(self) -> int:
        """Width of the frame in the colour of the class, in pixels."""
        return max(THINNEST, round(FRAME * self.tile)) if self.labelled else GAP

    @property
    def thumbnail(self) -> int:
        """Side of the image in a cell, in pixels."""
        return self.tile - 2 * self.frame


def arrange(found: CodesMap, largest: int = MOST) -> Grid:
    """A cell for each image of the map; of more than ``largest``, so many are drawn, spread evenly over the file."""
    shown = evenly(np.arange(len(found)), largest)
    rows, columns = grid_shape(len(shown))
    cells = grid_places(found.points[shown], rows, columns)
    tile = int(np.clip(WIDTH // columns, SMALLEST_TILE, LARGEST_TILE))
    return Grid(shown, cells, rows, columns, tile, bool((found.catalog.labels[shown] >= 0).any()))


def map_thumbnails(found: CodesMap, grid: Grid, progress: Callable[[int], None] | None = None) -> Thumbnails:
    """The images of a grid, in its order and as large as its cells; ``progress`` is told how many are read."""
    return sheets.read_thumbnails(
        [found.catalog.reader[place] for place in grid.shown], grid.thumbnail, progress
    )


def draw_map(found: CodesMap, grid: Grid | None = None, thumbnails: Thumbnails | None = None) -> Figure:
    """The images themselves, framed in the colours of their classes, on the grid of :func:`arrange`."""
    grid = grid or arrange(found)
    thumbnails = thumbnails or map_thumbnails(found, grid)
    colours = sheets.label_colours(len(found.catalog.classes))[found.catalog.labels[grid.shown]]
    if not grid.labelled:
        colours[:] = 255
    tile = grid.tile
    sheet = np.full((grid.rows * tile, grid.columns * tile, 3), 255, np.uint8)
    for image, (row, column) in zip(
        sheets.framed(thumbnails.rgb, colours, grid.frame), grid.cells, strict=True
    ):
        sheet[row * tile :, column * tile :][:tile, :tile] = image
    more = [f"{len(grid.shown):,} of them are drawn."] if len(grid.shown) < len(found) else []
    more += [f"{len(lost):,} cannot be read any more (crosses)."] if (lost := thumbnails.problems) else []
    legend = Legend(found.catalog.labels, found.catalog.classes, sheet.shape[1]) if grid.labelled else None
    figure, axes = sheets.class_sheet(sheet.shape[:2], _title(found), _note(found, *more), legend)
    show_sheet(axes, sheet)
    return figure


def draw_map_points(found: CodesMap) -> Figure:
    """A point for each image in the colour of its class."""
    low, span = found.points.min(axis=0), np.ptp(found.points, axis=0)
    width = POINTS_WIDTH
    height = int(np.clip(width * span[1] / (span[0] or 1.0), *POINTS_HEIGHT))
    labels, classes = found.catalog.labels, len(found.catalog.classes)
    legend = Legend(labels, found.catalog.classes, width)
    figure, axes = sheets.class_sheet((height, width), _title(found), _note(found), legend, marks=True)
    colours = sheets.label_colours(classes) / 255
    # Both axes in one scale: distances are what a map shows.
    sides = zip((width, height), span, strict=True)
    room = 0.96 * min(side / length if length else 1.0 for side, length in sides)
    apart = (found.points - low - span / 2) * room
    x, y = width / 2 + apart[:, 0], height / 2 - apart[:, 1]
    area = float(np.clip(45_000 / len(found), 9, 80))
    # Classes take turns (in a fixed random order), so that the last does not cover all others.
    order = np.random.default_rng(0).permutation(len(found))
    for part in np.array_split(order, max(1, min(20, len(found) // 50))):
        for label in np.unique(labels[part]):
            chosen = part[labels[part] == label]
            axes.scatter(
                x[chosen], y[chosen], area, colours[label][None], marker=sheets.class_mark(int(label), classes),
                alpha=0.8, edgecolor="white", linewidth=0.4,
            )  # fmt: skip
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
    layer = f"{found.layer} codes" + (f" ({found.choice})" if found.choice else "")
    made = f"{part} images{split} by their {layer}, weights {plain(found.weights)}: {found.label}."
    codes = ""
    if found.purity is not None:
        codes = f"In the codes, {round(100 * found.purity.in_codes)} % of the {NEIGHBOURS} nearest share the class."
    return " ".join(text for text in (made, *more, codes, sheets.unwritten(found.catalog.classes)) if text)


SMALLEST_GROUP = 5  # images of a group at least; if nobody says how many, one in so many:
ONE_IN = 30
DENSE = 5  # neighbours by which HDBSCAN measures how dense a place is
VOTERS, AGREE = 5, 3  # of the nearest images of groups, so many must be of one that an image joins


def dense_groups(points: Array, smallest: int | None = None) -> Integers:
    """Groups of points ``[n, 2]`` on a map: the dense places of HDBSCAN (Campello, Moulavi and Sander 2013), leaves of its tree.

    ``smallest`` are the points of the smallest group: by default one in thirty, and five at least. Gives int64 ``[n]``: 0 is the
    largest group, -1 for points in none. On t-SNE's two numbers the groups are nearer to the classes, and fewer images are left
    over, than on 10 or 50 principal components of the codes (measured on six sets of images: docs/explore.md).
    """
    from sklearn.cluster import HDBSCAN

    least = smallest or max(SMALLEST_GROUP, len(points) // ONE_IN)
    if len(points) <= max(least, DENSE):
        return np.full(len(points), -1)
    model = HDBSCAN(least, DENSE, cluster_selection_method="leaf", copy=True)
    found = np.asarray(model.fit_predict(points), np.int64)
    sizes = np.bincount(found[found >= 0])
    number = np.empty(len(sizes), np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(found >= 0, number[found], -1) if len(sizes) else found


def join_neighbours(groups: Integers, neighbours: Integers) -> Integers:
    """Which group images join that are in none: that of three of their five nearest, int64 ``[n]``; -1 where they do not agree.

    ``groups`` ``[m]`` are those of the images that can be neighbours, -1 for none; ``neighbours`` ``[n, k]`` places in it,
    the nearest first.
    """
    near = groups[neighbours[:, :VOTERS]]
    agreeing = (near[:, :, None] == near[:, None, :]).sum(axis=2) * (near >= 0)  # [n, k]
    best = agreeing.argmax(axis=1)
    rows = np.arange(len(near))
    return np.where(agreeing[rows, best] >= AGREE, near[rows, best], -1).astype(np.int64)
