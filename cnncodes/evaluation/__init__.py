"""Evaluation: scores and predictions of a model, metrics and confusions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.evaluation.metrics import Evaluation, evaluate_scores
    from cnncodes.evaluation.prediction import (
        EvaluationResult,
        Prediction,
        Scores,
        evaluate,
        is_codes,
        model_weights,
        predict,
        predictions_of,
        score,
    )

_METRICS = ("Evaluation", "evaluate_scores")
_PREDICTION = (
    "EvaluationResult",
    "Prediction",
    "Scores",
    "evaluate",
    "is_codes",
    "model_weights",
    "predict",
    "predictions_of",
    "score",
)

__all__ = [
    "Evaluation",
    "EvaluationResult",
    "Prediction",
    "Scores",
    "evaluate",
    "evaluate_scores",
    "is_codes",
    "model_weights",
    "predict",
    "predictions_of",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _METRICS:
        return getattr(import_module("cnncodes.evaluation.metrics"), name)
    if name in _PREDICTION:
        return getattr(import_module("cnncodes.evaluation.prediction"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
