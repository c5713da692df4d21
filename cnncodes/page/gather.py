"""From a run's folder to everything on its page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.advice.comparing import read_tried
from cnncodes.advice.facts import Case
from cnncodes.advice.finished import find_files, read_records, read_split
from cnncodes.advice.run_record import MODEL, SPLIT, RunReport
from cnncodes.codes.search import nearest
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import parse_toml, reading
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.page.answers import Asked, ask
from cnncodes.page.images import on_screen, read_images
from cnncodes.page.network_pictures import PICTURES, Sitter, draw_pictures
from cnncodes.page.record import Answers, NetworkPicture, PageMap, RunPage
from cnncodes.pictures.codes_source import evenly
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.state import Epoch

MOST_ON_MAP = 2000  # images: thumbnails of more would not fit into the page
MOST_MISTAKES = 60  # with their image
MOST_FOUND = 12  # images shown of a finding
SAMPLES, MOST_SAMPLES = 6, 120  # images of a class, and of all classes together
NEIGHBOURS = 5


def read_run(
    folder: str | os.PathLike[str],
    *,
    title: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RunPage:
    """Gather what the page of a run shows. What is no longer available is left out, with a note.

    Parameters
    ----------
    folder : path
        Of a finished ``cnncodes run``.
    title : str, optional
        By default the folder's name.
    device, workers, progress
        To compute the codes behind the map of a trained network; a head on codes has them in its codes file.
    seed : int, default 0
        Of the map, and of the choice among more images than the page shows.

    Raises
    ------
    ModelError, CnnCodesError
        If the folder holds no finished run; if its report is damaged.
    """
    place, tell = Path(folder), progress or no_progress
    compute = Compute(device, workers, seed=seed, progress=tell)
    report, note = read_records(place)
    catalog = read_split(place / SPLIT)
    files = find_files(place, report, catalog)
    names = shown_names(files)
    broken = tuple(f"/{name}" for name in report.unreadable)  # named on the page as such
    report = _with_rows(report, names)
    asked: Asked | None = None
    try:
        asked = ask(place, report, catalog, MOST_ON_MAP, compute)
        notes = list(asked.notes)
    except CnnCodesError as error:
        notes = [
            f"the model could not be evaluated again, so mistakes and map are missing: {plain(error.problem)}"
        ]
    answers = asked.answers if asked else None
    drawn = _map(asked, seed, tell) if asked else None
    samples = choose_samples(catalog)
    cards = _alone(report, answers, samples, len(catalog))
    on_map = drawn.rows.tolist() if drawn else []
    small, tiles, missing = read_images(
        files, cards, on_map, lambda done, total: tell("thumbnails", done, total, "")
    )
    gone = {row: why for row, why in missing.items() if not f"/{files[row]}".endswith(broken)}
    if gone:
        notes.append(_missing(gone, len({*cards, *on_map})))
    pictures, unmade = _pictures(place, answers, files, tell)
    epochs, range_test = _training(place, report)
    with reading("the recipe in the run's report"):
        recipe = parse_toml(report.recipe_text)
        weights, fit, head = (
            recipe.get(a, {}).get(b, "")
            for a, b in (("network", "weights"), ("images", "fit"), ("head", "kind"))
        )
    return RunPage(
        title=title or place.resolve().name,
        report=report,
        command=str(note.get("command", "")),
        created=str(note.get("created", "")),
        catalog=dataclasses.replace(catalog, names=names),
        files=files,
        epochs=epochs,
        range_test=range_test,
        answers=answers,
        samples=samples,
        split=dict(note.get("split_record") or {}),
        weights=str(weights),
        fit=str(fit),
        head=str(head),
        cards=small,
        missing=missing,
        map=drawn and dataclasses.replace(drawn, tiles=tiles),
        pictures=tuple(pictures),
        notes=(*notes, *unmade),
        in_folder=("report.html", *(path.name for path in place.iterdir())),
        tried=read_tried(place),
    )


def _with_rows(report: RunReport, names: Sequence[str]) -> RunReport:
    """The report whose findings have the rows of their images; of older runs those that are found by their name."""
    row_of = {name: row for row, name in enumerate(names)}
    problems = [
        dataclasses.replace(finding, cases=tuple(_with_row(case, row_of) for case in finding.cases))
        for finding in report.problems
    ]
    return dataclasses.replace(report, problems=tuple(problems))


def _with_row(case: Case, row_of: dict[str, int]) -> Case:
    found = tuple(row_of[name] for name in case.names if name in row_of)
    return dataclasses.replace(case, rows=case.rows or found)


def _alone(
    report: RunReport, answers: Answers | None, samples: dict[str, tuple[int, ...]], images: int
) -> list[int]:
    """Rows of the images that stand alone: the surest mistakes, samples of the classes, images of findings."""
    wrong = [answer.row for answer in answers.mistakes[:MOST_MISTAKES]] if answers else []
    found = [row for finding in report.problems for row in finding.rows[:MOST_FOUND] if 0 <= row < images]
    return sorted({*wrong, *found, *(row for rows in samples.values() for row in rows)})


def shown_names(files: Sequence[str]) -> tuple[str, ...]:
    """Names from the folder on that all files have in common."""
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - a Path for each costs 30 times more
    try:
        root = os.path.commonpath(list(folders))
    except ValueError:  # two drives
        return tuple(files)
    if len(folders) == 1:
        root = os.path.dirname(root)  # noqa: PTH120
    return tuple(os.path.relpath(file, root) for file in files)


def choose_samples(catalog: Catalog) -> dict[str, tuple[int, ...]]:
    """Some images of each class, spread over the training images; fewer of each where there are many classes."""
    known = catalog.labels >= 0
    used = known & (catalog.splits != SPLITS.index("none"))
    classes = np.unique(catalog.labels[used])
    each = max(1, min(SAMPLES, MOST_SAMPLES // max(len(classes), 1)))
    samples = {}
    for label in classes[:MOST_SAMPLES].tolist():
        rows = np.flatnonzero(used & (catalog.labels == label))
        learned = rows[catalog.splits[rows] == SPLITS.index("train")]
        samples[catalog.classes[label]] = tuple(evenly(learned if len(learned) else rows, each).tolist())
    return samples


def _map(asked: Asked, seed: int, progress: Progress) -> PageMap | None:
    """Places and neighbours of the codes; tiles come later."""
    from cnncodes.pictures.map import codes_map

    if len(asked.rows) < 2:
        return None
    progress("map", 0, 0, "")
    points = codes_map(asked.codes, "tsne", seed)
    count, numbers = asked.codes.shape
    neighbours, _ = nearest(asked.codes, asked.codes, min(NEIGHBOURS, count - 1), leave_out=np.arange(count))
    return PageMap(
        asked.rows, on_screen(points), neighbours, asked.layer, numbers, np.zeros((0, 1, 1, 3), np.uint8)
    )


def _pictures(
    folder: Path, answers: Answers | None, files: Sequence[str], tell: Progress
) -> tuple[Iterable[NetworkPicture], Iterable[str]]:
    """Pictures of the network, and notes on those that could not be drawn."""
    from cnncodes.pictures.classifier import load_classifier

    try:
        classifier = load_classifier(folder / MODEL)
    except CnnCodesError as error:
        return (), (f"the network's pictures are missing: {plain(error.problem)}",)
    return draw_pictures(
        Sitter(classifier, answers, files),
        lambda done: tell("pictures of the network", done, len(PICTURES), ""),
    )


def _training(folder: Path, report: RunReport) -> tuple[tuple[Epoch, ...], RangeTest | None]:
    """Epochs of a training and the test that chose its learning rate, as far as they are there and can be read."""
    from cnncodes.training import read_epochs
    from cnncodes.training.range_test import RangeTest

    if "training" not in report.files:
        return (), None
    place = folder / report.files["training"]
    epochs: tuple[Epoch, ...] = ()
    test: RangeTest | None = None
    with suppress(CnnCodesError):
        epochs = read_epochs(place)
    with suppress(OSError, ValueError, CnnCodesError):
        test = RangeTest.load(place)
    return epochs, test


def _missing(missing: dict[int, str], of: int) -> str:
    reasons = sorted(set(missing.values()), key=list(missing.values()).count, reverse=True)
    return (
        f"{len(missing):,} of the {of:,} images to be shown here can no longer be read ({plain(reasons[0])}): "
        "they may have been moved"
    )
