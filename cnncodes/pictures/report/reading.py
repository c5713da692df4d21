"""From a run's folder to everything on its page."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes import files
from cnncodes.advice.run_record import KIND, MODEL, NOTE, REPORT, SPLIT, RunReport
from cnncodes.codes.file import CodesFile
from cnncodes.codes.search import nearest
from cnncodes.errors import CnnCodesError, ModelError
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.listing import class_places
from cnncodes.images.lists import read_text
from cnncodes.images.tables import parse_csv
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.map_record import evenly
from cnncodes.pictures.report.answers import Asked, Progress, ask
from cnncodes.pictures.report.images import read_images
from cnncodes.pictures.report.network_pictures import PICTURES, Sitter, draw_pictures
from cnncodes.pictures.report.record import Answers, Bytes, NetworkPicture, PageMap, RunPage

if TYPE_CHECKING:
    from cnncodes.training.range_test import RangeTest
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
    asked, notes = _ask(place, report, catalog, device=device, workers=workers, seed=seed, progress=tell)
    answers = asked.answers if asked else None
    drawn = None if asked is None else _map(asked, seed, tell)
    samples = choose_samples(catalog)
    named = find_named([name for finding in report.problems for name in finding.names], files)
    singles = {row for rows in (*samples.values(), *named.values()) for row in rows}
    shown = _thumbnails(files, answers, singles, drawn, tell)
    pictures, unmade = _pictures(place, answers, files, tell)
    return RunPage(
        title=title or place.resolve().name,
        report=report,
        command=str(note.get("command", "")),
        created=str(note.get("created", "")),
        catalog=dataclasses.replace(catalog, names=shown_names(files)),
        epochs=_epochs(place, report),
        range_test=_range_test(place, report),
        answers=answers,
        samples=samples,
        named=named,
        cards=shown.cards,
        missing=shown.missing,
        map=None if drawn is None else dataclasses.replace(drawn, tiles=shown.tiles),
        pictures=tuple(pictures),
        notes=(*notes, *shown.notes, *unmade),
        in_folder=("report.html", *(path.name for path in place.iterdir())),
    )


def _ask(
    folder: Path,
    report: RunReport,
    catalog: Catalog,
    *,
    device: str,
    workers: int | None,
    seed: int,
    progress: Progress,
) -> tuple[Asked | None, tuple[str, ...]]:
    """What the model says now, or why it cannot be asked."""
    try:
        asked = ask(
            folder, report, catalog, MOST_ON_MAP, device=device, workers=workers, seed=seed, progress=progress
        )
        return asked, asked.notes
    except CnnCodesError as error:
        lost = "the model could not be asked again, so mistakes and map are missing"
        return None, (f"{lost}: {plain(error.problem)}",)


@dataclass(frozen=True, eq=False)
class _Shown:
    """Thumbnails: those that stand alone by row, those of the map, and what cannot be shown."""

    cards: dict[int, bytes]
    tiles: Bytes
    missing: dict[int, str]
    notes: tuple[str, ...]


def _thumbnails(
    files: Sequence[str],
    answers: Answers | None,
    singles: set[int],
    drawn: PageMap | None,
    tell: Progress,
) -> _Shown:
    """Of the surest mistakes, the images that stand alone and the map."""
    wrong = [answer.row for answer in answers.mistakes[:MOST_MISTAKES]] if answers else []
    cards = sorted({*wrong, *singles})
    on_map = [] if drawn is None else drawn.rows.tolist()
    small, tiles, missing = read_images(
        files, cards, on_map, lambda done, total: tell("thumbnails", done, total, "")
    )
    notes = (_missing(missing, len({*cards, *on_map})),) if missing else ()
    return _Shown(small, tiles, missing, notes)


def read_records(folder: Path) -> tuple[RunReport, dict[str, Any]]:
    """A run's report, and the note of how it was started; raises ModelError if the folder holds no finished run."""
    try:
        note = files.read_json(folder / NOTE)
        known = isinstance(note, dict) and note.get("kind") == KIND
    except (OSError, ValueError):
        known, note = False, {}
    if not known:
        raise _no_run(folder, has_note=bool(note))
    missing = [name for name in (REPORT, SPLIT) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the run in '{folder}' is not finished: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there.",
            f"Repeat its command, and it goes on: {note.get('command', 'cnncodes run')}",
        )
    return RunReport.from_json(files.read_text(folder / REPORT)).placed(folder), note


