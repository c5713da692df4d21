"""What a training computes with: device and processes, torch's random numbers and precision, signals that stop it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor

from cnncodes.codes.compute import Device, choose_device
from cnncodes.core.compute import Compute, Progress, no_progress

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt's numbers (malloc.h)


@dataclass(frozen=True)
class Processes:
    """The ``rank``-th of ``count`` processes that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, rows: Sequence[int]) -> list[int]:
        """This process's rows of a batch; every row is in exactly one process's share."""
        return list(rows[self.rank :: self.count])

    def places(self, count: int) -> list[int]:
        """Places of this process's rows in a batch of ``count``."""
        return list(range(self.rank, count, self.count))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier()


@dataclass(frozen=True)
class Resources:
    """:class:`~cnncodes.core.compute.Compute` with its device chosen."""

    device: Device
    workers: int = 1  # decoding threads
    processes: Processes = field(default_factory=Processes)  # each has its share of every batch
    progress: Progress = no_progress


@contextmanager
def resources(compute: Compute) -> Iterator[Resources]:
    """The processes that torchrun started (RANK, WORLD_SIZE), or this one alone, with this one's device.

    Each process uses the GPU of its LOCAL_RANK, with NCCL; without GPUs they share the cores, with gloo. Only the first
    process shows progress.
    """
    count, device = int(os.environ.get("WORLD_SIZE", "1")), choose_device(compute.device)
    workers = compute.workers or max(1, device.cores // count)
    if count == 1:
        yield Resources(device, workers, Processes(), compute.progress)
        return
    if device.is_cuda:
        device = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device.torch_name)
    # the others wait while one fills the frozen cache, or hashes the images
    torch.distributed.init_process_group("nccl" if device.is_cuda else "gloo", timeout=timedelta(hours=12))
    try:
        together = Processes(torch.distributed.get_rank(), count)
        yield Resources(device, workers, together, compute.progress if together.leads else no_progress)
    finally:
        torch.distributed.destroy_process_group()


def random_state(seed: int | None, device: Device) -> dict[str, Tensor]:
    """State of torch's generators: the current one, or a new one by seed."""
    names = {"cpu": "cpu"} | ({"cuda": device.torch_name} if device.is_cuda else {})
    if seed is not None:
        return {kind: torch.Generator(name).manual_seed(seed).get_state() for kind, name in names.items()}
    return {
        kind: torch.cuda.get_rng_state(name) if kind == "cuda" else torch.get_rng_state()
        for kind, name in names.items()
    }


def set_random_state(states: dict[str, Tensor], device: Device) -> None:
    """Set torch's generators to a state of :func:`random_state`."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.is_cuda and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device.torch_name)


@contextmanager
def lent(stop: threading.Event, random: dict[str, Tensor], device: Device) -> Iterator[None]:
    """What a training has to itself while it runs, given back afterwards.

    SIGTERM and SIGINT ask for a stop at the next step (not outside the main thread); torch's own generators, from which dropout
    draws, have the states ``random``; large blocks of memory stay.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {
        number: signal.getsignal(number) for number in ((signal.SIGTERM, signal.SIGINT) if main else ())
    }
    try:
        for number in before:
            signal.signal(number, lambda *_: stop.set())
        with torch.random.fork_rng([device.torch_name] if device.is_cuda else []), large_blocks_stay(device):
            set_random_state(random, device)
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def large_blocks_stay(device: Device) -> Iterator[None]:
    """Let glibc keep large blocks of memory.

    Otherwise it returns the gradients of fully connected stages (234 MB) to the system and asks for them again in each step:
    57,000 page faults, half of the time of a step that trains fc6 to fc8 alone.
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


def autocast(precision: str, device: Device) -> torch.autocast:
    """bfloat16 if that is the settings' precision."""
    return torch.autocast(
        device.torch_name.partition(":")[0], torch.bfloat16, enabled=precision == "bfloat16"
    )
