"""Callbacks of the training loop: its hooks, and those that save, restart, show, record and say why nothing is learned.

The loop calls every hook of every callback, in their order. A hook may read the training, ask it to stop, save or restore it.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cnncodes.core.compute import Progress
from cnncodes.core.errors import CnnCodesError
from cnncodes.training.folder import EVENTS, METRICS, Epoch, forget_after, last_checkpoint
from cnncodes.training.learner import Learner, Objective, Targets
from cnncodes.training.settings import TrainingSettings

if TYPE_CHECKING:
    from cnncodes.training.inputs import Inputs
    from cnncodes.training.loop import Training
    from cnncodes.training.range_test import RangeTest

RESTARTS = 3  # after a loss that is not a number
GOOD_STEPS = 100  # between copies of a good state: one of AlexNet takes longer than a step of fc6 to fc8
BLOWN_UP = 10.0  # after an epoch with so many times the least loss before, the state is not good
FALLS = 0.01  # a loss falls if it is this part below that of guessing, or below the epoch before
WORSE = 1.05  # times the first loss: it has risen
MANY_DEAD = 0.5  # of a stage's units: a sign of too large a rate
#: Names in TensorBoard of the entries of an :class:`~cnncodes.training.Epoch`; one chart for each word before a slash.
TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/val",
    "accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "learning_rate": "rate/learning_rate",
    "images_per_second": "speed/images_per_second",
}


class Callback:
    """Hooks of a training. All do nothing; a subclass overrides those that it needs."""

    def on_train_begin(self, training: Training) -> None:
        """Once, before anything is computed; a resumed training is at its checkpoint already."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first batch of an epoch, or of the rest of a resumed one."""

    def on_batch_end(self, training: Training) -> None:
        """After each batch; ``training.state`` counts it."""

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """After an epoch and its val images; ``training.state`` is at the start of the next."""

    def on_bad_loss(self, training: Training) -> None:
        """A loss is not a number: a callback must restore the training, or raise."""

    def on_rate_found(self, training: Training, test: RangeTest) -> None:
        """A learning rate was measured (``learning_rate`` "auto"), before the first step."""

    def on_train_end(self, training: Training) -> None:
        """At the end, also after an error."""


class Checkpoints(Callback):
    """Writes ``metrics.jsonl`` and checkpoints, in all processes after the same step; ends a training that was asked to stop."""

    def on_batch_end(self, training: Training) -> None:
        if training.stopping:
            training.look()
            training.save()
            raise training.interrupted()
        if training.asked_to_save:
            training.save()

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        if training.processes.leads:  # first, since a finished run is read from the metrics
            lines = "".join(json.dumps(entry) + "\n" for entry in training.state.history)
            (training.folder / METRICS).write_text(lines, encoding="utf-8")
        if training.is_over or training.is_late:
            training.save()


class Restarts(Callback):
    """Returns to the last good state, at a tenth of the rate, when a loss is not a number; three times at most."""

    def __init__(self) -> None:
        self._good: dict[str, Any] | None = None  # the state at the start of this epoch or an earlier one

    def on_epoch_begin(self, training: Training) -> None:
        """Copy the state some steps after the last copy, unless the loss has just blown up."""
        state = training.state
        losses = [line["loss"] for line in state.history]
        blown_up = len(losses) > 1 and not losses[-1] <= BLOWN_UP * min(losses[:-1])
        due = self._good is None or state.steps >= self._good["state"]["steps"] + GOOD_STEPS
        if state.step == 0 and due and not blown_up:
            self._good = None  # its memory is used again
            self._good = training.snapshot()

    def on_bad_loss(self, training: Training) -> None:
        epoch, rate = training.state.epoch + 1, training.settings.highest_rate
        restarts, divisor = training.state.restarts + 1, training.state.divisor * 10
        good = self._good or last_checkpoint(training.folder)
        if restarts > RESTARTS or good is None:
            raise CnnCodesError(
                f"the loss is not a number in epoch {epoch}, also at a rate of {rate / training.state.divisor:g}.",
                "Use a smaller --set train.learning_rate, or train.clip_norm=1, and look at the images.",
            )
        training.restore(good)
        if training.processes.leads:
            forget_after(training.folder, training.state.steps)
        training.state.restarts, training.state.divisor = restarts, divisor
        training.note(
            f"the loss was not a number in epoch {epoch}: back to the last good state, at a rate of "
            f"{rate / divisor:g} (restart {restarts} of {RESTARTS})."
        )

    def on_train_end(self, training: Training) -> None:
        self._good = None


