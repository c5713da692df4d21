"""Fitting a head: choose C, then fit on all rows that may be used; and how good heads are with a few images per class."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.compute import Progress
from cnncodes.core.errors import HeadError, OptionError
from cnncodes.core.records import to_value
from cnncodes.heads import scikit
from cnncodes.heads.choice import (
    Candidates,
    Choice,
    ClassWeight,
    FitOptions,
    Solver,
    TrainingSets,
    choose_on_rotation,
    hold_out,
    positive_classes,
)
from cnncodes.heads.confidence import Likeness
from cnncodes.heads.head import Head, HeadKind, Normalisation, NormalisationKind, check_codes
from cnncodes.heads.rotation import Rotation, rotate
from cnncodes.heads.softmax import solve_softmax
from cnncodes.heads.svm import solve_svm

Array = npt.NDArray[Any]

FINAL_TOLERANCE = 1e-6  # the final fit's relative duality gap

#: scikit-learn fits the final model up to this many numbers times classes times C (rows are of length 1):
#: a second or so.
SCIKIT_LIMIT = 2e7

#: With one image per class nothing can be held out; on rows of length 1 this C separates any few of them.
ONE_SHOT_C = 10.0


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted head and how it came about."""

    head: Head
    choice: Choice | None  # None where one value of C was given
    rows: (
        int  # that the head was fitted on: the training rows, and the val rows once C had been chosen on them
    )
    solver: str  # which one fitted the final head, and why not scikit-learn's if it was tried
    seconds: float  # wall time of the whole fit, the choice of C included

    def record(self) -> dict[str, Any]:
        """Everything but the head's arrays, as JSON has it."""
        parts = {"head": self.head.record(), "choice": None if self.choice is None else to_value(self.choice)}
        return parts | {"rows": self.rows, "solver": self.solver, "seconds": self.seconds}


@dataclass(frozen=True, eq=False)
class StageFit:
    """The head on one stage of a codes file, and what is known of it."""

    result: FitResult
    judged: Choice | None  # what held-out rows say of its C; None where nothing could be held out
    likeness: Likeness | None  # what is usual among the rows that were fitted
    in_blocks: bool  # the codes were not all in memory at once


@dataclass(frozen=True)
class Limits:
    """Where a head is fitted in blocks, and within what."""

    memory: int  # bytes for blocks, axes and unknowns together; the process itself comes on top
    device: str
    progress: Progress  # of the rows of each pass
    #: Kept after each value of C, so that the same fit goes on after a kill; the caller removes it.
    state: Path | None = None


def fit_head(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    kind: HeadKind = "svm",
    C: Candidates = "auto",
    normalisation: NormalisationKind = "l2",
    class_weight: ClassWeight = None,
    folds: int = 5,
    validation: tuple[Array, Array] | None = None,
    solver: Solver = "auto",
    seed: int = 0,
    jobs: int = -1,
) -> FitResult:
    """Fit a linear head to codes.

    Parameters
    ----------
    X : array [n, d], float16, float32 or float64
        Codes of one stage. Rows of images that could not be read (NaN) must have been removed.
    labels : int array [n], 0..K-1
    classes : sequence of K str
    kind : {"svm", "softmax"}, default "svm"
        The objective of scikit-learn's ``LinearSVC`` or ``LogisticRegression``.
    C : "auto", float or sequence of float, default "auto"
        One value is used as it is; several are candidates, "auto" is 1e-5 to 1e5.
    normalisation : {"l2", "standard", "none"}, default "l2"
    class_weight : {None, "balanced"}
        See :func:`cnncodes.heads.choose_C`.
    folds : int, default 5
        Stratified ones, to choose C; fewer where the smallest class has fewer rows.
    validation : (codes [m, d], labels [m]), optional
        Candidates are judged on these rows instead of folds; afterwards the head is fitted on both.
    solver : {"auto", "newton", "scikit-learn"}, default "auto"
        Of the final fit. "auto" takes scikit-learn's where it is fast, and Newton's method where it is not,
        or does not converge.
    seed : int, default 0
        Of the folds.
    jobs : int, default -1
        Threads; -1: all cores.

    Raises
    ------
    HeadError
        If codes and labels do not fit together, or a class has no rows.
    OptionError
        If a parameter has a value that is not allowed.
    """
    options = FitOptions(kind, C, normalisation, class_weight, folds, solver, seed, jobs)
    return fit(X, labels, classes, options, validation)


def fit(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    options: FitOptions,
    validation: tuple[Array, Array] | None = None,
) -> FitResult:
    """:func:`fit_head` with its keywords in a record."""
    began = time.perf_counter()
    classes = tuple(classes)
    X, labels = check_codes(X, labels, classes)
    several = len(options.candidates) > 1
    if several:
        held, X = hold_out(X, labels, classes, options, validation)
        labels = held.labels
    record = Normalisation.of(X, options.normalisation)
    normalised = record(X)
    choice, rotation = None, None
    if several:
        rotation = rotate(normalised, penalise_bias=options.kind == "svm")
        choice = choose_on_rotation(rotation, held, len(classes), options, began)
    best = options.candidates[0] if choice is None else choice.best
    weight, bias, used = _final(normalised, labels, len(classes), best, options, rotation)
    head = Head(options.kind, weight, bias, record, best, classes, choice.temperature if choice else None)
    return FitResult(head, choice, len(X), used, time.perf_counter() - began)