def _no_run(folder: Path, has_note: bool) -> ModelError:
    """What is there in place of a run, and what to do."""
    make = "make one with: cnncodes run photos/ -o out"
    if not folder.exists():
        return ModelError(f"there is no folder '{folder}'.", f"Name the folder of a run, or {make}")
    if folder.is_file() and (folder.parent / NOTE).is_file() and (folder.parent / SPLIT).is_file():
        return ModelError(
            f"'{folder}' is a file, and a page is made of a run's folder.",
            f"Write: cnncodes report {shlex.quote(str(folder.parent))}",
        )
    if folder.is_file():
        return ModelError(
            f"'{folder}' is a file, and a page is made of a run's folder.",
            f"Name the folder that 'cnncodes run' made; if there is none, {make}",
        )
    if has_note:
        return ModelError(
            f"'{folder}' is the folder of a training by itself, without the images' split and a test.",
            "Give the same images and recipe to 'cnncodes run', which trains, tests and writes the page.",
        )
    return ModelError(f"'{folder}' is no folder of 'cnncodes run': it has no {NOTE}.", f"Name one, or {make}")


def read_split(path: Path) -> Catalog:
    """The catalog of a run's ``split.csv``, wherever its images are by now."""
    listing = parse_csv(read_text(str(path)), os.fspath(path.resolve().parent), repr(str(path)))
    classes, place_of = class_places(listing.labels)
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


def find_named(said: Sequence[str], files: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Rows of the images that lines of findings name: ``ants/1.jpg: reason``, ``a.jpg = b.jpg``, ``a.jpg ~ b.jpg (0.02)``.

    Names in findings begin at the folder of the data, paths of files before it.
    """
    words = {line: [_names_in(part) for part in re.split(" [=~] ", line)] for line in said}
    last = {os.path.basename(name) for parts in words.values() for names in parts for name in names}  # noqa: PTH119
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        if (base := os.path.basename(file)) in last:  # noqa: PTH119
            rows.setdefault(base, []).append(row)
    found: dict[str, tuple[int, ...]] = {}
    for line, parts in words.items():
        meant = []
        for names in parts:
            matches = [
                row
                for name in names
                for row in rows.get(os.path.basename(name), ())  # noqa: PTH119
                if f"/{Path(files[row]).as_posix()}".endswith(f"/{name}")
            ]
            meant += matches[:1] if len(matches) == 1 else []  # of two the line may mean either
        if meant:
            found[line] = tuple(meant)
    return found


def _names_in(text: str) -> list[str]:
    """Every beginning of a text that may be a name: up to ``: `` or `` (``, or all of it."""
    ends = [match.start() for match in re.finditer(r": | \(", text)]
    return [text[:end] for end in (*ends, len(text))]


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
        asked.codes.shape[1],
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
    except CnnCodesError:
        return ()


def _range_test(folder: Path, report: RunReport) -> RangeTest | None:
    """The one that chose the learning rate, if there was one and it can be read."""
    from cnncodes.training.range_test import RangeTest

    try:
        return RangeTest.load(folder / report.files["training"]) if "training" in report.files else None
    except (OSError, ValueError, CnnCodesError):
        return None


def _missing(missing: dict[int, str], of: int) -> str:
    reasons = sorted(set(missing.values()), key=list(missing.values()).count, reverse=True)
    return (
        f"{len(missing):,} of the {of:,} images to be shown here cannot be read any more ({plain(reasons[0])}): "
        "they may have been moved"
    )
