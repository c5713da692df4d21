"""`cnncodes evaluate`: how good is a model, or the average of several, on labelled images?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import evaluation, heads
from cnncodes.cli import options
from cnncodes.cli.arguments import check_free, check_picture
from cnncodes.cli.console import Reporter, plain
from cnncodes.cli.groups import Cluster, Reading
from cnncodes.cli.results import print_average, print_calibration, print_evaluation
from cnncodes.core.errors import OptionError
from cnncodes.core.words import shell

if TYPE_CHECKING:
    from cnncodes.evaluation import AverageResult, EvaluationResult
    from cnncodes.heads import LinearModel


def evaluate(
    models: options.ModelsAndData,
    split: options.EvaluateSplit = "auto",
    crops: options.OtherCrops = None,
    confusion: options.ConfusionFile = None,
    csv: options.VerdictsFile = None,
    weights: options.RecordedWeights = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    *,
    machine: Cluster,
    reading: Reading,
    reporter: Reporter,
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
    found = _evaluate(reporter, loaded, data, reading, split, crops, weights, vars(machine))
    document = plain(found)
    if isinstance(found, evaluation.AverageResult):
        result = found.average
        for entry, file in zip(document["models"], files, strict=True):
            entry["model"] = file
        print_average(reporter, found, files)
    else:
        result = found
        document["model"] = files[0]
    print_evaluation(reporter, result, matrix=True, models=len(files))
    print_calibration(reporter, result, verbose)
    _write(reporter, result, confusion, csv, overwrite)
    reporter.document(document)
    reporter.unreadable(result.scores.problems)
    reporter.next(f"cnncodes predict {shell(files[0])} photo.jpg")


def _models_and_data(words: Sequence[str]) -> tuple[list[str], list[str]]:
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
    return list(words[:count]), list(words[count:])


def _evaluate(
    reporter: Reporter,
    models: list[LinearModel],
    data: list[str],
    reading: Reading,
    split: str,
    crops: str | None,
    weights: str | None,
    machine: dict[str, Any],
) -> EvaluationResult | AverageResult:
    """One model evaluated, or several averaged; with a bar where images are computed."""
    stored = evaluation.is_codes(data)
    source = reading.images(data, stored=stored)
    if stored:
        if crops is not None:
            raise OptionError(
                "--crops has no effect on codes, which are extracted already.",
                "Leave it out, or give the images instead of the codes file.",
            )
        if len(models) == 1:
            return evaluation.evaluate(models[0], source, split=split)
        return evaluation.evaluate_average(models, source, split=split)
    weighted = [evaluation.model_weights(model, weights) for model in models]
    with reporter.steps() as progress:
        asked = {"split": split, "crops": crops, "progress": progress, **machine}
        if len(models) == 1:
            return evaluation.evaluate(models[0], source, weights=weighted[0], **asked)
        return evaluation.evaluate_average(models, source, weights=weighted, **asked)


def _write(
    reporter: Reporter, result: EvaluationResult, confusion: str | None, csv: str | None, overwrite: bool
) -> None:
    if confusion is not None:
        from cnncodes.pictures.results import save_confusion

        save_confusion(result.evaluation, confusion, overwrite=overwrite)
        reporter.note(f"written: {confusion}")
    if csv is not None:
        evaluation.write_verdicts(result, csv, overwrite=overwrite)
        reporter.note(f"written: {csv} ({result.evaluation.n:,} images, worst mistakes first)")
