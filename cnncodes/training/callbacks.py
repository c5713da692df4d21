"""Callbacks of the training loop: its hooks, and those that save, restart, show and record.

The loop calls every hook of every callback, in their order. A hook may read the training, ask it to stop, save or restore it.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.core.compute import Progress
from cnncodes.core.errors import CnnCodesError
from cnncodes.training.state import METRICS, Epoch, forget_after, last_checkpoint

if TYPE_CHECKING:
    from cnncodes.training.loop import Training
    from cnncodes.training.range_test import RangeTest

CHECKPOINT_SECONDS = 120.0  # a kill loses no more than this; SIGTERM loses nothing
RESTARTS = 3  # after a loss that is not a number
GOOD_STEPS = 100  # between copies of a good state: one of AlexNet takes longer than a step of fc6 to fc8
BLOWN_UP = 10.0  # after an epoch with so many times the least loss before, the state is not good
EVENTS = "events"  # in a run's folder
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
    """Writes ``metrics.jsonl`` and checkpoints, and ends a training that was asked to stop."""

    def on_batch_end(self, training: Training) -> None:
        """Save if that is due: in all processes after the same step."""
        if training.stopping:
            training.look()
            training.save()
            raise training.interrupted()
        if training.asked_to_save:
            training.save()

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """Write the metrics, then a checkpoint: a finished run is read from the metrics."""
        if training.processes.leads:
            lines = "".join(json.dumps(entry) + "\n" for entry in training.state.history)
            (training.folder / METRICS).write_text(lines, encoding="utf-8")
        if training.is_over or time.monotonic() - training.saved > CHECKPOINT_SECONDS:
            training.save()


class Restarts(Callback):
    """Returns to the last good state, at a tenth of the rate, when a loss is not a number."""

    def __init__(self) -> None:
        self._good: dict[str, Any] | None = None  # the state at the start of this epoch or an earlier one

    def on_epoch_begin(self, training: Training) -> None:
        """Copy the state some steps after the last copy, unless the loss has just blown up."""
        state = training.state
        losses = [line["loss"] for line in state.history]
        blown_up = len(losses) > 1 and not losses[-1] <= BLOWN_UP * min(losses[:-1])
        due = self._good is None or state.steps >= self._good["state"]["steps"] + GOOD_STEPS
        if state.step == 0 and due and not blown_up:
            self._good = training.snapshot(self._good)

    def on_bad_loss(self, training: Training) -> None:
        """Restore; raises CnnCodesError after three restarts."""
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
        self._progress(
            f"epoch {state.epoch + 1} of {training.settings.epochs}",
            state.seen,
            len(training.inputs.train_rows),
            f"loss {state.loss_sum / max(state.seen, 1):.3f}",
        )


class Events(Callback):
    """TensorBoard's event files: scalars of each epoch, with the epoch as the step.

    Nothing is imported before the first epoch. An error does not stop the training: it is noted once, and
    ``metrics.jsonl`` has the same numbers.
    """

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
        now = time.time()
        for place in range(self._written, len(history)):
            line = history[place]
            moment = now - sum(later["seconds"] for later in history[place + 1 :])
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
