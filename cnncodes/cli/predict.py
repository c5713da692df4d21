"""`cnncodes predict`: which classes are in these images?"""

from __future__ import annotations

import csv as csv_module
import dataclasses
import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import head_options, options
from cnncodes.cli.console import Reporter, one_line, percent, printable, quoted
from cnncodes.errors import OptionError

if TYPE_CHECKING:
    from cnncodes.evaluation import Prediction


def predict(
    model: head_options.Model,
    images: head_options.Images,
    top: head_options.Top = 5,
    weights: options.OptionalWeights = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    csv: head_options.Csv = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which classes are in these images?

    A softmax head gives probabilities; an SVM gives scores, which are distances and not odds.
    An unreadable image is listed with its reason; the exit code is then 3.

        cnncodes predict model.safetensors a.jpg b.jpg

        cnncodes predict model.safetensors photos/ --csv > predictions.csv
    """
    from cnncodes.evaluation import is_codes, model_weights, predictions_of, score
    from cnncodes.heads import load_model
    from cnncodes.images import read_catalog

    reporter = Reporter(json, quiet)
    if csv and json:
        raise OptionError("--csv and --json cannot both be on standard output.", "Leave one of them out.")
    loaded = load_model(model)
    if is_codes(images):
        scores = score(loaded, images)
    else:
        catalog = read_catalog(images)
        numbers = model_weights(loaded, weights, beside=Path(model))
        with reporter.progress("predicting", len(catalog), "images") as update:
            scores = score(
                loaded, catalog, weights=numbers, device=device, workers=workers,
                progress=lambda done, bad: update(done, f"{bad} unreadable" if bad else ""),
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
    bad = [prediction for prediction in predictions if prediction.problem is not None]
    for prediction in bad:
        reporter.warn(f"unreadable: {quoted(prediction.name)}: {prediction.problem}")
    if bad:
        raise options.Exit(3)


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
            writer.writerow((name, "", "", "", "", prediction.problem))
        for rank, (label, value) in enumerate(zip(prediction.classes, prediction.scores, strict=True)):
            odds = f"{prediction.probabilities[rank]:.6f}" if prediction.probabilities else ""
            writer.writerow((name, rank + 1, printable(label), f"{value:.6f}", odds, ""))
