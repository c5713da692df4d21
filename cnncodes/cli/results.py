"""What several commands print: an evaluation, and how much of a photograph the network sees."""

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
    usual = {"fc7", "penultimate"} & {*stages}
    layer = "" if usual else f" --layer {stages[0] if len(stages) == 1 else 'auto'}"
    return f"cnncodes fit-linear {shell(codes)}{layer} -o model.safetensors"


def say_seen(reporter: Reporter, seen: float | None) -> None:
    """How much of a photograph the network sees, where that is not nearly all; ``seen`` is the median share."""
    from cnncodes.images.preprocess import NEARLY_ALL

    if seen is not None and seen < NEARLY_ALL:
        reporter.note(
            f"the network sees the centre of each photograph, a median of {100 * seen:.0f} % of it; --fit pad shows all of it"
        )


def print_evaluation(
    reporter: Reporter, result: EvaluationResult, *, matrix: bool = False, models: int = 1
) -> None:
    """Accuracies, figures per class, and the confusions that matter: with ``matrix`` all, if they are few."""
    found = result.evaluation
    worst = sorted(found.per_class, key=lambda each: 2 if each.recall is None else each.recall)
    rows = [(each.name, each.support, percent(each.precision), percent(each.recall)) for each in worst]
    title = f"{'tested' if models == 1 else f'the average of {models} models, tested'} on {result.how}"
    if len(rows) > MOST_CLASSES:
        title += f"; the {MOST_CLASSES} worst classes of {len(rows)}"
    reporter.table(title, ("class", "images", "precision", "recall"), rows[:MOST_CLASSES])
    reporter.result(f"top-1 {accuracy_text(found)}")
    if result.copies:
        which = "image is a copy" if result.copies == 1 else "images are copies"
        reporter.result(
            f"{result.copies:,} more test {which} of training images and left out; "
            f"including {'it' if result.copies == 1 else 'them'}, top-1 is {percent(result.top1_with_copies)}"
        )
    if matrix and len(rows) <= MATRIX_CLASSES:
        names = [_shortened(name) for name in found.classes]
        counts = [(name, *row) for name, row in zip(names, found.confusion, strict=True)]
        reporter.table("", ("true \\ predicted", *names), counts)
    else:
        print_confusions(reporter, found, 5)
    if result.seen:
        who = "the model was" if models == 1 else "at least one of the models was"
        which = "these images" if result.all_seen else f"{result.seen:,} of these {found.n:,} images"
        reporter.warn(f"{who} fitted on {which}: the accuracy on new images will be lower")


def accuracy_text(found: Evaluation, on: str = "") -> str:
    """Top-1 accuracy with its interval, top-5 if there are enough classes, and what to compare them with."""
    top5 = f", top-5 {percent(found.top5)}" if found.top5_tells and found.top5 is not None else ""
    return (
        f"{percent(found.top1)}{on} (95 % interval {100 * found.top1_low:.1f} to {100 * found.top1_high:.1f}){top5}, "
        f"mean per class {percent(found.mean_per_class)}; always the largest class: {percent(found.majority)}"
    )


def print_confusions(reporter: Reporter, found: Evaluation, most: int) -> None:
    """The classes that are confused most often."""
    for pair in found.worst_confusions(most):
        true, predicted = one_line(pair.true), one_line(pair.predicted)
        reporter.result(f"  {true} predicted as {predicted}: {pair.count} ({percent(pair.share)} of {true})")


def print_calibration(reporter: Reporter, result: EvaluationResult, verbose: bool) -> None:
    """How far the probabilities can be believed."""
    found = result.calibration
    of = "" if found.of == "probabilities" else " of softmax(score): this SVM has no probabilities"
    chance = f"perfect probabilities would have {percent(found.chance)} on so many images"
    behind = f" ({len(found.bins)} bins; {chance})" if verbose else ""
    reporter.result(f"calibration error{of} {percent(found.ece)}{behind}")


def print_average(reporter: Reporter, result: AverageResult, names: list[str]) -> None:
    """A line for each model and one for their average, all on the same images."""
    top5 = ["top-5"] if result.average.evaluation.top5_tells else []
    rows = []
    for name, tested in [*zip(names, result.models, strict=True), ("average", result.average)]:
        found, ece = tested.evaluation, percent(tested.calibration.ece)
        rows.append(
            (
                name,
                percent(found.top1),
                *(percent(found.top5) for _ in top5),
                percent(found.mean_per_class),
                ece,
            )
        )
    columns = ("model", "top-1", *top5, "mean per class", "calibration error")
    reporter.table(f"{len(names)} models on {result.average.how}", columns, rows)
    reporter.result(f"averaged: {result.how}")


def _shortened(name: str) -> str:
    """A name for the head of a narrow column."""
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 6]}..{name[-4:]}"
