"""Images that a person should look at: of one colour, unlike all the others, or among images of another class.

None of this says that an image is wrong. It says where to look first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.advice.sentences import stray_text
from cnncodes.advice.thresholds import Thresholds, load_thresholds
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import mean_of_crops, nearest
from cnncodes.core.records import from_json, to_value
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.decode import sixteen_bit_range

Array = npt.NDArray[Any]
Kind: TypeAlias = Literal["one-colour", "far", "labels", "identical", "near"]

NEIGHBOURS = 10
LEAST_IMAGES = 50  # with fewer, what is usual among them is not known
MOST_IMAGES = 10_000  # compared with each other, a minute on two cores; of more, so many are drawn
_LEVELS = (
    8  # of 255: as far from the median colour a pixel counts as that colour; JPEG moves flat areas by less
)
_SIDE = 64  # pixels of a side are enough to see that a picture is empty
_LEAST_SPREAD = 0.05  # of the log distance: where nearly all distances are equal, 5 % more is no news
_VOTES = (10, 9, 8)  # of the nearest, for one other class
MOST_DECODED = 2_000  # to see whether they are empty; some seconds
_FEW = 5  # so many are named however small the set is


@dataclass(frozen=True)
class Stray:
    """One image to look at.

    Parameters
    ----------
    name : str
        As the catalog has it.
    row : int
        Of the catalog or codes file.
    kind : str
        ``one-colour``, ``far``, ``labels``, ``identical`` or ``near``.
    value : float
        By kind: the part of the pixels that have the one colour; how many times the usual distance to its 10th
        nearest image; how many of the 10 nearest have another class; 0; the distance as a part of the usual.
    values : dict
        The same with what else is known; :func:`cnncodes.advice.sentences.stray_text` makes a sentence of it.
    """

    name: str
    row: int
    kind: Kind
    value: float
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Strays:
    """What :func:`find_strays` found.

    Parameters
    ----------
    images : int
        How many were compared.
    of : int
        How many the file has codes of.
    decoded : int
        How many were looked at for being of one colour.
    stage : str
        Whose codes said which images are far from the others.
    found : tuple of Stray
        By kind, the clearest first.
    """

    images: int
    of: int
    decoded: int
    stage: str
    found: tuple[Stray, ...]

    def to_json(self) -> str:
        """JSON object with one entry per field, and a sentence on each stray."""
        values = to_value(self)
        for stray, entry in zip(self.found, values["found"], strict=True):
            entry["text"] = stray_text(stray)
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Strays:
        """Inverse of :meth:`to_json`; raises CnnCodesError for anything else."""
        return from_json(text, cls, "the list of strays")


def highest_of_dark(path: str | Path) -> int | None:
    """Largest value of a 16-bit image that uses a quarter of the range at most, as cameras of 10 to 14 bits write them.

    Decoded they are nearly black. None of any other image, and of one that is black throughout.
    """
    values = sixteen_bit_range(path)
    return values[1] if values is not None and 0 < values[1] < 2**14 else None


def at_most(images: int) -> int:
    """How many of so many images are named for one reason: one in a hundred, and a few of a small set."""
    return max(_FEW, images // 100)


def share_of_one_colour(pixels: Array) -> float:
    """Part of the pixels, 0..1, that have nearly the picture's median colour.

    Parameters
    ----------
    pixels : uint8 array [height, width, 3]
    """
    step = max(1, min(pixels.shape[:2]) // _SIDE)
    small = pixels[::step, ::step].reshape(-1, pixels.shape[-1]).astype(np.int16)
    away = np.abs(small - np.median(small, axis=0).astype(np.int16)).max(axis=1)
    return float((away <= _LEVELS).mean())


def mean_over_positions(codes: Array, positions: int) -> Array:
    """Mean of every channel: ``[n, channels]`` of codes ``[n, channels * positions]``."""
    if positions == 1:
        return codes
    rows = codes.reshape(len(codes), -1, positions)
    return np.asarray(rows.mean(axis=2, dtype=np.float32))


def far_from_others(codes: Array, threshold: float) -> tuple[Array, Array]:
    """Images whose codes are far from those of all others, the farthest first.

    An image's distance is the cosine distance to its 10th nearest (Ramaswamy, Rastogi and Shim 2000), so up to ten
    strange images of one kind do not hide each other. It is far if the logarithm of that distance is more than
    ``threshold`` standard deviations above the median, the deviation estimated from the upper quartile: a set with many
    copies has a long tail of small distances. Channel means of the last convolutional stage tell strangers best
    (:func:`mean_over_positions`); ``thresholds.toml`` has what was measured.

    Parameters
    ----------
    codes : float array [n, d]
        Finite.
    threshold : float

    Returns
    -------
    rows : int64 array [m]
    ratio : float64 array [m]
        The distance, in units of the median distance.
    """
    if len(codes) < LEAST_IMAGES:
        return np.zeros(0, np.int64), np.zeros(0)
    return unusually_far(_to_others(codes), threshold)


def _to_others(codes: Array) -> Array:
    """Distance of every image to its 10th nearest."""
    return nearest(codes, codes, NEIGHBOURS, leave_out=np.arange(len(codes)))[1][:, -1]


def unusually_far(distance: Array, threshold: float) -> tuple[Array, Array]:
    """As :func:`far_from_others`, of the distances ``[n]`` to the 10th nearest."""
    logs = np.log(np.maximum(distance, 1e-9))
    median = float(np.median(logs))
    spread = max((float(np.quantile(logs, 0.75)) - median) / 0.6745, _LEAST_SPREAD)
    rows = np.flatnonzero(logs > median + threshold * spread)
    rows = rows[np.argsort(-logs[rows], kind="stable")]
    return rows, np.exp(logs[rows] - median)


def contradicted(labels: Array, places: Array) -> tuple[Array, Array, Array]:
    """Images whose nearest neighbours have another class, the most contradicted first.

    All ten neighbours must agree on that class; nine or eight are enough as long as that names no more than one image in a
    hundred (five in a small set). Measured with five labels of each set changed, ten times: fc7 of scans finds 49 of 50 and
    nothing else; of ants_bees, textures and scenes 5 to 12 of 50, and eight to nine in ten of what it names are right.

    Parameters
    ----------
    labels : int array [n]
        -1 for none.
    places : int array [n, 10]
        The nearest images of each.

    Returns
    -------
    rows : int64 array [m]
    other : int64 array [m]
        The class of the neighbours.
    votes : int64 array [m]
        How many of them.
    """
    around = labels[places]
    other, votes = np.full(len(labels), -1), np.zeros(len(labels), np.int64)
    for label in np.unique(labels[labels >= 0]):
        count = (around == label).sum(axis=1)
        more = (count > votes) & (labels != label)
        other[more], votes[more] = label, count[more]
    votes[labels < 0] = 0
    least = _VOTES[0]
    for least_votes in _VOTES[1:]:
        if (votes >= least_votes).sum() <= at_most(len(labels)):
            least = least_votes
    rows = np.flatnonzero(votes >= least)
    rows = rows[np.argsort(-votes[rows], kind="stable")]
    return rows, other[rows], votes[rows]


def find_strays(
    codes: CodesFile | str | Path,
    *,
    root: str | Path | None = None,
    thresholds: Thresholds | None = None,
    seed: int = 0,
) -> Strays:
    """Images of a codes file that a person should look at.

    Far from the others: by the last convolutional stage that the file has, else by the deepest. Labels and
    copies: by the deepest. Of one colour: up to 2,000 images are decoded again; of more, those that are nearly copies
    of another and those farthest from the others, for that is how images without anything on them lie.

    Parameters
    ----------
    codes : CodesFile or path
    root : path, optional
        Where the images are now, if they were moved. Images that are not there are not decoded.
    thresholds : Thresholds, optional
        By default those of ``thresholds.toml``.
    seed : int, default 0
        Of the 10,000 images that are drawn from more.

    Returns
    -------
    Strays
    """
    if not isinstance(codes, CodesFile):
        with CodesFile(codes) as file:
            return find_strays(file, root=root, thresholds=thresholds, seed=seed)
    numbers = thresholds or load_thresholds()
    done = np.flatnonzero(codes.state == DONE)
    rows = done
    if len(done) > MOST_IMAGES:
        rows = np.sort(np.random.default_rng(seed).choice(done, MOST_IMAGES, replace=False))
    stages = list(codes.stages)
    spatial = [stage for stage in stages if len(codes.stage_shape(stage)) == 3]
    stage = spatial[-1] if spatial else stages[-1]
    means, deep = _means(codes, stage, rows), _means(codes, stages[-1], rows)
    # A damaged file is no reason to stop.
    finite = np.isfinite(means).all(axis=1) & np.isfinite(deep).all(axis=1)
    rows, means, deep = rows[finite], means[finite], deep[finite]
    if len(rows) < LEAST_IMAGES:
        return Strays(len(rows), len(done), 0, stage, _identical(codes.catalog, rows, codes.digests()))
    catalog, apart = codes.catalog, _to_others(means)
    places, distances = nearest(deep, deep, NEIGHBOURS, leave_out=np.arange(len(rows)))
    parts = distances / max(float(np.median(distances[:, 0])), 1e-12)  # of the usual distance to the nearest
    likely = np.lexsort((-apart, parts[:, 0] > numbers.near_copy))[:MOST_DECODED]
    empty, decoded = _of_one_colour(codes, rows[likely], root, numbers.one_colour)
    blank = {stray.row for stray in empty}  # told once, as what it is
    far, ratio = unusually_far(apart, numbers.stray_distance)
    against, other, votes = contradicted(catalog.labels[rows], places)
    strange = [
        Stray(catalog.names[row], row, "far", value, {"ratio": value})
        for row, value in zip(rows[far].tolist(), ratio.tolist(), strict=True)
        if row not in blank
    ]
    mixed_up = [
        Stray(
            catalog.names[row], row, "labels", float(count),
            {"votes": count, "other": catalog.classes[label], "label": catalog.classes[catalog.labels[row]]},
        )
        for row, label, count in zip(rows[against].tolist(), other.tolist(), votes.tolist(), strict=True)
        if row not in blank
    ]  # fmt: skip
    found = [
        *empty,
        *strange[: at_most(len(rows))],
        *mixed_up,
        *_identical(catalog, rows, codes.digests()),
        *_near(catalog, rows, places, parts, codes.digests(), numbers.near_copy),
    ]
    return Strays(len(rows), len(done), decoded, stage, tuple(found))


def _means(codes: CodesFile, stage: str, rows: Array) -> Array:
    """Channel means float32 ``[n, channels]`` of some rows of a stage, in bounded memory."""
    shape = codes.stage_shape(stage)
    positions = int(np.prod(shape[1:]))
    size = max(1, 2**24 // int(np.prod(shape)))
    parts = [
        mean_over_positions(mean_of_crops(codes.read(stage, rows[start : start + size])), positions)
        for start in range(0, len(rows), size)
    ]
    return np.concatenate([np.zeros((0, shape[0]), np.float32), *parts])


def _of_one_colour(
    codes: CodesFile, rows: Array, root: str | Path | None, least: float
) -> tuple[list[Stray], int]:
    """Those of some images that are of one colour, as the network sees them, and how many could be decoded."""
    from cnncodes.codes.stream import batches_of
    from cnncodes.images.loader import Loader

    catalog = codes.catalog.at(root)
    found, decoded = [], 0
    drawn = catalog.subset(rows)
    for batch in Loader(drawn, batches_of(len(drawn), 16), codes.settings.preprocessing):
        decoded += len(batch.rows) - len(batch.problems)
        for place, pixels in zip(batch.rows, batch.pixels, strict=True):
            share = share_of_one_colour(pixels[0])
            if place not in batch.problems and share >= least:
                values = {"share": share, "highest": highest_of_dark(drawn.reader[place])}
                found.append(Stray(drawn.names[place], int(rows[place]), "one-colour", share, values))
    return sorted(found, key=lambda stray: -stray.value), decoded


def _identical(catalog: Catalog, rows: Array, digests: Array) -> tuple[Stray, ...]:
    """Files with the same bytes that stand in two splits, or under two labels."""
    found = []
    values = digests[rows]
    order = np.argsort(values, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        members = rows[group]
        if len(members) < 2 or not digests[members[0]]:
            continue
        if differ := _differ(catalog, members.tolist()):
            first = int(members[0])
            found.append(Stray(catalog.names[first], first, "identical", 0.0, differ))
    return tuple(found)


def _near(
    catalog: Catalog, rows: Array, places: Array, parts: Array, digests: Array, most: float
) -> list[Stray]:
    """Pairs of nearly the same picture, but not the same file, in two splits or under two labels."""
    found: dict[tuple[int, int], float] = {}
    for place, column in zip(*np.nonzero(parts <= most), strict=True):
        low, high = sorted((int(rows[place]), int(rows[places[place, column]])))
        if digests[low] != digests[high] and _differ(catalog, [low, high]):
            found[low, high] = float(parts[place, column])
    named = sorted(found.items(), key=lambda entry: entry[1])[: at_most(len(rows))]
    return [
        Stray(catalog.names[low], low, "near", part, _differ(catalog, [low, high]))
        for (low, high), part in named
    ]


def _differ(catalog: Catalog, rows: list[int]) -> dict[str, Any]:
    """In what the rows of one picture contradict each other, with the names of all but the first; empty if in nothing."""
    labels = [catalog.classes[label] for label in dict.fromkeys(catalog.labels[rows].tolist()) if label >= 0]
    splits = [SPLITS[split] for split in dict.fromkeys(catalog.splits[rows].tolist())]
    if len(labels) < 2 and len(splits) < 2:
        return {}
    others = [catalog.names[row] for row in rows[1:]]
    return {"others": others, "labels": labels if len(labels) > 1 else [], "splits": splits}
