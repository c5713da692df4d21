"""Ask a run's model again: its answers on the test images, and the codes that the map is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.advice.run_record import MODEL
from cnncodes.advice.run_report import test_rows
from cnncodes.advice.sample import probed_stages
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.core.errors import CnnCodesError
from cnncodes.evaluation import EvaluationResult, evaluate
from cnncodes.heads import load_model
from cnncodes.heads.linear_model import read_rows
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.networks import get_network
from cnncodes.page.record import Answer, Answers

if TYPE_CHECKING:
    from cnncodes.advice.run_record import RunReport

Integers = npt.NDArray[np.int64]
Progress = Callable[[str, float, int, str], None]  # step, images done, of how many, a word on it

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
    *,
    device: str,
    workers: int | None,
    seed: int,
    progress: Progress,
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
    device, workers
        For a trained network.
    seed : int
        Of the choice among more images.
    progress : callable

    Raises
    ------
    CnnCodesError
        If the model or the codes cannot be read.
    """
    model = load_model(folder / MODEL)
    tested = test_rows(catalog, report.left_out)
    tested = tested[np.isin(np.array(catalog.classes, object)[catalog.labels[tested]], list(model.classes))]
    notes: tuple[str, ...] = ()
    if "codes" in report.files:
        path, layer, places = folder / report.files["codes"], model.stage, np.arange(len(catalog))
        with CodesFile(path) as file:
            if len(file) != len(catalog):
                raise CnnCodesError(
                    f"'{path}' has {len(file):,} images and the run {len(catalog):,}.",
                    "Run again into another folder.",
                )
    else:
        path, layer = folder / PAGE_CODES, probed_stages(get_network(model.settings.network))[-1]
        places = choose_rows(catalog, tested, most, seed)
        _extract(
            catalog.subset(places), path, folder / MODEL, f"{layer},{model.stage}", device, workers, progress
        )
        if len(missed := np.setdiff1d(tested, places)):
            notes = (
                f"the network was asked again about {len(tested) - len(missed):,} of the {len(tested):,} test images, drawn "
                "evenly from the classes: the mistakes below are among these",
            )
    with CodesFile(path) as file:
        done = np.flatnonzero(file.state == DONE)
        asked = np.intersect1d(np.flatnonzero(np.isin(places, tested)), done)
        answers = None
        if len(asked):
            answers = answers_of(
                evaluate(model, path, rows=asked, temperature=False), places, model.head.kind
            )
        shown = (
            done
            if len(done) <= most
            else np.searchsorted(places, choose_rows(catalog, tested, most, seed, places[done]))
        )
        codes = read_rows(file, layer, shown)
    return Asked(answers, places[shown], codes, layer, notes)


def answers_of(result: EvaluationResult, places: Integers, kind: str) -> Answers:
    """The answers of an evaluation, the surest first.

    Parameters
    ----------
    result : EvaluationResult
        Without a temperature.
    places : int array
        Row of the run's catalog for each row of the result's.
    kind : {"svm", "softmax"}
        Of the head: see :attr:`Answers.unit`.
    """
    classes, logarithms = result.evaluation.classes, result.log_probabilities
    predicted = logarithms.argmax(axis=1)
    two = np.sort(logarithms, axis=1)[:, -2:] if len(classes) > 1 else np.repeat(logarithms, 2, axis=1)
    sureness = np.exp(two[:, 1])
    if kind == "svm":
        margin = two[:, 1] - two[:, 0]  # a difference of scores: log softmax takes the same from both
        sureness = margin / (float(np.median(margin)) or 1.0)
    answers = tuple(
        Answer(
            int(places[result.rows[place]]),
            classes[int(result.labels[place])],
            classes[int(predicted[place])],
            float(sureness[place]),
        )
        for place in np.argsort(-sureness, kind="stable")
    )
    return Answers(answers, "margin" if kind == "svm" else "probability")


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


def _extract(
    catalog: Catalog,
    path: Path,
    model: Path,
    layers: str,
    device: str,
    workers: int | None,
    progress: Progress,
) -> None:
    from cnncodes.codes.extraction import run_extraction
    from cnncodes.codes.planning import plan_extraction
    from cnncodes.core.errors import ResumeError
    from cnncodes.weights import load_weights

    weights = load_weights(str(model))
    try:
        plan = plan_extraction(catalog, path, weights, layers=layers, device=device, workers=workers)
    except ResumeError:  # other images are shown now: these codes are ours to replace
        plan = plan_extraction(
            catalog, path, weights, layers=layers, device=device, workers=workers, overwrite=True
        )
    run_extraction(plan, lambda done, bad: progress("asking the network", done, plan.images, ""))
