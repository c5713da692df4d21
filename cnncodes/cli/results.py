"""How an evaluation is printed: by `fit-linear` and by `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli.console import Reporter
from cnncodes.core.words import one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.evaluation import AverageResult, Evaluation, EvaluationResult

MOST_CLASSES = 40  # lines of the table per class on the screen; --json has all
MATRIX_CLASSES = 12  # classes up to which all confusions are shown, not only the worst
LONGEST_NAME = 14  # characters, at the head of a column of the matrix


def fit_command(codes: str, stages: tuple[str, ...]) -> str:
    """The command that fits a head to a codes file with these layers."""
    layer = (
        ""
        if {"fc7", "penultimate"} & {*stages}
        else f" --layer {stages[0]}"
        if len(stages) == 1
        else " --layer auto"
    )
    return f"cnncodes fit-linear {shell(codes)}{layer} -o model.safetensors"


def print_evaluation(
    reporter: Reporter, result: EvaluationResult, *, matrix: bool = False, models: int = 1
) -> None:
    """Accuracies, figures per class, and the confusions that matter: with ``matrix`` all, if they are few."""
    found = result.evaluation
    rows = [
        (figures.name, figures.support, percent(figures.precision), percent(figures.recall))
        for figures in sorted(
            found.per_class, key=lambda figures: figures.recall if figures.recall is not None else 2
        )
    ]
    title = f"{'tested' if models == 1 else f'the average of {models} models, tested'} on {result.how}"
    if len(rows) > MOST_CLASSES:
        title += f"; the {MOST_CLASSES} worst classes of {len(rows)}"
    reporter.table(title, ("class", "images", "precision", "recall"), rows[:MOST_CLASSES])
    reporter.result(
        f"top-1 {percent(found.top1)} (95 % interval {100 * found.top1_low:.1f} to {100 * found.top1_high:.1f})"
        f"{top5_in_words(found)}, mean per class {percent(found.mean_per_class)}; always the largest class: {percent(found.majority)}"
    )
    if result.copies:
        which = "image is a copy" if result.copies == 1 else "images are copies"
        reporter.result(
            f"{result.copies:,} further test {which} of images learned from, and left out; with "
            f"{'it' if result.copies == 1 else 'them'} top-1 would be {percent(result.top1_with_copies)}"
        )
    if matrix and len(rows) <= MATRIX_CLASSES:
        names = [shortened(name) for name in found.classes]
        reporter.table(
            "",
            ("true \\ predicted", *names),
            [(n, *row) for n, row in zip(names, found.confusion, strict=True)],
        )
    else:
        _print_confusions(reporter, result)
    if result.seen:
        who = "the model was" if models == 1 else "at least one of the models was"
        which = "these very images" if result.all_seen else f"{result.seen:,} of these {found.n:,} images"
        reporter.warn(f"{who} fitted on {which}: the figures say little about new ones")


def top5_in_words(found: Evaluation) -> str:
    """``, top-5 82.3 %``, where the classes are so many that it says something."""
    return f", top-5 {percent(found.top5)}" if found.top5_tells and found.top5 is not None else ""


def print_calibration(reporter: Reporter, result: EvaluationResult) -> None:
    """How far the probabilities can be believed."""
    found = result.calibration
    of = "" if found.of == "probabilities" else " of softmax(score): this SVM has no probabilities"
    reporter.result(f"calibration error{of} {percent(found.ece)} ({len(found.bins)} bins)")


def print_average(reporter: Reporter, result: AverageResult, names: list[str]) -> None:
    """A line for each model and one for their average, all on the same images."""
    lines = [*zip(names, result.models, strict=True), ("average", result.average)]
    tells = result.average.evaluation.top5_tells
    reporter.table(
        f"{len(names)} models on {result.average.how}",
        ("model", "top-1", *(["top-5"] if tells else []), "mean per class", "calibration error"),
        [
            (
                name,
                percent(found.evaluation.top1),
                *([percent(found.evaluation.top5)] if tells else []),
                percent(found.evaluation.mean_per_class),
                percent(found.calibration.ece),
            )
            for name, found in lines
        ],
    )
    reporter.result(f"averaged: {result.how}")


def shortened(name: str) -> str:
    """A name for the head of a narrow column."""
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 6]}..{name[-4:]}"


def _print_confusions(reporter: Reporter, result: EvaluationResult) -> None:
    for pair in result.evaluation.worst_confusions(5):
        reporter.result(
            f"  {one_line(pair.true)} taken for {one_line(pair.predicted)}: "
            f"{pair.count} ({percent(pair.share)} of {one_line(pair.true)})"
        )
