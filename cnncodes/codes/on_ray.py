"""The executor on Ray: actors that hold the network; a block whose actor or machine is gone is computed by another one."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.stream import Block, Part, Task, Work
from cnncodes.core.errors import DependencyError, OptionError, WorkerError
from cnncodes.core.files import reason_of

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device

TRIES = 3  # of a block whose worker has ended, after the first
LOG = "/tmp/ray/session_latest/logs"
AHEAD = 2  # blocks that an actor has: one is sent while the other is computed


@dataclass(frozen=True)
class OnRay:
    """Executor: the blocks are computed by actors of a Ray cluster, which read the images by the paths that they have here.

    The address of a cluster is ``host:6379`` or ``ray://host:10001``. "auto" is that of ``RAY_ADDRESS``, else of a cluster that runs on
    this machine. "local" starts one for these blocks, which nothing outside of this machine can reach.
    """

    address: str = "auto"
    gpus: float | None = None  # of an actor; None: 1 where the cluster has any and the device is not the CPU
    device: str = "auto"  # as it was asked for
    workers: int | None = None  # decoding threads of an actor with a GPU

    def __post_init__(self) -> None:
        gpus = self.gpus
        if gpus is None:
            return
        if not math.isfinite(gpus) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise OptionError(
                f"{gpus:g} GPUs for each worker are not possible.",
                "Use 0, a part of one such as 0.5, or a whole number.",
            )
        if gpus > 0 if self.device == "cpu" else gpus == 0 and self.device.startswith("cuda"):
            raise OptionError(
                f"workers with {gpus:g} GPUs cannot use the device '{self.device}'.",
                "Leave out --device or --gpus-per-worker.",
            )

    @contextmanager
    def connected(self, device: Device) -> Iterator[Any]:
        """Ray, connected to the cluster; raises OptionError if there is none, or none that can ever have room for a worker."""
        with _connected(self.address) as ray:
            share = _Share.of(self, device, ray.nodes())
            if not share.most and self.address == "local":
                raise OptionError(_no_room(share), "Leave out --gpus-per-worker, or use --device cpu.")
            yield ray

    def __call__(self, task: Task) -> Iterator[Block]:
        """The task's blocks in their order; a bounded number of them is ahead of the caller."""
        with self.connected(task.device) as ray:
            actors = _Actors(ray, self, task)
            blocks, waiting = iter(task.blocks), deque[_Sent]()
            try:
                while True:
                    ahead = AHEAD * max(1, actors.grow(len(task.blocks)))
                    for rows in islice(blocks, max(0, ahead - len(waiting))):
                        waiting.append(_Sent(task.part([rows])))
                        actors.send(waiting[-1])
                    if not waiting:
                        return
                    if (found := waiting[0].found) is None:
                        actors.step()
                        continue
                    waiting.popleft()
                    block, work = found
                    # Arrays from Ray's store cannot be written.
                    codes = {stage: np.array(values) for stage, values in block.codes.items()}
                    task.work.add(work)
                    yield replace(block, codes=codes)
            finally:
                actors.end()


@dataclass(frozen=True)
class _Share:
    """What an actor takes of a machine."""

    cpus: int
    gpus: float
    device: str  # torch's name of its device: an actor sees no GPU but its own
    most: int  # actors that the machines have room for

    @classmethod
    def of(cls, asked: OnRay, device: Device, nodes: Sequence[dict[str, Any]]) -> _Share:
        """On a GPU an actor takes so many cores as decoding threads were asked for, else its part of a machine's; on a CPU one."""
        machines = [node["Resources"] for node in nodes if node["Alive"]]
        there = any(machine.get("GPU") for machine in machines)
        gpus = (
            asked.gpus
            if asked.gpus is not None
            else float(asked.device != "cpu" and (there or device.is_cuda))
        )
        if not gpus:
            name = "cpu" if device.is_cuda else device.torch_name
            return cls(1, 0, name, sum(int(machine.get("CPU", 0)) for machine in machines))
        rooms = [int(machine["GPU"] / gpus) for machine in machines if machine.get("GPU", 0) >= gpus]
        cores = [machine.get("CPU", 1) for machine in machines if machine.get("GPU", 0) >= gpus]
        share = min((int(count / room) for count, room in zip(cores, rooms, strict=True)), default=1)
        return cls(asked.workers or max(1, share), gpus, "cuda:0", sum(rooms))


def _no_room(share: _Share) -> str:
    return f"no machine of the cluster has {share.gpus:g} GPUs for a worker."


@dataclass(eq=False)
class _Sent:
    """A block on its way."""

    part: Part
    tries: int = 0
    found: tuple[Block, Work] | None = None