class ShowProgress(Callback):
    """Calls a progress after each batch with the epoch and the images learned from in it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_batch_end(self, training: Training) -> None:
        state = training.state
        step, loss = (
            f"epoch {state.epoch + 1} of {training.settings.epochs}",
            state.loss_sum / max(state.seen, 1),
        )
        self._progress(step, state.seen, len(training.train_rows), f"loss {loss:.3f}")


class Events(Callback):
    """TensorBoard's event files: scalars of each epoch, with the epoch as the step. An error is noted once and stops nothing."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._written = 0
        self._broken = False

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        if self._broken:
            return
        try:
            self.write(training.folder / EVENTS, training.state.history)
        except Exception as error:  # a full disk, a broken installation: never a reason to lose a training
            self._broken = True
            training.note(
                f"no event files for TensorBoard: {type(error).__name__}: {error}. "
                "metrics.jsonl has the same numbers."
            )

    def on_train_end(self, training: Training) -> None:
        self.close()

    def write(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """Add the last epoch; after a resume or a restart, replace all of them."""
        if self._writer is None or len(history) != self._written + 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of libraries that TensorBoard imports
                from torch.utils.tensorboard import SummaryWriter  # takes about a second
            self.close()
            # The new file has all epochs. TensorBoard reads files in the order of their names, which are those of seconds and
            # numbers as text ("10" before "9"), so an earlier file could replace what is newer.
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()
            self._writer, self._written = SummaryWriter(str(folder)), 0
        for place, line in enumerate(history[self._written :], start=self._written + 1):
            moment = time.time() - sum(later["seconds"] for later in history[place:])
            for name, tag in TAGS.items():
                if line.get(name) is not None:
                    self._writer.add_scalar(tag, line[name], global_step=line["epoch"], walltime=moment)
        self._written = len(history)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; a later :meth:`write` begins a new one."""
        writer, self._writer = self._writer, None
        if writer is not None and not self._broken:
            writer.close()


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


def guessing_in(inputs: Inputs) -> float:
    """:func:`guessing_loss` of the training images."""
    labels = inputs.labels[inputs.train_rows]
    return guessing_loss(labels, int(labels.max()) + 1, inputs.settings, inputs.class_weights())


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

    Dropout and augmentation can hide in the training loss what the val loss shows.
    """
    if len(history) < max(2, warmup_epochs + 1):
        return False
    before, last = history[-2], history[-1]
    names = [name for name in ("loss", "val_loss") if last.get(name) is not None]
    return not any(last[name] <= (1 - FALLS) * max(guessing, before[name]) for name in names)


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
                fired = (value > 0).transpose(0, 1).flatten(1).any(1)
                fires[stage.name] = fires[stage.name] | fired if stage.name in fires else fired
    learner.train(was_training)
    return {name: float(1 - fired.float().mean()) for name, fired in fires.items()}


def advice(
    history: Sequence[Mapping[str, Any]], guessing: float, rate: float, dead: Mapping[str, float]
) -> str:
    """What to say about a loss that does not fall, and what to try; ``rate`` is the highest learning rate."""
    first, last = history[0], history[-1]
    text = (
        f"the training loss does not fall: it is {last['loss']:.3f} in epoch {last['epoch']}, and guessing by class "
        f"frequency gives {guessing:.3f}."
    )
    # otherwise it is more often too small
    too_large = (
        last["loss"] > WORSE * max(first["loss"], guessing) or max(dead.values(), default=0) >= MANY_DEAD
    )
    if shares := ", ".join(f"{name} {100 * share:.0f} %" for name, share in dead.items() if share):
        text += f" Units that are never active: {shares}; most in {max(dead, key=lambda name: dead[name])}."
    elif dead:
        text += " All units are active."
    word, other = ("smaller", rate / 10) if too_large else ("larger", rate * 10)
    return (
        f"{text} Try a {word} rate (--set train.learning_rate={other:g}), or train.learning_rate=auto, "
        "which measures one."
    )
