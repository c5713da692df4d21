"""What is wrong, or may be wrong, with the images and their labels: each finding with the images concerned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice import quick_probes
from cnncodes.advice.copies import near_pairs
from cnncodes.advice.evidence import Evidence
from cnncodes.advice.facts import Case, Finding
from cnncodes.advice.sample import Sample
from cnncodes.advice.strays import (
    at_most,
    far_from_others,
    highest_of_dark,
    mean_over_positions,
)
from cnncodes.advice.thresholds import Thresholds
from cnncodes.core.errors import ImageError
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.decode import decode
from cnncodes.images.readers import NOTES

Array = npt.NDArray[Any]

MOST_NAMED = 10  # cases listed per finding


def find_problems(
    catalog: Catalog, split: Split, same: Array, sample: Sample, evidence: Evidence, thresholds: Thresholds
) -> tuple[Finding, ...]:
    """Everything that should be said about the data; ``same`` is of :func:`cnncodes.images.digests.identical_files`."""
    part = _parts_of(catalog, split)
    found = [
        *_files(sample),
        *_classes(catalog, part),
        *_sizes(catalog, split, evidence, thresholds),
        *_identical(catalog, part, same),
        *_near(catalog, part, same, sample, thresholds),
        *_strays(catalog, sample, thresholds),
        *_labels(catalog, split, sample, evidence, thresholds),
    ]
    return tuple(finding for finding in found if finding.cases or finding.kind == "imbalance")


def _parts_of(catalog: Catalog, split: Split) -> Array:
    """What each row is for: 1 to fit or choose with, 3 to test (as :data:`SPLITS`), 0 neither; int64 ``[N]``."""
    part = np.zeros(len(catalog), np.int64)
    part[np.concatenate([split.train, split.choose])] = SPLITS.index("train")
    part[split.test] = SPLITS.index("test")
    return part


def _files(sample: Sample) -> list[Finding]:
    """Files that cannot be read, and those that are read though something is amiss with them."""
    cases = [Case((name,), values={"reason": reason}) for name, reason in sample.problems.items()]
    amiss = {kind: [Case((name,)) for name, kinds in sample.notes.items() if kind in kinds] for kind in NOTES}
    return [
        _listed("unreadable", cases, looked=len(sample.rows) + len(cases)),
        *(_listed(kind, of_kind) for kind, of_kind in amiss.items()),
    ]


def _listed(kind: str, cases: list[Case], **values: Any) -> Finding:
    """A finding with the number of its cases, and the first of them."""
    return Finding(kind, {"count": len(cases), **values}, tuple(cases[:MOST_NAMED]))


def _classes(catalog: Catalog, part: Array) -> list[Finding]:
    """Classes that only one side of the split has, and names that look like one class written in two ways."""
    train, test = (np.unique(catalog.labels[part == place]) for place in (1, 3))
    missing = np.setdiff1d(train, test) if len(test) else train[:0]
    found = [
        _listed(kind, [Case((catalog.classes[label],)) for label in labels if label >= 0])
        for kind, labels in (
            ("classes-not-learned", np.setdiff1d(test, train)),
            ("classes-not-tested", missing),
        )
    ]
    spelled: dict[str, list[str]] = {}
    for name in catalog.classes:
        spelled.setdefault("".join(c for c in name.casefold() if c.isalnum()), []).append(name)
    alike = [Case(tuple(names)) for key, names in spelled.items() if key and len(names) > 1]
    return [*found, _listed("classes-alike", alike)]


def _sizes(catalog: Catalog, split: Split, evidence: Evidence, thresholds: Thresholds) -> list[Finding]:
    counts = np.bincount(catalog.labels[split.train], minlength=len(catalog.classes))
    few = np.flatnonzero((counts > 0) & (counts < thresholds.few_per_class))
    cases = [
        Case((catalog.classes[k],), values={"images": int(counts[k])}) for k in few[np.argsort(counts[few])]
    ]
    found, size = [_listed("few", cases, least=thresholds.few_per_class)], evidence.size
    if size.largest_per_class >= thresholds.imbalance * size.least_per_class:
        values = {"largest": size.largest_class, "most": size.largest_per_class}
        found.append(
            Finding("imbalance", {**values, "smallest": size.least_class, "least": size.least_per_class})
        )
    return found


def _identical(catalog: Catalog, part: Array, same: Array) -> list[Finding]:
    across: list[Case] = []
    contradicting: list[Case] = []
    for group in np.unique(same[same >= 0]):
        rows = np.flatnonzero(same == group)
        case = _case(catalog, rows)
        on_both_sides = {1, 3} <= set(part[rows].tolist())
        labels = set(catalog.labels[rows][catalog.labels[rows] >= 0].tolist())
        if not (on_both_sides or len(labels) > 1) or not _is_image(catalog.files[int(rows[0])]):
            continue
        if on_both_sides:
            across.append(case)
        if len(labels) > 1:
            contradicting.append(case)
    return [_listed("identical-labels", contradicting), _listed("identical", across)]


def _is_image(file: str) -> bool:
    """Whether it can be decoded: broken files with the same bytes are no picture that occurs twice."""
    try:
        decode(file)
    except ImageError:
        return False
    return True


def _case(catalog: Catalog, rows: Iterable[int], **values: Any) -> Case:
    """Some images of a catalog, and what is known about them."""
    rows = tuple(int(row) for row in rows)
    return Case(tuple(catalog.names[row] for row in rows), rows, values)


def _near(
    catalog: Catalog, part: Array, same: Array, sample: Sample, thresholds: Thresholds
) -> list[Finding]:
    pairs, distances = near_pairs(sample.codes[sample.deepest], thresholds.near_copy)
    rows = sample.rows[pairs]
    first, second = rows[:, 0], rows[:, 1]
    across = (part[first] != part[second]) & ((same[first] < 0) | (same[first] != same[second]))
    cases = [
        _case(catalog, pair, distance=float(distance))
        for pair, distance in zip(rows[across], distances[across], strict=True)
    ]
    return [_listed("near", cases)]


def _strays(catalog: Catalog, sample: Sample, thresholds: Thresholds) -> list[Finding]:
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
    return [
        Finding("one-colour", values, tuple(cases)),
        Finding("far", {"count": len(far)}, tuple(farthest)),
    ]


def _labels(
    catalog: Catalog, split: Split, sample: Sample, evidence: Evidence, thresholds: Thresholds
) -> list[Finding]:
    """Images that a classifier which has not seen them takes for another class with great certainty.

    It reads the stage that tells the classes best. Test images are looked at, too: this chooses nothing.
    """
    known = np.flatnonzero(sample.labels >= 0)
    labels = sample.labels[known]
    if len(np.unique(labels)) < 2 or not evidence.depths:
        return []
    stage = max(evidence.depths, key=lambda depth: depth.linear).stage
    kernel = quick_probes.centred(quick_probes.kernel_of(sample.codes[stage][known]))
    scores = quick_probes.ridge_left_out(quick_probes.spectrum_of(kernel), labels)
    probabilities = quick_probes.calibrated(scores, labels)
    own = probabilities[np.arange(len(labels)), labels]
    other = probabilities.argmax(axis=1)
    largest = probabilities.max(axis=1)
    suspected = np.flatnonzero((own < thresholds.wrong_label) & (largest > thresholds.wrong_label_other))
    names = [catalog.classes[label] for label in np.unique(catalog.labels[split.train])]
    suspected = suspected[np.argsort(own[suspected], kind="stable")]
    listed = [
        _case(
            catalog,
            [sample.rows[known[row]]],
            seems=names[int(other[row])],
            label=names[int(labels[row])],
            certainty=float(largest[row]),
        )
        for row in suspected
    ]
    return [_listed("labels", listed)]
