"""Callbacks that tests hang into a training."""

from __future__ import annotations

from cnncodes.training import Callback


class AtBegin(Callback):
    """Calls a function with the training before anything is computed."""

    def __init__(self, look):
        self.on_train_begin = look


class StopAt(Callback):
    """Asks the training to stop after so many steps."""

    def __init__(self, steps):
        self._steps = steps

    def on_batch_end(self, training):
        if training.state.steps == self._steps:
            training.stop()
