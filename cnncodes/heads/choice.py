"""The choice of C: the accuracy on held-out rows for each candidate, from one rotation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import OptionError
from cnncodes.heads.calibration import fit_temperature
from cnncodes.heads.checks import check_codes
from cnncodes.heads.folds import TRAINING, stratified_folds
from cnncodes.heads.head import HeadKind
from cnncodes.heads.normalise import Normalisation, NormalisationKind
from cnncodes.heads.parallel import run_in_threads
from cnncodes.heads.rotation import Rotation, rotate
from cnncodes.heads.softmax import SoftmaxSolution, solve_softmax
from cnncodes.heads.svm import solve_svm

ClassWeight = Literal["balanced"] | None
Array = npt.NDArray[Any]

#: 1e-5 .. 1e5, one per decade.
DEFAULT_CS: tuple[float, ...] = tuple(10.0**k for k in range(-5, 6))

#: How exactly each candidate is solved: relative duality gap.
TOLERANCE = 1e-4

#: About this many columns of unknowns are solved for in one task, by one thread.
COLUMNS_PER_TASK = 32


@dataclass(frozen=True)
class Choice:
    """How C was chosen.

    Parameters
    ----------
    C : tuple of float
        The candidates, ascending.
    accuracy : tuple of float
        Of each candidate on the held-out rows, 0..1: the mean over the folds, or that on the val split.
    sd : tuple of float
        Standard deviation over the folds; 0 for a val split.
    best : float
        The smallest C among those of the highest accuracy.
    how : str
        "5 stratified folds" or "val split of 120 images", with what was unusual.
    seconds : float
        Wall time.
    temperature : float or None
        With ``best``: that of :func:`cnncodes.heads.calibration.fit_temperature` on the held-out rows.
    folds : int, default 0
        How many; 1 for a val split; 0 in records of earlier versions.
    """

    C: tuple[float, ...]
    accuracy: tuple[float, ...]
    sd: tuple[float, ...]
    best: float
    how: str
    seconds: float
    temperature: float | None = None
    folds: int = 0

    @property
    def best_accuracy(self) -> float:
        """Accuracy of ``best``, 0..1."""
        return self.accuracy[self.C.index(self.best)]


def choose_C(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    kind: HeadKind = "svm",
    Cs: Sequence[float] = DEFAULT_CS,
    normalisation: NormalisationKind = "l2",
    folds: int = 5,
    validation: tuple[Array, Array] | None = None,
    class_weight: ClassWeight = None,
    seed: int = 0,
    jobs: int = -1,
) -> Choice:
    """Accuracy of every candidate C on rows that were held out, and the best.

    Parameters
    ----------
    X : array [n, d], float16, float32 or float64
        Codes of one stage. Rows of images that could not be read (NaN) must have been removed.
    labels : int array [n], 0..K-1
    classes : sequence of K str
    kind : {"svm", "softmax"}, default "svm"
    Cs : sequence of float
        Candidates; by default 1e-5 to 1e5, one per decade.
    normalisation : {"l2", "standard", "none"}, default "l2"
        The statistics of "standard" are those of all rows of ``X``; they see no label.
    folds : int, default 5
        Without ``validation``: stratified folds, fewer where the smallest class has fewer rows.
    validation : (codes [m, d], labels [m]), optional
        Rows to judge by, instead of folds.
    class_weight : {None, "balanced"}
        "balanced" weighs class k by n / (K n_k) in each training set, as scikit-learn does (in LinearSVC of
        several classes, only the positive rows of each class).
    seed : int, default 0
        Of the folds.
    jobs : int, default -1
        Threads; -1: all cores. The result does not depend on it.

    Raises
    ------
    HeadError
        If codes and labels do not fit together, or a class has no rows.
    OptionError
        If a candidate is not positive, or there is none.

    Notes
    -----
    Memory: two copies of the codes at most, a matrix of min(n, d)^2, and ``len(Cs) * n * K`` held-out
    scores in float32.
    """
    began = time.perf_counter()
    X, labels = check_codes(X, labels, classes)
    record = Normalisation.of(X, normalisation)
    held, rows = hold_out(X, labels, classes, folds=folds, validation=validation, seed=seed)
    rotation = rotate(record(rows), penalise_bias=kind == "svm")
    return choose_on_rotation(
        rotation, held, len(classes), kind=kind, Cs=Cs, class_weight=class_weight, jobs=jobs, began=began
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows with labels ``[n]`` and folds ``[n]`` (-1: always used for training), and ``how`` the folds were made, in words."""

    labels: Array
    fold: Array
    how: str


def hold_out(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    *,
    folds: int,
    validation: tuple[Array, Array] | None,
    seed: int,
) -> tuple[HeldOut, Array]:
    """What is held out, and the codes [n, d] of all rows, those of ``validation`` last."""
    if validation is None:
        fold, how = stratified_folds(labels, folds, classes, seed=seed)
        return HeldOut(labels, fold, how), X
    Xv, labels_v = check_codes(*validation, classes, all_classes=False, columns=X.shape[1])
    fold = np.repeat([TRAINING, 0], [len(X), len(Xv)])
    rows = np.concatenate([X, Xv])
    how = f"val split of {len(Xv)} images"
    return HeldOut(np.concatenate([labels, labels_v]), fold, how), rows


def check_candidates(Cs: Sequence[float]) -> tuple[float, ...]:
    """Ascending candidates without repetition; raises OptionError unless all are positive and finite."""
    candidates = tuple(sorted({float(C) for C in Cs}))
    if not candidates or not all(0 < C < np.inf for C in candidates):
        raise OptionError(
            f"C = {', '.join(f'{C:g}' for C in candidates) or 'nothing'} cannot be used.",
            "Give positive numbers, for example 0.01,1,100.",
        )
    return candidates


