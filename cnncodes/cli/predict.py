"""`cnncodes predict`: which classes are in these images?"""

from __future__ import annotations

import csv as csv_module
import dataclasses
import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import head_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError
from cnncodes.core.files import cells
from cnncodes.core.words import one_line, percent, printable, quoted

if TYPE_CHECKING:
    from cnncodes.evaluation import Prediction

FIRST_CLOSE = 5  # names of close decisions on the screen; --json has all


@options.takes_data
def predict(
    model: head_options.Model,
    images: head_options.Images,
    top: head_options.Top = 5,
    weights: options.OptionalWeights = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    processes: options.Processes = 1,
    ray: options.Ray = None,
    csv: head_options.Csv = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Which classes are in these images?

    A softmax head gives probabilities. An SVM gives a score for each class, and the highest score is the answer. Scores
    are not probabilities, and with more than two classes the best one is often below 0: compare the scores of one image
    with each other. Close decisions, where the best class leads by less than a third of the model's usual lead, are
    counted and named on standard error (--json: "close").
    An unreadable image is listed with its reason; the exit code is then 3.

        cnncodes predict model.safetensors a.jpg b.jpg

        cnncodes predict model.safetensors photos/ --csv > predictions.csv
    """
    from cnncodes.evaluation import is_codes, model_weights, predictions_of, score
    from cnncodes.heads import load_model
    from cnncodes.images import Catalog

    reporter = Reporter(json, quiet)
    if csv and json:
        raise OptionError("--csv and --json cannot both be on standard output.", "Leave one of them out.")
    loaded = load_model(model)
    stored = is_codes(images)
    if not stored:
        reading["classes_are"] = reading["classes_are"] or "none"
    source = options.read_images(images, reading, stored=stored)
    if not isinstance(source, Catalog):
        scores = score(loaded, source)
    else:
        numbers = model_weights(loaded, weights)
        with reporter.steps() as progress:
            scores = score(
                loaded, source, weights=numbers, device=device, workers=workers, processes=processes, ray=ray,
                progress=progress,
            )  # fmt: skip
    root = scores.catalog.root
    predictions = [
        dataclasses.replace(found, name=_shown(root / found.name))
        for found in predictions_of(loaded, scores, top)
    ]
    if json:
        reporter.document([json_module.loads(prediction.to_json()) for prediction in predictions])
    elif csv:
        _write_csv(predictions)
    else:
        for prediction in predictions:
            if prediction.problem is None:
                reporter.result(f"{quoted(prediction.name)}  {_line(prediction)}")
    _explain(reporter, predictions, loaded.usual_lead)
    bad = [prediction for prediction in predictions if prediction.problem is not None]
    for prediction in bad:
        reporter.warn(f"unreadable: {quoted(prediction.name)}: {prediction.problem}")
    if bad:
        raise options.Exit(3)


def _explain(reporter: Reporter, predictions: list[Prediction], usual: float | None) -> None:
    """What the numbers mean, and which decisions were close; on standard error, so that a pipe gets results alone."""
    read = [prediction for prediction in predictions if prediction.problem is None]
    if not read:
        return
    from cnncodes.evaluation.predictions import CLOSE_SHARE

    softmax = read[0].probabilities is not None
    if softmax:
        reporter.note(
            "the numbers are probabilities, as the classifier estimates them; all classes together make 100 %"
        )
    else:
        reporter.note(
            "the numbers are scores: the highest is the answer, and its lead over the next says how clear it is; the best "
            "score may be below 0; they are not probabilities ('cnncodes fit-linear --head softmax' gives those)"
        )
    close = sorted((entry for entry in read if entry.close), key=lambda entry: entry.lead or 0.0)
    if close and usual:
        least = CLOSE_SHARE * usual * (100 if softmax else 1)
        least_lead = f"{least:.2g}{' points' if softmax else ''}"
        more = f" and {len(close) - FIRST_CLOSE:,} more" if len(close) > FIRST_CLOSE else ""
        names = ", ".join(quoted(entry.name) for entry in close[:FIRST_CLOSE])
        reporter.note(
            f"{len(close):,} of {len(read):,} decided closely, the best class less than {least_lead} before the second "
            f"(a third of this model's usual lead); the closest: {names}{more}"
        )


def _shown(path: Path) -> str:
    """Path as a person can use it here: relative to the current folder if it is in it, else in full."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line(prediction: Prediction) -> str:
    if prediction.probabilities is not None:
        values = [percent(value) for value in prediction.probabilities]
    else:
        values = [f"{value:+.3g}" for value in prediction.scores]
    return "  ".join(
        f"{one_line(name)} {value}" for name, value in zip(prediction.classes, values, strict=True)
    )


def _write_csv(predictions: list[Prediction]) -> None:
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("filename", "rank", "class", "score", "probability", "problem"))
    for prediction in predictions:
        name = printable(prediction.name)
        if prediction.problem is not None:
            writer.writerow(cells(name, "", "", "", "", prediction.problem))
        for rank, (label, value) in enumerate(zip(prediction.classes, prediction.scores, strict=True)):
            odds = f"{prediction.probabilities[rank]:.6f}" if prediction.probabilities else ""
            writer.writerow(cells(name, rank + 1, printable(label), f"{value:.6f}", odds, ""))
