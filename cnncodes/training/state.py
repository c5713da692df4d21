"""State of a training, its metrics and its checkpoints: everything that a resumed training needs."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnncodes.core.errors import CnnCodesError, ModelError
from cnncodes.core.files import parse_json, read_text, reading
from cnncodes.core.outputs import remove_partials, replacing
from cnncodes.core.records import from_value
from cnncodes.training.settings import TrainingSettings

METRICS = "metrics.jsonl"  # in a run's folder: a line for each epoch
KEPT = 2  # checkpoints during a training


class InterruptedTrainingError(CnnCodesError):
    """A training that was asked to stop has saved itself."""

    exit_code = 130


class BadLossError(Exception):
    """A loss is not a number."""


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


@dataclass(frozen=True)
class Tested:
    """Test of a trained network: number of images, mean loss and top-1 accuracy (0..1)."""

    images: int
    loss: float
    accuracy: float


def read_epochs(folder: str | os.PathLike[str]) -> tuple[Epoch, ...]:
    """The epochs that a training wrote into its folder so far; empty if there is none."""
    path = Path(folder) / METRICS
    if not path.exists():
        return ()
    with reading(f"'{path}'", ModelError, "Remove it, and no curves are drawn; the model does not need it."):
        return tuple(from_value(parse_json(line), Epoch) for line in read_text(path).splitlines())


@dataclass
class State:
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

    def finish(self, line: Epoch, settings: TrainingSettings) -> bool:
        """Write down an epoch and go to the next; whether its val loss is the best so far."""
        self.history.append(dataclasses.asdict(line))
        best = line.val_loss is not None and self._watch(line.val_loss, settings)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.right, self.seen = 0.0, 0, 0
        return best

    def _watch(self, val_loss: float, settings: TrainingSettings) -> bool:
        """Whether this epoch's val loss is the best so far; if not, the rate is divided on a plateau."""
        if val_loss < self.best_loss:
            self.best_loss, self.best_epoch, self.stale = val_loss, self.epoch, 0
            return True
        self.stale += 1
        waited = settings.schedule == "plateau" and self.stale % settings.patience == 0
        if waited and self.drops < 3:
            self.divisor, self.drops = self.divisor * 10, self.drops + 1
        return False


def copied(value: Any, into: Any = None) -> Any:
    """A copy of nested dictionaries and lists whose tensors no longer change, in the memory of an earlier copy where it fits."""
    if isinstance(value, Tensor):
        if isinstance(into, Tensor) and all(
            getattr(into, name) == getattr(value, name) for name in ("shape", "dtype", "device")
        ):
            return into.copy_(value.detach())
        return value.detach().clone()
    if isinstance(value, dict):
        earlier = into if isinstance(into, dict) else {}
        return {key: copied(item, earlier.get(key)) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``checkpoint-STEP.pt`` whole or not at all, and keep the last two; raises ModelError if the disk is full."""
    path = folder / f"checkpoint-{step:08d}.pt"
    with replacing(path, overwrite=True, error=ModelError) as whole, whole.open("wb") as file:
        torch.save(state, file)
    keep_last(folder, KEPT)
    return path


def keep_last(folder: Path, count: int) -> None:
    """Remove all checkpoints but the last ones, and unfinished ones."""
    remove_partials(folder, "checkpoint-*.pt")
    found = checkpoints(folder)
    for old in found[: max(0, len(found) - count)]:
        old.unlink()


def forget_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps: a training that went back must not be resumed from them."""
    for path in checkpoints(folder):
        if int(path.stem.rpartition("-")[2]) > step:
            path.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(folder.glob(f"checkpoint-{'[0-9]' * 8}.pt"))


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """State of the newest checkpoint that can be read; None if there is none. No code in it is run.

    Raises ModelError if there are checkpoints, and none can be read.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            reason = error
    if found:
        raise ModelError(
            f"no checkpoint in '{folder}' can be read: {reason}.", "Start again in another folder (-o)."
        )
    return None
