"""The public names of this room, and where each lives."""

from cnncodes.evaluation.evaluating import (
    AverageResult,
    Comparison,
    EvaluationResult,
    compare_models,
    evaluate,
    evaluate_average,
)
from cnncodes.evaluation.metrics import Calibration, Evaluation, calibration_error, evaluate_scores
from cnncodes.evaluation.predictions import (
    Prediction,
    Predictions,
    Verdict,
    check_sorted,
    predict,
    predictions_of,
    sort_images,
    verdicts,
    write_verdicts,
)
from cnncodes.evaluation.scores import Scores, is_codes, model_weights, score, score_models
from cnncodes.evaluation.timing import Timing, benchmark_network
from cnncodes.evaluation.whole import export_model

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
    "check_sorted",
    "compare_models",
    "evaluate",
    "evaluate_average",
    "evaluate_scores",
    "export_model",
    "is_codes",
    "model_weights",
    "predict",
    "predictions_of",
    "score",
    "score_models",
    "sort_images",
    "verdicts",
    "write_verdicts",
]
