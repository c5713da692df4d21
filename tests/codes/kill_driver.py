"""Kill an extraction at random moments and continue it; run by test_kill.py in a process of its own.

    python kill_driver.py FOLDER SEED KILLS

Imports once, then forks a child for each attempt and sends it SIGKILL. After every kill the file must open with
h5py, and every row called done must have its final bits. Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import torch

torch.set_num_threads(1)  # no OpenMP threads before a fork

from codes_tools import content, pretend  # noqa: E402

import cnncodes.codes.compute  # noqa: E402, F401 - before the fork
from cnncodes.codes import plan_extraction, rows, run_extraction  # noqa: E402
from cnncodes.images import read_catalog  # noqa: E402
from cnncodes.weights import Preprocessing, load_weights  # noqa: E402


def main(folder: Path, seed: int, kills: int) -> dict[str, object]:
    weights = replace(load_weights("random:0"), preprocessing=Preprocessing(resize=64, crop=64))
    catalog = read_catalog(folder / "photos")
    output = folder / "codes.h5"

    def attempt(path: Path, delay_s: float) -> None:
        plan = plan_extraction(catalog, path, weights, layers="pool1,pool5,fc7", batch_size=5)
        pretend(plan, delay_s=delay_s)
        run_extraction(plan)

    attempt(folder / "whole.h5", 0.0)
    expected = content(folder / "whole.h5")
    states = len(expected["images/state"])
    draw = random.Random(seed)
    killed, finished, opened, progress = 0, 0, 0, []
    while killed < kills:
        rows.SYNC_SECONDS = draw.choice([0.0, 0.02, 0.1])
        child = os.fork()
        if child == 0:
            attempt(output, 0.02)
            os._exit(0)
        time.sleep(draw.uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            finished += 1
            assert content(output) == expected, "continued to the end, and other bits"
            output.unlink()
            continue
        killed += 1
        if not output.exists():  # killed before the first file was whole: nothing of that name is there
            continue
        with h5py.File(output, "r") as file:  # any HDF5 reader can open it
            state = file["images/state"][:]
            assert len(file["layers/fc7"]) == states
        opened += 1
        progress.append(int((state != 0).sum()))
        check_done(content(output), expected, states)
    rows.SYNC_SECONDS = 2.0
    attempt(output, 0.0)
    assert content(output) == expected, "continued to the end, and other bits"
    left = sorted(path.name for path in folder.iterdir())
    return {"killed": killed, "finished": finished, "opened": opened, "progress": progress, "left": left}


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
