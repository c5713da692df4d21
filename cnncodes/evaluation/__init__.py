"""Evaluation: scores and predictions of models, metrics, calibration, averages, and the verdict on each image."""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
