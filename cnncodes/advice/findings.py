"""What a person should look at: damaged files, strange images, the same picture twice, labels and classes that may be wrong.

None of this says that something is wrong. It says where to look first. A run's advice looks at a sample of a catalog
(:func:`find_problems`), ``cnncodes check`` at a codes file (:func:`find_strays`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.advice.evidence import Evidence, calibrated, linear_scores
from cnncodes.advice.facts import Case, Finding, stray_text
from cnncodes.advice.sample import Sample, share_of_one_colour
from cnncodes.advice.thresholds import Thresholds, load_thresholds
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import mean_of_crops, nearest
from cnncodes.core.errors import ImageError
from cnncodes.core.records import from_json, to_value
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.decode import decode, sixteen_bit_range
from cnncodes.images.digests import identical_contents
from cnncodes.images.readers import NOTES

Array = npt.NDArray[Any]
Kind: TypeAlias = Literal["one-colour", "far", "labels", "identical", "near"]

MOST_NAMED = 10  # cases listed per finding
MOST_COMPARED = 20_000  # images; all pairs of so many take about a minute on two cores
NEIGHBOURS = 10
LEAST_IMAGES = 50  # with fewer, what is usual among them is not known
MOST_STRAYS_OF = 10_000  # images of a codes file compared with each other; of more, so many are drawn
MOST_DECODED = 2_000  # to see whether they are empty; some seconds
_MOST_PARTNERS = 16  # of one image: where a whole set is one picture, pairs must not fill the memory
_LEAST_SPREAD = 0.05  # of the log distance: where nearly all distances are equal, 5 % more is no news
_VOTES = (10, 9, 8)  # of the nearest, for one other class
_FEW = 5  # so many are named however small the set is


# --- copies


def alike(group: Array) -> list[Array]:
    """Rows of each group of files with the same bytes; ``group`` is of :func:`cnncodes.images.digests.identical_files`."""
    rows = np.flatnonzero(group >= 0)
    rows = rows[np.argsort(group[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(group[rows])) + 1) if len(rows) else []


def pairs_of(group: Array) -> Array:
    """Pairs that join the images of each group, for :func:`groups_of`: int64 ``[m, 2]``."""
    pairs = [np.stack([np.full(len(rows) - 1, rows[0]), rows[1:]], axis=1) for rows in alike(group)]
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def near_pairs(codes: Array, part: float) -> tuple[Array, Array]:
    """Pairs of images whose codes are at most ``part`` of the usual (median) cosine distance to the nearest other image apart.

    The pairs, int64 ``[m, 2]`` with the smaller row first and the nearest first; and their distances in units of the usual one.
    """
    n = len(codes)
    if n < 3 or n > MOST_COMPARED:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    partner, distance = nearest(codes, codes, min(_MOST_PARTNERS, n - 1), leave_out=np.arange(n))
    median = float(np.median(distance[:, 0]))
    row, place = np.nonzero(distance <= part * median)
    pairs = np.sort(np.stack([row, partner[row, place]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)  # each pair was found from both sides
    near = distance[row, place][first]
    order = np.argsort(near, kind="stable")
    return pairs[order], near[order] / max(median, 1e-12)


def groups_of(n: int, pairs: Array) -> Array:
    """Number of the group of each of ``n`` images, int64: the least image of those joined by pairs, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    group = connected_components(graph, directed=False)[1]
    return np.asarray(np.unique(group, return_index=True)[1][group])


# --- strange images


