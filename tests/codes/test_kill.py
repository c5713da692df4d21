"""Killed at any moment and continued, an extraction gives the bits of an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from codes_tools import content

from cnncodes.codes import CodesFile, extract
from cnncodes.images import read_catalog

HERE = Path(__file__).parent
IMAGES = 260
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def test_twenty_kills_at_random_moments(photo_folder):
    folder = photo_folder(120, width=24, height=24)
    (folder / "photo50.jpg").write_bytes(b"unreadable, and stays so")
    work = folder.parent / "work"
    work.mkdir()
    folder.rename(work / "photos")
    run = subprocess.run(
        [sys.executable, HERE / "kill_driver.py", work, "1", "20"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["killed"] == 20
    assert found["opened"] >= 10, "most kills must fall into the work, or nothing is tested"
    assert any(0 < rows < 120 for rows in found["progress"])
    assert {"codes.h5", "whole.h5", "photos"} == set(found["left"]), (
        "nothing of a killed process stays for ever"
    )


def cnncodes(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cnncodes", *map(str, arguments)]


def test_the_command_itself_killed_twice(random_weights, photo_folder, tmp_path):
    """`cnncodes extract`, once killed in its first second of work and once after rows were done."""
    # Large photographs and one decoding thread, so that the work takes seconds on any machine.
    folder = photo_folder(8, width=1200, height=900)
    for place in range(8, IMAGES):
        os.link(folder / f"photo{place % 8}.jpg", folder / f"photo{place}.jpg")
    command = cnncodes(
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--layers", "pool5",
        "--batch-size", 2, "--workers", 1, "--json", "--quiet",
    )  # fmt: skip
    draw = random.Random(2)
    done = []
    for least in (0, 1):  # rows done when the second kill comes
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 60
            while (
                time.monotonic() < until and child.poll() is None and rows_done(tmp_path / "codes.h5") < least
            ):
                time.sleep(0.02)
            time.sleep(draw.uniform(0.0, 0.3))
        finally:
            child.kill()
        assert child.wait() == -signal.SIGKILL, "it must not have ended before"
        done.append(rows_done(tmp_path / "codes.h5"))
    assert 0 <= done[0] < done[1] < IMAGES
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["resumed"] >= done[1]
    assert result["images"] + result["resumed"] == IMAGES

    extract(read_catalog(folder), tmp_path / "whole.h5", random_weights, layers="pool5", batch_size=2)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert (codes.state == 1).all()
        assert codes.catalog == read_catalog(folder)


def rows_done(path: Path) -> int:
    """Rows that are done, read as any HDF5 reader would; -1 while there is no file."""
    if not path.exists():
        return -1
    with h5py.File(path, "r") as file:
        return int((file["images/state"][:] != 0).sum())
