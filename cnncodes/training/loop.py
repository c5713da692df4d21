"""The training loop of `train` and `finetune`: epoch, batch, step. Everything around it is a callback."""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cnncodes.codes.compute import exact_float32
from cnncodes.core.errors import HeadError, OptionError
from cnncodes.core.records import to_value
from cnncodes.heads.confidence import fit_temperature
from cnncodes.training.callbacks import Callback, Checkpoints, Diagnosis, Events, Restarts
from cnncodes.training.device import Resources, autocast, lent, random_state, set_random_state
from cnncodes.training.folder import (
    BadLossError,
    Epoch,
    InterruptedTrainingError,
    State,
    Tested,
    check_same,
    last_checkpoint,
    save_checkpoint,
)
from cnncodes.training.inputs import Batch, Inputs, Task
from cnncodes.training.learner import DropoutMask, Learner, Objective, Targets
from cnncodes.training.range_test import MeasureRate
from cnncodes.training.settings import TrainingSettings

CHECKPOINT_SECONDS = 120.0  # a kill loses no more than this; SIGTERM loses nothing
STEPS_AHEAD = 8  # that a GPU may have in its queue before the loss is looked at


class Training:
    """A training that can be stopped and resumed at any step.

    Parameters
    ----------
    task : Task
        ``split.train`` learns; ``choose`` gives the val loss for schedules and early stopping; ``test`` is for :meth:`test`.
    folder : Path
        The run: ``metrics.jsonl`` and checkpoints.
    callbacks : sequence of Callback, optional
        Beside those of every training.
    notes : callable(text), optional
        Called with what the user should know: a restart, a loss that does not fall and what to try.
    record : mapping, optional
        What the training is started with, as JSON; kept in each checkpoint.

    Attributes
    ----------
    inputs : Inputs
        What enters the learner; its ``train_rows``, ``val_rows`` and ``frozen`` are also attributes here.
    state : State
        Epoch, step, sums of the epoch, the history of epochs.
    """

    def __init__(
        self,
        learner: Learner,
        task: Task,
        settings: TrainingSettings,
        folder: Path,
        resources: Resources,
        callbacks: Sequence[Callback] = (),
        notes: Callable[[str], None] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings, self.folder = settings, folder
        self.device, self.processes = resources.device, resources.processes
        self.train_rows, self.val_rows = task.split.train, task.split.choose
        alone = self.processes.count == 1
        if len(self.train_rows) < 2:
            raise HeadError(
                "there are fewer than two images to learn from.", "Add images to the train split."
            )
        if settings.network.batch_norm and not alone:
            raise OptionError(
                "network.batch_norm needs whole batches, and several processes share them.",
                "Train with one process, or set network.batch_norm = false.",
            )
        crop = task.preprocessing.crop
        for size in {crop, *(settings.input_size_at(epoch) or crop for epoch in range(settings.epochs))}:
            learner.module.network.output_shapes(size)  # raises InputSizeError
        self.learner = learner.to(self.device.torch_name).to(memory_format=torch.channels_last)
        self._forward: Any = self.learner if alone else DistributedDataParallel(learner)
        kind: Any = partial(torch.optim.SGD, momentum=settings.momentum)
        if settings.optimizer == "adamw":
            kind = torch.optim.AdamW
        # each step sets the rate; fused, an optimizer passes over the weights once instead of four times
        fused, groups = self.device.is_cuda or self.device.is_cpu, self.learner.groups(settings)
        self.optimizer: torch.optim.Optimizer = kind(groups, lr=0.0, fused=fused)
        self.inputs = Inputs(self.learner, task, settings, folder, resources)
        self.frozen = self.inputs.frozen
        self.steps_per_epoch = -(-len(self.train_rows) // settings.batch_size)
        # several processes take each step together, whatever they can read; batch normalisation needs two images
        self._least_batch = (2 if settings.network.batch_norm else 1) if alone else 0
        self._exact = settings.precision == "float32"
        self.state = State()
        self.best: dict[str, Tensor] | None = None
        self.note = notes or (lambda text: None)
        self._saved = time.monotonic()  # when the last checkpoint was written
        self.asked_to_save = self._asked_to_stop = False  # by any process, at the last look
        self._record = dict(record or {})
        self._random = random_state(settings.seed, self.device)
        self._stop = threading.Event()
        self._pending: list[Tensor] = []  # sums of steps that are not yet in `state`
        given, last = ((*callbacks,), (Events(), Diagnosis())) if self.processes.leads else ((), ())
        self._callbacks: list[Callback] = [MeasureRate(), Restarts(), *given, Checkpoints(), *last]

    def run(self) -> list[Epoch]:
        """Train to the end; the learner then has the weights of the least val loss (the last, without val).

        Raises InterruptedTrainingError after SIGTERM or SIGINT, with everything saved, and CnnCodesError if the loss is not a
        number after three restarts, each at a tenth of the rate.
        """
        self.call("on_train_begin")
        self.inputs.measure()
        self.objective = Objective(self.settings, self.inputs.class_weights())
        try:
            with lent(self._stop, self._random, self.device), exact_float32(self._exact):
                if not self.is_over and not self.inputs.fill(self._stop.is_set):
                    raise self.interrupted()
                while not self.is_over:
                    try:
                        self._epoch()
                    except BadLossError:
                        self.call("on_bad_loss")
        finally:
            self.call("on_train_end")
        if self.best is not None:
            self.learner.load_state_dict(self.best)
        self.learner.eval()
        if self.frozen is not None and self.processes.leads:
            self.frozen.remove()
        return [Epoch(**line) for line in self.state.history]

    def _epoch(self) -> None:
        """The rest of an epoch; at its end ``state`` is at the start of the next."""
        self.call("on_epoch_begin")
        state, started, seen_before = self.state, time.perf_counter(), self.state.seen
        draws = self.inputs.draws(state.epoch)
        self.learner.train()
        for batch in self.inputs.to_learn(self.inputs.batches(draws)[state.step :], draws):
            self.step(batch)
            state.step += 1
            state.steps += 1
            # all processes look after the same steps, and act on the sum of their answers
            if len(self._pending) >= (STEPS_AHEAD if self.device.is_cuda else 1):
                self.look()
            self.call("on_batch_end")
        self.look()
        if not state.seen:
            raise self.nothing_readable()
        seconds = time.perf_counter() - started
        watched = self._evaluate(self.inputs.to_watch(), self.frozen is not None)
        line = Epoch(
            epoch=state.epoch + 1,
            learning_rate=self.optimizer.param_groups[-1]["lr"],
            loss=state.loss_sum / state.seen,
            accuracy=state.right / state.seen,
            val_loss=watched.loss if watched else None,
            val_accuracy=watched.accuracy if watched else None,
            seconds=seconds,
            images_per_second=(state.seen - seen_before) / seconds,
        )
        if state.finish(line, self.settings):
            self.best = copy.deepcopy(self.learner.state_dict())
        self.call("on_epoch_end", line)

    def step(self, batch: Batch) -> None:
        """One step of gradient descent on this process's share of a batch; its sums wait for :meth:`look`.

        The rate is that of ``settings`` at ``state.steps``, which the caller counts. Without enough readable images there is no step.
        """
        if len(batch.rows) < self._least_batch:
            return
        settings = self.settings
        position = self.state.steps / (settings.epochs * self.steps_per_epoch)
        rate = settings.rate_at(min(position, 1.0), self.state.divisor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(settings.precision, self.device):
            mask = DropoutMask(batch.size, batch.places)
            logits = self._forward(batch.values, mask, self.frozen is not None)
        losses = self.objective(logits, batch.targets)
        # DistributedDataParallel divides by the number of processes; the loss is the mean over the whole batch
        (losses.sum() * (self.processes.count / max(batch.size, 1))).backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            learning = [values for values in self.learner.parameters() if values.requires_grad]
            torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
        self.optimizer.step()
        late = self.processes.leads and self.is_late
        figures = [float(len(batch.rows)), float(self._stop.is_set()), float(late)]
        sums = torch.stack([losses.detach().sum(), batch.targets.right(logits.detach()).float()])
        self._pending.append(torch.cat([sums, torch.tensor(figures, device=losses.device)]).double())

    def look(self) -> None:
        """Add the pending sums to ``state``; raises BadLossError if a loss is not a number."""
        if not self._pending:
            return
        loss, right, count, stop, save = self.processes.sum(torch.stack(self._pending).sum(0)).tolist()
        self._pending.clear()
        self._asked_to_stop, self.asked_to_save = stop > 0, save > 0
        if not np.isfinite(loss):
            raise BadLossError
        self.state.loss_sum += loss
        self.state.right += int(right)
        self.state.seen += int(count)

    def _evaluate(self, batches: Iterable[Batch], cached: bool = False) -> Tested | None:
        """Loss and accuracy on the images of all processes; None if none can be read."""
        total = torch.zeros(3, dtype=torch.float64, device=self.device.torch_name)
        for logits, targets in self._logits(batches, cached):
            right = targets.right(logits)
            sums = (self.objective(logits, targets).sum(), right, right.new_tensor(len(logits)))
            total += torch.stack([value.double() for value in sums])
        loss, right_sum, seen = self.processes.sum(total).tolist()
        return Tested(int(seen), loss / seen, right_sum / seen) if seen else None

    def _logits(self, batches: Iterable[Batch], cached: bool = False) -> Iterator[tuple[Tensor, Targets]]:
        """Logits of each batch of this process that has images, with what they should be."""
        self.learner.eval()
        with torch.inference_mode():
            for batch in batches:
                if not batch.rows:
                    continue
                with autocast(self.settings.precision, self.device):
                    logits = self.learner(batch.values, cached=cached)
                yield logits, batch.targets

    def temperature(self) -> float | None:
        """Of the kept weights, after :meth:`run`: softmax(logits / temperature) fits the validation images best; None without any.

        See :func:`cnncodes.heads.confidence.fit_temperature`. Of several processes, each sees its own images.
        """
        with exact_float32(self._exact):
            watched = self._logits(self.inputs.to_test(self.val_rows))
            found = [(logits.float().cpu(), targets.labels.cpu()) for logits, targets in watched]
        if not found:
            return None
        logits, labels = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return fit_temperature(logits, labels)

    def test(self) -> Tested | None:
        """Loss and accuracy of the kept weights on centre crops of the test images, after :meth:`run`; None if there are none."""
        with exact_float32(self._exact):
            return self._evaluate(self.inputs.to_test(self.inputs.test_rows))

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or early stopping ends the training."""
        stale = 0 < self.settings.stop_after <= self.state.stale
        return stale or self.state.epoch >= self.settings.epochs

    @property
    def is_late(self) -> bool:
        """Whether a checkpoint is due."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def call(self, hook: str, *values: Any) -> None:
        """Call a hook of every callback."""
        for callback in self._callbacks:
            getattr(callback, hook)(self, *values)

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        if self.processes.leads:
            save_checkpoint(self.folder, self.state.steps, self.snapshot())
        self._saved, self.asked_to_save = time.monotonic(), False

    def resume(self) -> bool:
        """Continue from the newest checkpoint in the folder; whether there is one. Raises OptionError if it was started otherwise."""
        saved = last_checkpoint(self.folder)
        if saved is not None:
            check_same(self.folder, saved.get("run", {}), self._started_with())
            self.restore(saved)
        return saved is not None

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything that a resumed training needs."""
        return {
            "state": dataclasses.asdict(self.state),
            "run": self._started_with(),
            "learner": copy.deepcopy(self.learner.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "random": random_state(None, self.device),
            "best": self.best,
            **self.inputs.measured(),
        }

    def _started_with(self) -> dict[str, Any]:
        return self._record | {"settings": to_value(self.settings)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Return to a :meth:`snapshot`, but with the present settings."""
        self._pending.clear()
        self.state = State(**saved["state"])
        self.learner.load_state_dict(saved["learner"])
        self.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))  # it keeps what it is given
        self._random = saved["random"]
        set_random_state(self._random, self.device)
        self.best = saved["best"]
        self.inputs.restore(saved)

    def stop(self) -> None:
        """Ask for a stop at the next step, as SIGTERM does."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the training was asked to stop; all processes know it after the same :meth:`look`."""
        return self._asked_to_stop or (self.processes.count == 1 and self._stop.is_set())

    def interrupted(self) -> InterruptedTrainingError:
        """The error of a training that was asked to stop."""
        return InterruptedTrainingError(
            f"stopped in epoch {self.state.epoch + 1}; everything is saved in '{self.folder}'.",
            "Continue at the same step: the same command with --resume.",
        )

    def nothing_readable(self) -> HeadError:
        """The error of a training without readable images."""
        return HeadError(
            "none of the images to learn from could be read.", "Look at one: cnncodes predict MODEL IMAGE."
        )
