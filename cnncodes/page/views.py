"""What the templates show beside the records themselves: charts, tables in their order, the map's document."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.advice.evidence import Evidence
from cnncodes.advice.sentences import case_text, finding_text
from cnncodes.evaluation import Evaluation
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.page.charts import Chart, Line, line_chart
from cnncodes.page.images import one_file
from cnncodes.page.record import CORRECTED, RunPage, again
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from cnncodes.advice.run_record import RunReport
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.state import Epoch

MOST_NAMED = 500  # mistakes listed by name after those with their image


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
        "situations": situations(report),
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


def situations(report: RunReport) -> dict[tuple[str, str], dict[str, bool]]:
    """Of the four situations by amount and similarity: whether it is this one, the next best, and the one asked for."""
    advice = report.advice
    if advice is None:
        return {}
    return {
        (amount, similarity): {
            "here": (amount, similarity) == (advice.amount, advice.similarity),
            "next": advice.runner_up.recipe == f"{amount}-{similarity}",
            "followed": report.recipe == f"{amount}-{similarity}",
        }
        for amount in ("small", "large")
        for similarity in ("similar", "different")
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

    def chart(title: str, *lines: Line, unit: str = "", logarithmic: bool = False) -> Chart | None:
        drawn = [line for line in lines if any(value is not None for value in line.values)]
        return line_chart(
            title,
            [str(epoch.epoch) for epoch in epochs],
            drawn,
            unit=unit,
            logarithmic=logarithmic,
            marked=kept,
            below="epoch",
        )

    rates = [epoch.learning_rate for epoch in epochs]
    accuracy = [None if epoch.val_accuracy is None else 100 * epoch.val_accuracy for epoch in epochs]
    charts = (
        chart(
            "Loss (lower is better)",
            Line("training images", [epoch.loss for epoch in epochs]),
            Line("validation images", [epoch.val_loss for epoch in epochs], "two"),
        ),
        chart(
            "Accuracy",
            Line("training images", [100 * epoch.accuracy for epoch in epochs]),
            Line("validation images", accuracy, "two"),
            unit=" %",
        ),
        chart(
            "Learning rate at the end of each epoch",
            Line("learning rate", rates, "three"),
            logarithmic=all(rate > 0 for rate in rates),
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
    image, side, columns = one_file(drawn.tiles)
    return {
        "image": image,
        "document": {
            "classes": [plain(name) for name in page.catalog.classes],
            "side": side,
            "columns": columns,
            "images": entries,
        },
    }
