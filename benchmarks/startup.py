"""How soon the command answers: --help, the first batch of an extraction, one prediction, beside `import torch` alone.

    python benchmarks/startup.py --rounds 7

Each is a process of its own from its start to its end, on drawn pictures with the weights `starter`; the sides take turns.
Medians over the rounds are reported, and the ratio to `import torch`, which nothing that computes can do without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BATCH = 64  # images
BASE = "python -c 'import torch'"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sides = commands(Path(scratch))
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, command in sides.items():
                started = time.perf_counter()
                run(*command)
                seconds[name].append(time.perf_counter() - started)
    print("| process | seconds (median; min to max) | times `import torch`, round by round |")
    print("| --- | ---: | ---: |")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[BASE], strict=True))
        print(
            f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) | {ratio:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(seconds, indent=2))


def commands(scratch: Path) -> dict[str, tuple[str, ...]]:
    """What is timed; makes the pictures and the model that it needs, so that files and modules are warm, too."""
    photos, codes, model = scratch / "photos", str(scratch / "codes.h5"), str(scratch / "model.safetensors")
    random = np.random.default_rng(0)
    for number in range(BATCH):
        folder = photos / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    program = (sys.executable, "-m", "cnncodes")
    extract = (*program, "extract", str(photos), "-o", codes, "--weights", "starter", "--overwrite")
    extract = (*extract, "--batch-size", str(BATCH))
    run(*extract)
    run(*program, "fit-linear", codes, "-o", model, "--C", "1")
    return {
        BASE: (sys.executable, "-c", "import torch"),
        "cnncodes --help": (*program, "--help"),
        f"first batch: cnncodes extract ({BATCH} pictures of 500 x 375 px)": extract,
        "one prediction: cnncodes predict": (*program, "predict", model, str(photos / "ant" / "0.jpg")),
    }


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


if __name__ == "__main__":
    main()
