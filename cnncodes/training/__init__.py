"""Training: one loop, for `train` and `finetune`; settings, augmentation, checkpoints, the run folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.training.callbacks import Callback
    from cnncodes.training.loop import Training
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.run import TrainingResult, finetune, train
    from cnncodes.training.settings import NetworkSettings, TrainingSettings
    from cnncodes.training.state import Epoch, InterruptedTrainingError, Tested, read_epochs

_HOMES = {
    "Callback": "callbacks",
    "Epoch": "state",
    "InterruptedTrainingError": "state",
    "NetworkSettings": "settings",
    "RangeTest": "range_test",
    "Tested": "state",
    "Training": "loop",
    "TrainingResult": "run",
    "TrainingSettings": "settings",
    "finetune": "run",
    "read_epochs": "state",
    "train": "run",
}

__all__ = [
    "Callback",
    "Epoch",
    "InterruptedTrainingError",
    "NetworkSettings",
    "RangeTest",
    "Tested",
    "Training",
    "TrainingResult",
    "TrainingSettings",
    "finetune",
    "read_epochs",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.training.{_HOMES[name]}"), name)
