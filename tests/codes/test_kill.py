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

from cnncodes.cli import main
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


def test_the_command_itself_is_killed_and_goes_on(photo_folder, tmp_path, capsys):
    """`cnncodes extract`, killed after some rows were done."""
    folder = photo_folder(12)
    words = [
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--model", "alexnet-tf", "--layers", "pool5",
        "--batch-size", "2", "--json",
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, HERE.parent / "held.py", "2", *words], stderr=subprocess.PIPE, text=True
    )
    assert "held\n" in child.stderr
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    with h5py.File(tmp_path / "codes.h5", "r") as file:  # any HDF5 reader can
        assert (file["images/state"][:] != 0).sum() == 4
    assert main([str(word) for word in words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["resumed"], result["images"]) == (4, 8)
    weights = load_weights("random:0", network="alexnet-tf")
    extract(read_catalog(folder), tmp_path / "whole.h5", weights, layers="pool5", batch_size=2)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert (codes.state == 1).all()
        assert codes.catalog == read_catalog(folder)
