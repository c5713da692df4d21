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
from cnncodes.core.words import counted, one_line, printable, quoted

if TYPE_CHECKING:
    from cnncodes.evaluation import Prediction
    from cnncodes.images import Catalog

LEAST_SHOWN = 0.005  # of a class after the first


@options.takes_data
def predict(
    model: head_options.Model,
    images: head_options.Images,
    top: head_options.Top = 5,
    scores: head_options.ShowScores = False,
    csv: head_options.Csv = False,
    wide: head_options.Wide = False,
    sort_into: head_options.SortInto = None,
    copy: head_options.Copy = False,
    weights: options.OptionalWeights = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    processes: options.Processes = 1,
    ray: options.Ray = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Predict the classes of images.

    Prints the classes of each image with their probabilities. Probabilities are calibrated on held-out training images:
    of the answers given with 80 %, about 80 % are right, for images like those. An answer is "unsure" if its probability is
    below 50 % or less than twice that of the second class. An image is "unlike the training images" if it is farther from
    every class than 99 % of the training images; its answer may mean nothing.
    An unreadable image is listed with its reason; the exit code is then 3.

        cnncodes predict out a.jpg b.jpg

        cnncodes predict model.safetensors photos/ --csv > predictions.csv

        cnncodes predict model.safetensors photos/ --sort-into sorted/
    """
    from cnncodes.evaluation import check_sorted, is_codes, model_weights, predictions_of, score, sort_images
    from cnncodes.heads import load_model
    from cnncodes.images import Catalog

    reporter = Reporter(json, quiet)
    if csv and json:
        raise OptionError("--csv and --json cannot both be on standard output.", "Leave one of them out.")
    if (copy and sort_into is None) or (wide and not csv):
        raise OptionError(
            "--copy needs --sort-into, and --wide needs --csv.", "Add the other option, or leave it out."
        )
    if sort_into is not None:
        check_sorted(sort_into)
    loaded = load_model(model)
    stored = is_codes(images)
    if not stored:
        reading["classes_are"] = reading["classes_are"] or "none"
    source = options.read_images(images, reading, stored=stored)
    if not isinstance(source, Catalog):
        found = score(loaded, source)
    else:
        numbers = model_weights(loaded, weights)
        with reporter.steps() as progress:
            found = score(
                loaded, source, weights=numbers, device=device, workers=workers, processes=processes, ray=ray,
                progress=progress,
            )  # fmt: skip
    listed = len(loaded.classes) if wide else max(top, 2) if csv else top
    answers = predictions_of(loaded, found, listed)
    shown = [dataclasses.replace(answer, name=_shown(found.catalog, answer.name)) for answer in answers]
    if json:
        reporter.document([json_module.loads(answer.to_json()) for answer in shown])
    elif csv:
        _write_csv(shown, loaded.classes if wide else ())
    else:
        for answer in shown:
            if answer.problem is None:
                reporter.result(f"{quoted(answer.name)}  {_line(answer, scores)}")
    _explain(reporter, shown, scores)
    if sort_into is not None:
        groups = sort_images(answers, found.catalog, sort_into, copy=copy)
        parts = ", ".join(f"{one_line(name)} {count:,}" for name, count in sorted(groups.items()))
        reporter.note(f"sorted into {sort_into}: {parts}")
    bad = [answer for answer in shown if answer.problem is not None]
    for answer in bad:
        reporter.warn(f"unreadable: {quoted(answer.name)}: {answer.problem}")
    if bad:
        raise options.Exit(3)


def _explain(reporter: Reporter, predictions: list[Prediction], scores: bool) -> None:
    """What the numbers mean, and how many answers are doubtful; on standard error, so that a pipe gets results alone."""
    read = [prediction for prediction in predictions if prediction.problem is None]
    if not read:
        return
    if scores or read[0].probabilities is None:
        why = "" if scores else "; this model has no probabilities ('cnncodes fit-linear' makes one that has)"
        reporter.note(f"the numbers are scores: the highest is the answer{why}")
    else:
        reporter.note("the numbers are probabilities, calibrated on held-out training images")
    unsure, unlike = sum(bool(entry.unsure) for entry in read), sum(bool(entry.unlike) for entry in read)
    if unsure or unlike:
        reporter.note(
            f"of {counted(len(read), 'image')}: {unsure:,} unsure, {unlike:,} unlike the training images"
        )


def _shown(catalog: Catalog, name: str) -> str:
    """Path as a person can use it here: relative to the current folder if it is in it, else in full."""
    path, here = catalog.root / name, Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line(prediction: Prediction, scores: bool) -> str:
    """``bees 83 %, ants 17 %``, with what is doubtful about it."""
    odds = None if scores else prediction.probabilities
    if odds is None:
        values = [f"{value:+.3g}" for value in prediction.scores]
    else:
        kept = [value for place, value in enumerate(odds) if value >= LEAST_SHOWN or not place]
        values = [f"{100 * value:.0f} %" for value in kept]
    pairs = zip(prediction.classes, values, strict=False)
    text = ", ".join(f"{one_line(name)} {value}" for name, value in pairs)
    if prediction.unsure:
        text = f"unsure: {text}"
    return f"{text}; unlike the training images" if prediction.unlike else text


def _write_csv(predictions: list[Prediction], classes: tuple[str, ...]) -> None:
    """One line per image; ``classes`` get a column each."""
    header = ("filename", "label", "probability", "score", "second", "second_probability", "unsure", "unlike")
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(cells(*header, "problem", *map(printable, classes)))
    for found in predictions:
        name = printable(found.name)
        if found.problem is not None:
            writer.writerow(cells(name, *[""] * (len(header) - 1), found.problem, *[""] * len(classes)))
            continue
        odds = found.probabilities or ()
        second = printable(found.classes[1]) if len(found.classes) > 1 else ""
        values = dict(zip(found.classes, odds or found.scores, strict=True))
        writer.writerow(
            cells(
                name, printable(found.classes[0]), _number(odds, 0), f"{found.scores[0]:.6f}", second, _number(odds, 1),
                _yes(found.unsure), _yes(found.unlike), "", *(f"{values[name]:.6f}" for name in classes),
            )
        )  # fmt: skip


def _number(values: tuple[float, ...], place: int) -> str:
    return f"{values[place]:.6f}" if place < len(values) else ""


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
