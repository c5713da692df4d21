"""Callbacks for trainings of tests, and a short way to train."""

from __future__ import annotations

import dataclasses

from cnncodes.training import Callback, TrainingSettings, finetune, train
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(
    epochs=1, batch_size=8, learning_rate=0.02, middle_rate=1.0, early_rate=1.0, dropout=0.1, mirror=False
)
OPTIONS = {"split", "resume", "keep_checkpoints", "progress", "callbacks", "notes", "head", "keep_head"}


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


class Learning:
    """Trains the tiny network: ``learn("run", epochs=2, resume=True)``, with ``weights`` fine-tunes; settings and options by name.

    Each training is in a folder of the test's own; ``settings`` are those without changes.
    """

    def __init__(self, network, pixels, data, folder, settings=SETTINGS):
        self.network, self.pixels, self.data = network, pixels, data
        self.folder, self.settings = folder, settings

    def __call__(self, name="run", data=None, weights=None, **more):
        options = {key: more.pop(key) for key in OPTIONS & more.keys()}
        settings = dataclasses.replace(self.settings, **more)
        data = self.data if data is None else data
        if weights is not None:
            return finetune(data, weights, self.folder / name, settings, **options)
        return train(data, self.network, self.pixels, self.folder / name, settings, **options)

    def tensors(self, *given, **more):
        """What such a training has learned."""
        return load_weights(self(*given, **more).model).tensors

    @property
    def random(self):
        """Untrained weights of the network."""
        return dataclasses.replace(load_weights("random:0", network="tiny"), preprocessing=self.pixels)
