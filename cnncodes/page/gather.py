"""From a run's folder to everything on its page: its answers on the test images, the codes of the map, pictures, samples."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.comparing import read_tried
from cnncodes.advice.facts import Case, Finding
from cnncodes.advice.run_folder import find_files, read_records, read_split
from cnncodes.advice.run_record import MODEL, PREDICTIONS, SPLIT, RunReport, test_rows
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.search import nearest
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError, ResumeError
from cnncodes.core.files import parse_toml, reading
from cnncodes.evaluation import Predictions, evaluate
from cnncodes.heads import load_model
from cnncodes.heads.linear_model import read_rows
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.networks import get_network
from cnncodes.page.images import on_screen, read_images
from cnncodes.page.network_pictures import PICTURES, Sitter, draw_pictures
from cnncodes.page.record import Answer, Answers, Integers, NetworkPicture, PageMap, RunPage
from cnncodes.pictures.codes_source import evenly
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from cnncodes.training.folder import Epoch
    from cnncodes.training.range_test import RangeTest

MOST_ON_MAP = 2000  # images: thumbnails of more would not fit into the page
MOST_MISTAKES = 60  # with their image
MOST_FOUND = 12  # images shown of a finding
SAMPLES, MOST_SAMPLES = 6, 120  # images of a class, and of all classes together
NEIGHBOURS = 5
#: Of a page what its run began with, and where the recipe has it.
BEGUN = (("weights", "network", "weights"), ("fit", "images", "fit"), ("head", "head", "kind"))
PAGE_CODES = "page.h5"  # codes of a trained network, kept so that the page can be made again at once
MOST_TESTED = 1500  # test images that a trained network is asked about again, if there are others to show


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
    report = dataclasses.replace(report, problems=_with_rows(report, names))
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
    alone = [answer.row for answer in answers.mistakes[:MOST_MISTAKES]] if answers else []
    alone += [row for finding in report.problems for row in finding.rows[:MOST_FOUND]]
    cards = sorted({*(row for row in alone if 0 <= row < len(catalog)), *chain(*samples.values())})
    on_map = drawn.rows.tolist() if drawn else []
    small, tiles, missing = read_images(
        files, cards, on_map, lambda done, total: tell("thumbnails", done, total, "")
    )
    gone = {row: why for row, why in missing.items() if not f"/{files[row]}".endswith(broken)}
    if gone:
        (reason, _), *_ = Counter(gone.values()).most_common(1)
        notes.append(
            f"{len(gone):,} of the {len({*cards, *on_map}):,} images to be shown here can no longer be read "
            f"({plain(reason)}): they may have been moved"
        )
    pictures, unmade = _pictures(place, answers, files, tell)
    epochs, range_test = _training(place, report)
    with reading("the recipe in the run's report"):
        recipe = parse_toml(report.recipe_text)
        begun = {name: str(recipe.get(section, {}).get(key, "")) for name, section, key in BEGUN}
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
        **begun,
        cards=small,
        missing=missing,
        map=drawn and dataclasses.replace(drawn, tiles=tiles),
        pictures=tuple(pictures),
        notes=(*notes, *unmade),
        in_folder=("report.html", *(path.name for path in place.iterdir())),
        tried=read_tried(place),
    )


def _with_rows(report: RunReport, names: Sequence[str]) -> tuple[Finding, ...]:
    """The findings with the rows of their images; of older runs those that are found by their name."""
    row_of = {name: row for row, name in enumerate(names)}

    def placed(case: Case) -> Case:
        found = tuple(row_of[name] for name in case.names if name in row_of)
        return dataclasses.replace(case, rows=case.rows or found)

    return tuple(
        dataclasses.replace(finding, cases=tuple(map(placed, finding.cases))) for finding in report.problems
    )


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

    count, numbers = asked.codes.shape
    if count < 2:
        return None
    progress("map", 0, 0, "")
    points = on_screen(codes_map(asked.codes, "tsne", seed))
    near, _ = nearest(asked.codes, asked.codes, min(NEIGHBOURS, count - 1), leave_out=np.arange(count))
    return PageMap(asked.rows, points, near, asked.layer, numbers, np.zeros((0, 1, 1, 3), np.uint8))


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


@dataclass(frozen=True, eq=False)
class Asked:
    """What a run's model says now: answers, and codes of the images on the map."""

    answers: Answers | None
    rows: Integers  # [n], of the run's catalog
    codes: npt.NDArray[np.float32]  # [n, length]
    layer: str
    notes: tuple[str, ...] = ()


