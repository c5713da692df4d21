"""The choice of C: the accuracy on held-out rows for each candidate, from one rotation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, OptionError, nearest
from cnncodes.heads.confidence import fit_temperature
from cnncodes.heads.head import HeadKind, Normalisation, NormalisationKind, check_codes
from cnncodes.heads.rotation import Rotation, rotate
from cnncodes.heads.softmax import SoftmaxSolution, solve_softmax
from cnncodes.heads.svm import solve_svm

Candidates = float | Sequence[float] | Literal["auto"]
ClassWeight = Literal["balanced"] | None
Solver = Literal["auto", "newton", "scikit-learn"]
Array = npt.NDArray[Any]

#: 1e-5 .. 1e5, one per decade.
DEFAULT_CS: tuple[float, ...] = tuple(10.0**k for k in range(-5, 6))
TOLERANCE = 1e-4  # how exactly each candidate is solved: relative duality gap
COLUMNS_PER_TASK = 32  # about so many columns of unknowns are solved for in one task, by one thread
TRAINING = -1  # in a fold array: the row is always used for training


@dataclass(frozen=True)
class FitOptions:
    """How a head is fitted: the keywords of :func:`cnncodes.heads.fit_head`. Raises OptionError for values that are not allowed."""

    kind: HeadKind = "svm"
    C: Candidates = "auto"
    normalisation: NormalisationKind = "l2"
    class_weight: ClassWeight = None
    folds: int = 5
    solver: Solver = "auto"
    seed: int = 0
    jobs: int = -1

    def __post_init__(self) -> None:
        known = {"kind": get_args(HeadKind), "solver": get_args(Solver), "class_weight": (None, "balanced")}
        for name, allowed in known.items():
            if (value := getattr(self, name)) not in allowed:
                raise OptionError(f"{name} = {value!r} is not known.", nearest(str(value), map(str, allowed)))
        if not self.candidates or not all(0 < C < np.inf for C in self.candidates):
            raise OptionError(
                f"C = {', '.join(f'{C:g}' for C in self.candidates) or 'nothing'} cannot be used.",
                "Give positive numbers, for example 0.01,1,100.",
            )

    @cached_property
    def candidates(self) -> tuple[float, ...]:
        """The values of C, ascending."""
        if isinstance(self.C, str):
            if self.C != "auto":
                raise OptionError(
                    f"C = {self.C!r} cannot be used.", "Give 'auto', a positive number or several."
                )
            return DEFAULT_CS
        return tuple(sorted({float(C) for C in ([self.C] if isinstance(self.C, int | float) else self.C)}))


@dataclass(frozen=True)
class Choice:
    """How C was chosen."""

    C: tuple[float, ...]  # the candidates, ascending
    accuracy: tuple[float, ...]  # of each on the held-out rows, 0..1: the mean over the folds
    sd: tuple[float, ...]  # standard deviation over the folds; 0 for a val split
    best: float  # the smallest C among those of the highest accuracy
    how: str  # "5 stratified folds" or "val split of 120 images", with what was unusual
    seconds: float  # wall time
    temperature: float | None = None  # with ``best``: that of ``fit_temperature`` on the held-out rows
    folds: int = 0  # 1 for a val split; 0 in records of earlier versions

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
    X, labels, classes, kind, folds, validation, seed, jobs
        As for :func:`cnncodes.heads.fit_head`. The result does not depend on ``jobs``.
    Cs : sequence of float
        Candidates; by default 1e-5 to 1e5, one per decade.
    normalisation : {"l2", "standard", "none"}, default "l2"
        The statistics of "standard" are those of all rows of ``X``; they see no label.
    class_weight : {None, "balanced"}
        "balanced" weighs class k by n / (K n_k) in each training set, as scikit-learn does (in LinearSVC of
        several classes, only the positive rows of each class).

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
    options = FitOptions(kind, Cs, normalisation, class_weight, folds, seed=seed, jobs=jobs)
    return choose(X, labels, classes, options, validation)


def choose(
    X: Array,
    labels: Array,
    classes: Sequence[str],
    options: FitOptions,
    validation: tuple[Array, Array] | None = None,
) -> Choice:
    """:func:`choose_C` with its keywords in a record."""
    began = time.perf_counter()
    X, labels = check_codes(X, labels, classes)
    record = Normalisation.of(X, options.normalisation)
    held, rows = hold_out(X, labels, classes, options, validation)
    rotation = rotate(record(rows), penalise_bias=options.kind == "svm")
    return choose_on_rotation(rotation, held, len(classes), options, began)


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
    options: FitOptions,
    validation: tuple[Array, Array] | None,
) -> tuple[HeldOut, Array]:
    """What is held out, and the codes [n, d] of all rows, those of ``validation`` last."""
    if validation is None:
        fold, how = stratified_folds(labels, options.folds, classes, seed=options.seed)
        return HeldOut(labels, fold, how), X
    Xv, labels_v = check_codes(*validation, classes, all_classes=False, columns=X.shape[1])
    fold = np.repeat([TRAINING, 0], [len(X), len(Xv)])
    how = f"val split of {len(Xv)} images"
    return HeldOut(np.concatenate([labels, labels_v]), fold, how), np.concatenate([X, Xv])


def stratified_folds(
    labels: Array, folds: int, classes: Sequence[str], *, seed: int = 0
) -> tuple[npt.NDArray[np.int64], str]:
    """Fold of each row, so that every class is spread evenly over the folds.

    The rows of each class are shuffled and dealt round, and the next class goes on where the last one
    stopped, so that the folds have equal sizes too. The number of folds falls to the size of the smallest
    class; a class of a single row cannot be held out, and its row is always used for training.

    Parameters
    ----------
    labels : int array [n], 0..K-1
    folds : int
        At least 2.
    classes : sequence of K str
    seed : int, default 0

    Returns
    -------
    fold : int array [n]
        0..folds-1, or -1 for rows that are never held out.
    how : str
        For example "5 stratified folds".

    Raises
    ------
    HeadError
        If ``folds`` is less than 2, or no class has two rows.
    """
    if folds < 2:
        raise HeadError(f"{folds} folds hold nothing out.", "Use at least 2 folds.")
    counts = np.bincount(labels, minlength=len(classes))
    if counts.max() < 2:
        raise HeadError(
            "no class has more than one image, so none can be held out to choose C or a layer.",
            "Add images, or give one value of C and one layer.",
        )
    notes = []
    alone = [classes[k] for k in np.flatnonzero(counts == 1).tolist()]
    smallest = int(np.where(counts > 1, counts, counts.max()).argmin())
    if counts[smallest] < folds:
        folds = int(counts[smallest])
        notes.append(f"class {classes[smallest]!r} has only {folds} images")
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        notes.append(f"{', '.join(map(repr, alone[:3]))}{more}: one image, never held out")
    fold = np.full(len(labels), TRAINING, np.int64)
    random = np.random.default_rng(seed)
    dealt = 0
    for k in np.flatnonzero(counts > 1):
        members = random.permutation(np.flatnonzero(labels == k))
        fold[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return fold, f"{folds} stratified folds" + (f" ({'; '.join(notes)})" if notes else "")


def choose_on_rotation(
    rotation: Rotation, held: HeldOut, K: int, options: FitOptions, began: float
) -> Choice:
    """:func:`choose_C` for rows that are rotated already; ``began`` is when the work for it started."""
    labels, fold = held.labels, held.fold
    scores = held_out_scores(rotation, held, K, options)
    right = scores.argmax(axis=2) == labels  # [n_C, n]
    by_fold = np.array([right[:, fold == f].mean(axis=1) for f in range(fold.max() + 1)])  # [folds, n_C]
    accuracy = by_fold.mean(axis=0)
    best = best_of(accuracy)
    return Choice(
        options.candidates,
        tuple(accuracy.tolist()),
        tuple(by_fold.std(axis=0).tolist()),
        options.candidates[best],
        held.how,
        time.perf_counter() - began,
        fit_temperature(scores[best][fold != TRAINING], labels[fold != TRAINING]),
        len(by_fold),
    )


def best_of(accuracy: Array) -> int:
    """Place of the first accuracy that is the highest but for rounding."""
    return int(np.flatnonzero(accuracy >= accuracy.max() - 1e-9)[0])


def held_out_scores(rotation: Rotation, held: HeldOut, K: int, options: FitOptions) -> Array:
    """Score float32 [n_C, n, K] of each row for each class, by the head that was fitted without the row's fold.

    Rows that are never held out have zeros.
    """
    fold, Cs, folds = held.fold, options.candidates, int(held.fold.max()) + 1
    scores = np.zeros((len(Cs), len(fold), K), np.float32)
    sets = TrainingSets.of(held.labels, fold[:, None] != np.arange(folds), K, options.class_weight)

    def svm_path(problems: Array) -> None:
        """Some problems for all C, each from the last."""
        signs, costs = sets.svm_problems(problems)
        start = None
        for i, C in enumerate(Cs):
            solution = solve_svm(rotation, signs, C * costs, start=start, tolerance=TOLERANCE)
            start = solution.U
            for column, (f, k) in enumerate(problems):
                scores[i, fold == f, k] = solution.scores[fold == f, column]

    def softmax_path(group: Array) -> None:
        """Some training sets for all C, each from the last."""
        costs = sets.softmax_costs(group)
        start: SoftmaxSolution | None = None
        for i, C in enumerate(Cs):
            start = solve_softmax(rotation, held.labels, C * costs, K, start=start, tolerance=TOLERANCE)
            for column, f in enumerate(group):
                scores[i, fold == f] = start.scores[fold == f, column]

    path: Callable[[Array], None]
    if options.kind == "svm":
        problems = np.array([(f, k) for f in range(folds) for k in positive_classes(K)])
        path, parts = svm_path, np.array_split(problems, -(-len(problems) // COLUMNS_PER_TASK))
    else:
        count = min(folds, -(-folds * K // COLUMNS_PER_TASK))
        path, parts = softmax_path, np.array_split(np.arange(folds), count)
    run_in_threads((partial(path, part) for part in parts), options.jobs)
    if options.kind == "svm" and K == 2:
        scores[:, :, 0] = -scores[:, :, 1]
    return scores


def run_in_threads(tasks: Iterable[Callable[[], None]], jobs: int) -> None:
    """Call every task, ``jobs`` at a time (-1: all cores); the first error is raised.

    Each task has one thread of linear algebra, also with one job: the matrices are small, and the threads
    of numpy's and scipy's own libraries wait for each other (factorising 700 x 700 took 29 ms with two, 3 ms
    with one). So the cores are shared out by task, and the result does not depend on ``jobs``.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1, user_api="blas"):
        Parallel(n_jobs=jobs, require="sharedmem")(delayed(task)() for task in tasks)