def choose_on_rotation(
    rotation: Rotation,
    held: HeldOut,
    K: int,
    *,
    kind: HeadKind,
    Cs: Sequence[float],
    class_weight: ClassWeight,
    jobs: int,
    began: float,
) -> Choice:
    """:func:`choose_C` for rows that are rotated already; ``began`` is when the work for it started."""
    candidates = check_candidates(Cs)
    labels, fold = held.labels, held.fold
    scores = held_out_scores(
        rotation, held, K, kind=kind, Cs=candidates, class_weight=class_weight, jobs=jobs
    )
    right = scores.argmax(axis=2) == labels  # [n_C, n]
    by_fold = np.array([right[:, fold == f].mean(axis=1) for f in range(fold.max() + 1)])  # [folds, n_C]
    accuracy = by_fold.mean(axis=0)
    best = int(np.flatnonzero(accuracy >= accuracy.max() - 1e-9)[0])
    return Choice(
        candidates,
        tuple(accuracy.tolist()),
        tuple(by_fold.std(axis=0).tolist()),
        candidates[best],
        held.how,
        time.perf_counter() - began,
        fit_temperature(scores[best][fold != TRAINING], labels[fold != TRAINING]),
        len(by_fold),
    )


def class_costs(labels: Array, used: Array, K: int, class_weight: ClassWeight) -> Array:
    """Weight of each class [S, K] in each training set; ``used`` [n, S] says which rows it has."""
    if class_weight is None:
        return np.ones((used.shape[1], K))
    counts = np.array([np.bincount(labels[column], minlength=K) for column in used.T])
    weights: Array = counts.sum(axis=1, keepdims=True) / (K * np.maximum(counts, 1))
    return weights


def held_out_scores(
    rotation: Rotation,
    held: HeldOut,
    K: int,
    *,
    kind: HeadKind,
    Cs: Sequence[float],
    class_weight: ClassWeight,
    jobs: int,
) -> Array:
    """Score of each row for each class, by the head that was fitted without the row's fold.

    Returns
    -------
    float32 array [n_C, n, K]
        Rows that are never held out have zeros.
    """
    labels, fold = held.labels, held.fold
    scores = np.zeros((len(Cs), len(labels), K), np.float32)
    used = fold[:, None] != np.arange(fold.max() + 1)  # [n, S]
    weights = class_costs(labels, used, K, class_weight)
    tasks: list[Callable[[], None]]
    if kind == "svm":
        problems = [(f, k) for f in range(used.shape[1]) for k in positive_classes(K)]
        parts = np.array_split(np.array(problems), -(-len(problems) // COLUMNS_PER_TASK))
        tasks = [partial(_svm_path, rotation, labels, used, weights, part, Cs, scores) for part in parts]
    else:
        sets = used.shape[1]
        groups = np.array_split(np.arange(sets), min(sets, -(-sets * K // COLUMNS_PER_TASK)))
        tasks = [
            partial(_softmax_path, rotation, labels, used, weights, group, Cs, scores) for group in groups
        ]
    run_in_threads(tasks, jobs)
    if kind == "svm" and K == 2:
        scores[:, :, 0] = -scores[:, :, 1]
    return scores


def positive_classes(K: int) -> range:
    """The class against the rest in each problem: every class, or of two classes only the second."""
    return range(1, 2) if K == 2 else range(K)


def svm_problems(labels: Array, used: Array, weights: Array, problems: Array) -> tuple[Array, Array]:
    """Signs and costs [n, m] at C = 1 of one-against-rest problems: rows (training set, class) [m, 2].

    Like liblinear: class weights count for the positive rows, and for both sides if there are only two
    classes.
    """
    sets, chosen = problems.T
    positive = labels[:, None] == chosen
    against = weights[sets, 0] if weights.shape[1] == 2 else 1.0
    costs = used[:, sets] * np.where(positive, weights[sets, chosen], against)
    return np.where(positive, 1.0, -1.0), costs


def _svm_path(
    rotation: Rotation,
    labels: Array,
    used: Array,
    weights: Array,
    problems: Array,
    Cs: Sequence[float],
    out: Array,
) -> None:
    """Solve some problems for all C, each from the last, and write the held-out scores to ``out``."""
    signs, costs = svm_problems(labels, used, weights, problems)
    start = None
    for i, C in enumerate(Cs):
        solution = solve_svm(rotation, signs, C * costs, start=start, tolerance=TOLERANCE)
        start = solution.U
        for column, (f, k) in enumerate(problems):
            out[i, ~used[:, f], k] = solution.scores[~used[:, f], column]


def _softmax_path(
    rotation: Rotation,
    labels: Array,
    used: Array,
    weights: Array,
    sets: Array,
    Cs: Sequence[float],
    out: Array,
) -> None:
    """Solve some training sets for all C, each from the last, and write the held-out scores to ``out``."""
    K = weights.shape[1]
    costs = softmax_costs(labels, used[:, sets], weights[sets])
    start: SoftmaxSolution | None = None
    for i, C in enumerate(Cs):
        start = solve_softmax(rotation, labels, C * costs, K, start=start, tolerance=TOLERANCE)
        for column, f in enumerate(sets):
            out[i, ~used[:, f]] = start.scores[~used[:, f], column]


def softmax_costs(labels: Array, used: Array, weights: Array) -> Array:
    """Costs [n, S] at C = 1 of S training sets; halved for two classes, whose two rows share one penalty."""
    costs: Array = used * weights[:, labels].T * (0.5 if weights.shape[1] == 2 else 1.0)
    return costs
