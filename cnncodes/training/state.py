"""What a training keeps beside the network: where it is, its optimizer, its random numbers, its signals."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnncodes.codes.compute import Device
from cnncodes.core.errors import CnnCodesError, ModelError
from cnncodes.core.files import parse_json, read_text, reading
from cnncodes.training.learner import Learner
from cnncodes.training.settings import TrainingSettings

METRICS = "metrics.jsonl"  # in a run's folder: a line for each epoch
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt's numbers (malloc.h)


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


@dataclass(frozen=True)
class Tested:
    """A trained network on images that had no part in it: how many, their mean loss and top-1 accuracy (0..1)."""

    images: int
    loss: float
    accuracy: float


def read_epochs(folder: str | os.PathLike[str]) -> tuple[Epoch, ...]:
    """The epochs that a training wrote into its folder so far; empty if there is none."""
    path = Path(folder) / METRICS
    if not path.exists():
        return ()
    with reading(f"'{path}'", ModelError, "Remove it, and no curves are drawn; the model does not need it."):
        return tuple(Epoch(**parse_json(line)) for line in read_text(path).splitlines())


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

    def watch(self, val_loss: float, settings: TrainingSettings) -> bool:
        """Whether this epoch's val loss is the best so far; if not, the rate is divided on a plateau."""
        if val_loss < self.best_loss:
            self.best_loss, self.best_epoch, self.stale = val_loss, self.epoch, 0
            return True
        self.stale += 1
        waited = settings.schedule == "plateau" and self.stale % settings.patience == 0
        if waited and self.drops < 3:
            self.divisor, self.drops = self.divisor * 10, self.drops + 1
        return False


def random_state(seed: int | None, device: Device) -> dict[str, Tensor]:
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


def set_random_state(states: dict[str, Tensor], device: Device) -> None:
    """Give torch's generators a state of :func:`random_state`."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.is_cuda and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device.torch_name)


def make_optimizer(learner: Learner, settings: TrainingSettings, device: Device) -> torch.optim.Optimizer:
    """The optimizer of some settings over what learns; frozen stages have no part in it.

    Fused, it passes over AlexNet's 58 million fully connected weights once instead of four times.
    """
    groups = learner.groups(settings)
    fused = device.is_cuda or device.is_cpu
    unused = 0.0  # each step sets its own rate
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=unused, fused=fused)
    return torch.optim.SGD(groups, lr=unused, momentum=settings.momentum, fused=fused)


def copied(value: Any, into: Any = None) -> Any:
    """A copy of nested dictionaries and lists whose tensors no longer change.

    ``into`` is an earlier copy that is no longer needed: its memory is used again where it fits.
    """
    if isinstance(value, Tensor):
        if isinstance(into, Tensor) and (into.shape, into.dtype, into.device) == (
            value.shape,
            value.dtype,
            value.device,
        ):
            return into.copy_(value.detach())
        return value.detach().clone()
    if isinstance(value, dict):
        earlier = into if isinstance(into, dict) else {}
        return {key: copied(item, earlier.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


@contextmanager
def stop_signals(stop: threading.Event) -> Iterator[None]:
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


@contextmanager
def large_blocks_stay(device: Device) -> Iterator[None]:
    """Gradients of fully connected stages (234 MB) come from memory that is there already.

    glibc gives blocks of that size back to the system and asks for them anew in each step: 57,000 page faults, half of the
    time of a step that trains fc6 to fc8 alone. Where there is no glibc nothing is changed.
    """
    libc = None
    if device.is_cpu and sys.platform == "linux":
        with contextlib.suppress(OSError):
            libc = ctypes.CDLL("libc.so.6")
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, 2**30)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, 128 * 1024)  # glibc's own values
        libc.mallopt(TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)


@contextmanager
def exact_float32(device: Device, precision: str) -> Iterator[None]:
    """float32 means float32: then nothing is rounded to TensorFloat-32 on a GPU. Other precisions leave that alone."""
    if not device.is_cuda or precision != "float32":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def autocast(precision: str, device: Device) -> Iterator[None]:
    """bfloat16 where the settings' precision says so; float32 changes nothing."""
    with torch.autocast(device.torch_name.partition(":")[0], torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@contextmanager
def lent_random_numbers(states: dict[str, Tensor], device: Device) -> Iterator[None]:
    """Dropout draws from torch's own generators: lend them these states, and give the caller's back."""
    theirs = random_state(None, device)
    set_random_state(states, device)
    try:
        yield
    finally:
        set_random_state(theirs, device)
