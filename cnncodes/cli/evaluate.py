"""`cnncodes evaluate`: how good is a model on labelled images?"""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cnncodes.cli import options
from cnncodes.cli.console import Reporter, quoted, shell
from cnncodes.cli.results import print_evaluation
from cnncodes.errors import OptionError


def evaluate(
    model: options.Model,
    data: options.LabelledData,
    split: options.EvaluateSplit = "auto",
    crops: options.OptionalCrops = None,
    weights: options.OptionalWeights = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """How good is a model on labelled images or codes?

    Images that the model was fitted on are left out: they say nothing about new ones.

        cnncodes evaluate model.safetensors photos/

        cnncodes evaluate model.safetensors photos/ --crops ten
    """
    from cnncodes.evaluation import evaluate as evaluate_model
    from cnncodes.evaluation import is_codes, model_weights
    from cnncodes.heads import load_model
    from cnncodes.images import read_catalog

    reporter = Reporter(json, quiet)
    loaded = load_model(model)
    if is_codes(data):
        if crops is not None:
            raise OptionError(
                "--crops changes nothing in codes that are extracted already.",
                "Leave it out, or give the images instead of the codes file.",
            )
        result = evaluate_model(loaded, data, split=split)
    else:
        catalog = read_catalog(data)
        numbers = model_weights(loaded, weights, beside=Path(model))
        with reporter.progress("evaluating", len(catalog), "images") as update:
            result = evaluate_model(
                loaded, catalog, split=split, weights=numbers, crops=crops, device=device, workers=workers,
                progress=lambda done, bad: update(done, f"{bad} unreadable" if bad else ""),
            )  # fmt: skip
    print_evaluation(reporter, result)
    reporter.document(json_module.loads(result.to_json()))
    for name, reason in result.scores.problems.items():
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    reporter.next(f"cnncodes predict {shell(model)} photo.jpg")
    if result.scores.problems:
        raise options.Exit(3)