def ask(folder: Path, report: RunReport, catalog: Catalog, most: int, compute: Compute) -> Asked:
    """Answers and the codes of at most so many images, from the run's codes file or, of a trained network, by asking it."""
    saved: Predictions | None = None
    with suppress(CnnCodesError):  # of an older run, or damaged
        saved = Predictions.load(folder / PREDICTIONS)
    if saved and not (len(saved.rows) and saved.rows.max() < len(catalog) and saved.rows.min() >= 0):
        saved = None
    linear = "codes" in report.files
    model = None if saved and linear and report.stage else load_model(folder / MODEL)
    tested = saved.rows if saved else test_rows(catalog, report.left_out)
    if not saved and model:  # of the classes that the model knows
        names = np.array(catalog.classes, object)[catalog.labels[tested]]
        tested = tested[np.isin(names, list(model.classes))]
    notes: tuple[str, ...] = ()
    if linear:
        path, places = folder / report.files["codes"], np.arange(len(catalog))
        layer = model.stage if model else report.stage
        with CodesFile(path) as file:
            if len(file) != len(catalog):
                raise CnnCodesError(
                    f"'{path}' has {len(file):,} images and the run {len(catalog):,}.",
                    "Run again into another folder.",
                )
    else:
        assert model is not None
        path, layer = folder / PAGE_CODES, get_network(model.settings.network).codes_layers[-1]
        places = choose_rows(catalog, tested, most, compute.seed)
        layers = layer if saved else f"{layer},{model.stage}"
        _extract(catalog.subset(places), path, folder / MODEL, layers, compute)
        if not saved and len(missed := np.setdiff1d(tested, places)):
            notes = (
                f"the network was asked again about {len(tested) - len(missed):,} of the {len(tested):,} test images, drawn "
                "evenly from the classes: the mistakes below are among these",
            )
    with CodesFile(path) as file:
        done = np.flatnonzero(file.state == DONE)
        if saved is None:
            assert model is not None
            asked = np.intersect1d(np.flatnonzero(np.isin(places, tested)), done)
            if len(asked):
                saved = Predictions.of(evaluate(model, path, rows=asked), places)
        answers = answers_of(saved) if saved and len(saved.rows) else None
        shown = done
        if len(done) > most:
            shown = np.searchsorted(places, choose_rows(catalog, tested, most, compute.seed, places[done]))
        codes = read_rows(file, layer, shown)
    return Asked(answers, places[shown], codes, layer, notes)


def answers_of(predictions: Predictions) -> Answers:
    """The answers of predictions, the surest first."""
    classes, scores = predictions.classes, predictions.scores
    logarithms = predictions.log_probabilities
    if logarithms is not None:
        sureness = np.exp(logarithms.max(axis=1))
    else:
        two = np.sort(scores, axis=1)[:, -2:] if len(classes) > 1 else np.repeat(scores, 2, axis=1)
        margin = two[:, 1] - two[:, 0]
        sureness = margin / (float(np.median(margin)) or 1.0)
    labels, predicted = predictions.labels, predictions.predicted
    answers = tuple(
        Answer(
            int(predictions.rows[at]),
            classes[int(labels[at])],
            classes[int(predicted[at])],
            float(sureness[at]),
        )
        for at in np.argsort(-sureness, kind="stable")
    )
    return Answers(answers, "margin" if logarithms is None else "probability")


def choose_rows(
    catalog: Catalog, tested: Integers, most: int, seed: int, among: Integers | None = None
) -> Integers:
    """At most so many rows, ascending: test images first, up to three quarters, each class as evenly as can be."""
    rows = np.arange(len(catalog)) if among is None else among
    if len(rows) <= most:
        return rows
    test = rows[np.isin(rows, tested)]
    others = rows[(catalog.splits[rows] != SPLITS.index("none")) & ~np.isin(rows, tested)]
    first = _evenly(catalog, test, max(most * MOST_TESTED // 2000, most - len(others)), seed)
    second = _evenly(catalog, others, most - len(first), seed)
    return np.sort(np.concatenate([first, second]))


def _evenly(catalog: Catalog, rows: Integers, most: int, seed: int) -> Integers:
    """At most so many of the rows: one of each class in turn."""
    drawn = np.random.default_rng(seed).permutation(rows)
    labels = catalog.labels[drawn]
    turn = np.zeros(len(drawn), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.asarray(drawn[np.argsort(turn, kind="stable")][:most])


def _extract(catalog: Catalog, path: Path, model: Path, layers: str, compute: Compute) -> None:
    from cnncodes.codes import plan_extraction, run_extraction
    from cnncodes.weights import load_weights

    weights = load_weights(str(model))
    asked: dict[str, Any] = {"layers": layers, "device": compute.device, "workers": compute.workers}
    try:
        plan = plan_extraction(catalog, path, weights, **asked)
    except ResumeError:  # other images are shown now: these codes are ours to replace
        plan = plan_extraction(catalog, path, weights, **asked, overwrite=True)
    run_extraction(plan, lambda _, *where: compute.progress("asking the network", *where))
