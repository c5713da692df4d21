"""`cnncodes evaluate`: how good is a model, or the average of several; and how an evaluation is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnncodes import evaluation, heads
from cnncodes.cli import options
from cnncodes.cli.arguments import Cluster, Reading, check_free, check_picture
from cnncodes.cli.console import Reporter, plain
from cnncodes.core.errors import OptionError
from cnncodes.core.words import one_line, percent, shell

MOST_CLASSES = 40  # lines of the table per class on the screen; --json has all
MATRIX_CLASSES = 12  # classes up to which all confusions are shown, not only the worst
LONGEST_NAME = 14  # characters, at the head of a column of the matrix


def evaluate(
    reporter: Reporter,
    machine: Cluster,
    reading: Reading,
    models: options.ModelsAndData,
    split: options.EvaluateSplit = "auto",
    crops: options.OtherCrops = None,
    confusion: options.ConfusionFile = None,
    csv: options.VerdictsFile = None,
    weights: options.RecordedWeights = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
) -> None:
    """Test a model on labelled images or codes.

    Images that the model was fitted on are left out. Several models are averaged, like the five networks of the AlexNet
    paper; they must have the same classes, in any order.

        cnncodes evaluate model.safetensors photos/
        cnncodes evaluate model.safetensors photos/ --crops ten
        cnncodes evaluate model.safetensors photos/ --confusion confusion.png --csv answers.csv
        cnncodes evaluate a.safetensors b.safetensors c.safetensors photos/

    The calibration error is the gap between probability and accuracy: at 0 %, 80 % of the images predicted with
    probability 0.8 are correct.
    """
    files, data = _models_and_data(models)
    if confusion is not None:
        check_picture(confusion, overwrite, "--confusion")
    if csv is not None:
        check_free(csv, overwrite, option="--csv")
    loaded = [heads.load_model(file) for file in files]
    stored, several = evaluation.is_codes(data), len(files) > 1
    if stored and crops is not None:
        raise OptionError(
            "--crops has no effect on codes, which are extracted already.",
            "Leave it out, or give the images instead of the codes file.",
        )
    source = reading.images(data, stored=stored)
    given: dict[str, Any] = {"split": split}
    with reporter.steps() as progress:
        if not stored:
            own = [evaluation.model_weights(model, weights) for model in loaded]
            given |= {
                "crops": crops,
                "weights": own if several else own[0],
                "progress": progress,
                **vars(machine),
            }
        if several:
            average = evaluation.evaluate_average(loaded, source, **given)
            result, document = average.average, plain(average)
        else:
            result = evaluation.evaluate(loaded[0], source, **given)
            document = plain(result)
    if several:
        for entry, file in zip(document["models"], files, strict=True):
            entry["model"] = file
        print_average(reporter, average, files)
    else:
        document["model"] = files[0]
    print_evaluation(reporter, result, matrix=True, models=len(files))
    calibration = result.calibration
    of = "" if calibration.of == "probabilities" else " of softmax(score): this SVM has no probabilities"
    chance = f"perfect probabilities would have {percent(calibration.chance)} on so many images"
    behind = f" ({len(calibration.bins)} bins; {chance})" if verbose else ""
    reporter.result(f"calibration error{of} {percent(calibration.ece)}{behind}")
    if confusion is not None:
        from cnncodes.pictures.results import save_confusion

        save_confusion(result.evaluation, confusion, overwrite=overwrite)
        reporter.note(f"written: {confusion}")
    if csv is not None:
        evaluation.write_verdicts(result, csv, overwrite=overwrite)
        reporter.note(f"written: {csv} ({result.evaluation.n:,} images, worst mistakes first)")
    reporter.document(document)
    reporter.unreadable(result.scores.problems)
    reporter.next(f"cnncodes predict {shell(files[0])} photo.jpg")


def _models_and_data(words: list[str]) -> tuple[list[str], list[str]]:
    """The first word is a model, the last is data; what is between is a model until something cannot be one."""
    from cnncodes.core.files import model_file
    from cnncodes.images.sources import is_data as names_images

    if len(words) < 2:
        raise OptionError(
            f"only '{words[0]}' is given, but evaluation needs a model and data.",
            "Write: cnncodes evaluate MODEL DATA.",
        )

    def is_data(word: str) -> bool:
        folder = model_file(Path(word)).is_dir()
        return folder or evaluation.is_codes(word) or names_images(word) or "*" in word

    count = 1
    while count < len(words) - 1 and not is_data(words[count]):
        count += 1
    return words[:count], words[count:]


def print_evaluation(
    reporter: Reporter, result: evaluation.EvaluationResult, *, matrix: bool = False, models: int = 1
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
        one = result.copies == 1
        copies = f"{result.copies:,} more test {'image is a copy' if one else 'images are copies'}"
        with_them = f"including {'it' if one else 'them'}, top-1 is {percent(result.top1_with_copies)}"
        reporter.result(f"{copies} of training images and left out; {with_them}")
    if matrix and len(rows) <= MATRIX_CLASSES:
        names = [
            name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 6]}..{name[-4:]}"
            for name in map(one_line, found.classes)
        ]
        counts = [(name, *row) for name, row in zip(names, found.confusion, strict=True)]
        reporter.table("", ("true \\ predicted", *names), counts)
    else:
        print_confusions(reporter, found, 5)
    if result.seen:
        who = "the model was" if models == 1 else "at least one of the models was"
        which = "these images" if result.all_seen else f"{result.seen:,} of these {found.n:,} images"
        reporter.warn(f"{who} fitted on {which}: the accuracy on new images will be lower")


def accuracy_text(found: evaluation.Evaluation, on: str = "") -> str:
    """Top-1 accuracy with its interval, top-5 if there are enough classes, and what to compare them with."""
    top5 = f", top-5 {percent(found.top5)}" if found.top5_tells and found.top5 is not None else ""
    return (
        f"{percent(found.top1)}{on} (95 % interval {100 * found.top1_low:.1f} to {100 * found.top1_high:.1f}){top5}, "
        f"mean per class {percent(found.mean_per_class)}; always the largest class: {percent(found.majority)}"
    )


def print_confusions(reporter: Reporter, found: evaluation.Evaluation, most: int) -> None:
    """The classes that are confused most often."""
    for pair in found.worst_confusions(most):
        true, predicted = one_line(pair.true), one_line(pair.predicted)
        reporter.result(f"  {true} predicted as {predicted}: {pair.count} ({percent(pair.share)} of {true})")


def print_average(reporter: Reporter, result: evaluation.AverageResult, names: list[str]) -> None:
    """A line for each model and one for their average, all on the same images."""
    top5 = ["top-5"] if result.average.evaluation.top5_tells else []
    rows = []
    for name, tested in [*zip(names, result.models, strict=True), ("average", result.average)]:
        found = tested.evaluation
        shares = [found.top1, *(found.top5 for _ in top5), found.mean_per_class, tested.calibration.ece]
        rows.append((name, *map(percent, shares)))
    columns = ("model", "top-1", *top5, "mean per class", "calibration error")
    reporter.table(f"{len(names)} models on {result.average.how}", columns, rows)
    reporter.result(f"averaged: {result.how}")
