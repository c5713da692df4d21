"""Why a training does not learn: a loss that does not fall, units that are never active, and what to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cnncodes.training.callbacks import Callback
from cnncodes.training.learner import Learner, Objective, Targets
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Epoch

if TYPE_CHECKING:
    from cnncodes.training.inputs import Inputs
    from cnncodes.training.loop import Training

LEAST = 0.01  # a loss falls if it is this part below that of guessing, or below the epoch before
WORSE = 1.05  # times the first loss: it has risen
MANY_DEAD = 0.5  # of a stage's units: a sign of too large a rate


def guessing_loss(
    labels: np.ndarray, classes: int, settings: TrainingSettings, class_weight: Tensor | None = None
) -> float:
    """Mean loss (nats) of a network that answers with the class frequencies for every image: without smoothing and weights their entropy."""
    share = torch.from_numpy(np.bincount(labels, minlength=classes) / len(labels)).float()
    weight = torch.ones(classes) if class_weight is None else class_weight.float().cpu()
    guess = share * weight / (share * weight).sum()
    guess = (1 - settings.label_smoothing) * guess + settings.label_smoothing / classes
    logits = guess.clamp_min(1e-12).log().expand(classes, classes)
    losses = Objective(settings, weight)(logits, Targets(torch.arange(classes)))
    return float((share * losses).sum())


def is_stalled(history: Sequence[Mapping[str, Any]], guessing: float, warmup_epochs: float = 0.0) -> bool:
    """Whether neither the training loss nor the val loss falls, after two epochs and the warm-up.

    A loss falls if it is 1 % below that of guessing, or 1 % below the epoch before. Dropout and augmentation can hide
    in the training loss what the val loss shows. ``history`` has every :class:`~cnncodes.training.Epoch` as a mapping.
    """
    if len(history) < max(2, warmup_epochs + 1):
        return False
    before, last = history[-2], history[-1]
    names = [name for name in ("loss", "val_loss") if last.get(name) is not None]
    return not any(last[name] <= (1 - LEAST) * max(guessing, before[name]) for name in names)


@torch.no_grad()
def dead_units(learner: Learner, batches: Iterable[Tensor]) -> dict[str, float]:
    """Share (0..1) of the units (of a convolution: channels) of each ReLU stage that no preprocessed image activates; empty for tanh."""
    if learner.module.network.activation == "tanh":
        return {}
    was_training = learner.training
    learner.eval()
    fires: dict[str, Tensor] = {}
    for batch in batches:
        for stage, value in learner.values(batch):
            if stage.relu:
                fired = (value > 0).flatten(2).any(2).any(0) if value.dim() == 4 else (value > 0).any(0)
                fires[stage.name] = fires[stage.name] | fired if stage.name in fires else fired
    learner.train(was_training)
    return {name: float(1 - fired.float().mean()) for name, fired in fires.items()}


def advice(
    history: Sequence[Mapping[str, Any]], guessing: float, rate: float, dead: Mapping[str, float]
) -> str:
    """What to say about a loss that does not fall, and what to try; ``rate`` is the highest learning rate.

    A loss above the first one and above that of guessing, or a stage with many dead units, is a sign of too large a
    rate; otherwise the rate is more often too small.
    """
    first, last = history[0], history[-1]
    text = (
        f"the training loss does not fall: it is {last['loss']:.3f} in epoch {last['epoch']}, and guessing by class "
        f"frequency gives {guessing:.3f}."
    )
    worst = max(dead, key=lambda name: dead[name], default=None)
    too_large = last["loss"] > WORSE * max(first["loss"], guessing)
    if worst is not None:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in dead.items() if share)
        found = (
            f"Units that are never active: {shares}; most in {worst}." if shares else "All units are active."
        )
        text += f" {found}"
        too_large = too_large or dead[worst] >= MANY_DEAD
    word, other = ("smaller", rate / 10) if too_large else ("larger", rate * 10)
    return (
        f"{text} Try a {word} rate (--set train.learning_rate={other:g}), or train.learning_rate=auto, "
        "which measures one."
    )


def guessing_in(inputs: Inputs) -> float:
    """:func:`guessing_loss` of the training images."""
    labels = inputs.labels[inputs.train_rows]
    return guessing_loss(labels, int(labels.max()) + 1, inputs.settings, inputs.class_weights())


class Diagnosis(Callback):
    """Notes, once each, why a training does not learn, and a warm-up that is as long as the training."""

    def __init__(self) -> None:
        self._said = self._begun = False

    def on_epoch_begin(self, training: Training) -> None:
        settings = training.settings
        if not self._begun and settings.warmup_epochs >= settings.epochs:
            training.note(
                f"the rate rises over train.warmup_epochs = {settings.warmup_epochs:g} epochs and the training has "
                f"{settings.epochs}: it ends before the rate reaches {settings.highest_rate:g}. "
                "Use more epochs, or --set train.warmup_epochs=0."
            )
        self._begun = True

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        settings, history = training.settings, training.state.history
        guessing = guessing_in(training.inputs)
        if self._said or not is_stalled(history, guessing, settings.warmup_epochs):
            return
        self._said = True
        dead = dead_units(training.learner, training.inputs.sample())
        training.note(advice(history, guessing, settings.highest_rate / training.state.divisor, dead))
