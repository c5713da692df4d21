"""Why a training does not learn: whether its loss stands still, which units never fire, and what to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.training.callbacks import Callback
from cnncodes.training.learner import Learner
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Epoch

if TYPE_CHECKING:
    from cnncodes.training.inputs import Inputs
    from cnncodes.training.loop import Training

LEAST = 0.01  # of a loss that moves: this much below what guessing gives, or below the epoch before
WORSE = 1.05  # times where a loss began: it has risen
MANY_DEAD = 0.5  # of a stage's units: named as a possible reason


def guessing_loss(
    labels: np.ndarray, classes: int, settings: TrainingSettings, class_weight: Tensor | None = None
) -> float:
    """Mean loss of a network that says the same for every image: how frequent each class is.

    Parameters
    ----------
    labels : int ndarray [N]
        Places in the classes.
    classes : int
    settings : TrainingSettings
        Its label smoothing counts.
    class_weight : float32 Tensor [classes], optional

    Returns
    -------
    float
        In nats; without smoothing and weights, the entropy of the class frequencies.
    """
    share = torch.from_numpy(np.bincount(labels, minlength=classes) / len(labels)).float()
    weight = torch.ones(classes) if class_weight is None else class_weight.float().cpu()
    guess = share * weight / (share * weight).sum()
    guess = (1 - settings.label_smoothing) * guess + settings.label_smoothing / classes
    logits = guess.clamp_min(1e-12).log().expand(classes, classes)
    losses = F.cross_entropy(
        logits,
        torch.arange(classes),
        weight=weight,
        label_smoothing=settings.label_smoothing,
        reduction="none",
    )
    return float((share * losses).sum())


def is_stalled(history: Sequence[Mapping[str, Any]], guessing: float, warmup_epochs: float = 0.0) -> bool:
    """Whether the loss stands still.

    Judged after two epochs and the warm-up. A loss moves that is 1 % below what guessing gives, or 1 % below the epoch before.
    Standing still means that neither the training loss nor the val loss moves; dropout and augmentation can hide in
    the former what the latter shows.

    Parameters
    ----------
    history : sequence of mappings
        Every :class:`~cnncodes.training.Epoch` so far as a mapping.
    guessing : float
        See :func:`guessing_loss`.
    warmup_epochs : float, default 0
        In which the rate is too small to judge.
    """
    if len(history) < max(2, warmup_epochs + 1):
        return False
    before, last = history[-2], history[-1]
    for name in ("loss", "val_loss"):
        if last.get(name) is None:
            continue
        if last[name] <= (1 - LEAST) * max(guessing, before[name]):
            return False
    return True


@torch.no_grad()
def dead_units(learner: Learner, batches: Iterable[Tensor]) -> dict[str, float]:
    """Share (0..1) of the units of each ReLU stage that fire for no image.

    Parameters
    ----------
    learner : Learner
        Its mode is as before afterwards; it is asked in evaluation mode.
    batches : iterable of float32 Tensor [batch, 3, height, width]
        Preprocessed images.

    Returns
    -------
    {stage: share}
        A unit of a convolution is a channel, which is dead if it fires at no place. Empty for a network with tanh.
    """
    module = learner.module
    if module.network.activation == "tanh":
        return {}
    was_training = learner.training
    learner.eval()
    fires: dict[str, Tensor] = {}
    for value in batches:
        for stage in module.network.stages:
            value = module.linear(stage, value)
            if stage.name in learner.norms:
                value = learner.norms[stage.name](value)
            if stage.relu:
                value = module.activate(value)
                fired = (value > 0).flatten(2).any(2).any(0) if value.dim() == 4 else (value > 0).any(0)
                fires[stage.name] = fires[stage.name] | fired if stage.name in fires else fired
    learner.train(was_training)
    return {name: float(1 - fired.float().mean()) for name, fired in fires.items()}


def advice(
    history: Sequence[Mapping[str, Any]], guessing: float, rate: float, dead: Mapping[str, float]
) -> str:
    """What to say of a loss that stands still, and what to try.

    A loss that rose above where it began, and above what guessing gives, or stages that are mostly dead, speak for a
    rate that is too large; else it is more often too small.

    Parameters
    ----------
    history : sequence of mappings
        Every :class:`~cnncodes.training.Epoch` so far as a mapping.
    guessing : float
    rate : float
        The highest learning rate.
    dead : {stage: share}
        See :func:`dead_units`.
    """
    first, last = history[0], history[-1]
    text = (
        f"the training loss stands still: {last['loss']:.3f} in epoch {last['epoch']}, and guessing by class frequency "
        f"gives {guessing:.3f}."
    )
    worst = max(dead, key=lambda name: dead[name], default=None)
    too_large = last["loss"] > WORSE * max(first["loss"], guessing)
    if worst is not None:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in dead.items() if share)
        text += f" Units that never fire: {shares}; most in {worst}." if shares else " All units fire."
        too_large = too_large or dead[worst] >= MANY_DEAD
    word, other = ("smaller", rate / 10) if too_large else ("larger", rate * 10)
    return (
        f"{text} Try a {word} rate (--set train.learning_rate={other:g}), or train.learning_rate=auto, "
        "which measures one."
    )


def never_at_full_rate(settings: TrainingSettings) -> str:
    """What to say of a warm-up that is as long as the training: it is allowed, and hardly ever meant."""
    return (
        f"the rate rises over train.warmup_epochs = {settings.warmup_epochs:g} epochs and the training has "
        f"{settings.epochs}: it ends before it reaches {settings.highest_rate:g}. "
        "Give more epochs, or --set train.warmup_epochs=0."
    )


def guessing_in(inputs: Inputs) -> float:
    """:func:`guessing_loss` of what a training learns from."""
    labels = inputs.labels[inputs.train_rows]
    return guessing_loss(labels, int(labels.max()) + 1, inputs.settings, inputs.class_weights())


class Diagnosis(Callback):
    """Notes once why a training does not learn, and a warm-up that is as long as the training."""

    def __init__(self) -> None:
        self._said = self._begun = False

    def on_epoch_begin(self, training: Training) -> None:
        """The warm-up, once."""
        if not self._begun and training.settings.warmup_epochs >= training.settings.epochs:
            training.note(never_at_full_rate(training.settings))
        self._begun = True

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """Whether the loss stands still."""
        settings, history = training.settings, training.state.history
        guessing = guessing_in(training.inputs)
        if self._said or not is_stalled(history, guessing, settings.warmup_epochs):
            return
        self._said = True
        dead = dead_units(training.learner, training.inputs.sample())
        training.note(advice(history, guessing, settings.highest_rate / training.state.divisor, dead))