def at_most(images: int) -> int:
    """How many of so many images are named for one reason: one in a hundred, and a few of a small set."""
    return max(_FEW, images // 100)


def highest_of_dark(path: str | Path) -> int | None:
    """Largest value of a 16-bit image that uses a quarter of the range at most (cameras of 10 to 14 bits): decoded it is nearly black. Else None."""
    values = sixteen_bit_range(path)
    return values[1] if values is not None and 0 < values[1] < 2**14 else None


def mean_over_positions(codes: Array, positions: int) -> Array:
    """Mean of every channel: ``[n, channels]`` of codes ``[n, channels * positions]``."""
    if positions == 1:
        return codes
    rows = codes.reshape(len(codes), -1, positions)
    return np.asarray(rows.mean(axis=2, dtype=np.float32))


def far_from_others(codes: Array, threshold: float) -> tuple[Array, Array]:
    """Images whose codes ``[n, d]`` are far from those of all others: rows, the farthest first, and times the usual distance.

    An image's distance is the cosine distance to its 10th nearest (Ramaswamy, Rastogi and Shim 2000), so up to ten
    strange images of one kind do not hide each other. Channel means of the last convolutional stage tell strangers best
    (:func:`mean_over_positions`); ``thresholds.toml`` has what was measured.
    """
    if len(codes) < LEAST_IMAGES:
        return np.zeros(0, np.int64), np.zeros(0)
    return unusually_far(_to_others(codes), threshold)


def _to_others(codes: Array) -> Array:
    """Distance of every image to its 10th nearest."""
    return nearest(codes, codes, NEIGHBOURS, leave_out=np.arange(len(codes)))[1][:, -1]


def unusually_far(distance: Array, threshold: float) -> tuple[Array, Array]:
    """As :func:`far_from_others`, of the distances ``[n]``; the spread of their logarithms is that of the upper quartile."""
    logs = np.log(np.maximum(distance, 1e-9))
    median = float(np.median(logs))
    spread = max((float(np.quantile(logs, 0.75)) - median) / 0.6745, _LEAST_SPREAD)
    rows = np.flatnonzero(logs > median + threshold * spread)
    rows = rows[np.argsort(-logs[rows], kind="stable")]
    return rows, np.exp(logs[rows] - median)


def contradicted(labels: Array, places: Array) -> tuple[Array, Array, Array]:
    """Images whose ten nearest (``places`` ``[n, 10]``) have another class: rows, the most contradicted first, that class, votes.

    All ten neighbours must agree on that class; nine or eight are enough as long as that names no more than one image in a
    hundred (five in a small set). Measured with five labels of each set changed, ten times: fc7 of scans finds 49 of 50 and
    nothing else; of ants_bees, textures and scenes 5 to 12 of 50, and eight to nine in ten of what it names are right.
    """
    around = labels[places]
    other, votes = np.full(len(labels), -1), np.zeros(len(labels), np.int64)
    for label in np.unique(labels[labels >= 0]):
        count = (around == label).sum(axis=1)
        more = (count > votes) & (labels != label)
        other[more], votes[more] = label, count[more]
    votes[labels < 0] = 0
    allowed = [least for least in _VOTES[1:] if (votes >= least).sum() <= at_most(len(labels))]
    rows = np.flatnonzero(votes >= min(allowed, default=_VOTES[0]))
    rows = rows[np.argsort(-votes[rows], kind="stable")]
    return rows, other[rows], votes[rows]


# --- of a catalog, by a sample


def find_problems(
    catalog: Catalog, split: Split, same: Array, sample: Sample, evidence: Evidence, thresholds: Thresholds
) -> tuple[Finding, ...]:
    """Everything that should be said about the data; ``same`` is of :func:`cnncodes.images.digests.identical_files`."""
    part = np.zeros(len(catalog), np.int64)  # what each row is for: train, test or neither
    part[np.concatenate([split.train, split.choose])] = SPLITS.index("train")
    part[split.test] = SPLITS.index("test")
    found = [
        *_files(sample),
        *_classes(catalog, part),
        *_sizes(catalog, split, evidence, thresholds),
        *_identical(catalog, part, same),
        _near(catalog, part, same, sample, thresholds),
        *_strange(catalog, sample, thresholds),
        *_labels(catalog, split, sample, evidence, thresholds),
    ]
    return tuple(finding for finding in found if finding.cases or finding.kind == "imbalance")


def _listed(kind: str, cases: list[Case], **values: Any) -> Finding:
    """A finding with the number of its cases, and the first of them."""
    return Finding(kind, {"count": len(cases), **values}, tuple(cases[:MOST_NAMED]))


def _case(catalog: Catalog, rows: Iterable[int], **values: Any) -> Case:
    """Some images of a catalog, and what is known about them."""
    rows = tuple(int(row) for row in rows)
    return Case(tuple(catalog.names[row] for row in rows), rows, values)


def _files(sample: Sample) -> list[Finding]:
    """Files that cannot be read, and those that are read though something is amiss with them."""
    cases = [Case((name,), values={"reason": reason}) for name, reason in sample.problems.items()]
    amiss = {kind: [Case((name,)) for name, kinds in sample.notes.items() if kind in kinds] for kind in NOTES}
    return [
        _listed("unreadable", cases, looked=len(sample.rows) + len(cases)),
        *(_listed(kind, of_kind) for kind, of_kind in amiss.items()),
    ]


def _classes(catalog: Catalog, part: Array) -> list[Finding]:
    """Classes that only one side of the split has, and names that look like one class written in two ways."""
    train, test = (np.unique(catalog.labels[part == place]) for place in (1, 3))
    one_sided = {
        "classes-not-learned": np.setdiff1d(test, train),
        "classes-not-tested": np.setdiff1d(train, test) if len(test) else train[:0],
    }
    found = [
        _listed(kind, [Case((catalog.classes[label],)) for label in labels if label >= 0])
        for kind, labels in one_sided.items()
    ]
    spelled: dict[str, list[str]] = {}
    for name in catalog.classes:
        spelled.setdefault("".join(c for c in name.casefold() if c.isalnum()), []).append(name)
    alike = [Case(tuple(names)) for key, names in spelled.items() if key and len(names) > 1]
    return [*found, _listed("classes-alike", alike)]


def _sizes(catalog: Catalog, split: Split, evidence: Evidence, thresholds: Thresholds) -> list[Finding]:
    counts = np.bincount(catalog.labels[split.train], minlength=len(catalog.classes))
    few = np.flatnonzero((counts > 0) & (counts < thresholds.few_per_class))
    few = few[np.argsort(counts[few])]
    cases = [Case((catalog.classes[k],), values={"images": int(counts[k])}) for k in few]
    found, size = [_listed("few", cases, least=thresholds.few_per_class)], evidence.size
    if size.largest_per_class >= thresholds.imbalance * size.least_per_class:
        most = {"largest": size.largest_class, "most": size.largest_per_class}
        found.append(
            Finding("imbalance", {**most, "smallest": size.least_class, "least": size.least_per_class})
        )
    return found


def _identical(catalog: Catalog, part: Array, same: Array) -> list[Finding]:
    across: list[Case] = []
    contradicting: list[Case] = []
    for rows in alike(same):
        on_both_sides = {1, 3} <= set(part[rows].tolist())
        labels = set(catalog.labels[rows].tolist()) - {-1}
        if on_both_sides or len(labels) > 1:
            try:
                decode(catalog.files[int(rows[0])])
            except ImageError:
                continue  # broken files with the same bytes are no picture that occurs twice
            case = _case(catalog, rows)
            across += [case] if on_both_sides else []
            contradicting += [case] if len(labels) > 1 else []
    return [_listed("identical-labels", contradicting), _listed("identical", across)]


def _near(catalog: Catalog, part: Array, same: Array, sample: Sample, thresholds: Thresholds) -> Finding:
    pairs, distances = near_pairs(sample.codes[sample.deepest], thresholds.near_copy)
    rows = sample.rows[pairs]
    first, second = rows[:, 0], rows[:, 1]
    across = (part[first] != part[second]) & ((same[first] < 0) | (same[first] != same[second]))
    found = zip(rows[across], distances[across], strict=True)
    return _listed("near", [_case(catalog, pair, distance=float(distance)) for pair, distance in found])


def _strange(catalog: Catalog, sample: Sample, thresholds: Thresholds) -> list[Finding]:
    """Images of one colour, and images unlike all the others by the last stage that still has positions."""
    empty = np.flatnonzero(sample.one_colour >= thresholds.one_colour)
    cases = []
    for place in empty[np.argsort(-sample.one_colour[empty], kind="stable")][:MOST_NAMED]:
        row = sample.rows[place]
        share, highest = float(sample.one_colour[place]), highest_of_dark(catalog.reader[row])
        cases.append(_case(catalog, [row], share=share, highest=highest))
    dark = [case.values["highest"] for case in cases if case.values["highest"] is not None]
    values = {"count": len(empty), "listed": len(cases), "dark": len(dark), "highest": max(dark, default=0)}
    spatial = [stage for stage in sample.codes if sample.positions[stage] > 1]
    stage = spatial[-1] if spatial else sample.deepest
    means = mean_over_positions(sample.codes[stage], sample.positions[stage])
    far, ratio = far_from_others(means, thresholds.stray_distance)
    far, ratio = (part[~np.isin(far, empty)] for part in (far, ratio))
    most = min(MOST_NAMED, at_most(len(sample.rows)))
    farthest = [
        _case(catalog, [sample.rows[place]], ratio=float(value))
        for place, value in zip(far[:most], ratio, strict=False)
    ]
    return [Finding("one-colour", values, tuple(cases)), Finding("far", {"count": len(far)}, tuple(farthest))]


def _labels(
    catalog: Catalog, split: Split, sample: Sample, evidence: Evidence, thresholds: Thresholds
) -> list[Finding]:
    """Images that a classifier on the best stage, which has not seen them, surely takes for another class; test images, too: this chooses nothing."""
    known = np.flatnonzero(sample.labels >= 0)
    labels = sample.labels[known]
    if len(np.unique(labels)) < 2 or not evidence.depths:
        return []
    stage = max(evidence.depths, key=lambda depth: depth.linear).stage
    probabilities = calibrated(linear_scores(sample.codes[stage][known], labels), labels)
    own = probabilities[np.arange(len(labels)), labels]
    other, largest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    suspected = np.flatnonzero((own < thresholds.wrong_label) & (largest > thresholds.wrong_label_other))
    names = [catalog.classes[label] for label in np.unique(catalog.labels[split.train])]
    cases = []
    for place in suspected[np.argsort(own[suspected], kind="stable")]:
        seems, label = names[int(other[place])], names[int(labels[place])]
        row, certainty = sample.rows[known[place]], float(largest[place])
        cases.append(_case(catalog, [row], seems=seems, label=label, certainty=certainty))
    return [_listed("labels", cases)]


# --- of a codes file


@dataclass(frozen=True)
class Stray:
    """One image to look at."""

    name: str  # as the catalog has it
    row: int  # of the catalog or codes file
    kind: Kind
    value: float  # share of the pixels; times the usual distance; votes; 0; part of the usual distance
    values: dict[str, Any] = field(default_factory=dict)  # for its sentence


@dataclass(frozen=True)
class Strays:
    """What :func:`find_strays` found."""

    images: int  # how many were compared
    of: int  # how many the file has codes of
    decoded: int  # how many were looked at for being of one colour
    stage: str  # whose codes said which images are far from the others
    found: tuple[Stray, ...]  # by kind, the clearest first

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
    """
    if not isinstance(codes, CodesFile):
        with CodesFile(codes) as file:
            return find_strays(file, root=root, thresholds=thresholds, seed=seed)
    numbers = thresholds or load_thresholds()
    rows = done = np.flatnonzero(codes.state == DONE)
    if len(done) > MOST_STRAYS_OF:
        rows = np.sort(np.random.default_rng(seed).choice(done, MOST_STRAYS_OF, replace=False))
    stages = list(codes.stages)
    spatial = [stage for stage in stages if len(codes.stage_shape(stage)) == 3]
    stage = spatial[-1] if spatial else stages[-1]
    means, deep = _means(codes, stage, rows), _means(codes, stages[-1], rows)
    # A damaged file is no reason to stop.
    finite = np.isfinite(means).all(axis=1) & np.isfinite(deep).all(axis=1)
    rows, means, deep = rows[finite], means[finite], deep[finite]
    catalog, digests = codes.catalog, codes.digests()
    twice = _twice(catalog, rows, digests)
    if len(rows) < LEAST_IMAGES:
        return Strays(len(rows), len(done), 0, stage, tuple(twice))
    apart = _to_others(means)
    places, distances = nearest(deep, deep, NEIGHBOURS, leave_out=np.arange(len(rows)))
    parts = distances / max(float(np.median(distances[:, 0])), 1e-12)  # of the usual distance to the nearest
    likely = np.lexsort((-apart, parts[:, 0] > numbers.near_copy))[:MOST_DECODED]
    empty, decoded = _of_one_colour(codes, rows[likely], root, numbers.one_colour)
    blank = {stray.row for stray in empty}  # told once, as what it is

    def stray(kind: Kind, row: int, value: float, **values: Any) -> list[Stray]:
        return [] if row in blank else [Stray(catalog.names[row], int(row), kind, float(value), values)]

    far, ratio = unusually_far(apart, numbers.stray_distance)
    strange = [
        s for row, of in zip(rows[far], ratio.tolist(), strict=True) for s in stray("far", row, of, ratio=of)
    ]
    against, other, votes = contradicted(catalog.labels[rows], places)
    mixed_up: list[Stray] = []
    for row, label, count in zip(rows[against], other, votes.tolist(), strict=True):
        names = {"other": catalog.classes[label], "label": catalog.classes[catalog.labels[row]]}
        mixed_up += stray("labels", row, count, votes=count, **names)
    near = _nearly_twice(catalog, rows, places, parts <= numbers.near_copy, parts, digests)
    found = (*empty, *strange[: at_most(len(rows))], *mixed_up, *twice, *near)
    return Strays(len(rows), len(done), decoded, stage, found)


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

    drawn = codes.catalog.at(root).subset(rows)
    found, decoded = [], 0
    for batch in Loader(drawn, batches_of(len(drawn), 16), codes.settings.preprocessing):
        decoded += len(batch.rows) - len(batch.problems)
        for place, pixels in zip(batch.rows, batch.pixels, strict=True):
            share = share_of_one_colour(pixels[0])
            if place not in batch.problems and share >= least:
                values = {"share": share, "highest": highest_of_dark(drawn.reader[place])}
                found.append(Stray(drawn.names[place], int(rows[place]), "one-colour", share, values))
    return sorted(found, key=lambda stray: -stray.value), decoded


def _twice(catalog: Catalog, rows: Array, digests: Array) -> list[Stray]:
    """Files with the same bytes that stand in two splits, or under two labels."""
    groups = [rows[places].tolist() for places in alike(identical_contents(digests[rows]))]
    found = [(group[0], _differ(catalog, group)) for group in groups]
    return [Stray(catalog.names[row], row, "identical", 0.0, differ) for row, differ in found if differ]


def _nearly_twice(
    catalog: Catalog, rows: Array, places: Array, near: Array, parts: Array, digests: Array
) -> list[Stray]:
    """Pairs of nearly the same picture, but not the same file, in two splits or under two labels."""
    found: dict[tuple[int, int], float] = {}
    for place, column in zip(*np.nonzero(near), strict=True):
        low, high = sorted((int(rows[place]), int(rows[places[place, column]])))
        if digests[low] != digests[high] and _differ(catalog, [low, high]):
            found[low, high] = float(parts[place, column])
    return [
        Stray(catalog.names[pair[0]], pair[0], "near", part, _differ(catalog, pair))
        for pair, part in sorted(found.items(), key=lambda entry: entry[1])[: at_most(len(rows))]
    ]


def _differ(catalog: Catalog, rows: Iterable[int]) -> dict[str, Any]:
    """In what the rows of one picture contradict each other, with the names of all but the first; empty if in nothing."""
    rows = list(rows)
    labels = [catalog.classes[label] for label in dict.fromkeys(catalog.labels[rows].tolist()) if label >= 0]
    splits = [SPLITS[split] for split in dict.fromkeys(catalog.splits[rows].tolist())]
    if len(labels) < 2 and len(splits) < 2:
        return {}
    others = [catalog.names[row] for row in rows[1:]]
    return {"others": others, "labels": labels if len(labels) > 1 else [], "splits": splits}
