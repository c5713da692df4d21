"""From a run's folder to everything on its page."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.advice.run_record import KIND, MODEL, NOTE, REPORT, SPLIT, RunReport
from cnncodes.codes.file import CodesFile
from cnncodes.codes.search import nearest
from cnncodes.errors import CnnCodesError, ModelError
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.listing import class_order
from cnncodes.images.lists import parse_csv, read_text
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.map_record import evenly
from cnncodes.pictures.report.answers import Asked, Progress, ask
from cnncodes.pictures.report.images import read_images
from cnncodes.pictures.report.network_pictures import PICTURES, Sitter, draw_pictures
from cnncodes.pictures.report.record import Answers, NetworkPicture, PageMap, RunPage

if TYPE_CHECKING:
    from cnncodes.training.state import Epoch

MOST_ON_MAP = 2000  # images: thumbnails of more would not fit into the page
MOST_MISTAKES = 60  # with their image
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
    """Gather what the page of a run shows. What cannot be had any more is left out, with a note.

    Parameters
    ----------
    folder : path
        Of a finished ``cnncodes run``.
    title : str, optional
        By default the folder's name.
    device, workers
        To ask a trained network again; a head on codes is asked on its codes file.
    seed : int, default 0
        Of the map, and of the choice among more images than the page shows.
    progress : callable(step, done, total, word), optional

    Raises
    ------
    ModelError
        If the folder holds no finished run.
    CnnCodesError
        If its report is damaged.
    """
    place, tell = Path(folder), progress or (lambda *_: None)
    report, note = read_records(place)
    catalog = read_split(place / SPLIT)
    files = find_files(place, report, catalog)
    notes: list[str] = []
    asked = None
    try:
        asked = ask(
            place, report, catalog, MOST_ON_MAP, device=device, workers=workers, seed=seed, progress=tell
        )
        notes += asked.notes
    except CnnCodesError as error:
        notes.append(
            f"the model could not be asked again, so mistakes and map are missing: {plain(error.problem)}"
        )
    answers = asked.answers if asked else None
    samples = choose_samples(catalog)
    wrong = [answer.row for answer in answers.mistakes[:MOST_MISTAKES]] if answers else []
    cards = sorted({*wrong, *(row for rows in samples.values() for row in rows)})
    drawn = None if asked is None else _map(asked, seed, tell)
    on_map = [] if drawn is None else drawn.rows.tolist()
    small, tiles, missing = read_images(
        files, cards, on_map, lambda done, total: tell("thumbnails", done, total, "")
    )
    if missing:
        notes.append(_missing(missing, len({*cards, *on_map})))
    pictures, unmade = _pictures(place, answers, files, tell)
    return RunPage(
        title=title or place.resolve().name,
        report=report,
        command=str(note.get("command", "")),
        created=str(note.get("created", "")),
        catalog=dataclasses.replace(catalog, names=shown_names(files)),
        epochs=_epochs(place, report),
        answers=answers,
        samples=samples,
        cards=small,
        missing=missing,
        map=None if drawn is None else dataclasses.replace(drawn, tiles=tiles),
        pictures=tuple(pictures),
        notes=(*notes, *unmade),
    )


def read_records(folder: Path) -> tuple[RunReport, dict[str, Any]]:
    """A run's report, and the note of how it was started; raises ModelError if the folder holds no finished run."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        known = isinstance(note, dict) and note.get("kind") == KIND
    except (OSError, ValueError):
        known, note = False, {}
    if not known:
        raise ModelError(
            f"'{folder}' is no folder of 'cnncodes run'.",
            "Name one, or make it: cnncodes run photos/ -o out.",
        )
    missing = [name for name in (REPORT, SPLIT) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the run in '{folder}' is not finished: {' and '.join(missing)} is not there.",
            f"Repeat its command, and it goes on: {note.get('command', 'cnncodes run')}.",
        )
    return RunReport.from_json((folder / REPORT).read_text(encoding="utf-8")).placed(folder), note


