"""A run's answers on the test images, as it saved them (of older runs its model is asked again), and the codes of the map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.advice.run_record import MODEL, PREDICTIONS
from cnncodes.advice.run_report import test_rows
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.core.compute import Compute
from cnncodes.core.errors import CnnCodesError
from cnncodes.evaluation import Predictions, evaluate
from cnncodes.heads import load_model
from cnncodes.heads.linear_model import LinearModel, read_rows
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.networks import get_network
from cnncodes.page.record import Answer, Answers

if TYPE_CHECKING:
    from cnncodes.advice.run_record import RunReport

Integers = npt.NDArray[np.int64]
PAGE_CODES = "page.h5"  # codes of a trained network, kept so that the page can be made again at once
MOST_TESTED = (
    1500  # test images that a trained network is asked about again, if there are also others to show
)


@dataclass(frozen=True, eq=False)
class Asked:
    """What a run's model says now.

    Parameters
    ----------
    answers : Answers or None
    rows : int array [n]
        Of the run's catalog, with codes.
    codes : float32 array [n, length]
    layer : str
    notes : tuple of str
    """

    answers: Answers | None
    rows: Integers
    codes: npt.NDArray[np.float32]
    layer: str
    notes: tuple[str, ...] = ()


def ask(
    folder: Path,
    report: RunReport,
    catalog: Catalog,
    most: int,
    compute: Compute,
) -> Asked:
    """Answers and codes of a run, from its codes file or, of a trained network, by asking it.

    Parameters
    ----------
    folder : Path
        Of the run.
    report : RunReport
    catalog : Catalog
        With the run's split.
    most : int
        Images that the map shows.
    compute : Compute
        For a trained network; its seed is that of the choice among more images.

    Raises
    ------
    CnnCodesError
        If the model or the codes cannot be read.
    """
    saved = _saved(folder, len(catalog))
    linear = "codes" in report.files
    model = None if saved and linear and report.stage else load_model(folder / MODEL)
    tested = saved.rows if saved else _tested(report, catalog, model)
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
        shown = (
            done
            if len(done) <= most
            else np.searchsorted(places, choose_rows(catalog, tested, most, compute.seed, places[done]))
        )
        codes = read_rows(file, layer, shown)
    return Asked(answers, places[shown], codes, layer, notes)


def _saved(folder: Path, images: int) -> Predictions | None:
    """The answers that the run saved; None of an older run, or if they cannot be read."""
    try:
        saved = Predictions.load(folder / PREDICTIONS)
    except CnnCodesError:
        return None
    return saved if len(saved.rows) and saved.rows.max() < images and saved.rows.min() >= 0 else None


def _tested(report: RunReport, catalog: Catalog, model: LinearModel | None) -> Integers:
    """Test images of the classes that the model knows."""
    assert model is not None
    rows = test_rows(catalog, report.left_out)
    return rows[np.isin(np.array(catalog.classes, object)[catalog.labels[rows]], list(model.classes))]


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
    answers = tuple(
        Answer(
            int(predictions.rows[place]),
            classes[int(predictions.labels[place])],
            classes[int(predictions.predicted[place])],
            float(sureness[place]),
        )
        for place in np.argsort(-sureness, kind="stable")
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
    from cnncodes.codes.extraction import run_extraction
    from cnncodes.codes.planning import plan_extraction
    from cnncodes.core.errors import ResumeError
    from cnncodes.weights import load_weights

    weights = load_weights(str(model))
    device, workers = compute.device, compute.workers
    try:
        plan = plan_extraction(catalog, path, weights, layers=layers, device=device, workers=workers)
    except ResumeError:  # other images are shown now: these codes are ours to replace
        plan = plan_extraction(
            catalog, path, weights, layers=layers, device=device, workers=workers, overwrite=True
        )
    run_extraction(plan, lambda _, *where: compute.progress("asking the network", *where))
