"""Image by image: what it is, what it was taken for, and how sure the model was; the worst mistakes first."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnncodes.errors import OutputExistsError
from cnncodes.evaluation.evaluating import EvaluationResult

HEADER = (
    "filename", "true", "predicted", "probability_predicted", "probability_true", "rank_true", "loss", "correct",
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
    probability_predicted, probability_true : float
        See :attr:`EvaluationResult.log_probabilities` for those of an SVM.
    rank_true : int
        Of the true class among all, 1 for the most probable; of equal ones the earlier class is the better.
    loss : float
        - log(probability_true).
    """

    name: str
    true: str
    predicted: str
    probability_predicted: float
    probability_true: float
    rank_true: int
    loss: float

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.rank_true == 1


def verdicts(result: EvaluationResult) -> list[Verdict]:
    """One verdict per evaluated image, the largest loss first; of equal ones in the catalog's order."""
    logarithms, labels = result.log_probabilities, result.labels
    classes, places = result.evaluation.classes, np.arange(len(labels))
    own = logarithms[places, labels]
    earlier = np.arange(len(classes)) < labels[:, None]
    rank = 1 + (logarithms > own[:, None]).sum(1) + ((logarithms == own[:, None]) & earlier).sum(1)
    predicted = logarithms.argmax(axis=1)
    return [
        Verdict(
            name=result.scores.catalog.names[result.rows[place]],
            true=classes[labels[place]],
            predicted=classes[predicted[place]],
            probability_predicted=float(np.exp(logarithms[place, predicted[place]])),
            probability_true=float(np.exp(own[place])),
            rank_true=int(rank[place]),
            loss=float(-own[place]),
        )
        for place in np.argsort(own, kind="stable")
    ]


def write_verdicts(
    result: EvaluationResult, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write :func:`verdicts` as CSV (UTF-8, one line per image), whole or not at all.

    Bytes of a name that are not UTF-8 are written as ``\\xff``.

    Raises
    ------
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    """
    path = Path(output)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEADER)
            for verdict in verdicts(result):
                writer.writerow(_line(verdict))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _line(verdict: Verdict) -> tuple[object, ...]:
    return (
        _text(verdict.name),
        _text(verdict.true),
        _text(verdict.predicted),
        f"{verdict.probability_predicted:.6g}",
        f"{verdict.probability_true:.6g}",
        verdict.rank_true,
        f"{verdict.loss:.6g}",
        "yes" if verdict.correct else "no",
    )


def _text(name: str) -> str:
    """Text as UTF-8 can have it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