def read_split(path: Path) -> Catalog:
    """The catalog of a run's ``split.csv``, wherever its images are by now."""
    listing = parse_csv(read_text(str(path)), os.fspath(path.resolve().parent), repr(str(path)))
    classes = class_order(listing.labels)
    place_of: dict[str | None, int] = {name: place for place, name in enumerate(classes)}
    labels = np.array([place_of.get(label, -1) for label in listing.labels], np.int32)
    return Catalog(
        Path(listing.root), tuple(listing.names), labels, np.array(listing.splits, np.uint8), classes
    )


def find_files(folder: Path, report: RunReport, catalog: Catalog) -> list[str]:
    """Path of each image: beside the run as it was, or, if the run's folder was moved, where its codes were made of."""
    files = [os.path.normpath(file) for file in catalog.files]
    codes = folder / report.files.get("codes", "")
    if not any(os.path.exists(file) for file in files[:20]) and codes.is_file():  # noqa: PTH110
        try:
            with CodesFile(codes) as file:
                if len(file) == len(catalog):
                    return list(file.catalog.files)
        except CnnCodesError:
            pass
    return files


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
    """Some images of each class, spread over those to learn from; fewer of each where there are many classes."""
    known = catalog.labels >= 0
    used = known & (catalog.splits != SPLITS.index("none"))
    classes = np.unique(catalog.labels[used])
    each = max(1, min(SAMPLES, MOST_SAMPLES // max(len(classes), 1)))
    samples = {}
    for label in classes[:MOST_SAMPLES].tolist():
        rows = np.flatnonzero(used & (catalog.labels == label))
        learned = rows[catalog.splits[rows] == SPLITS.index("train")]
        rows = learned if len(learned) else rows
        samples[catalog.classes[label]] = tuple(evenly(rows, each).tolist())
    return samples


def _map(asked: Asked, seed: int, progress: Progress) -> PageMap | None:
    """Places and neighbours of the codes; tiles come later."""
    from cnncodes.pictures.map import LABEL, codes_map

    if len(asked.rows) < 2:
        return None
    progress("map", 0, 0, "")
    points = codes_map(asked.codes, "tsne", seed)
    span = np.ptp(points, axis=0)
    points = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    points[:, 1] = 1 - points[:, 1]
    count = len(asked.rows)
    neighbours, _ = nearest(asked.codes, asked.codes, min(NEIGHBOURS, count - 1), leave_out=np.arange(count))
    return PageMap(
        asked.rows,
        points,
        neighbours,
        asked.layer,
        LABEL["tsne"],
        np.zeros((0, 1, 1, 3), np.uint8),
    )


def _pictures(
    folder: Path, answers: Answers | None, files: Sequence[str], tell: Progress
) -> tuple[list[NetworkPicture], list[str]]:
    """Pictures of the network, and notes on those that could not be drawn."""
    from cnncodes.pictures.subject import load_subject

    try:
        subject = load_subject(folder / MODEL)
    except CnnCodesError as error:
        return [], [f"the network's pictures are missing: {plain(error.problem)}"]
    return draw_pictures(
        Sitter(subject, answers, files), lambda done: tell("pictures of the network", done, len(PICTURES), "")
    )


def _epochs(folder: Path, report: RunReport) -> tuple[Epoch, ...]:
    """Of a training, as far as they are there and can be read."""
    from cnncodes.training import read_epochs

    try:
        return read_epochs(folder / report.files["training"]) if "training" in report.files else ()
    except (OSError, ValueError, TypeError):
        return ()


def _missing(missing: dict[int, str], of: int) -> str:
    reasons = sorted(set(missing.values()), key=list(missing.values()).count, reverse=True)
    return (
        f"{len(missing):,} of the {of:,} images to be shown here cannot be read any more ({plain(reasons[0])}): "
        "they may have been moved"
    )
