"""Killed at any step and continued, an extraction gives the bits of an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from codes_tools import content

from cnncodes.codes import CodesFile, extract
from cnncodes.images import read_catalog
from cnncodes.weights import load_weights

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def test_twenty_kills_at_any_step(photo_folder):
    folder = photo_folder(120, width=24, height=24)
    (folder / "photo50.jpg").write_bytes(b"unreadable, and stays so")
    work = folder.parent / "work"
    work.mkdir()
    folder.rename(work / "photos")
    run = subprocess.run(
        [sys.executable, HERE / "kill_driver.py", work, "1", "20"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["steps"] > 100, "four writes and a sync for each of 24 batches"
    assert found["opened"] >= 10, "most kills must fall into the work, or nothing is tested"
    assert any(0 < rows < 120 for rows in found["progress"])
    assert {"codes.h5", "whole.h5", "photos"} == set(found["left"]), (
        "nothing of a killed process stays for ever"
    )


def test_the_command_itself_killed_twice(photo_folder, tmp_path):
    """`cnncodes extract`, once killed before its first row and once after some rows were done."""
    folder = photo_folder(12)
    words = [
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--model", "alexnet-tf", "--layers", "pool5",
        "--batch-size", "2", "--json",
    ]  # fmt: skip
    for batches in (0, 2):
        child = subprocess.Popen(
            [sys.executable, HERE.parent / "held.py", str(batches), *words], stderr=subprocess.PIPE, text=True
        )
        assert "held\n" in child.stderr
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        assert rows_done(tmp_path / "codes.h5") == 2 * batches
    run = subprocess.run(
        [sys.executable, "-m", "cnncodes", *words], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["resumed"], result["images"]) == (4, 8)

    weights = load_weights("random:0", network="alexnet-tf")
    extract(read_catalog(folder), tmp_path / "whole.h5", weights, layers="pool5", batch_size=2)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert (codes.state == 1).all()
        assert codes.catalog == read_catalog(folder)


def rows_done(path: Path) -> int:
    """Rows that are done, read as any HDF5 reader would."""
    with h5py.File(path, "r") as file:
        return int((file["images/state"][:] != 0).sum())
