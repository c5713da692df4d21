"""The examples run as they stand, are short, and show what they say they show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawn import draw_photos

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MOST_LINES = 60
ARGUMENTS = {
    "extract_and_fit.py": ("photos", "--weights", "random:0"),
    "sklearn_pipeline.py": ("photos", "--weights", "random:0", "--folds", "2"),
    "in_place_trap.py": (),
}
SHOWN = {
    "extract_and_fit.py": ("18 images, 3 classes", "images/s", "top-1 ", "bird/0.jpg: "),
    "sklearn_pipeline.py": ("accuracy ", "(2 folds)", "bird/0.jpg: "),
    "in_place_trap.py": (
        "torchvision: asked for both, the two layers are equal: True",
        "torchvision: negative values before the ReLU: 0",
        "torchvision: asked for alone, it is the same: False",
        "cnncodes: asked for both, the two layers are equal: False",
        "cnncodes: asked for alone, it is the same: True",
    ),
}


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(source.splitlines()) < MOST_LINES
    draw_photos(tmp_path / "photos")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", EXAMPLES / name, *ARGUMENTS[name]],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for part in SHOWN[name]:
        assert part in done.stdout
