"""Several processes that train one network: started by torchrun, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor

from cnncodes.codes.compute import Device, choose_device


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: the ``rank``-th of ``count``."""

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


@contextmanager
def processes(device: str) -> Iterator[tuple[Processes, Device]]:
    """The processes that torchrun started (RANK, WORLD_SIZE), or this one alone; and this one's device.

    On GPUs each process takes the one of its LOCAL_RANK and they speak by NCCL, else by gloo. On CPUs they share the
    cores.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), choose_device(device)
        return
    place = choose_device(device)
    if place.is_cuda:
        place = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(place.torch_name)
    # the others wait while one computes what frozen stages give, or hashes the images
    torch.distributed.init_process_group("nccl" if place.is_cuda else "gloo", timeout=timedelta(hours=12))
    try:
        yield Processes(torch.distributed.get_rank(), count), place
    finally:
        torch.distributed.destroy_process_group()
