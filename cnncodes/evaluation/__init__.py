"""Evaluation: scores and predictions of models, metrics, calibration, averages, and the verdict on each image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.evaluation.average import AverageResult, evaluate_average
    from cnncodes.evaluation.calibration import Calibration, calibration_error, fit_temperature
    from cnncodes.evaluation.comparing import Comparison, compare_models
    from cnncodes.evaluation.evaluating import EvaluationResult, evaluate
    from cnncodes.evaluation.metrics import Evaluation, evaluate_scores
    from cnncodes.evaluation.prediction import Prediction, predict, predictions_of
    from cnncodes.evaluation.predictions import Predictions, Verdict, verdicts, write_verdicts
    from cnncodes.evaluation.scores import (
        Scores,
        count_passes,
        is_codes,
        model_weights,
        score,
        score_models,
    )
    from cnncodes.evaluation.timing import benchmark_network
    from cnncodes.evaluation.timing_record import Timing

_HOMES = {
    "Calibration": "calibration",
    "calibration_error": "calibration",
    "fit_temperature": "calibration",
    "Comparison": "comparing",
    "compare_models": "comparing",
    "AverageResult": "average",
    "EvaluationResult": "evaluating",
    "evaluate": "evaluating",
    "evaluate_average": "average",
    "Evaluation": "metrics",
    "evaluate_scores": "metrics",
    "Verdict": "predictions",
    "verdicts": "predictions",
    "write_verdicts": "predictions",
    "Prediction": "prediction",
    "Predictions": "predictions",
    "predict": "prediction",
    "predictions_of": "prediction",
    "Scores": "scores",
    "count_passes": "scores",
    "is_codes": "scores",
    "model_weights": "scores",
    "score": "scores",
    "score_models": "scores",
    "benchmark_network": "timing",
    "Timing": "timing_record",
}

__all__ = [
    "AverageResult",
    "Calibration",
    "Comparison",
    "Evaluation",
    "EvaluationResult",
    "Prediction",
    "Predictions",
    "Scores",
    "Timing",
    "Verdict",
    "benchmark_network",
    "calibration_error",
    "compare_models",
    "count_passes",
    "evaluate",
    "evaluate_average",
    "evaluate_scores",
    "fit_temperature",
    "is_codes",
    "model_weights",
    "predict",
    "predictions_of",
    "score",
    "score_models",
    "verdicts",
    "write_verdicts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.evaluation.{_HOMES[name]}"), name)
