"""`extract --shard` and `join`."""

from __future__ import annotations

import json
from pathlib import Path


def test_two_jobs_and_their_join(photo_folder, tmp_path: Path, run) -> None:
    folder = photo_folder(8)
    (folder / "damaged.jpg").write_bytes(b"no image")
    for number in ("1", "2"):
        part = ("--shard", f"{number}/2", "--batch-size", "4", "--weights", "random:0")
        shown = run("extract", folder, "-o", tmp_path / f"p{number}.h5", *part)
        assert shown.code in (0, 3) and "cnncodes join" in shown.err
    join = ("join", tmp_path / "p1.h5", tmp_path / "p2.h5", "-o", tmp_path / "all.h5")
    shown = run(*join)
    assert shown.code == 3 and "9 images of 2 parts, 1 unreadable" in shown.out
    shown = run(*join, "--overwrite", "--json")
    assert list(json.loads(shown.out)["unreadable"]) == ["damaged.jpg"]
