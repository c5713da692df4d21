"""The executor on Ray: every block is a task of a cluster, which tries it again elsewhere when its worker or machine is gone."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncodes.codes.stream import Block, Part, Task, Work
from cnncodes.core.errors import DependencyError, OptionError, WorkerError
from cnncodes.core.files import reason_of

TRIES = 3  # of a block whose worker has ended, after the first


@dataclass(frozen=True)
class OnRay:
    """Executor: the blocks are tasks of a Ray cluster, one core each, or one GPU where the task's device is one.

    The workers read the images by the paths that they have here. The address of a cluster is ``host:6379`` or
    ``ray://host:10001``. "auto" is that of ``RAY_ADDRESS``, else of a cluster that runs on this machine. "local" starts one for
    these blocks, which nothing outside of this machine can reach.
    """

    address: str = "auto"

    def __call__(self, task: Task) -> Iterator[Block]:
        """The task's blocks in their order; a bounded number of them is ahead of the caller."""
        with _connected(self.address) as ray:
            device = task.device
            gpus, kind, threads = (0, "CPU", 1) if device.is_cpu else (1, "GPU", task.workers)
            name = "cuda:0" if device.is_cuda else device.torch_name  # a worker sees no GPU but its own
            own = replace(device, torch_name=name, cores=1)
            there = [ray.put(replace(task.without_images(), device=own, workers=threads))]
            compute = ray.remote(
                num_cpus=threads, num_gpus=gpus, max_calls=0, max_retries=TRIES, scheduling_strategy="SPREAD"
            )(_compute)
            blocks = iter(task.blocks)
            waiting: deque[tuple[Part, Any]] = deque()
            while True:
                ahead = 2 * max(1, int(ray.cluster_resources().get(kind, 0)))
                for rows in blocks:
                    part = task.part([rows])
                    waiting.append((part, compute.remote(there, part)))
                    if len(waiting) >= ahead:
                        break
                if not waiting:
                    return
                part, reference = waiting.popleft()
                block, work = _result(ray, reference, f"the images from row {part.rows[0][0]:,} on")
                # Arrays from Ray's store cannot be written.
                codes = {stage: np.array(values) for stage, values in block.codes.items()}
                task.work.add(work)
                yield replace(block, codes=codes)


def map_on_ray(
    function: Callable[[Any], Any], items: Sequence[Any], address: str, cores: int = 1
) -> list[Any]:
    """``function(item)`` of every item in their order; each is a task on a cluster, which takes so many cores.

    What the function raises is raised here; a worker that has ended costs another try.
    """
    with _connected(address) as ray:
        call = ray.remote(num_cpus=cores, max_retries=TRIES)(lambda item: function(item))
        return [_result(ray, reference, "a part") for reference in [call.remote(item) for item in items]]


def _compute(shared: list[Any], part: Part) -> tuple[Block, Work]:
    """One block, in a worker of Ray, which keeps the network for the next one. The reference is in a list: Ray would fetch a bare one
    anew for each block."""
    import ray

    if shared[0] not in _KEPT:
        _KEPT.clear()
        _KEPT[shared[0]] = ray.get(shared[0])
    (block,), work = _KEPT[shared[0]].compute(part)
    return block, work


_KEPT: dict[Any, Task] = {}


def _result(ray: Any, reference: Any, what: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:  # its workers, machines or the cluster itself
        raise WorkerError(
            f"Ray could not compute {what}, in up to {TRIES + 1} tries ({type(error).__name__}).",
            "Look at these images, at the memory of the workers and at Ray's log (/tmp/ray/session_latest/logs); "
            "the same command goes on with what is left.",
        ) from None


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here ends at the end."""
    # Else its processes listen on every interface, although everything runs on one machine.
    if address == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise DependencyError(
            "--ray needs the library ray, which is not installed.", "Install it: pip install 'cnncodes[ray]'."
        ) from error
    if ray.is_initialized():  # by the caller, who goes on with it
        yield ray
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"there is no Ray cluster at '{address}' that can be used: {reason_of(error)}.",
            "Start one with 'ray start' (RAY_AUTH_MODE=token where it asks for a token), or use --ray local.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
