"""Killed at any step and continued, an extraction gives the bits of an uninterrupted one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
