"""Kill an extraction at any of its steps on the disk and continue it; run by test_kill.py in a process of its own.

    python kill_driver.py FOLDER SEED KILLS

Imports once, then forks a child for each attempt, which kills itself with SIGKILL just before one of the calls that change
its files, or in the middle of a write: in between nothing changes on the disk. After every kill the file must open with
h5py, and every row called done must have its final bits. Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import torch

torch.set_num_threads(1)  # no OpenMP threads before a fork

from codes_tools import content, pretend  # noqa: E402

import cnncodes.codes.compute  # noqa: E402, F401 - before the fork
from cnncodes.codes import plan_extraction, rows, run_extraction  # noqa: E402
from cnncodes.images import read_catalog  # noqa: E402
from cnncodes.weights import Preprocessing, load_weights  # noqa: E402

#: Calls that change what is on the disk, of the module ``os``.
STEPS = ("open", "pwrite", "fdatasync", "posix_fallocate", "replace", "rename", "unlink", "fsync", "link")


def count_steps(kill_at: int | None = None) -> Callable[[], int]:
    """Count this thread's STEPS from now on; SIGKILL at one of them. Returns what gives the number so far."""
    done, own = 0, threading.current_thread()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            if threading.current_thread() is own:
                done += 1
                if done == kill_at:
                    if call is pwrite:
                        descriptor, data, offset = arguments
                        pwrite(descriptor, data[: len(data) // 2], offset)
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return step

    pwrite = os.pwrite
    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: done


def main(folder: Path, seed: int, kills: int) -> dict[str, object]:
    weights = load_weights("random:0", network="alexnet-tf")
    weights = replace(weights, preprocessing=Preprocessing(resize=64, crop=64))
    weights.fingerprint  # noqa: B018 - computed here once, not in each fork
    catalog = read_catalog(folder / "photos")
    output = folder / "codes.h5"

    def attempt(path: Path) -> None:
        plan = plan_extraction(catalog, path, weights, layers="pool1,pool5", batch_size=5)
        pretend(plan)
        run_extraction(plan)

    def in_child(work: Callable[[], None]) -> int:
        """The status with which a fork ends that does some work."""
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    rows.SYNC_SECONDS = 0.0  # after each batch
    steps = folder / "steps"

    def whole() -> None:
        so_far = count_steps()
        attempt(folder / "whole.h5")
        steps.write_text(str(so_far()))

    assert in_child(whole) == 0
    most = int(steps.read_text())
    steps.unlink()
    expected = content(folder / "whole.h5")
    states = len(expected["images/state"])
    draw = random.Random(seed)
    killed, opened, progress = 0, 0, []
    while killed < kills:
        rows.SYNC_SECONDS = draw.choice([0.0, float("inf")])
        moment = draw.randint(1, most)
        status = in_child(lambda moment=moment: (count_steps(moment), attempt(output)))  # type: ignore[misc]
        if status != -signal.SIGKILL:  # less was left to do
            assert status == 0
            assert content(output) == expected, "continued to the end, and other bits"
            output.unlink()
            continue
        killed += 1
        if not output.exists():  # killed before the first file was whole: nothing of that name is there
            continue
        with h5py.File(output, "r") as file:  # any HDF5 reader can open it
            state = file["images/state"][:]
            assert len(file["layers/pool5"]) == states
        opened += 1
        progress.append(int((state != 0).sum()))
        check_done(content(output), expected, states)
    attempt(output)
    assert content(output) == expected, "continued to the end, and other bits"
    left = sorted(path.name for path in folder.iterdir())
    return {"steps": most, "opened": opened, "progress": progress, "left": left}


def check_done(found: dict[str, bytes], expected: dict[str, bytes], rows_: int) -> None:
    """What is called done is final: nothing that a kill left half written is ever called done."""
    for name, values in expected.items():
        if not name.startswith("layers/"):
            continue
        width = len(values) // rows_
        for row, state in enumerate(found["images/state"]):
            if state != 0:
                here = slice(row * width, (row + 1) * width)
                assert found[name][here] == values[here], f"row {row} of {name} is called done and is not"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
