"""The one training loop, for `train` and `finetune`: they differ by where the network starts and by the settings."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cnncodes.codes.compute import Device
from cnncodes.errors import CnnCodesError, HeadError, OptionError
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import file_digests
from cnncodes.images.loader import Loader
from cnncodes.training.checkpoints import last_checkpoint, save_checkpoint
from cnncodes.training.diagnosis import Diagnosis, never_at_full_rate
from cnncodes.training.events import FOLDER as EVENTS
from cnncodes.training.events import Events
from cnncodes.training.frozen import FrozenCache, views_to_keep
from cnncodes.training.learner import DropoutMask, Learner
from cnncodes.training.objective import Objective, Targets, mixed_views
from cnncodes.training.processes import Processes
from cnncodes.training.range_test import RangeTest, find_rate
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.squares import Squares
from cnncodes.training.state import (
    Epoch,
    InterruptedTrainingError,
    State,
    copied,
    exact_float32,
    large_blocks_stay,
    make_optimizer,
    random_state,
    set_random_state,
    stop_signals,
)
from cnncodes.training.teacher import Teacher, feature_scale
from cnncodes.training.views import Augmentation, ColourAxes
from cnncodes.weights.preprocessing import Preprocessing

Progress = Callable[[int, int, float], None]  # epoch, images done in it, loss so far
CHECKPOINT_SECONDS = 120.0  # a kill loses no more than this; SIGTERM loses nothing
RESTARTS = 3  # after a loss that is not a number
SAMPLE_IMAGES = 500  # for colour axes and for the scale of a teacher's features
CPU = Device("cpu", "", 1)
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
        ``train`` learns; ``choose`` gives the val loss that schedules and early stopping watch.
    preprocessing : Preprocessing
    settings : TrainingSettings
    folder : Path
        The run: ``metrics.jsonl`` and checkpoints.
    device : Device
    workers : int
        Decoding threads.
    teacher : Teacher, optional
    processes : Processes, optional
        Those that train together; each has its share of every batch.
    class_sets : int ndarray [K], optional
        The data set that each class belongs to, where each set has a head of its own: an image can then only be of
        the classes of its set.
    notes : callable(text), optional
        Told what a person should know: a restart, a loss that stands still and what to try.

    Attributes
    ----------
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
        teacher: Teacher | None = None,
        processes: Processes | None = None,
        notes: Callable[[str], None] | None = None,
        class_sets: np.ndarray | None = None,
    ) -> None:
        self.catalog, self.labels, self.settings, self.folder = catalog, labels, settings, folder
        self.preprocessing, self.device, self.teacher = preprocessing, device, teacher
        self.processes = processes or Processes()
        self._class_sets = (
            None if class_sets is None else torch.as_tensor(class_sets, device=device.torch_name)
        )
        self._note = notes or (lambda text: None)
        self.rate_found: Callable[[RangeTest], None] = lambda test: None
        self._events, self._diagnosis = Events(folder / EVENTS, self._note), Diagnosis()
        self.train_rows, self.val_rows = split.train, split.choose
        self._check(learner)
        self.learner = learner.to(device.torch_name).to(memory_format=torch.channels_last)
        self._forward: Any = self.learner
        if self.processes.count > 1:
            self._forward = DistributedDataParallel(self.learner)
        self.optimizer = make_optimizer(learner, settings, device)
        # several processes stay in step, whatever they can read; batch normalisation needs two images
        alone = self.processes.count == 1
        self._least_batch = (2 if settings.network.batch_norm else 1) if alone else 0
        self.steps_per_epoch = -(-len(self.train_rows) // settings.batch_size)
        self.state = State()
        self.axes: ColourAxes | None = None
        self.best: dict[str, Tensor] | None = None
        self.feature_scale: tuple[Tensor, Tensor] | None = None
        whole = dataclasses.replace(preprocessing, crop=preprocessing.resize)
        self._squares = Squares(catalog, self.train_rows, whole, device, workers)
        self._val_squares = Squares(catalog, self.val_rows, preprocessing, device, workers)
        self._workers = workers
        keep = views_to_keep(settings, learner, len(self.train_rows))
        self.frozen = (
            FrozenCache(
                folder, learner, catalog, split.train, split.choose, preprocessing, settings, keep, device
            )
            if keep
            else None
        )
        self._stop = threading.Event()
        self._saved = time.monotonic()
        self._random = random_state(settings.seed, device)
        self._pending: list[Tensor] = []

    def _check(self, learner: Learner) -> None:
        if len(self.train_rows) < 2:
            raise HeadError(
                "there are fewer than two images to learn from.", "Add images to the train split."
            )
        if self.processes.count > 1 and self.settings.network.batch_norm:
            raise OptionError(
                "network.batch_norm needs whole batches, and several processes share them.",
                "Train with one process, or set network.batch_norm = false.",
            )
        for size in {self.settings.input_size_at(epoch) for epoch in range(self.settings.epochs)} - {None}:
            learner.module.network.output_shapes(size)  # raises InputSizeError

    def resume(self) -> bool:
        """Continue from the newest checkpoint of the folder, if there is one."""
        saved = last_checkpoint(self.folder)
        if saved is None:
            return False
        self._restore(saved)
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
        self._measure()
        self.objective = Objective(self.settings, self._weights_of_classes(), self.feature_scale)
        with (
            stop_signals(self._stop),
            self._own_random_numbers(),
            large_blocks_stay(self.device),
            exact_float32(self.device if self.settings.precision == "float32" else CPU),
            self._events,
        ):
            if self.frozen is not None:
                self._fill(self.frozen, progress)
            if self.settings.learning_rate == "auto":
                self._find_rate()
            if self.settings.warmup_epochs >= self.settings.epochs:
                self._note(never_at_full_rate(self.settings))
            while self.state.epoch < self.settings.epochs and not self._is_stale():
                self._epoch(progress)
        if self.best is not None:
            self.learner.load_state_dict(self.best)
        self.learner.eval()
        if self.frozen is not None and self.processes.leads:
            self.frozen.remove()
        return [Epoch(**line) for line in self.state.history]

    def _epoch(self, progress: Progress | None) -> None:
        state = self.state
        started, good = time.perf_counter(), self._snapshot() if state.step == 0 else None
        done_before = state.seen
        draws = self._draws(state.epoch)
        batches = self._batches(draws)[state.step :]
        self.learner.train()
        for rows, inputs, targets in self._inputs([self.processes.share(batch) for batch in batches], draws):
            if len(rows) >= self._least_batch:
                self._step(rows, inputs, targets, len(batches[0]))
            state.step += 1
            state.steps += 1
            batches = batches[1:]
            if len(self._pending) >= (STEPS_AHEAD if self.device.is_cuda else 1) and not self._look():
                self._restart(good)
                return
            if progress:
                progress(state.epoch, state.seen, state.loss_sum / max(state.seen, 1))
            if self._stop.is_set() and self._look():
                self.save()
                self._interrupted()
            if time.monotonic() - self._saved > CHECKPOINT_SECONDS and self._look():
                self.save()
        if not self._look():
            self._restart(good)
            return
        self._finish_epoch(time.perf_counter() - started, state.seen - done_before)

    def _interrupted(self) -> NoReturn:
        raise InterruptedTrainingError(
            f"stopped in epoch {self.state.epoch + 1}; everything is saved in '{self.folder}'.",
            "The same command with --resume goes on at this very step.",
        )

    def _batches(self, draws: Augmentation) -> list[list[int]]:
        order = draws.order[np.isin(draws.order, self.train_rows)]
        size = self.settings.batch_size
        batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        if self.settings.network.batch_norm and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()  # one image has no variance
            batches[-1] += last
        return batches

    def _inputs(
        self, batches: list[list[int]], draws: Augmentation
    ) -> Iterator[tuple[list[int], Tensor, Targets]]:
        """Rows, what enters the learner, and targets of each batch: pixels, or kept values at the boundary."""
        if self.frozen is not None:
            for rows, values in self.frozen.batches(self.state.epoch, batches):
                yield rows, values, self._targets(rows)
            return
        for rows, squares in self._squares.batches(batches):
            views = draws.views(squares, rows)
            parts = draws.mix(rows)
            mix = None if parts is None else torch.from_numpy(parts).to(views.device)
            if mix is not None:
                views = mixed_views(views, mix)
            yield rows, self._normalised(views), self._targets(rows, views, mix)

    def _step(self, rows: list[int], inputs: Tensor, targets: Targets, batch: int) -> None:
        """One step of gradient descent on this process's share of a batch; its figures wait for :meth:`_look`."""
        state, settings = self.state, self.settings
        position = state.steps / (settings.epochs * self.steps_per_epoch)
        rate = settings.rate_at(min(position, 1.0), state.divisor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad(set_to_none=True)
        mask = DropoutMask(batch, self.processes.places(batch)) if self.processes.count > 1 else None
        with self._autocast():
            hidden, logits = self._forward(inputs, mask, self.frozen is not None)
        losses = self.objective(self.learner, hidden, logits, targets)
        # DistributedDataParallel takes the mean over processes of what is the mean over the whole batch here
        (losses.sum() * (self.processes.count / max(batch, 1))).backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._learning_parameters(), settings.clip_norm)
        self.optimizer.step()
        right = self.objective.right(logits.detach(), targets)
        count = torch.tensor(float(len(rows)), device=losses.device)
        stop = torch.tensor(float(self._stop.is_set()), device=losses.device)
        self._pending.append(torch.stack([losses.detach().sum(), right.float(), count, stop]).double())

    def _targets(
        self, rows: Sequence[int], views: Tensor | None = None, mix: Tensor | None = None
    ) -> Targets:
        labels = torch.from_numpy(self.labels[np.asarray(rows, dtype=np.int64)]).to(self.device.torch_name)
        answers = None
        if self.teacher is not None and views is not None:
            colours = views.flip(1) if self.preprocessing.channels == "BGR" else views
            answers = self.teacher(rows, (colours / 255).clamp(0, 1), mix)
        allowed = None
        if self._class_sets is not None:
            allowed = self._class_sets[labels][:, None] == self._class_sets[None, :]
        return Targets(labels, answers, mix, allowed)

    def _look(self) -> bool:
        """Add up the figures of the steps that were taken; False if a loss is not a number."""
        if not self._pending:
            return True
        figures = self.processes.sum(torch.stack(self._pending).sum(0)).tolist()
        self._pending.clear()
        loss, right, count, stop = figures
        if not np.isfinite(loss):
            return False
        self.state.loss_sum += loss
        self.state.right += int(right)
        self.state.seen += int(count)
        if stop:
            self._stop.set()
        return True

    def _finish_epoch(self, seconds: float, images: int) -> None:
        state = self.state
        val_loss, val_accuracy = self.evaluate(self.val_rows) if len(self.val_rows) else (None, None)
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
        self._watch(val_loss)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum, state.right, state.seen = 0.0, 0, 0
        ended = state.epoch == self.settings.epochs or self._is_stale()
        if ended or time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()
        if self.processes.leads:
            lines = "".join(json.dumps(entry) + "\n" for entry in state.history)
            (self.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
            self._events.write(state.history)
            if advice := self._diagnosis.look(self):
                self._note(advice)

    def _find_rate(self) -> None:
        """Measure the learning rate, and keep it in the folder."""
        test = find_rate(self)
        self.settings = dataclasses.replace(self.settings, learning_rate=test.rate)
        if self.processes.leads:
            test.save(self.folder)
            self.rate_found(test)

    def _watch(self, val_loss: float | None) -> None:
        """Keep the best network; divide the rate on a plateau."""
        state = self.state
        if val_loss is None:
            return
        if val_loss < state.best_loss:
            state.best_loss, state.best_epoch, state.stale = val_loss, state.epoch, 0
            self.best = copied(self.learner.state_dict())
            return
        state.stale += 1
        if (
            self.settings.schedule == "plateau"
            and state.stale % self.settings.patience == 0
            and state.drops < 3
        ):
            state.divisor, state.drops = state.divisor * 10, state.drops + 1

    def _is_stale(self) -> bool:
        return 0 < self.settings.stop_after <= self.state.stale

    def evaluate(self, rows: np.ndarray) -> tuple[float, float]:
        """Mean loss and top-1 accuracy (0..1) of the centre crops of some of the val rows."""
        self.learner.eval()
        size = self.settings.batch_size
        shares = [
            self.processes.share(rows[start : start + size].tolist()) for start in range(0, len(rows), size)
        ]
        total = torch.zeros(3, dtype=torch.float64, device=self.device.torch_name)
        with torch.inference_mode():
            for places, inputs, targets in self._val_inputs(shares):
                if not places:
                    continue
                with self._autocast():
                    hidden, logits = self.learner(inputs, cached=self.frozen is not None)
                losses = self.objective(self.learner, hidden, logits, targets)
                right = self.objective.right(logits, targets)
                total += torch.stack(
                    [losses.sum().double(), right.double(), right.new_tensor(len(places)).double()]
                )
        loss, right_sum, seen = self.processes.sum(total).tolist()
        return loss / max(seen, 1), right_sum / max(seen, 1)

    def _val_inputs(self, batches: list[list[int]]) -> Iterator[tuple[list[int], Tensor, Targets]]:
        if self.frozen is not None:
            for rows, values in self.frozen.batches(0, batches, val=True):
                yield rows, values, self._targets(rows)
            return
        for rows, squares in self._val_squares.batches(batches):
            views = squares.permute(0, 3, 1, 2).float()
            yield rows, self._normalised(views), self._targets(rows, views)

    def _fill(self, frozen: FrozenCache, progress: Progress | None) -> None:
        """Compute what the frozen stages give, once; progress is that of epoch -1."""

        def compute(view: int, rows: list[int], squares: Tensor) -> Tensor:
            views = (
                squares.permute(0, 3, 1, 2).float() if view < 0 else self._draws(view).views(squares, rows)
            )
            with torch.inference_mode(), self._autocast():
                return self.learner.before(self._normalised(views))

        if self.processes.leads:
            report = (lambda done: progress(-1, done, 0.0)) if progress else None
            if not frozen.fill(self._squares, self._val_squares, compute, report, self._stop.is_set):
                self._interrupted()
        self.processes.wait()
        frozen.open()

    def seen(self) -> tuple[int, ...]:
        """Digests of the images that were learned from, for who evaluates the network."""
        found = self._squares.digests[self.train_rows]
        unknown = np.flatnonzero(found == 0)
        if len(unknown):  # decoded by an earlier process, or not readable
            found[unknown] = file_digests(self.catalog.subset(self.train_rows[unknown]))
        return tuple(sorted(found[found != 0].tolist()))

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        if self.processes.leads:
            save_checkpoint(self.folder, self.state.steps, self._snapshot())
        self._saved = time.monotonic()

    def _snapshot(self) -> dict[str, Any]:
        return {
            "state": dataclasses.asdict(self.state),
            "settings": self.settings.to_json(),
            "learner": copied(self.learner.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
            "random": random_state(None, self.device),
            "best": self.best,
            "axes": self.axes.to_json() if self.axes else None,
            "feature_scale": self.feature_scale,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self._pending.clear()
        self.state = State(**saved["state"])
        self.learner.load_state_dict(saved["learner"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self._random = saved["random"]
        set_random_state(self._random, self.device)
        self.best = saved["best"]
        self.axes = ColourAxes.from_json(saved["axes"]) if saved["axes"] else None
        scale = saved["feature_scale"]
        self.feature_scale = tuple(part.to(self.device.torch_name) for part in scale) if scale else None

    def _restart(self, good: dict[str, Any] | None) -> None:
        """Back to the last good state at a tenth of the rate."""
        restarts = self.state.restarts + 1
        divisor = self.state.divisor * 10
        saved = good or last_checkpoint(self.folder)
        if restarts > RESTARTS or saved is None:
            raise CnnCodesError(
                f"the loss is not a number in epoch {self.state.epoch + 1}, also at a rate of "
                f"{self.settings.highest_rate / self.state.divisor:g}.",
                "Use a smaller --set train.learning_rate, or train.clip_norm=1, and look at the images.",
            )
        epoch = self.state.epoch + 1
        self._restore(saved)
        self.state.restarts, self.state.divisor = restarts, divisor
        self._note(
            f"the loss was not a number in epoch {epoch}: back to the last good state, at a rate of "
            f"{self.settings.highest_rate / divisor:g} (restart {restarts} of {RESTARTS})."
        )

    def _draws(self, epoch: int) -> Augmentation:
        return Augmentation(self.settings, len(self.catalog), self.preprocessing, epoch, self.axes)

    def _measure(self) -> None:
        """What is measured on some training images before the first step: colour axes, scale of a teacher's features."""
        needs_axes = self.settings.pca_noise and self.axes is None
        needs_scale = self.teacher is not None and self.feature_scale is None
        if not needs_axes and not needs_scale:
            return
        places = np.linspace(0, len(self.train_rows) - 1, SAMPLE_IMAGES).astype(int)
        rows = np.unique(self.train_rows[places]).tolist()
        batches = [rows[start : start + 32] for start in range(0, len(rows), 32)]
        whole = dataclasses.replace(self.preprocessing, crop=self.preprocessing.resize)
        pixels, features = [], []
        for batch in Loader(self.catalog, batches, whole, workers=self._workers):
            good = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
            pixels.append(batch.pixels[good, 0, ::4, ::4])
            if needs_scale and good:
                views = torch.from_numpy(batch.pixels[good, 0]).permute(0, 3, 1, 2).float()
                answers = self._targets(
                    [batch.rows[place] for place in good], views.to(self.device.torch_name)
                ).answers
                assert answers is not None
                features.append(answers.features.cpu().numpy())
        if needs_axes:
            self.axes = ColourAxes.of(pixels)
        if needs_scale:
            mean, deviation = feature_scale(np.concatenate(features))
            place = self.device.torch_name
            self.feature_scale = (
                torch.from_numpy(mean).float().to(place),
                torch.from_numpy(deviation).float().to(place),
            )

    def _normalised(self, views: Tensor) -> Tensor:
        """Views in 0..255 as the network wants them, in torchvision's order of operations."""
        record = self.preprocessing
        mean = torch.tensor(record.mean, device=views.device).view(3, 1, 1)
        std = torch.tensor(record.std, device=views.device).view(3, 1, 1)
        return ((views / record.scale - mean) / std).contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Dropout draws from torch's own generator: lend it ours, and give the caller's back."""
        theirs = random_state(None, self.device)
        set_random_state(self._random, self.device)
        try:
            yield
        finally:
            set_random_state(theirs, self.device)

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        reduced = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.torch_name.partition(":")[0], torch.bfloat16, enabled=reduced):
            yield

    def _learning_parameters(self) -> list[Tensor]:
        return [parameter for parameter in self.learner.parameters() if parameter.requires_grad]

    def _weights_of_classes(self) -> Tensor | None:
        """n / (K n_k), as scikit-learn's "balanced"."""
        if self.settings.class_weight == "none":
            return None
        counts = np.bincount(self.labels[self.train_rows])
        weights = len(self.train_rows) / (len(counts) * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self.device.torch_name)
