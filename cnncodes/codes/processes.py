"""The executor of several processes: each decodes and computes whole blocks, and one that is killed costs a second try."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing import resource_tracker
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeAlias

from cnncodes.codes.stream import Block, Part, Task, Work
from cnncodes.core.errors import WorkerError

GPU_BLOCKS = 4  # of a part: the next block is decoded while one is computed

Found: TypeAlias = tuple[list[Block], Work]


@dataclass(frozen=True)
class InProcesses:
    """Executor: worker processes, started anew (spawn), which take the devices in turn and share the cores."""

    processes: int
    devices: tuple[str, ...] = ()  # names; by default all processes use the task's device

    def __call__(self, task: Task) -> Iterator[Block]:
        """The task's blocks in their order; a bounded number of them is ahead of the caller."""
        share = max(1, task.device.cores // self.processes)
        most = share if task.device.is_cpu else GPU_BLOCKS
        size = max(1, min(most, -(-len(task.blocks) // self.processes)))
        own, workers_each = replace(task.device, cores=share), max(1, task.workers // self.processes)
        shared = replace(task.without_images(), device=own, workers=workers_each)
        starts = deque(range(0, len(task.blocks), size))
        waiting: deque[tuple[Part, Future[Found]]] = deque()
        with _Workers(self, shared) as workers:
            while starts or waiting:
                while starts and len(waiting) < 2 * self.processes and not workers.suspects:
                    part = task.part(task.blocks[starts[0] : starts[0] + size])
                    if (future := workers.submit(part)) is not None:
                        waiting.append((part, future))
                        starts.popleft()
                if waiting:
                    blocks, work = workers.result(*waiting.popleft())
                    task.work.add(replace(work, waited_s=work.waited_s / self.processes))
                    yield from blocks
                workers.suspects = workers.suspects and bool(waiting)


class _Workers:
    """A pool of processes that have the task, without its images, in a file."""

    def __init__(self, settings: InProcesses, shared: Task) -> None:
        self._settings = settings
        self._devices = settings.devices or (shared.device.torch_name,)
        self._shared = shared
        self._pool: ProcessPoolExecutor | None = None
        self._context = multiprocessing.get_context("spawn")
        self._begun = self._context.Event()
        self.suspects = False  # whether parts are waiting of which one has ended a worker

    def __enter__(self) -> _Workers:
        from cnncodes.codes.compute import save_mapped

        with tempfile.NamedTemporaryFile(prefix="cnncodes-", suffix=".task", delete=False) as file:
            self._file = Path(file.name)
        save_mapped(self._shared, self._file)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._file.unlink(missing_ok=True)

    def submit(self, part: Part) -> Future[Found] | None:
        """None if a worker has ended before."""
        pool = self._pool = self._pool or self._start()
        try:
            with _interrupts_held():  # submitting starts processes, which inherit that
                return pool.submit(_compute, part)
        except BrokenExecutor:
            self._end()
            self.suspects = True
            return None

    def result(self, part: Part, future: Future[Found]) -> Found:
        """What a part gave. If a worker has ended, nobody knows by which of the parts that were sent: each gets a second try, alone."""
        try:
            return future.result()
        except BrokenExecutor:
            if not self.suspects:
                self._end()
                self.suspects = True
        with contextlib.suppress(BrokenExecutor):
            again = self.submit(part)
            if again is not None:
                return again.result()
        if not self._begun.is_set():
            raise WorkerError(
                "the worker processes ended before they could begin.",
                "A script must start its work under if __name__ == '__main__', since its processes import it.",
            )
        raise WorkerError(
            f"a worker process ended twice while it computed the images from row {part.rows[0][0]:,} on.",
            "Look at these images and at the memory that is left; fewer --processes and a smaller --batch-size need less.",
        )

    def _start(self) -> ProcessPoolExecutor:
        count = self._settings.processes
        devices: SimpleQueue[str] = self._context.SimpleQueue()
        for name in islice(cycle(self._devices), count):
            devices.put(name)
        return ProcessPoolExecutor(count, self._context, _begin, (str(self._file), devices, self._begun))

    def _end(self) -> None:
        """End the workers at once, in the middle of their work."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            self._pool.shutdown()
            self._pool = None


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: it is this process that ends the workers, which inherit that and never see one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What follows runs in the workers.

_SHARED: dict[str, Any] = {}


def _begin(file: str, devices: SimpleQueue[str], begun: Event) -> None:
    begun.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(file,), daemon=True).start()
    _SHARED.update(file=file, device=devices.get())


def _end_with_parent(file: str) -> None:
    """A parent that is killed leaves neither processes nor the file."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    Path(file).unlink(missing_ok=True)
    os._exit(1)


def _compute(part: Part) -> Found:
    from cnncodes.codes.compute import choose_device, load_mapped

    if "task" not in _SHARED:
        task: Task = load_mapped(_SHARED["file"])
        device = replace(choose_device(_SHARED["device"]), cores=task.device.cores)
        _SHARED["task"] = replace(task, device=device)
    found: Found = _SHARED["task"].compute(part)
    return found