def _final(
    normalised: Array, labels: Array, K: int, C: float, options: FitOptions, rotation: Rotation | None
) -> tuple[Array, Array, str]:
    """Weights [K, d], bias [K] and which solver gave them."""
    kind, solver, used, class_weight = options.kind, options.solver, "newton", options.class_weight
    if solver == "scikit-learn" or (solver == "auto" and scikit_is_fast(normalised, K, C)):
        if kind == "svm":
            name, seed = "LinearSVC", options.seed
            fitted = scikit.fit_linear_svc(normalised, labels, C=C, class_weight=class_weight, seed=seed)
        else:
            name = "LogisticRegression"
            fitted = scikit.fit_logistic_regression(normalised, labels, C=C, class_weight=class_weight)
        if fitted is not None:
            return *two_rows(*fitted, kind), f"scikit-learn's {name}"
        used = f"newton (scikit-learn's {name} did not converge)"
    if rotation is None:
        rotation = rotate(normalised, penalise_bias=kind == "svm")
    everything = TrainingSets.of(labels, np.ones((len(labels), 1), np.bool_), K, class_weight)
    if kind == "svm":
        signs, costs = everything.svm_problems(np.array([(0, k) for k in positive_classes(K)]))
        svm = solve_svm(rotation, signs, C * costs, tolerance=FINAL_TOLERANCE)
        return *two_rows(*rotation.weights(svm.U), kind), used
    costs = C * everything.softmax_costs(np.array([0]))
    softmax = solve_softmax(rotation, labels, costs, K, tolerance=FINAL_TOLERANCE)
    return *rotation.weights(softmax.U[:, 0], softmax.bias[0]), used


def scikit_is_fast(normalised: Array, K: int, C: float) -> bool:
    """Whether scikit-learn's solver ends in about a second: few numbers, and a C that is easy for it."""
    length = float(np.einsum("ij,ij->", normalised, normalised, dtype=np.float64)) / len(normalised)
    return normalised.size * (K if K > 2 else 1) * max(1.0, C * length) <= SCIKIT_LIMIT


def two_rows(weight: Array, bias: Array, kind: HeadKind) -> tuple[Array, Array]:
    """One row of weights for two classes as two, so that there is one score per class."""
    if len(weight) > 1:
        return weight, bias
    half = 0.5 if kind == "softmax" else 1.0
    return np.concatenate([-half * weight, half * weight]), np.concatenate([-half * bias, half * bias])


class OverDraws:
    """Mean and spread of what was repeated with other images."""

    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws, 0..1."""
        return float(np.mean(self.accuracy))

    @property
    def sd(self) -> float:
        """Sample standard deviation over the draws (n - 1); 0 for one draw."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else 0.0


@dataclass(frozen=True)
class FewShot(OverDraws):
    """Accuracy with ``shots`` images per class."""

    shots: int
    accuracy: tuple[float, ...]  # top-1 on the test rows, 0..1, one per draw
    C: tuple[float, ...]  # of each draw

    def to_json(self) -> str:
        """JSON object with one entry per field, and mean and sd."""
        return json.dumps({**asdict(self), "mean": self.mean, "sd": self.sd})


def draw_few(labels: Array, shots: int, *, seed: int = 0, repeat: int = 0) -> npt.NDArray[np.int64]:
    """Rows of ``shots`` images of each class, ascending; the same for the same arguments."""
    random = np.random.default_rng([seed, shots, repeat])
    rows = [random.permutation(np.flatnonzero(labels == k))[:shots] for k in range(labels.max() + 1)]
    return np.sort(np.concatenate(rows))


def few_shot(
    X: Array,
    labels: Array,
    X_test: Array,
    labels_test: Array,
    classes: Sequence[str],
    *,
    shots: Sequence[int] = (1, 5, 10),
    repeats: int = 5,
    kind: HeadKind = "svm",
    C: Candidates = "auto",
    normalisation: NormalisationKind = "l2",
    seed: int = 0,
    jobs: int = -1,
) -> list[FewShot]:
    """Fit heads on a few images per class and test them on the same test rows.

    Parameters
    ----------
    X, labels : array [n, d] and int array [n]
        The rows to draw from.
    X_test, labels_test : array [m, d] and int array [m]
    classes : sequence of K str
    shots : sequence of int, default (1, 5, 10)
        Images per class.
    repeats : int, default 5
        Draws for each number of shots.
    C : "auto", float or sequence of float
        Chosen within each draw by folds; with one shot "auto" and sequences mean ``ONE_SHOT_C``.
    kind, normalisation, seed, jobs
        As for :func:`cnncodes.heads.fit_head`.

    Raises
    ------
    HeadError
        If a class has fewer rows than the shots asked for, or codes and labels do not fit together.
    OptionError
        If shots or repeats are not positive.
    """
    if repeats < 1 or not shots or min(shots) < 1:
        raise OptionError(
            f"shots = {list(shots)} and repeats = {repeats} cannot be drawn.", "Use numbers of at least 1."
        )
    X, labels = check_codes(X, labels, classes)
    X_test, labels_test = check_codes(X_test, labels_test, classes, all_classes=False, columns=X.shape[1])
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < max(shots):
        raise HeadError(
            f"class {classes[int(counts.argmin())]!r} has {counts.min()} images to draw from, "
            f"fewer than {max(shots)} shots.",
            f"Use at most {counts.min()} shots.",
        )
    results = []
    for number in shots:
        value = ONE_SHOT_C if number == 1 and not isinstance(C, int | float) else C
        options = FitOptions(kind, value, normalisation, solver="newton", seed=seed, jobs=jobs)
        drawn = [draw_few(labels, number, seed=seed, repeat=repeat) for repeat in range(repeats)]
        heads = [fit(X[rows], labels[rows], classes, options).head for rows in drawn]
        accuracy = tuple(float((head.predict(X_test) == labels_test).mean()) for head in heads)
        results.append(FewShot(number, accuracy, tuple(head.C for head in heads)))
    return results
