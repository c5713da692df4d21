"""What every part of the training shares: the folder it leaves, its clock, its optimizer and its learning rate."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Part:
    """The numbers of one part of the training, from ``starter.toml``.

    Parameters
    ----------
    views : int
        Views to learn from, all together.
    minutes : float
        End after so many minutes of work, whatever ``views`` says; 0 for no limit.
    batch : int
    rate : float
        Learning rate of the plateau.
    fall : float
        Share of the part in which the rate falls to 0.
    decay : float
        Weight decay of matrices (AdamW's, decoupled).
    area : float
        Smallest part of a photograph's square that a view shows.
    """

    views: int
    batch: int
    rate: float
    fall: float
    decay: float
    area: float
    minutes: float = 0.0


class Work:
    """A folder of checkpoints and progress lines. SIGTERM ends the work at the next step, with a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped = True

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all."""
        part = self.folder / f"{name}.part"
        torch.save(state, part)
        part.replace(self.folder / name)

    def load(self, name: str) -> dict[str, Any] | None:
        """A checkpoint of ours, or None."""
        path = self.folder / name
        return torch.load(path, weights_only=True) if path.exists() else None

    def tell(self, part: str, line: dict[str, object]) -> None:
        """Add a line to ``progress.jsonl``."""
        with (self.folder / "progress.jsonl").open("a") as file:
            file.write(json.dumps({"part": part, **line}) + "\n")


class Course:
    """Counts steps and minutes of one part: iterate for (step, learning rate) until its end or a stop.

    A process that was paused has not worked meanwhile.
    """

    def __init__(self, work: Work, part: Part, step: int = 0, minutes: float = 0.0) -> None:
        self.work, self.part, self.step, self.minutes = work, part, step, minutes
        self.share, self.losses = 0.0, list[float]()
        self._told = self._saved = time.monotonic()

    def __iter__(self) -> Iterator[tuple[int, float]]:
        clock = time.monotonic()
        steps = self.part.views // self.part.batch
        while not self.work.stopped:
            now = time.monotonic()
            self.minutes += min(now - clock, 60) / 60
            clock = now
            self.share = self.step / steps
            if self.part.minutes:
                self.share = max(self.share, self.minutes / self.part.minutes)
            if self.share >= 1:
                return
            yield self.step, rate_at(self.share, self.part.rate, self.part.fall)
            self.step += 1

    def due(self, seconds: float, which: str) -> bool:
        """Whether so much time has passed since this was last true."""
        last = self._told if which == "tell" else self._saved
        if time.monotonic() - last < seconds:
            return False
        if which == "tell":
            self._told = time.monotonic()
        else:
            self._saved = time.monotonic()
        return True

    def line(self) -> dict[str, object]:
        """Where the part is, and the mean loss since this was last asked."""
        loss = round(float(np.mean(self.losses)), 4) if self.losses else None
        self.losses.clear()
        return {
            "step": self.step,
            "share": round(self.share, 3),
            "minutes": round(self.minutes, 1),
            "loss": loss,
        }


def rate_at(done: float, peak: float, fall: float, warm: float = 0.01) -> float:
    """Learning rate at a share of the whole: warm-up, plateau, and a fall to 0 along a square root."""
    if done < warm:
        return peak * max(done, 1e-3) / warm
    if done < 1 - fall:
        return peak
    return peak * (1 - math.sqrt(min(1.0, (done - 1 + fall) / fall)))


def optimizer_of(module: nn.Module, part: Part) -> torch.optim.Optimizer:
    """AdamW; vectors are not decayed."""
    matrices = [values for values in module.parameters() if values.dim() > 1]
    vectors = [values for values in module.parameters() if values.dim() == 1]
    groups = [{"params": matrices, "weight_decay": part.decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=part.rate, betas=(0.9, 0.99), fused=True)


def descend(loss: torch.Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> float:
    """One step of gradient descent; returns the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())
