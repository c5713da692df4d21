"""What the templates show beside the records themselves: tables in their order, the map's document, and charts as numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.advice.evidence import Evidence
from cnncodes.advice.facts import case_text, finding_text
from cnncodes.evaluation import Evaluation
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.page.images import one_file
from cnncodes.page.record import CORRECTED, Bytes, RunPage, again
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from cnncodes.training.folder import Epoch
    from cnncodes.training.range_test import RangeTest

MOST_NAMED = 500  # mistakes listed by name after those with their image
WIDTH, HEIGHT = 440, 260  # of the SVG's own units
LEFT, RIGHT, TOP, BOTTOM = 46, 428, 14, 210  # of the area of the lines
LETTER = 6.6  # width of a letter of the labels; names that would touch each other stand upright
MOST_POINTS = 60  # of a line; more are drawn as a line only


def views(page: RunPage) -> dict[str, Any]:
    """Everything that the templates read as ``view``."""
    report, found = page.report, page.report.evaluation
    wrong = page.answers.mistakes if page.answers else ()

    def known(rows: tuple[int, ...]) -> list[int]:
        return [row for row in dict.fromkeys(rows) if row in page.cards or row in page.missing]

    shown = [answer for answer in wrong if known((answer.row,))]
    # a run that went on without --weights took those of before: anew, or elsewhere, they must be named
    there = "--weights" in page.command or page.weights in ("", "imagenet")
    named = () if there else ("--weights", page.weights)
    model, folder = shlex.quote(report.model), shlex.quote(report.folder)
    return {
        "classes": class_counts(page.catalog),
        "figures": None if found is None else figures(found),
        "findings": [
            {
                "text": finding_text(finding),
                "names": [case_text(finding.kind, case) for case in finding.cases],
                "rows": known(finding.rows),
            }
            for finding in report.problems
            if finding.kind != "unreadable"  # these are listed with all others that could not be read
        ],
        "depths": report.advice and depth_chart(report.advice.evidence),
        "training": training(page.epochs) if page.epochs else None,
        "rates": rate_chart(page.range_test) if page.range_test and page.range_test.rates else None,
        "mistakes": {"shown": shown, "listed": wrong[len(shown) : len(shown) + MOST_NAMED]},
        "map": map_of(page) if page.map and len(page.map.tiles) else None,
        "commands": {
            "predict": report.command,
            "evaluate": f"cnncodes evaluate {model} more-photos/",
            "again": again(page.command, *named, "--overwrite"),
            "corrected": again(page.command, *named, *CORRECTED),
            "report": f"cnncodes report {folder}",
        },
    }


@dataclass(frozen=True)
class ClassCounts:
    """How many images of a class there are, and for what."""

    name: str
    train: int
    val: int
    test: int
    unused: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.train + self.val + self.test + self.unused


def class_counts(catalog: Catalog) -> list[ClassCounts]:
    """The classes, the largest first."""
    places = [SPLITS.index(name) for name in ("train", "val", "test", "none")]
    table = catalog.counts()[:-1][:, places].tolist()
    counts = [ClassCounts(name, *row) for name, row in zip(catalog.classes, table, strict=True)]
    return sorted(counts, key=lambda one: -one.total)


def figures(found: Evaluation) -> dict[str, Any]:
    """What is said of an evaluation: which class is the largest, which confusions come first, which classes are hardest."""
    worst = found.worst_confusions(2)
    return {
        "largest": max(found.per_class, key=lambda one: one.support).name,
        "right": round(found.n * found.top1),
        "worst": [pair for pair in worst if pair.count > 1] or list(worst[:1]),
        "support": {one.name: one.support for one in found.per_class},
        "hardest": sorted(found.per_class, key=lambda one: (one.recall is None, one.recall or 0.0)),
    }


def depth_chart(evidence: Evidence) -> Chart | None:
    """Accuracy of simple classifiers on each stage's codes."""
    depths = evidence.depths
    neighbours = [100 * depth.neighbours for depth in depths]
    return line_chart(
        f"Accuracy of simple classifiers on the codes of each stage ({evidence.judged:,} images)",
        [depth.stage for depth in depths],
        (
            Line("linear classifier", [100 * d.linear for d in depths], "one", [100 * d.linear_se for d in depths]),
            Line("5 nearest neighbours", neighbours, "two", [100 * d.neighbours_se for d in depths]),
        ),
        unit=" %",
        level=(100 * evidence.majority, "always the largest class"),
    )  # fmt: skip


def training(epochs: tuple[Epoch, ...]) -> dict[str, Any]:
    """Loss, accuracy and learning rate of a training by epoch, and which epoch was kept."""
    watched = [place for place, epoch in enumerate(epochs) if epoch.val_loss is not None]
    kept = min(watched, key=lambda place: epochs[place].val_loss or 0.0) if watched else len(epochs) - 1

    def chart(title: str, *lines: Line, **options: Any) -> Chart | None:
        drawn = [line for line in lines if any(value is not None for value in line.values)]
        names = [str(epoch.epoch) for epoch in epochs]
        return line_chart(title, names, drawn, marked=kept, below="epoch", **options)

    losses = [epoch.loss for epoch in epochs], [epoch.val_loss for epoch in epochs]
    learned = [100 * epoch.accuracy for epoch in epochs]
    accuracy = [None if epoch.val_accuracy is None else 100 * epoch.val_accuracy for epoch in epochs]
    rates = Line("learning rate", [epoch.learning_rate for epoch in epochs], "three")
    seen, held = "training images", "validation images"
    charts = (
        chart("Loss (lower is better)", Line(seen, losses[0]), Line(held, losses[1], "two")),
        chart("Accuracy", Line(seen, learned), Line(held, accuracy, "two"), unit=" %"),
        chart(
            "Learning rate at the end of each epoch",
            rates,
            logarithmic=all(epoch.learning_rate > 0 for epoch in epochs),
        ),
    )
    return {"charts": [made for made in charts if made], "kept": epochs[kept].epoch, "watched": bool(watched)}