class _Actors:
    """Actors of a cluster with the blocks that they have. Only those that have begun get any: the others may wait for a machine."""

    def __init__(self, ray: Any, asked: OnRay, task: Task) -> None:
        self._ray, self._asked, self._device = ray, asked, task.device
        share = _Share.of(asked, task.device, ray.nodes())
        if not share.most:
            logging.getLogger(__name__).warning("%s Waiting for one.", _no_room(share))  # a cluster may grow
        self._task = ray.put(replace(task.without_images(), workers=share.cpus))
        self._name = share.device
        self._actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, scheduling_strategy="SPREAD")(
            _Actor
        )
        self._beginning: dict[Any, Any] = {}  # reference of an actor's first answer: the actor
        self._there: dict[Any, deque[tuple[Any, _Sent]]] = {}  # actor: references of results and their blocks
        self._left: deque[_Sent] = deque()
        self._failed = 0  # actors in succession that ended before they had begun

    def grow(self, blocks: int) -> int:
        """Start actors for all the room that there is now; returns how many have begun.

        One more waits for room: a cluster that grows adds a machine for it.
        """
        most = _Share.of(self._asked, self._device, self._ray.nodes()).most
        for _ in range(len(self._beginning) + len(self._there), min(blocks, most + 1)):
            actor = self._actor.remote(self._task, self._name)
            self._beginning[actor.begin.remote()] = actor
        return len(self._there)

    def send(self, sent: _Sent) -> None:
        """Have a block computed by the next actor that has room for it."""
        self._left.append(sent)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._left and self._there:
            queue = min(self._there.values(), key=len)
            suspect = self._left[0].tries or any(sent.tries for _, sent in queue)
            if len(queue) >= (1 if suspect else AHEAD):
                return
            actor = next(actor for actor, blocks in self._there.items() if blocks is queue)
            sent = self._left.popleft()
            queue.append((actor.compute.remote(sent.part), sent))

    def step(self) -> None:
        """Wait until an actor has begun or computed a block; blocks of one that has ended go to others."""
        heads = {queue[0][0]: actor for actor, queue in self._there.items() if queue}
        (done, *_), _ = self._ray.wait([*self._beginning, *heads])
        if (actor := self._beginning.pop(done, None)) is not None:
            self._begun(done, actor)
        else:
            self._computed(heads[done])
        self._hand_out()

    def _begun(self, reference: Any, actor: Any) -> None:
        try:
            self._ray.get(reference)
            self._there[actor], self._failed = deque(), 0
        except self._ray.exceptions.RayError as error:
            self._failed += 1
            if self._failed > TRIES:
                raise WorkerError(
                    f"the workers on Ray ended before they could begin ({type(error).__name__}).",
                    f"Look whether all machines have this version of cnncodes, at their memory, and at Ray's log ({LOG}).",
                ) from None

    def _computed(self, actor: Any) -> None:
        """Take the result of an actor's first block. If it has ended, one of its blocks may be why: each is tried again, alone."""
        queue = self._there[actor]
        reference, sent = queue[0]
        try:
            sent.found = _result(self._ray, reference, sent.part)
            queue.popleft()
        except WorkerError:
            if sent.tries >= TRIES:
                raise
            for _, sent in reversed(queue):
                sent.tries += 1
                self._left.appendleft(sent)
            del self._there[actor]
            self._ray.kill(actor)

    def end(self) -> None:
        """End all actors, in the middle of their work."""
        for actor in [*self._beginning.values(), *self._there]:
            self._ray.kill(actor)


class _Actor:
    """Runs in a cluster: the network is opened with the first block and kept."""

    def __init__(self, task: Task, device: str) -> None:
        self._task, self._name = task, device

    def begin(self) -> None:
        """Answers when the actor is there."""

    def compute(self, part: Part) -> tuple[Block, Work]:
        from cnncodes.codes.compute import choose_device

        if self._name:
            self._task = replace(self._task, device=replace(choose_device(self._name), cores=1))
            self._name = ""
        (block,), work = self._task.compute(part)
        return block, work


def map_on_ray(
    function: Callable[[Any], Any], items: Sequence[Any], address: str, cores: int = 1
) -> list[Any]:
    """``function(item)`` of every item in their order; each is a task on a cluster, which takes so many cores.

    What the function raises is raised here; a worker that has ended costs another try.
    """
    with _connected(address) as ray:
        call = ray.remote(num_cpus=cores, max_retries=TRIES)(lambda item: function(item))
        return [_result(ray, reference) for reference in [call.remote(item) for item in items]]


def _result(ray: Any, reference: Any, part: Part | None = None) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:  # its workers, machines or the cluster itself
        what = "a part" if part is None else f"the images from row {part.rows[0][0]:,} on"
        raise WorkerError(
            f"Ray could not compute {what}, in up to {TRIES + 1} tries ({type(error).__name__}).",
            f"Look at these images, at the memory of the workers and at Ray's log ({LOG}); "
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
