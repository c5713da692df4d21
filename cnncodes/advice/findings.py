"""What is wrong, or may be wrong, with the images and their labels: each finding with the files concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice import quick_probes
from cnncodes.advice.copies import near_pairs
from cnncodes.advice.evidence import Evidence
from cnncodes.advice.sample import Sample
from cnncodes.advice.strays import (
    at_most,
    colour_words,
    far_from_others,
    far_words,
    highest_of_dark,
    mean_over_positions,
    stretch_words,
)
from cnncodes.advice.thresholds import Thresholds
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.notes import noted

Array = npt.NDArray[Any]

MOST_NAMED = 10  # files per finding; the text has their number


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should look at.

    Parameters
    ----------
    kind : str
        One of: few, imbalance, identical, identical-labels, near, unreadable, one-colour, far, classes, labels, and those
        of :data:`~cnncodes.images.notes.NOTES`.
    text : str
        One sentence.
    names : tuple of str
        Files concerned, the clearest cases first, with what is said about each.
    files : tuple of str
        Names in the catalog of the images that ``names`` speaks of, in the same order; empty where it is not about
        single images.
    rows : tuple of int
        Rows in the catalog of all images that ``names`` speaks of, in the same order.
    """

    kind: str
    text: str
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


def find_problems(
    catalog: Catalog, split: Split, same: Array, sample: Sample, evidence: Evidence, thresholds: Thresholds
) -> tuple[Finding, ...]:
    """Everything that should be said about the data.

    Parameters
    ----------
    catalog, split, sample, evidence, thresholds
    same : int64 array [N]
        Of :func:`cnncodes.images.digests.identical_files`.
    """
    part = parts_of(catalog, split)
    found = [
        *_unreadable(sample),
        *_amiss(sample),
        *_classes(catalog, part),
        *_sizes(catalog, split, evidence, thresholds),
        *_identical(catalog, part, same),
        *_near(catalog, part, same, sample, thresholds),
        *_strays(catalog, sample, thresholds),
        *_labels(catalog, sample, evidence, thresholds),
    ]
    return tuple(found)


def parts_of(catalog: Catalog, split: Split) -> Array:
    """What each row is for: 1 to fit or choose with, 3 to test (as :data:`SPLITS`), 0 neither; int64 ``[N]``."""
    part = np.zeros(len(catalog), np.int64)
    part[np.concatenate([split.train, split.choose])] = SPLITS.index("train")
    part[split.test] = SPLITS.index("test")
    return part


def _unreadable(sample: Sample) -> list[Finding]:
    if not sample.problems:
        return []
    looked = len(sample.rows) + len(sample.problems)
    names = tuple(f"{name}: {reason}" for name, reason in list(sample.problems.items())[:MOST_NAMED])
    text = f"{_count(len(sample.problems), 'image')} of the {looked:,} looked at cannot be read"
    return [Finding("unreadable", text, names)]


def _amiss(sample: Sample) -> list[Finding]:
    """Files that are read though something is amiss with them."""
    return [
        Finding(kind, text, names[:MOST_NAMED], names[:MOST_NAMED])
        for kind, text, names in noted(sample.notes)
    ]


def _classes(catalog: Catalog, part: Array) -> list[Finding]:
    """Classes that only one side of the split has, and names that look like one class written in two ways."""
    found = []
    train, test = (np.unique(catalog.labels[part == place]) for place in (1, 3))
    alone = [catalog.classes[label] for label in np.setdiff1d(test, train) if label >= 0]
    if alone:
        text = f"{_count(len(alone), 'class', 'classes')} to test with no image to learn from"
        found.append(Finding("classes", text, tuple(alone[:MOST_NAMED])))
    missing = (
        [catalog.classes[label] for label in np.setdiff1d(train, test) if label >= 0] if len(test) else []
    )
    if missing:
        text = f"{_count(len(missing), 'class', 'classes')} to learn with no image to test"
        found.append(Finding("classes", text, tuple(missing[:MOST_NAMED])))
    spelled: dict[str, list[str]] = {}
    for name in catalog.classes:
        spelled.setdefault("".join(c for c in name.casefold() if c.isalnum()), []).append(name)
    twice = [" and ".join(map(repr, names)) for key, names in spelled.items() if key and len(names) > 1]
    if twice:
        found.append(Finding("classes", "class names that may mean the same", tuple(twice[:MOST_NAMED])))
    return found


def _sizes(catalog: Catalog, split: Split, evidence: Evidence, thresholds: Thresholds) -> list[Finding]:
    found = []
    counts = np.bincount(catalog.labels[split.train], minlength=len(catalog.classes))
    few = np.flatnonzero((counts > 0) & (counts < thresholds.few_per_class))
    if len(few):
        names = tuple(f"{catalog.classes[k]}: {counts[k]}" for k in few[np.argsort(counts[few])][:MOST_NAMED])
        text = f"{_count(len(few), 'class', 'classes')} with fewer than {thresholds.few_per_class:g} images to learn from"
        found.append(Finding("few", text, names))
    size = evidence.size
    if size.largest_per_class >= thresholds.imbalance * size.least_per_class:
        text = (
            f"the classes are uneven: {size.largest_class!r} has {size.largest_per_class:,} images to learn from and "
            f"{size.least_class!r} {size.least_per_class:,}; look at the mean per class, not at accuracy alone"
        )
        found.append(Finding("imbalance", text))
    return found