def positive_classes(K: int) -> range:
    """The class against the rest in each problem: every class, or of two classes only the second."""
    return range(1, 2) if K == 2 else range(K)


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """S training sets of the same rows, and the weight of each class in each of them."""

    labels: Array  # [n]
    used: Array  # bool [n, S]
    weights: Array  # [S, K]

    @classmethod
    def of(cls, labels: Array, used: Array, K: int, class_weight: ClassWeight) -> TrainingSets:
        """With equal or balanced weights."""
        if class_weight is None:
            return cls(labels, used, np.ones((used.shape[1], K)))
        counts = np.array([np.bincount(labels[column], minlength=K) for column in used.T])
        return cls(labels, used, counts.sum(axis=1, keepdims=True) / (K * np.maximum(counts, 1)))

    def svm_problems(self, problems: Array) -> tuple[Array, Array]:
        """Signs and costs [n, m] at C = 1 of one-against-rest problems: rows (training set, class) [m, 2].

        Like liblinear: class weights count for the positive rows, and for both sides if there are only two
        classes.
        """
        sets, chosen = problems.T
        positive = self.labels[:, None] == chosen
        against = self.weights[sets, 0] if self.weights.shape[1] == 2 else 1.0
        costs = self.used[:, sets] * np.where(positive, self.weights[sets, chosen], against)
        return np.where(positive, 1.0, -1.0), costs

    def softmax_costs(self, sets: Array) -> Array:
        """Costs [n, m] at C = 1 of some training sets; halved for two classes, whose two rows share one penalty."""
        halved = 0.5 if self.weights.shape[1] == 2 else 1.0
        costs: Array = self.used[:, sets] * self.weights[sets][:, self.labels].T * halved
        return costs
