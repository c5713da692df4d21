"""Makes the files beside it with an old version of cnncodes: run it with commit 16ed9b9 (or 1.0) on the path.

    PYTHONPATH=OLD_CHECKOUT python tests/first_house/make.py

It leaves codes, a model, the record of a run with all kinds of findings, and the recipe that the run followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from cnncodes.cli import main
from cnncodes.images.decode import write_png

KEPT = ("run.json", "split.csv", "advice.json", "report.json", "recipe.toml", "model.safetensors")
HERE = Path(__file__).resolve().parent


def draw(folder: Path) -> None:
    """Three classes of five small pictures; one copy, one file that is no picture."""
    random = np.random.default_rng(0)
    for place, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 120, (40, 40, 3)).astype(np.uint8)
            pixels[..., place] += 120
            write_png(folder / name / f"{number}.png", pixels)
    shutil.copy(folder / "red/0.png", folder / "red/copy.png")
    (folder / "blue/4.png").write_bytes(b"no picture")


def make() -> None:
    """In a folder of its own, so that no path of this machine is in a file."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        draw(Path("images"))
        main(["run", "images", "-o", "run", "--weights", "random:0", "--seed", "3", "--quiet"])
        main(["extract", "images", "-o", "codes.h5", "--layers", "fc8", "--weights", "random:0", "--quiet"])
        with (HERE / "probe.json").open("w") as file, contextlib.redirect_stdout(file):
            main(["probe", "run/codes.h5", "--shots", "1,2", "--repeats", "2", "--json", "--quiet"])
        (HERE / "run").mkdir(exist_ok=True)
        for name in KEPT:
            shutil.copy(Path("run") / name, HERE / "run" / name)
        shutil.copy("codes.h5", HERE / "codes.h5")


if __name__ == "__main__":
    make()