def rate_chart(test: RangeTest) -> Chart | None:
    """The loss at each learning rate that was tried."""
    nearest = min(range(len(test.rates)), key=lambda place: abs(math.log(test.rates[place] / test.rate)))
    most = 3 * min(test.smoothed)
    return line_chart(
        "Loss at each learning rate tried",
        [f"{rate:.1g}" for rate in test.rates],
        (Line("loss, smoothed", [min(loss, most) for loss in test.smoothed]),),
        marked=nearest,
        below="learning rate",
        every=max(1, len(test.rates) // 5),
    )


def map_of(page: RunPage) -> dict[str, Any]:
    """All thumbnails of the map as one image, and what its script reads.

    For each image x, y, class, part, name, neighbours, and the predicted class and sureness where it was tested. Places are
    in ten thousandths; a class is its place, -1 for none.
    """
    drawn = page.map
    assert drawn is not None
    said = {answer.row: answer for answer in page.answers.answers} if page.answers else {}
    place_of = {name: place for place, name in enumerate(page.catalog.classes)}
    entries: list[list[object]] = []
    for place, row in enumerate(drawn.rows.tolist()):
        x, y = np.round(10_000 * drawn.points[place]).astype(int).tolist()
        label, part = int(page.catalog.labels[row]), int(page.catalog.splits[row])
        entries.append([x, y, label, part, plain(page.catalog.names[row]), drawn.neighbours[place].tolist()])
        if row in said:
            entries[-1] += [place_of[said[row].predicted], round(said[row].sureness, 3)]
    return map_document(drawn.tiles, entries, classes=[plain(name) for name in page.catalog.classes])


def map_document(tiles: Bytes, entries: list[list[object]], **more: object) -> dict[str, Any]:
    """The thumbnails of a map as one image, and the document with their entries."""
    image, side, columns = one_file(tiles)
    return {"image": image, "document": {**more, "side": side, "columns": columns, "images": entries}}


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value for each place, None where there is none; errors are half lengths of bars."""

    label: str
    values: Sequence[float | None]
    kind: str = "one"  # one, two, three: the colour
    errors: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """A line where it is drawn: its points, ``(x, y, what the pointer reads)``, and bars, ``(x, top, bottom)``."""

    label: str
    kind: str
    path: str
    points: tuple[tuple[float, float, str], ...]
    bars: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A chart where it is drawn, as ``templates/macros.html`` writes it."""

    title: str  # also what a screen reader says
    below: str  # what the x axis shows; empty where the names stand upright
    upright: bool  # whether the names of the places do not fit side by side
    ticks: tuple[tuple[float, str], ...]  # of the y axis: place and text
    names: tuple[tuple[float, str], ...]  # along the x axis
    curves: tuple[Curve, ...]
    marked: float | None  # x of a vertical line
    level: tuple[float, str] | None  # y of a dashed horizontal line, and its name


def line_chart(
    title: str,
    places: Sequence[str],
    lines: Sequence[Line],
    *,
    unit: str = "",
    level: tuple[float, str] | None = None,
    logarithmic: bool = False,
    marked: int | None = None,
    below: str = "",
    every: int | None = None,
) -> Chart | None:
    """Lines over named, evenly spaced places; None where no value can be drawn.

    ``unit`` follows the numbers of the y axis; ``level`` is a dashed horizontal line with its name, ``marked`` a place with a
    vertical one. ``every`` so many places are named: by default all, or some ten where they are numbers.
    """
    there = [
        [
            (place, value, line.errors[place] if line.errors else 0.0)
            for place, value in enumerate(line.values)
            if value is not None and math.isfinite(value) and (value > 0 or not logarithmic)
        ]
        for line in lines
    ]
    ends = [end for values in there for _, value, error in values for end in (value - error, value + error)]
    if not ends:
        return None
    ends += [] if level is None else [level[0]]
    low, high = min(ends), max(ends)
    ticks = _decades(low, high) if logarithmic else nice_ticks(low, high)
    first, last = (math.log10(tick) if logarithmic else tick for tick in (ticks[0], ticks[-1]))

    def x(place: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * (place + 0.5) / len(places), 1)

    def y(value: float) -> float:
        value = math.log10(value) if logarithmic else value
        return round(BOTTOM - (BOTTOM - TOP) * (value - first) / (last - first), 1)

    def curve(line: Line, values: list[tuple[int, float, float]]) -> Curve:
        path = " ".join(f"{x(place)},{y(value)}" for place, value, _ in values)
        points = [
            (x(place), y(value), f"{line.label}, {places[place]}: {value:.3g}{unit}")
            for place, value, _ in values
        ]
        bars = [(x(place), y(value + error), y(value - error)) for place, value, error in values if error]
        few = len(places) <= MOST_POINTS
        return Curve(line.label, line.kind, path, tuple(points if few else ()), tuple(bars))

    every = every or (max(1, math.ceil(len(places) / 10)) if all(map(str.isdigit, places)) else 1)
    room = every * (RIGHT - LEFT) / len(places)
    upright = every == 1 and LETTER * (max(map(len, places)) + 1) > room
    return Chart(
        title,
        "" if upright else below,
        upright,
        tuple((y(tick), f"{tick:g}{unit}") for tick in ticks),
        tuple((x(place), places[place]) for place in range(0, len(places), every)),
        tuple(map(curve, lines, there)),
        None if marked is None else x(marked),
        None if level is None else (y(level[0]), level[1]),
    )


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers around a range: at most ``most`` steps of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
