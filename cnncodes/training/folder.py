"""The folder of a training: its record, metrics and checkpoints, and whether it can be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cnncodes.codes.file import Provenance
from cnncodes.core.errors import CnnCodesError, ModelError, OptionError, OutputExistsError
from cnncodes.core.files import MODEL, parse_json, read_json, read_text, reading
from cnncodes.core.outputs import locked, remove_partials, replacing, write_whole
from cnncodes.core.records import from_value
from cnncodes.training.settings import TrainingSettings

KIND = "cnncodes training"
RECORD = "run.json"
METRICS = "metrics.jsonl"  # a line for each epoch
RANGE_TEST = "range_test.json"
FROZEN = "frozen.h5"
EVENTS = "events"  # a folder
#: Files of a training other than checkpoints and events, in the order in which they are removed.
NAMES = (MODEL, FROZEN, RANGE_TEST, METRICS, RECORD)
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


@dataclass
class State:
    """Where a training is; together with the tensors, all that a checkpoint holds."""

    epoch: int = 0
    step: int = 0  # in the epoch
    steps: int = 0  # in all
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    divisor: float = 1.0  # of the rate, by plateaus and restarts
    drops: int = 0
    restarts: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    stale: int = 0  # epochs since the best one
    history: list[dict[str, Any]] = field(default_factory=list)

    def finish(self, line: Epoch, settings: TrainingSettings) -> bool:
        """Write down an epoch and go to the next; whether its val loss is the best so far. A plateau divides the rate."""
        self.history.append(dataclasses.asdict(line))
        best = line.val_loss is not None and line.val_loss < self.best_loss
        if line.val_loss is not None and best:
            self.best_loss, self.best_epoch, self.stale = line.val_loss, self.epoch, 0
        elif line.val_loss is not None:
            self.stale += 1
            waited = settings.schedule == "plateau" and self.stale % settings.patience == 0
            if waited and self.drops < 3:
                self.divisor, self.drops = self.divisor * 10, self.drops + 1
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.right, self.seen = 0.0, 0, 0
        return best


def read_epochs(folder: str | os.PathLike[str]) -> tuple[Epoch, ...]:
    """The epochs that a training wrote into its folder so far; empty if there is none."""
    path = Path(folder) / METRICS
    if not path.exists():
        return ()
    with reading(f"'{path}'", ModelError, "Remove it, and no curves are drawn; the model does not need it."):
        return tuple(from_value(parse_json(line), Epoch) for line in read_text(path).splitlines())


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``checkpoint-STEP.pt`` whole or not at all, and keep the last two; raises ModelError if the disk is full."""
    path = folder / f"checkpoint-{step:08d}.pt"
    with replacing(path, overwrite=True, error=ModelError) as whole, whole.open("wb") as file:
        torch.save(state, file)
    keep_last(folder, KEPT)


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
    """State of the newest checkpoint that can be read, without running code in it; None if there is none, ModelError if none can."""
    reason: Exception | None = None
    for path in reversed(checkpoints(folder)):
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            reason = error
    if reason is not None:
        raise ModelError(
            f"no checkpoint in '{folder}' can be read: {reason}.", "Start again in another folder (-o)."
        )
    return None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder of a run and hold its lock, without which nothing in it is written; or raise OutputBusyError."""
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"'{folder}' is a file.", "Name a folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "run"):
        yield


def open_run(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Begin a run in a folder that is :func:`held`, or check that the run in it can be resumed.

    ``record`` is what must be the same when it is resumed, as JSON: ``settings`` and more.
    """
    path = folder / RECORD
    there = _read(path) if path.exists() else None
    own = (*checkpoints(folder), folder / MODEL, folder / FROZEN)
    begun = [place.name for place in own if place.exists()]
    if there is None and begun:
        raise OutputExistsError(
            f"'{folder}' has '{begun[0]}' in it, and no {RECORD} that says how it was trained.",
            "Nothing was changed; choose another folder with -o.",
        )
    if there is None or not (begun or resume):
        now = Provenance.now()
        about = {"command": now.command, "created": now.created, "versions": now.versions}
        write_whole(path, json.dumps({"kind": KIND} | record | about, indent=2))
    elif resume:
        check_same(folder, there, record)
    else:
        state = "is not finished" if result_of(folder) is None else "is finished"
        raise OutputExistsError(
            f"'{folder}' holds a training that {state}.",
            "Continue it with --resume, or choose another folder with -o.",
        )


def check_same(folder: Path, there: dict[str, Any], record: dict[str, Any]) -> None:
    """Raise OptionError if a run, or a checkpoint of it, was started with something else: each setting with both values."""
    old, new = there.get("settings", {}), record["settings"]
    changed = [
        f"train.{name} ({old.get(name)} then, {new[name]} now)" for name in new if old.get(name) != new[name]
    ]
    changed += [name for name, value in record.items() if name != "settings" and there.get(name) != value]
    if changed:
        raise OptionError(
            f"the run in '{folder}' was started with something else: {', '.join(changed)} changed.",
            "Resume with the same data and settings, or choose another folder with -o.",
        )


def keep(folder: Path, rate: float | None = None, result: dict[str, Any] | None = None) -> None:
    """Write into the record of the folder's run the rate that was measured, or the result (epochs, test, unreadable images)."""
    record = _read(folder / RECORD)
    if rate is not None:
        record["settings"]["learning_rate"] = rate
    if result is not None:
        record["result"] = result
    write_whole(folder / RECORD, json.dumps(record, indent=2))


def result_of(folder: Path) -> dict[str, Any] | None:
    """The result of a training; None if the folder's run is not finished, or its model is gone."""
    result = _read(folder / RECORD).get("result")
    if not isinstance(result, dict) or not {"epochs", "unreadable", "test"} <= result.keys():
        return None
    return result if (folder / MODEL).exists() else None


def left_by_training(folder: Path) -> list[Path]:
    """The files that a training left in a folder, its record last; no file of the user's."""
    own = (folder / name for name in NAMES)
    events = (folder / EVENTS).glob("events.out.tfevents.*")
    return [*events, *checkpoints(folder), *(path for path in own if path.exists())]


def remove_training(folder: Path) -> None:
    """Remove what a training left in a folder, the record last, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    with locked(folder / "run"):
        for pattern in ("checkpoint-*.pt", *NAMES):
            remove_partials(folder, pattern)
        for path in left_by_training(folder):
            path.unlink(missing_ok=True)
    for place in (folder / EVENTS, folder):
        with contextlib.suppress(OSError):  # a file of the user's is in it
            place.rmdir()


def _read(path: Path) -> dict[str, Any]:
    """The record of a training; OptionError if it is damaged, OutputExistsError if it is that of something else."""
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"'{path}' cannot be read: {error}.", "Start the training again in another folder with -o."
        ) from error
    own = isinstance(record, dict) and isinstance(record.get("settings"), dict)
    if not own or record.get("kind", KIND) != KIND:  # older records name no kind
        raise OutputExistsError(
            f"'{path}' exists and was not written by a training.",
            "Nothing was changed; choose another folder with -o.",
        )
    return dict(record)
