"""What surrounds the training loop: a handful of hooks, and who listens to them to keep, restart, show and record.

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
BLOWN_UP = 10.0  # an epoch with so many times the least loss before is not gone back to
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
    """Hooks of a training, all of which do nothing; a subclass has those that it needs."""

    def on_train_begin(self, training: Training) -> None:
        """Once, before anything is computed; a resumed training is at its checkpoint already."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first batch of an epoch, or of what is left of it."""

    def on_batch_end(self, training: Training) -> None:
        """After each batch; ``training.state`` counts it."""

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """After an epoch and a look at the val images; ``training.state`` is at the start of the next."""

    def on_bad_loss(self, training: Training) -> None:
        """A loss is not a number: somebody must restore the training, or raise."""

    def on_rate_found(self, training: Training, test: RangeTest) -> None:
        """A learning rate was measured (``learning_rate`` "auto"), before the first step."""

    def on_train_end(self, training: Training) -> None:
        """At the end, also after an error."""


class Checkpoints(Callback):
    """Writes ``metrics.jsonl`` and checkpoints, and ends a training that was asked to stop once all is saved."""

    def on_batch_end(self, training: Training) -> None:
        """Save where that is due; in all processes after the same step."""
        if training.stopping:
            training.look()
            training.save()
            raise training.interrupted()
        if training.asked_to_save:
            training.save()

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """The metrics first: what a finished run is read from must be whole."""
        if training.processes.leads:
            lines = "".join(json.dumps(entry) + "\n" for entry in training.state.history)
            (training.folder / METRICS).write_text(lines, encoding="utf-8")
        if training.is_over or time.monotonic() - training.saved > CHECKPOINT_SECONDS:
            training.save()


class Restarts(Callback):
    """Goes back to the last good state, at a tenth of the rate, when a loss is not a number."""

    def __init__(self) -> None:
        self._good: dict[str, Any] | None = None  # the state at the start of this epoch or an earlier one

    def on_epoch_begin(self, training: Training) -> None:
        """Copy the state if it is good: some steps after the last copy, and not just blown up."""
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
        """Give the memory back."""
        self._good = None


class ShowProgress(Callback):
    """Tells a progress after each batch which epoch it is, and how many of its images are learned from."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_batch_end(self, training: Training) -> None:
        """One call."""
        state = training.state
        self._progress(
            f"epoch {state.epoch + 1} of {training.settings.epochs}",
            state.seen,
            len(training.inputs.train_rows),
            f"loss {state.loss_sum / max(state.seen, 1):.3f}",
        )


class Events(Callback):
    """TensorBoard's event files: scalars of each epoch, at the epoch's number as the step.

    Nothing is imported or written before the first epoch is there. What cannot be written stops no training: it is
    noted once, and ``metrics.jsonl`` has the same numbers.
    """

    def __init__(self) -> None:
        self._writer: Any = None
        self._written = 0
        self._broken = False

    def on_epoch_end(self, training: Training, line: Epoch) -> None:
        """Add the epoch."""
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
        """Close the file."""
        self.close()

    def write(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """Add the last epoch of all so far; after a resume or a restart, all of them in place of what was there."""
        if self._writer is None or len(history) != self._written + 1:
            self._open(folder, int(history[0]["epoch"]))
            self._written = 0
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

    def _open(self, folder: Path, first: int) -> None:
        """A new file that takes back the steps of all earlier ones, so that no epoch is there twice."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that TensorBoard imports
            from torch.utils.tensorboard import SummaryWriter  # about a second: not before it is needed

        self.close()
        self._writer = SummaryWriter(str(folder), purge_step=first)
