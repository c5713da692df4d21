"""`cnncodes predict`: which classes are in these images?"""

from __future__ import annotations

import csv as csv_module
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes import evaluation, heads, page
from cnncodes.cli import options
from cnncodes.cli.arguments import Cluster, Reading
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError
from cnncodes.core.files import cells
from cnncodes.core.words import counted, one_line, printable, quoted

if TYPE_CHECKING:
    from cnncodes.images import Catalog

LEAST_SHOWN = 0.005  # of a class after the first


def predict(
    reporter: Reporter,
    machine: Cluster,
    reading: Reading,
    model: options.Model,
    images: options.Images,
    top: options.Top = 5,
    scores: options.ShowScores = False,
    csv: options.Csv = False,
    wide: options.Wide = False,
    sort_into: options.SortInto = None,
    copy: options.Copy = False,
    html: options.Gallery = None,
    weights: options.RecordedWeights = None,
) -> None:
    """Predict the classes of images.

    Prints the classes of each image with their probabilities, which are calibrated on held-out training images: of the
    predictions with 80 %, about 80 % are correct, for similar images. A prediction is "unsure" if its probability is below
    50 % or less than twice that of the second class. An image is "unlike the training images" if it is farther from every
    class than 99 % of the training images; its prediction may mean nothing. An unreadable image is listed with the reason;
    the exit code is then 3.

        cnncodes predict out a.jpg b.jpg
        cnncodes predict model.safetensors photos/ --csv > predictions.csv
        cnncodes predict model.safetensors photos/ --sort-into sorted/
        cnncodes predict model.safetensors photos/ --html gallery.html
    """
    if csv and reporter.as_json:
        raise OptionError("--csv and --json cannot both be on standard output.", "Leave one of them out.")
    if (copy and sort_into is None) or (wide and not csv):
        raise OptionError(
            "--copy needs --sort-into, and --wide needs --csv.", "Add the other option, or leave it out."
        )
    if sort_into is not None:
        evaluation.check_sorted(sort_into)
    if html is not None:
        from cnncodes.page.html import check_output

        check_output(Path(html), overwrite=False)
    loaded = heads.load_model(model)
    stored = evaluation.is_codes(images)
    source = (reading if stored else reading.unlabelled()).images(images, stored=stored)
    if stored:
        found = evaluation.score(loaded, source)
    else:
        weighted = evaluation.model_weights(loaded, weights)
        with reporter.steps() as progress:
            found = evaluation.score(loaded, source, weights=weighted, progress=progress, **vars(machine))
    listed = len(loaded.classes) if wide else max(top, 2) if csv else top
    answers = evaluation.predictions_of(loaded, found, listed)
    shown = [dataclasses.replace(answer, name=_shown(found.catalog, answer.name)) for answer in answers]
    reporter.document(shown)
    if csv:
        _write_csv(shown, loaded.classes if wide else ())
    else:
        for answer in shown:
            if answer.problem is None:
                reporter.result(f"{quoted(answer.name)}  {_line(answer, scores)}")
    _explain(reporter, shown, scores)
    if sort_into is not None:
        say_sorted(reporter, evaluation.sort_images(answers, found.catalog, sort_into, copy=copy), sort_into)
    if html is not None:
        from cnncodes.advice.run_folder import command_of

        page.write_gallery(shown, found.catalog, loaded.classes, html, command=command_of(model))
        reporter.note(f"gallery: {html}")
    reporter.unreadable({answer.name: answer.problem for answer in shown if answer.problem is not None})


def _explain(reporter: Reporter, predictions: list[evaluation.Prediction], scores: bool) -> None:
    """What the numbers mean, and how many predictions are doubtful; on standard error, so that a pipe gets results alone."""
    read = [prediction for prediction in predictions if prediction.problem is None]
    if not read:
        return
    if scores or read[0].probabilities is None:
        why = "" if scores else "; this model has no probabilities ('cnncodes fit-linear' makes one that has)"
        reporter.note(f"the numbers are scores: the highest is the prediction{why}")
    else:
        reporter.note("the numbers are probabilities, calibrated on held-out training images")
    unsure, unlike = sum(bool(entry.unsure) for entry in read), sum(bool(entry.unlike) for entry in read)
    if unsure or unlike:
        reporter.note(
            f"of {counted(len(read), 'image')}: {unsure:,} unsure, {unlike:,} unlike the training images"
        )


def _shown(catalog: Catalog, name: str) -> str:
    """Path as a person can use it here: relative to the current folder if it is in it, else in full; a URL as it is."""
    from cnncodes.images.readers import is_url

    path, here = catalog.root / name, Path.cwd()
    if is_url(name):
        return name
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line(prediction: evaluation.Prediction, scores: bool) -> str:
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


def _write_csv(predictions: list[evaluation.Prediction], classes: tuple[str, ...]) -> None:
    """One line per image; ``classes`` get a column each."""
    header = ("filename", "label", "probability", "score", "second", "second_probability", "unsure", "unlike")
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(cells(*header, "problem", *map(printable, classes)))
    for found in predictions:
        name = printable(found.name)
        if found.problem is not None:
            writer.writerow(cells(name, *[""] * (len(header) - 1), found.problem, *[""] * len(classes)))
            continue
        odds = [*(f"{value:.6f}" for value in found.probabilities or ()), "", ""]
        named = [*map(printable, found.classes), ""]
        doubts = ["" if doubt is None else "yes" if doubt else "no" for doubt in (found.unsure, found.unlike)]
        all_values = zip(reversed(found.classes), reversed(found.probabilities or found.scores), strict=True)
        values = dict(all_values)  # of one name the best
        writer.writerow(
            cells(
                name, named[0], odds[0], f"{found.scores[0]:.6f}", named[1], odds[1], *doubts, "",
                *(f"{values[each]:.6f}" for each in classes),
            )
        )  # fmt: skip


def say_sorted(reporter: Reporter, groups: dict[str, int], folder: str) -> None:
    """Into which folders how many images were sorted."""
    parts = ", ".join(f"{one_line(name)} {count:,}" for name, count in sorted(groups.items()))
    reporter.note(f"sorted into {folder}: {parts}")
