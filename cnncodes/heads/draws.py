"""How good a head is with a few images per class: repeated draws, mean and standard deviation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, OptionError
from cnncodes.heads.checks import check_codes
from cnncodes.heads.fit import fit_head
from cnncodes.heads.head import HeadKind
from cnncodes.heads.normalise import NormalisationKind

Array = npt.NDArray[Any]

#: With one image per class nothing can be held out; on rows of length 1 this C separates any few of them.
ONE_SHOT_C = 10.0


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
    """Accuracy with ``shots`` images per class.

    Parameters
    ----------
    shots : int
    accuracy : tuple of float
        Top-1 accuracy on the test rows, 0..1, one per draw.
    C : tuple of float
        The C of each draw.
    """

    shots: int
    accuracy: tuple[float, ...]
    C: tuple[float, ...]

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
    C: float | Sequence[float] | Literal["auto"] = "auto",
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
        accuracies, chosen = [], []
        value = ONE_SHOT_C if number == 1 and not isinstance(C, int | float) else C
        for repeat in range(repeats):
            rows = draw_few(labels, number, seed=seed, repeat=repeat)
            head = fit_head(
                X[rows],
                labels[rows],
                classes,
                kind=kind,
                C=value,
                normalisation=normalisation,
                seed=seed,
                solver="newton",
                jobs=jobs,
            ).head
            accuracies.append(float((head.predict(X_test) == labels_test).mean()))
            chosen.append(head.C)
        results.append(FewShot(number, tuple(accuracies), tuple(chosen)))
    return results
