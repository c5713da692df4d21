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
    """How work is done; nothing of it changes a result beyond rounding.

    Parameters
    ----------
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, as :func:`cnncodes.codes.compute.choose_device` reads it;
        where images become codes also several GPUs, ``cuda:0,2`` or ``cuda:all``.
    workers : int, optional
        Threads that decode images; by default one for each core.
    processes : int, default 1
        Worker processes that turn images into codes, each with its share of the threads. With 1 (and one device), this process does it.
    ray : str, optional
        Address of a Ray cluster whose workers turn images into codes; "auto" and "local" as
        :class:`cnncodes.codes.on_ray.OnRay` reads them.
    precision : {"float32", "bfloat16", "float16"}, default "float32"
        Of the network's arithmetic.
    batch_size : int, optional
        Images per batch; by default what suits their number.
    seed : int, default 0
        Of everything that is drawn.
    progress : Progress
        Called after each batch or step.
    gpus_per_worker : float, optional
        GPUs of each worker on Ray, also a part such as 0.5; by default 1 where the cluster has GPUs and the device is not the CPU.
    """

    device: str = "auto"
    workers: int | None = None
    processes: int = 1
    ray: str | None = None
    precision: str = "float32"
    batch_size: int | None = None
    seed: int = 0
    progress: Progress = no_progress
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
