"""The one training loop, for `train` and `finetune`: they differ by where the network starts and by the settings."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.codes.compute import Device, Normaliser
from cnncodes.errors import CnnCodesError, HeadError
from cnncodes.heads.splits import Split
from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Loader
from cnncodes.training.augment import Augmentation, ColourAxes
from cnncodes.training.checkpoints import last_checkpoint, save_checkpoint
from cnncodes.training.learner import Learner
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Preprocessing

Progress = Callable[[int, int, float], None]  # epoch, images done in it, loss so far
CHECKPOINT_SECONDS = 120.0  # a kill loses no more than this; SIGTERM loses nothing
RESTARTS = 3  # after a loss that is not a number
AXES_IMAGES = 500


class InterruptedTrainingError(CnnCodesError):
    """A training that was asked to stop has saved itself."""

    exit_code = 130


@dataclass(frozen=True)
class Epoch:
    """One line of ``metrics.jsonl``; accuracies are 0..1, ``val_*`` None without a val split."""

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


@dataclass
class _State:
    """Where a training is; together with the tensors, all that a checkpoint holds."""

    epoch: int = 0
    step: int = 0  # in the epoch
    steps: int = 0  # in all
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    divisor: float = 1.0
    drops: int = 0
    restarts: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """A training that can be stopped and continued at any step.

    Parameters
    ----------
    learner : Learner
    catalog : Catalog
    labels : int ndarray [N]
        Places in the network's classes, -1 for none.
    split : Split
        ``train`` learns; ``choose``, or else ``test``, gives the val loss that schedules and early stopping watch.
    preprocessing : Preprocessing
    settings : TrainingSettings
    folder : Path
        The run: ``metrics.jsonl`` and checkpoints.
    device : Device
    workers : int
        Decoding threads.
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
    ) -> None:
        self.catalog, self.labels, self.settings, self.folder = catalog, labels, settings, folder
        self.preprocessing, self.device, self.workers = preprocessing, device, workers
        self.train_rows = split.train
        self.val_rows = split.choose
        if len(self.train_rows) < 2:
            raise HeadError(
                "there are fewer than two images to learn from.", "Add images to the train split."
            )
        self.learner = learner.to(device.torch_name).to(memory_format=torch.channels_last)
        self.normalise = Normaliser(preprocessing, device)
        self.optimizer = _optimizer(learner, settings)
        self.steps_per_epoch = -(-len(self.train_rows) // settings.batch_size)
        self.state = _State()
        self.axes: ColourAxes | None = None
        self.best: dict[str, Tensor] | None = None
        self._stop = threading.Event()
        self._saved = time.monotonic()
        self._random = _random_state(settings.seed, device)
        self._class_weight = self._weights_of_classes()

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
        if self.settings.pca_noise and self.axes is None:
            self.axes = self._measure_axes()
        with _signals(self._stop), self._own_random_numbers():
            while self.state.epoch < self.settings.epochs and not self._is_stale():
                self._epoch(progress)
        if self.best is not None:
            self.learner.module.load_state_dict(self.best)
        self.learner.eval()
        return [Epoch(**line) for line in self.state.history]

    def _epoch(self, progress: Progress | None) -> None:
        started, good = time.perf_counter(), self._snapshot() if self.state.step == 0 else None
        done_before = self.state.seen
        draws = self._draws(self.state.epoch)
        order = draws.order[np.isin(draws.order, self.train_rows)]
        size = self.settings.batch_size
        batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        self.learner.train()
        loader = self._loader(batches[self.state.step :])
        with closing(iter(loader)) as loaded:  # type: ignore[type-var]
            for batch in loaded:
                rows = [row for row in batch.rows if row not in batch.problems]
                kept = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
                if rows and not self._step(batch.pixels[kept][:, 0], rows, draws):
                    self._restart(good)
                    return
                self.state.step += 1
                self.state.steps += 1
                if progress:
                    progress(self.state.epoch, self.state.seen, self.state.loss_sum / max(self.state.seen, 1))
                if self._stop.is_set():
                    self.save()
                    raise InterruptedTrainingError(
                        f"stopped in epoch {self.state.epoch + 1}; everything is saved in '{self.folder}'.",
                        "The same command with --resume goes on at this very step.",
                    )
                if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
                    self.save()
        self._finish_epoch(time.perf_counter() - started, self.state.seen - done_before)

    def _step(self, squares: np.ndarray, rows: list[int], draws: Augmentation) -> bool:
        """One step of gradient descent; False if the loss is not a number (then nothing has changed)."""
        state, settings = self.state, self.settings
        position = state.steps / (self.settings.epochs * self.steps_per_epoch)
        rate = settings.rate_at(min(position, 1.0), state.divisor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        pixels = self._pixels(draws.crops(squares, rows, self.preprocessing.crop), draws.shifts(rows))
        target = torch.from_numpy(self.labels[rows]).to(self.device.torch_name)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.learner(pixels)
        loss = F.cross_entropy(
            logits.float(), target, weight=self._class_weight, label_smoothing=settings.label_smoothing
        )
        if not bool(torch.isfinite(loss)):
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._learning_parameters(), settings.clip_norm)
        self.optimizer.step()
        state.loss_sum += float(loss.detach()) * len(rows)
        state.right += int((logits.argmax(1) == target).sum())
        state.seen += len(rows)
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
        lines = "".join(json.dumps(entry) + "\n" for entry in state.history)
        (self.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")

    def _watch(self, val_loss: float | None) -> None:
        """Keep the best network; divide the rate on a plateau."""
        state = self.state
        if val_loss is None:
            return
        if val_loss < state.best_loss:
            state.best_loss, state.best_epoch, state.stale = val_loss, state.epoch, 0
            self.best = {
                key: value.detach().cpu().clone() for key, value in self.learner.module.state_dict().items()
            }
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
        """Mean loss and top-1 accuracy (0..1) of the centre crops of some rows."""
        self.learner.eval()
        total, right, seen = 0.0, 0, 0
        size = self.settings.batch_size
        batches = [rows[start : start + size].tolist() for start in range(0, len(rows), size)]
        loader = Loader(self.catalog, batches, self.preprocessing, workers=self.workers)
        with torch.inference_mode(), closing(iter(loader)) as loaded:  # type: ignore[type-var]
            for batch in loaded:
                kept = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
                if not kept:
                    continue
                target = torch.from_numpy(self.labels[np.array(batch.rows)[kept]]).to(self.device.torch_name)
                with self._autocast():
                    logits = self.learner(self._pixels(batch.pixels[kept][:, 0])).float()
                total += float(F.cross_entropy(logits, target, reduction="sum"))
                right += int((logits.argmax(1) == target).sum())
                seen += len(kept)
        return total / max(seen, 1), right / max(seen, 1)

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        save_checkpoint(self.folder, self.state.steps, self._snapshot())
        self._saved = time.monotonic()

    def _snapshot(self) -> dict[str, Any]:
        copied = {
            key: value.detach().cpu().clone() for key, value in self.learner.module.state_dict().items()
        }
        return {
            "state": dataclasses.asdict(self.state),
            "settings": self.settings.to_json(),
            "module": copied,
            "optimizer": _copied(self.optimizer.state_dict()),
            "random": _random_state(None, self.device),
            "best": self.best,
            "axes": self.axes.to_json() if self.axes else None,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.state = _State(**saved["state"])
        self.learner.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self._random = saved["random"]
        _set_random_state(self._random, self.device)
        self.best = saved["best"]
        self.axes = ColourAxes.from_json(saved["axes"]) if saved["axes"] else None

    def _restart(self, good: dict[str, Any] | None) -> None:
        """Back to the last good state at a tenth of the rate."""
        restarts = self.state.restarts + 1
        divisor = self.state.divisor * 10
        saved = good or last_checkpoint(self.folder)
        if restarts > RESTARTS or saved is None:
            raise CnnCodesError(
                f"the loss is not a number in epoch {self.state.epoch + 1}, also at a rate of "
                f"{self.settings.learning_rate / self.state.divisor:g}.",
                "Use a smaller --set train.learning_rate, or train.clip_norm=1, and look at the images.",
            )
        self._restore(saved)
        self.state.restarts, self.state.divisor = restarts, divisor

    def _draws(self, epoch: int) -> Augmentation:
        room = self.preprocessing.resize - self.preprocessing.crop
        return Augmentation(self.settings, len(self.catalog), room, epoch, self.axes)

    def _loader(self, batches: list[list[int]]) -> Loader:
        whole = dataclasses.replace(self.preprocessing, crop=self.preprocessing.resize)
        return Loader(self.catalog, batches, whole, workers=self.workers)

    def _measure_axes(self) -> ColourAxes:
        chosen = self.train_rows[np.linspace(0, len(self.train_rows) - 1, AXES_IMAGES).astype(int)]
        rows = np.unique(chosen).tolist()
        loader = self._loader([rows[start : start + 32] for start in range(0, len(rows), 32)])
        return ColourAxes.of(batch.pixels[:, 0, ::4, ::4] for batch in loader)

    def _pixels(self, crops: np.ndarray, shifts: np.ndarray | None = None) -> Tensor:
        values = self.normalise(torch.from_numpy(np.ascontiguousarray(crops)))
        if shifts is not None and shifts.any():
            scale = torch.tensor(self.preprocessing.std, device=values.device) * self.preprocessing.scale
            values += (torch.from_numpy(shifts).to(values.device) / scale)[:, :, None, None]
        return values

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Dropout draws from torch's own generator: lend it ours, and give the caller's back."""
        theirs = _random_state(None, self.device)
        _set_random_state(self._random, self.device)
        try:
            yield
        finally:
            _set_random_state(theirs, self.device)

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


def _random_state(seed: int | None, device: Device) -> dict[str, Tensor]:
    """State of torch's generators: the current one, or a new one by seed."""
    if seed is not None:
        fresh = torch.Generator().manual_seed(seed % 2**63).get_state()
        if not device.is_cuda:
            return {"cpu": fresh}
        return {"cpu": fresh, "cuda": torch.Generator(device.torch_name).manual_seed(seed).get_state()}
    states = {"cpu": torch.get_rng_state()}
    if device.is_cuda:
        states["cuda"] = torch.cuda.get_rng_state(device.torch_name)
    return states


def _set_random_state(states: dict[str, Tensor], device: Device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.is_cuda and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device.torch_name)


def _optimizer(learner: Learner, settings: TrainingSettings) -> torch.optim.Optimizer:
    groups = learner.groups(settings)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


def _copied(value: Any) -> Any:
    """A copy of nested dictionaries and lists whose tensors no longer change."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT ask for a stop at the next step; outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
