"""Image by image, right and wrong: what it is, what it was taken for, and how sure the model was; the worst first."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import cells
from cnncodes.core.outputs import replacing
from cnncodes.core.words import visible
from cnncodes.evaluation.evaluating import EvaluationResult

HEADER = (
    "filename", "true", "predicted", "correct", "rank_true", "margin", "score_true", "score_predicted",
    "probability_true", "probability_predicted", "loss",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a model says of one image.

    Parameters
    ----------
    name : str
        Of the image, as the catalog has it.
    true, predicted : str
        Classes.
    rank_true : int
        Of the true class among all, 1 for the best score; of equal ones the earlier class is the better.
    margin : float
        How far the true class's score lies above the best other one: negative for a mistake, near 0 a close case.
    score_true, score_predicted : float
        As :attr:`EvaluationResult.scores` has them: of an average of models, logarithms of probabilities.
    probability_true, probability_predicted : float or None
        None of an SVM, which has scores and no probabilities.
    loss : float or None
        - log(probability_true).
    """

    name: str
    true: str
    predicted: str
    rank_true: int
    margin: float
    score_true: float
    score_predicted: float
    probability_true: float | None
    probability_predicted: float | None
    loss: float | None

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.rank_true == 1


def verdicts(result: EvaluationResult) -> list[Verdict]:
    """One verdict per evaluated image, the worst mistake first; of equal ones in the catalog's order.

    The worst has the largest loss or, of an SVM, the lowest margin.
    """
    scores, labels = result.scores.values[result.rows], result.labels
    classes, places = result.evaluation.classes, np.arange(len(labels))
    own, predicted = scores[places, labels], scores.argmax(axis=1)
    earlier = np.arange(len(classes)) < labels[:, None]
    rank = 1 + (scores > own[:, None]).sum(1) + ((scores == own[:, None]) & earlier).sum(1)
    others = scores.copy()
    others[places, labels] = -np.inf
    margin = own - others.max(axis=1)
    logarithms = None if result.calibration.of != "probabilities" else result.log_probabilities
    badness = margin if logarithms is None else logarithms[places, labels]
    found = []
    for place in np.argsort(badness, kind="stable"):
        true, said = labels[place], predicted[place]
        odds = None if logarithms is None else logarithms[place]
        found.append(
            Verdict(
                name=result.scores.catalog.names[result.rows[place]],
                true=classes[true],
                predicted=classes[said],
                rank_true=int(rank[place]),
                margin=float(margin[place]),
                score_true=float(own[place]),
                score_predicted=float(scores[place, said]),
                probability_true=None if odds is None else float(np.exp(odds[true])),
                probability_predicted=None if odds is None else float(np.exp(odds[said])),
                loss=None if odds is None else float(-odds[true]),
            )
        )
    return found


def write_verdicts(
    result: EvaluationResult, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write :func:`verdicts` as CSV (UTF-8, one line per image), whole or not at all; numbers that an SVM does not have are empty.

    Bytes of a name that are not UTF-8 are written as ``\\xff``; a text that a spreadsheet would take for a formula begins with an apostrophe.

    Raises
    ------
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    CnnCodesError
        If it cannot be written.
    """
    path = Path(output)
    with (
        replacing(path, overwrite=overwrite, error=CnnCodesError) as whole,
        whole.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for verdict in verdicts(result):
            writer.writerow(cells(*_line(verdict)))
    return path


def _line(verdict: Verdict) -> tuple[object, ...]:
    numbers = (
        verdict.margin,
        verdict.score_true,
        verdict.score_predicted,
        verdict.probability_true,
        verdict.probability_predicted,
        verdict.loss,
    )
    return (
        visible(verdict.name),
        visible(verdict.true),
        visible(verdict.predicted),
        "yes" if verdict.correct else "no",
        verdict.rank_true,
        *("" if number is None else f"{number:.6g}" for number in numbers),
    )
