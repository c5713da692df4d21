"""Fitting a head: choose C, then fit on all rows that may be used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.compute import Progress
from cnncodes.core.errors import OptionError, nearest
from cnncodes.core.records import to_value
from cnncodes.heads.checks import check_codes
from cnncodes.heads.choice import (
    DEFAULT_CS,
    Choice,
    ClassWeight,
    check_candidates,
    choose_on_rotation,
    class_costs,
    hold_out,
    positive_classes,
    softmax_costs,
    svm_problems,
)
from cnncodes.heads.head import Head, HeadKind
from cnncodes.heads.normalise import Normalisation, NormalisationKind
from cnncodes.heads.rotation import Rotation, rotate
from cnncodes.heads.softmax import solve_softmax
from cnncodes.heads.svm import solve_svm

Solver = Literal["auto", "newton", "scikit-learn"]
Array = npt.NDArray[Any]

#: The final fit's relative duality gap.
FINAL_TOLERANCE = 1e-6

#: scikit-learn fits the final model up to this many numbers times classes times C (rows are of length 1):
#: a second or so.
SCIKIT_LIMIT = 2e7


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted head and how it came about.

    Parameters
    ----------
    head : Head
    choice : Choice or None
        None where one value of C was given.
    rows : int
        Rows the head was fitted on: the training rows, and the val rows once C had been chosen on them.
    solver : str
        Which solver fitted the final head, and why not scikit-learn's if it was tried.
    seconds : float
        Wall time of the whole fit, the choice of C included.
    """

    head: Head
    choice: Choice | None
    rows: int
    solver: str
    seconds: float

    def record(self) -> dict[str, Any]:
        """Everything but the head's arrays, as JSON has it."""
        parts = {"head": self.head.record(), "choice": None if self.choice is None else to_value(self.choice)}
        return parts | {"rows": self.rows, "solver": self.solver, "seconds": self.seconds}


@dataclass(frozen=True)
class Limits:
    """Where a head is fitted in blocks, and within what.

    Parameters
    ----------
    memory : int
        Bytes for blocks, axes and unknowns together; the process itself comes on top.
    device : str
    progress : Progress
        Of the rows of each pass.
    state : Path or None
        What is kept there after each value of C lets the same fit go on after a kill; removed by the caller.
    """

    memory: int
    device: str
    progress: Progress
    state: Path | None = None


def fit_head(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    kind: HeadKind = "svm",
    C: float | Sequence[float] | Literal["auto"] = "auto",
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
    folds : int, default 5
    validation : (codes [m, d], labels [m]), optional
        Candidates are judged on these rows instead of folds; afterwards the head is fitted on both.
    solver : {"auto", "newton", "scikit-learn"}, default "auto"
        Of the final fit. "auto" takes scikit-learn's where it is fast, and Newton's method where it is not,
        or does not converge.
    seed : int, default 0
    jobs : int, default -1
        Threads; -1: all cores.

    Raises
    ------
    HeadError
        If codes and labels do not fit together, or a class has no rows.
    OptionError
        If a parameter has a value that is not allowed.
    """
    began = time.perf_counter()
    check_options(kind=kind, solver=solver, class_weight=class_weight)
    classes = tuple(classes)
    X, labels = check_codes(X, labels, classes)
    candidates = candidates_of(C)
    choice, rotation = None, None
    if len(candidates) > 1:
        held, X = hold_out(X, labels, classes, folds=folds, validation=validation, seed=seed)
        labels = held.labels
    record = Normalisation.of(X, normalisation)
    normalised = record(X)
    if len(candidates) > 1:
        rotation = rotate(normalised, penalise_bias=kind == "svm")
        choice = choose_on_rotation(
            rotation,
            held,
            len(classes),
            kind=kind,
            Cs=candidates,
            class_weight=class_weight,
            jobs=jobs,
            began=began,
        )
    best = candidates[0] if choice is None else choice.best
    weight, bias, used = _final(
        normalised, labels, len(classes), kind, best, class_weight, solver, seed, rotation
    )
    head = Head(kind, weight, bias, record, best, classes, choice.temperature if choice else None)
    return FitResult(head, choice, len(X), used, time.perf_counter() - began)


def check_options(**values: Any) -> None:
    """Raise OptionError for a value of ``kind``, ``solver`` or ``class_weight`` that is not known."""
    allowed: dict[str, tuple[Any, ...]] = {
        "kind": ("svm", "softmax"),
        "solver": ("auto", "newton", "scikit-learn"),
        "class_weight": (None, "balanced"),
    }
    for name, value in values.items():
        if value not in allowed[name]:
            raise OptionError(
                f"{name} = {value!r} is not known.", nearest(str(value), map(str, allowed[name]))
            )


def candidates_of(C: float | Sequence[float] | str) -> tuple[float, ...]:
    """The values of C that ``fit_head`` means, ascending; raises OptionError."""
    if isinstance(C, str):
        if C != "auto":
            raise OptionError(f"C = {C!r} cannot be used.", "Give 'auto', a positive number or several.")
        return DEFAULT_CS
    return check_candidates([C] if isinstance(C, int | float) else C)


def _final(
    normalised: Array,
    labels: Array,
    K: int,
    kind: HeadKind,
    C: float,
    class_weight: ClassWeight,
    solver: Solver,
    seed: int,
    rotation: Rotation | None,
) -> tuple[Array, Array, str]:
    """Weights [K, d], bias [K] and which solver gave them."""
    from cnncodes.heads import scikit

    used = "newton"
    if solver == "scikit-learn" or (solver == "auto" and scikit_is_fast(normalised, K, C)):
        name = "LinearSVC" if kind == "svm" else "LogisticRegression"
        if kind == "svm":
            fitted = scikit.fit_linear_svc(normalised, labels, C=C, class_weight=class_weight, seed=seed)
        else:
            fitted = scikit.fit_logistic_regression(normalised, labels, C=C, class_weight=class_weight)
        if fitted is not None:
            return *two_rows(*fitted, kind), f"scikit-learn's {name}"
        used = f"newton (scikit-learn's {name} did not converge)"
    if rotation is None:
        rotation = rotate(normalised, penalise_bias=kind == "svm")
    everything = np.ones((len(labels), 1), np.bool_)
    weights = class_costs(labels, everything, K, class_weight)
    if kind == "svm":
        problems = np.array([(0, k) for k in positive_classes(K)])
        signs, costs = svm_problems(labels, everything, weights, problems)
        svm = solve_svm(rotation, signs, C * costs, tolerance=FINAL_TOLERANCE)
        return *two_rows(*rotation.weights(svm.U), kind), used
    costs = C * softmax_costs(labels, everything, weights)
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
