"""The one training loop, for `train` and `finetune`: they differ by where the network starts and by the settings."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnncodes.codes.compute import Device
from cnncodes.core.errors import CnnCodesError, HeadError, OptionError
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import Catalog
from cnncodes.training.checkpoints import forget_after, last_checkpoint, save_checkpoint
from cnncodes.training.descent import Descent
from cnncodes.training.diagnosis import Diagnosis, never_at_full_rate
from cnncodes.training.events import FOLDER as EVENTS
from cnncodes.training.events import Events
from cnncodes.training.folder import check_same
from cnncodes.training.inputs import Batch, Inputs
from cnncodes.training.learner import Learner
from cnncodes.training.objective import Objective
from cnncodes.training.processes import Processes
from cnncodes.training.range_test import RangeTest, find_rate
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import (
    METRICS,
    Epoch,
    InterruptedTrainingError,
    State,
    Tested,
    copied,
    exact_float32,
    large_blocks_stay,
    lent_random_numbers,
    random_state,
    set_random_state,
    stop_signals,
)
from cnncodes.weights.preprocessing import Preprocessing

Progress = Callable[[int, int, float], None]  # epoch, images done in it, loss so far
CHECKPOINT_SECONDS = 120.0  # a kill loses no more than this; SIGTERM loses nothing
RESTARTS = 3  # after a loss that is not a number
GOOD_STEPS = 100  # between copies of a good state: one of AlexNet takes longer than a step of fc6 to fc8
BLOWN_UP = 10.0  # an epoch with so many times the least loss before is not gone back to
STEPS_AHEAD = 8  # that a GPU may have in its queue before the loss is looked at


class Training:
    """A training that can be stopped and continued at any step.

    Parameters
    ----------
    learner : Learner
    catalog : Catalog
    labels : int ndarray [N]
        Places in the network's classes, -1 for none.
    split : Split
        ``train`` learns; ``choose`` gives the val loss that schedules and early stopping watch; ``test`` is for :meth:`test`.
    preprocessing : Preprocessing
    settings : TrainingSettings
    folder : Path
        The run: ``metrics.jsonl`` and checkpoints.
    device : Device
    workers : int
        Decoding threads.
    processes : Processes, optional
        Those that train together; each has its share of every batch.
    notes : callable(text), optional
        Told what a person should know: a restart, a loss that stands still and what to try.
    record : mapping, optional
        What the training is started with, as JSON; kept in each checkpoint.

    Attributes
    ----------
    inputs : Inputs
        What enters the learner; its ``train_rows``, ``val_rows`` and ``frozen`` are also here.
    learner : Learner
    optimizer : torch.optim.Optimizer
    state : State
        Where the training is: epoch, step, what the epoch adds up to, the history of epochs.
    steps_per_epoch : int
    rate_found : callable(RangeTest)
        Called when a rate was measured (``learning_rate`` "auto"), before the first step; to be set by the caller.
    """

    def __init__(
        self,
        learner: Learner,
        catalog: Catalog,
        labels: np.ndarray,
        split: Split,
        preprocessing: Preprocessing,
        settings: TrainingSettings,
        folder: Path,
        device: Device,
        workers: int,
        *,
        processes: Processes | None = None,
        notes: Callable[[str], None] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self._record = dict(record or {})
        self.processes = processes or Processes()
        self.train_rows, self.val_rows = split.train, split.choose
        self._check(learner, preprocessing.crop)
        self.learner = learner.to(device.torch_name).to(memory_format=torch.channels_last)
        self._descent = Descent(self.learner, settings, device, self.processes)
        self.optimizer = self._descent.optimizer
        self.inputs = Inputs(
            self.learner, catalog, labels, split, preprocessing, settings, folder, device, workers,
            self.processes,
        )  # fmt: skip
        self.frozen = self.inputs.frozen
        self.steps_per_epoch = -(-len(self.train_rows) // settings.batch_size)
        # several processes stay in step, whatever they can read; batch normalisation needs two images
        alone = self.processes.count == 1
        self._least_batch = (2 if settings.network.batch_norm else 1) if alone else 0
        self.state = State()
        self.best: dict[str, Tensor] | None = None
        self._good: dict[str, Any] | None = None  # the state at the start of this epoch or an earlier one
        self.rate_found: Callable[[RangeTest], None] = lambda test: None
        self.epoch_done: Callable[[Epoch], None] = lambda line: None
        self._note = notes or (lambda text: None)
        self._events, self._diagnosis = Events(folder / EVENTS, self._note), Diagnosis()
        self._random = random_state(settings.seed, device)
        self._stop = threading.Event()
        self._saved = time.monotonic()
        self._asked_to_stop = self._asked_to_save = False  # by any process, at the last look
        self._pending: list[Tensor] = []  # figures of steps that were not looked at

    def _check(self, learner: Learner, crop: int) -> None:
        if len(self.train_rows) < 2:
            raise HeadError(
                "there are fewer than two images to learn from.", "Add images to the train split."
            )
        if self.processes.count > 1 and self.settings.network.batch_norm:
            raise OptionError(
                "network.batch_norm needs whole batches, and several processes share them.",
                "Train with one process, or set network.batch_norm = false.",
            )
        for size in {self.settings.input_size_at(epoch) or crop for epoch in range(self.settings.epochs)} | {
            crop
        }:
            learner.module.network.output_shapes(size)  # raises InputSizeError

    def resume(self) -> bool:
        """Continue from the newest checkpoint of the folder, if there is one.

        Raises
        ------
        OptionError
            If it is of a training that was started with something else, each difference named.
        """
        saved = last_checkpoint(self.folder)
        if saved is None:
            return False
        check_same(self.folder, saved.get("run", {}), self._started_with())
        self.restore(saved)
        return True

    def run(self, progress: Progress | None = None) -> list[Epoch]:
        """Train to the end; the learner then holds the weights of the best val loss (the last, without val).

        Raises
        ------
        InterruptedTrainingError
            After SIGTERM or SIGINT, once everything is saved.
        CnnCodesError
            If the loss is not a number again after three restarts at a tenth of the rate.
        """
        self.inputs.measure()
        self.objective = Objective(self.settings, self.inputs.class_weights())
        with (
            stop_signals(self._stop),
            lent_random_numbers(self._random, self.device),
            large_blocks_stay(self.device),
            exact_float32(self.device, self.settings.precision),
            self._events,
        ):
            report = (lambda done: progress(-1, done, 0.0)) if progress else None
            if not self._is_over():
                if not self.inputs.fill(report, self._stop.is_set):
                    raise self.interrupted()
                if self.settings.learning_rate == "auto":
                    self._find_rate()
            if self.settings.warmup_epochs >= self.settings.epochs:
                self._note(never_at_full_rate(self.settings))
            while not self._is_over():
                self._epoch(progress)
        self._good = None
        if self.best is not None:
            self.learner.load_state_dict(self.best)
        self.learner.eval()
        if self.frozen is not None and self.processes.leads:
            self.frozen.remove()
        return [Epoch(**line) for line in self.state.history]

    def _find_rate(self) -> None:
        """Measure the learning rate, and keep it in the folder."""
        test = find_rate(self)
        self.settings = dataclasses.replace(self.settings, learning_rate=test.rate)
        if self.processes.leads:
            test.save(self.folder)
            self.rate_found(test)

    def _epoch(self, progress: Progress | None) -> None:
        """What is left of an epoch; at its end ``state`` is at the start of the next, or back at a good state."""
        state = self.state
        started = time.perf_counter()
        if state.step == 0 and self._is_good():
            self._good = self.snapshot(self._good)
        seen_before = state.seen
        draws = self.inputs.draws(state.epoch)
        self.learner.train()
        for batch in self.inputs.to_learn(self.inputs.batches(draws)[state.step :], draws):
            self.step(batch)
            state.step += 1
            state.steps += 1
            # all processes look after the same steps, and act on what all of them were told
            if len(self._pending) >= (STEPS_AHEAD if self.device.is_cuda else 1) and not self.look():
                self._restart()
                return
            if progress:
                progress(state.epoch, state.seen, state.loss_sum / max(state.seen, 1))
            if self.stopping and self.look():
                self.save()
                raise self.interrupted()
            if self._asked_to_save:
                self.save()
        if not self.look():
            self._restart()
            return
        if not state.seen:
            raise HeadError(
                "none of the images to learn from could be read.",
                "Look at one: cnncodes predict MODEL IMAGE.",
            )
        self._finish_epoch(time.perf_counter() - started, state.seen - seen_before)

    def step(self, batch: Batch) -> None:
        """One step of gradient descent on this process's share of a batch; its figures wait for :meth:`look`.

        The rate is that of ``settings`` at ``state.steps``, which the caller counts. With too few readable images nothing
        is done.
        """
        if len(batch.rows) < self._least_batch:
            return
        state, settings = self.state, self.settings
        position = state.steps / (settings.epochs * self.steps_per_epoch)
        rate = settings.rate_at(min(position, 1.0), state.divisor)
        figures = self._descent.step(batch, self.objective, rate, cached=self.frozen is not None)
        late = self.processes.leads and time.monotonic() - self._saved > CHECKPOINT_SECONDS
        asked = torch.tensor([float(self._stop.is_set()), float(late)], device=figures.device)
        self._pending.append(torch.cat([figures, asked]).double())

    def look(self) -> bool:
        """Add up in ``state`` the figures of the steps that were taken; False if a loss is not a number."""
        if not self._pending:
            return True
        figures = self.processes.sum(torch.stack(self._pending).sum(0)).tolist()
        self._pending.clear()
        loss, right, count, stop, save = figures
        self._asked_to_stop, self._asked_to_save = stop > 0, save > 0
        if not np.isfinite(loss):
            return False
        self.state.loss_sum += loss
        self.state.right += int(right)
        self.state.seen += int(count)
        return True

    def _finish_epoch(self, seconds: float, images: int) -> None:
        """Look at the val images, write down what the epoch gave, go to the next."""
        state = self.state
        val_loss, val_accuracy = self._watch()
        line = Epoch(
            epoch=state.epoch + 1,
            learning_rate=self.optimizer.param_groups[-1]["lr"],
            loss=state.loss_sum / max(state.seen, 1),
            accuracy=state.right / max(state.seen, 1),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=seconds,
            images_per_second=images / seconds,
        )
        state.history.append(dataclasses.asdict(line))
        if val_loss is not None and state.watch(val_loss, self.settings):
            self.best = copied(self.learner.state_dict())
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum, state.right, state.seen = 0.0, 0, 0
        if self.processes.leads:  # first: what a finished run is read from must be whole
            lines = "".join(json.dumps(entry) + "\n" for entry in state.history)
            (self.folder / METRICS).write_text(lines, encoding="utf-8")
        if self._is_over() or time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()
        if self.processes.leads:
            self._events.write(state.history)
            self.epoch_done(line)
            if advice := self._diagnosis.look(self):
                self._note(advice)

    def _watch(self) -> tuple[float, float] | tuple[None, None]:
        """Mean loss and top-1 accuracy (0..1) of the centre crops of the val images; None where there are none."""
        watched = self.inputs.to_watch(self._in_batches(self.val_rows))
        found = self._descent.watch(watched, self.objective, cached=self.frozen is not None)
        return (found.loss, found.accuracy) if found else (None, None)

    def test(self) -> Tested | None:
        """What the kept weights are worth on centre crops of the test images, after :meth:`run`; None where there are none."""
        with exact_float32(self.device, self.settings.precision):
            images = self.inputs.to_test(self._in_batches(self.inputs.test_rows))
            return self._descent.watch(images, self.objective, cached=False)

    def _in_batches(self, rows: np.ndarray) -> list[list[int]]:
        size = self.settings.batch_size
        return [rows[start : start + size].tolist() for start in range(0, len(rows), size)]

    def _is_over(self) -> bool:
        """Whether all epochs are done, or the val loss has not fallen for so long that the settings end the training."""
        stale = 0 < self.settings.stop_after <= self.state.stale
        return stale or self.state.epoch >= self.settings.epochs

    def _is_good(self) -> bool:
        """Whether this is a state to go back to: some steps after the last one, and not just blown up."""
        losses = [line["loss"] for line in self.state.history]
        if len(losses) > 1 and not losses[-1] <= BLOWN_UP * min(losses[:-1]):
            return False
        return self._good is None or self.state.steps >= self._good["state"]["steps"] + GOOD_STEPS

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        if self.processes.leads:
            save_checkpoint(self.folder, self.state.steps, self.snapshot())
        self._saved, self._asked_to_save = time.monotonic(), False

    def snapshot(self, into: dict[str, Any] | None = None) -> dict[str, Any]:
        """Everything that the training needs to go on as if nothing had happened: what a checkpoint holds.

        ``into`` is an earlier one that is no longer needed.
        """
        earlier = into or {}
        return {
            "state": dataclasses.asdict(self.state),
            "run": self._started_with(),
            "learner": copied(self.learner.state_dict(), earlier.get("learner")),
            "optimizer": copied(self.optimizer.state_dict(), earlier.get("optimizer")),
            "random": random_state(None, self.device),
            "best": self.best,
            **self.inputs.measured(),
        }

    def _started_with(self) -> dict[str, Any]:
        return self._record | {"settings": json.loads(self.settings.to_json())}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a :meth:`snapshot`; the settings stay as they are."""
        self._pending.clear()
        self.state = State(**saved["state"])
        self.learner.load_state_dict(saved["learner"])
        self.optimizer.load_state_dict(copied(saved["optimizer"]))  # it keeps what it is given
        self._random = saved["random"]
        set_random_state(self._random, self.device)
        self.best = saved["best"]
        self.inputs.restore(saved)

    def _restart(self) -> None:
        """Back to the last good state at a tenth of the rate."""
        restarts = self.state.restarts + 1
        divisor = self.state.divisor * 10
        saved = self._good or last_checkpoint(self.folder)
        if restarts > RESTARTS or saved is None:
            raise CnnCodesError(
                f"the loss is not a number in epoch {self.state.epoch + 1}, also at a rate of "
                f"{self.settings.highest_rate / self.state.divisor:g}.",
                "Use a smaller --set train.learning_rate, or train.clip_norm=1, and look at the images.",
            )
        epoch = self.state.epoch + 1
        self.restore(saved)
        if self.processes.leads:
            forget_after(self.folder, self.state.steps)
        self.state.restarts, self.state.divisor = restarts, divisor
        self._note(
            f"the loss was not a number in epoch {epoch}: back to the last good state, at a rate of "
            f"{self.settings.highest_rate / divisor:g} (restart {restarts} of {RESTARTS})."
        )

    def stop(self) -> None:
        """Ask for a stop at the next step, as SIGTERM does."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the training was asked to stop; all processes know of it after the same :meth:`look`."""
        return self._asked_to_stop or (self.processes.count == 1 and self._stop.is_set())

    def interrupted(self) -> InterruptedTrainingError:
        """The error that says where a training stopped that was asked to."""
        return InterruptedTrainingError(
            f"stopped in epoch {self.state.epoch + 1}; everything is saved in '{self.folder}'.",
            "The same command with --resume goes on at this very step.",
        )
