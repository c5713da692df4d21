"""The average of several models, as the five networks of the AlexNet paper."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.evaluation.calibration import mean_log_probabilities
from cnncodes.evaluation.evaluating import EvaluationResult, calibrate, judge
from cnncodes.evaluation.metrics import evaluate_scores
from cnncodes.evaluation.scores import Data, Progress
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights


@dataclass(frozen=True, eq=False)
class AverageResult:
    """Several models and their average, all on the same images and with the classes in the same order.

    Parameters
    ----------
    average : EvaluationResult
    models : tuple of EvaluationResult
        One per model, in the order given.
    how : str
        What was averaged, in words.
    """

    average: EvaluationResult
    models: tuple[EvaluationResult, ...]
    how: str

    def to_json(self) -> str:
        """JSON object: the average's entries, ``averaged`` in words, and ``models`` with one entry for each."""
        values: dict[str, Any] = json.loads(self.average.to_json())
        single = [json.loads(model.to_json()) for model in self.models]
        return json.dumps(values | {"averaged": self.how, "models": single})


def evaluate_average(
    models: Sequence[AnyModel],
    data: Data,
    *,
    split: str = "auto",
    rows: np.ndarray | None = None,
    temperature: bool = True,
    weights: Sequence[AnyWeights] | None = None,
    device: str = "auto",
    crops: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> AverageResult:
    """Compare several models, and the average of their probabilities, with labels.

    The average is that of Krizhevsky, Sutskever and Hinton 2012 (section 6: five networks, 18.2 % to 16.4 %
    top-5 error). An SVM has scores and no probabilities: softmax(scores / T) stands for them, T fitted on the
    val split as for :func:`evaluate`, or 1. Images are left out if any of the models was fitted on them.

    Parameters
    ----------
    models : sequence of LinearModel, Weights, path or name
        With the same classes, in any order; the first one's order counts.
    weights : sequence of Weights, name or path, optional
        One per model.
    data, split, rows, temperature, device, crops, batch_size, workers, progress
        As for :func:`evaluate`; ``progress`` as for :func:`~cnncodes.evaluation.score_models`.

    Raises
    ------
    ModelError
        If the models' classes differ, or the data have others.
    OptionError
        If there is no model.
    CatalogError
        If no image is left to evaluate.
    """
    loaded = [load_model(model) for model in models]
    judged = judge(
        loaded, data, split, rows, None, temperature,
        {
            "weights": weights, "device": device, "crops": crops,
            "batch_size": batch_size, "workers": workers,
            "progress": progress,
        },
    )  # fmt: skip
    first = judged.results[0]
    logarithms = mean_log_probabilities([result.log_probabilities for result in judged.results])
    values = np.full(first.scores.values.shape, np.nan)
    values[first.rows] = logarithms
    evaluation = evaluate_scores(logarithms, first.labels, loaded[0].classes)
    average = dataclasses.replace(
        first,
        evaluation=evaluation,
        how=judged.how,
        scores=dataclasses.replace(first.scores, values=values),
        log_probabilities=logarithms,
        calibration=calibrate(
            logarithms, first.labels, mean_log_probabilities(judged.val), judged.val_labels, judged.val_how
        ),
    )
    return AverageResult(average, judged.results, _what_is_averaged(loaded, judged.results))


def _what_is_averaged(models: Sequence[LinearModel], results: Sequence[EvaluationResult]) -> str:
    svms = [
        result.calibration for model, result in zip(models, results, strict=True) if model.head.kind == "svm"
    ]
    if not svms:
        return "the mean of the models' probabilities"
    used = ", ".join(f"{found.temperature or 1:.3g}" for found in svms)
    fitted = [found.how for found in svms if found.temperature is not None]
    why = f"fitted on {fitted[0]}" if fitted else svms[0].how
    return f"the mean of the models' probabilities; of an SVM, softmax(score / T) with T = {used} ({why})"