def _identical(catalog: Catalog, part: Array, same: Array) -> list[Finding]:
    across: list[list[int]] = []
    contradicting: list[list[int]] = []
    for group in np.unique(same[same >= 0]):
        rows = np.flatnonzero(same == group)
        if {1, 3} <= set(part[rows].tolist()):
            across.append(rows.tolist())
        if len(set(catalog.labels[rows][catalog.labels[rows] >= 0].tolist())) > 1:
            contradicting.append(rows.tolist())
    found = []
    if contradicting:
        text = f"{_count(len(contradicting), 'file')} that stand there twice with different labels"
        found.append(_groups("identical-labels", text, catalog, contradicting))
    if across:
        text = f"{_count(len(across), 'file')} both among the images to learn from and among those to test"
        found.append(_groups("identical", text, catalog, across))
    return found


def _groups(kind: str, text: str, catalog: Catalog, groups: list[list[int]]) -> Finding:
    """A finding on images that are equal to each other."""
    shown = groups[:MOST_NAMED]
    names = tuple(" = ".join(catalog.names[row] for row in rows) for rows in shown)
    return Finding(kind, text, names, rows=tuple(row for rows in shown for row in rows))


def _near(
    catalog: Catalog, part: Array, same: Array, sample: Sample, thresholds: Thresholds
) -> list[Finding]:
    pairs, distances = near_pairs(sample.codes[sample.deepest], thresholds.near_copy)
    rows = sample.rows[pairs]
    first, second = rows[:, 0], rows[:, 1]
    across = (part[first] != part[second]) & ((same[first] < 0) | (same[first] != same[second]))
    if not across.any():
        return []
    names = tuple(
        f"{catalog.names[a]} ~ {catalog.names[b]} ({distance:.3f} of the usual distance)"
        for a, b, distance in zip(first[across], second[across], distances[across], strict=True)
    )
    text = f"{_count(len(names), 'pair')} of nearly the same picture, one to learn from and one to test"
    pairs = rows[across][:MOST_NAMED]
    return [Finding("near", text, names[:MOST_NAMED], rows=tuple(pairs.ravel().tolist()))]


def _strays(catalog: Catalog, sample: Sample, thresholds: Thresholds) -> list[Finding]:
    """Images of one colour, and images unlike all the others by the last stage that still has positions."""
    found = []
    empty = np.flatnonzero(sample.one_colour >= thresholds.one_colour)
    if len(empty):
        named = empty[np.argsort(-sample.one_colour[empty], kind="stable")][:MOST_NAMED]
        files, rows = _files(catalog, sample, named)
        highest = [highest_of_dark(catalog.path(sample.rows[row])) for row in named]
        words = [
            f"{name}: {colour_words(sample.one_colour[row], value)}"
            for name, row, value in zip(files, named, highest, strict=True)
        ]
        cause = stretch_words(len(named), [value for value in highest if value is not None])
        text = f"{_count(len(empty), 'image')} of nearly one colour{cause}"
        found.append(Finding("one-colour", text, tuple(words), files, rows))
    spatial = [stage for stage in sample.codes if sample.positions[stage] > 1]
    stage = spatial[-1] if spatial else sample.deepest
    far, ratio = far_from_others(
        mean_over_positions(sample.codes[stage], sample.positions[stage]), thresholds.stray_distance
    )
    other = ~np.isin(far, empty)
    far, ratio = far[other], ratio[other]
    if len(far):
        most = min(MOST_NAMED, at_most(len(sample.rows)))
        files, rows = _files(catalog, sample, far[:most])
        words = [f"{name}: {far_words(value)}" for name, value in zip(files, ratio[:most], strict=True)]
        text = f"{_count(len(far), 'image')} unlike all the others: look whether they belong in the set"
        found.append(Finding("far", text, tuple(words), files, rows))
    return found


def _files(catalog: Catalog, sample: Sample, places: Array) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and rows in the catalog of images of a sample."""
    rows = tuple(int(sample.rows[place]) for place in places)
    return tuple(catalog.names[row] for row in rows), rows


def _labels(catalog: Catalog, sample: Sample, evidence: Evidence, thresholds: Thresholds) -> list[Finding]:
    """Images that a classifier which has not seen them takes for another class with great certainty.

    It reads the stage that tells the classes best. Test images are looked at, too: this chooses nothing.
    """
    known = np.flatnonzero(sample.labels >= 0)
    labels = sample.labels[known]
    if len(np.unique(labels)) < 2:
        return []
    stage = max(evidence.depths, key=lambda depth: depth.linear).stage
    kernel = quick_probes.centred(quick_probes.kernel_of(sample.codes[stage][known]))
    scores = quick_probes.ridge_left_out(quick_probes.spectrum_of(kernel), labels).scores
    probabilities = quick_probes.calibrated(scores, labels)
    own = probabilities[np.arange(len(labels)), labels]
    other = probabilities.argmax(axis=1)
    largest = probabilities.max(axis=1)
    suspected = np.flatnonzero((own < thresholds.wrong_label) & (largest > thresholds.wrong_label_other))
    if not len(suspected):
        return []
    # Places of labels among the classes with training images, back to the catalog's.
    names = {int(place): catalog.classes[label] for place, label in _places(catalog, sample)}
    suspected = suspected[np.argsort(own[suspected], kind="stable")]
    listed = tuple(
        f"{catalog.names[sample.rows[known[row]]]}: looks like {names[int(other[row])]!r} "
        f"({100 * largest[row]:.0f} %), not {names[int(labels[row])]!r}"
        for row in suspected[:MOST_NAMED]
    )
    text = f"{_count(len(suspected), 'label')} may be wrong: a classifier that has not seen the image is sure of another"
    return [Finding("labels", text, listed, *_files(catalog, sample, known[suspected[:MOST_NAMED]]))]


def _places(catalog: Catalog, sample: Sample) -> list[tuple[int, int]]:
    pairs = {
        (int(place), int(catalog.labels[row])) for place, row in zip(sample.labels, sample.rows, strict=True)
    }
    return sorted(pair for pair in pairs if pair[0] >= 0)


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
