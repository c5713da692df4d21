"""How work is done: on which device, with how many threads, in which precision. Made by the public function, handed down whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from cnncodes.core.errors import OptionError

#: ``progress(step, done, total, word)``: what is being done, how many of how many images (or bytes, or steps) are done,
#: and a word on it that may be empty. Called in the caller's thread.
Progress: TypeAlias = Callable[[str, float, int, str], None]


def no_progress(step: str, done: float, total: int, word: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Compute:
    """How work is done; nothing of it changes a result beyond rounding."""

    device: str = "auto"  # also cpu, cuda, cuda:1, mps; where images become codes also several GPUs: cuda:0,2 or cuda:all
    workers: int | None = None  # threads that decode images; None: one for each core
    processes: int = 1  # that turn images into codes, each with its share of the threads; 1 (and one device): this one does
    ray: str | None = (
        None  # address of a Ray cluster whose workers do; "auto" and "local" as codes.on_ray.OnRay reads them
    )
    precision: str = "float32"  # of the network's arithmetic: float32, bfloat16 or float16
    batch_size: int | None = None  # None: what suits the number of images
    seed: int = 0  # of everything that is drawn
    progress: Progress = no_progress  # called after each batch or step
    #: GPUs of each worker on Ray, also a part such as 0.5; None: 1 where the cluster has GPUs and the device is not the CPU.
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        if self.gpus_per_worker is not None and self.ray is None:
            raise OptionError(
                "GPUs for each worker are set, but no cluster is.",
                "Add --ray ADDRESS, or leave out --gpus-per-worker.",
            )

    def quiet(self) -> Compute:
        """The same without progress."""
        return replace(self, progress=no_progress)


def available_memory() -> int:
    """Free memory of this machine in bytes, at most the limit of a container (0: not known)."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except (AttributeError, ValueError, OSError):
        return 0
    with contextlib.suppress(ValueError, OSError):  # a container's, which is no number where there is none
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free
