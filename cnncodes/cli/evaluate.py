"""`cnncodes evaluate`: how good is a model, or the average of several, on labelled images?"""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli import head_options, options
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import print_average, print_calibration, print_evaluation
from cnncodes.core.errors import OptionError
from cnncodes.core.words import quoted, shell

if TYPE_CHECKING:
    from cnncodes.evaluation import AverageResult, EvaluationResult
    from cnncodes.heads import LinearModel


@options.takes_data
def evaluate(
    models: head_options.ModelsAndData,
    split: head_options.EvaluateSplit = "auto",
    crops: head_options.OptionalCrops = None,
    confusion: head_options.ConfusionFile = None,
    csv: head_options.VerdictsFile = None,
    weights: options.OptionalWeights = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    processes: options.Processes = 1,
    ray: options.Ray = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """How good is a model on labelled images or codes?

    Images that the model was fitted on are left out: they say nothing about new ones. Several models are
    averaged, as the five networks of the AlexNet paper: they must have the same classes, in any order.

        cnncodes evaluate model.safetensors photos/

        cnncodes evaluate model.safetensors photos/ --crops ten

        cnncodes evaluate model.safetensors photos/ --confusion confusion.png --csv answers.csv

        cnncodes evaluate a.safetensors b.safetensors c.safetensors photos/

    The calibration error says how far probabilities and accuracy are apart: at 0 %, of the images predicted
    with probability 0.8, 80 % are right.
    """
    from cnncodes.evaluation import AverageResult
    from cnncodes.heads import load_model

    reporter = Reporter(json, quiet)
    files, data = _models_and_data(models)
    _check_outputs(confusion, csv, overwrite)
    loaded = [load_model(file) for file in files]
    results = _evaluate(
        reporter, loaded, files, data, reading, split=split, crops=crops, weights=weights,
        device=device, workers=workers, processes=processes, ray=ray,
    )  # fmt: skip
    document: dict[str, Any] = json_module.loads(results.to_json())
    if isinstance(results, AverageResult):
        result = results.average
        for entry, file in zip(document["models"], files, strict=True):
            entry["model"] = file
        print_average(reporter, results, files)
    else:
        result = results
        document["model"] = files[0]
    print_evaluation(reporter, result, matrix=True, models=len(files))
    print_calibration(reporter, result)
    _write(reporter, result, confusion, csv, overwrite)
    reporter.document(document)
    for name, reason in result.scores.problems.items():
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    reporter.next(f"cnncodes predict {shell(files[0])} photo.jpg")
    if result.scores.problems:
        raise options.Exit(3)


def _models_and_data(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first word is a model, the last is data; what is between is a model until something cannot be one."""
    from cnncodes.core.files import model_file
    from cnncodes.evaluation import is_codes
    from cnncodes.images.sources import is_data as names_images

    if len(words) < 2:
        raise OptionError(
            f"only '{words[0]}' is given, and evaluating needs a model and data.",
            "Write: cnncodes evaluate MODEL DATA.",
        )

    def is_data(word: str) -> bool:
        path = Path(word)
        folder = model_file(path).is_dir()
        return folder or is_codes(word) or names_images(word) or "*" in word

    count = 1
    while count < len(words) - 1 and not is_data(words[count]):
        count += 1
    return list(words[:count]), list(words[count:])


def _check_outputs(confusion: str | None, csv: str | None, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    if confusion is not None:
        from cnncodes.pictures.confusion import check_name

        check_name(confusion)
        options.check_free(confusion, overwrite, option="--confusion")
    if csv is not None:
        options.check_free(csv, overwrite, option="--csv")


def _evaluate(
    reporter: Reporter,
    models: list[LinearModel],
    files: list[str],
    data: list[str],
    reading: options.Reading,
    *,
    split: str,
    crops: str | None,
    weights: str | None,
    **compute: Any,
) -> EvaluationResult | AverageResult:
    """One model evaluated, or several averaged; with a bar where images are computed."""
    from cnncodes.evaluation import evaluate as evaluate_model
    from cnncodes.evaluation import evaluate_average, is_codes, model_weights
    from cnncodes.images import Catalog

    single = len(models) == 1
    source = options.read_images(data, reading, stored=is_codes(data))
    if not isinstance(source, Catalog):
        if crops is not None:
            raise OptionError(
                "--crops changes nothing in codes that are extracted already.",
                "Leave it out, or give the images instead of the codes file.",
            )
        if single:
            return evaluate_model(models[0], data, split=split)
        return evaluate_average(models, data, split=split)
    numbers = [model_weights(model, weights) for model in models]
    with reporter.steps() as progress:
        if single:
            return evaluate_model(
                models[0], source, split=split, weights=numbers[0], crops=crops, progress=progress, **compute,
            )  # fmt: skip
        return evaluate_average(
            models, source, split=split, weights=numbers, crops=crops, progress=progress, **compute,
        )  # fmt: skip


def _write(
    reporter: Reporter, result: EvaluationResult, confusion: str | None, csv: str | None, overwrite: bool
) -> None:
    if confusion is not None:
        from cnncodes.pictures.confusion import save_confusion

        save_confusion(result.evaluation, confusion, overwrite=overwrite)
        reporter.note(f"drawn: {confusion}")
    if csv is not None:
        from cnncodes.evaluation import write_verdicts

        write_verdicts(result, csv, overwrite=overwrite)
        reporter.note(f"written: {csv} ({result.evaluation.n:,} images, right and wrong, the worst first)")
