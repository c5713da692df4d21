"""Memory does not grow with the number of images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PEAK = """
import json, resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from cnncodes.codes import plan_extraction, run_extraction
from cnncodes.images import Catalog
from cnncodes.weights import Preprocessing, load_weights
weights = replace(load_weights("random:0", network="alexnet-tf"), preprocessing=Preprocessing(resize=96, crop=96))
folder, images = Path(sys.argv[1]), int(sys.argv[2])
names = tuple(f"photo{place % 40}.jpg" for place in range(images))
catalog = Catalog(folder, names, np.full(images, -1), np.zeros(images), ())
plan = plan_extraction(catalog, Path(sys.argv[3]), weights, layers="conv1:linear,pool1,conv2", batch_size=32)
result = run_extraction(plan)
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss would count what the parent had when it started this process
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = int(line.split()[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
sys.stdout.write(json.dumps([result.images, peak, plan.output.stat().st_size]))
"""


def peak(photos, images: int, output: Path) -> tuple[int, int]:
    """Peak memory in bytes of an extraction in a process of its own, and the size of its file."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(photos), str(images), str(output)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    done, memory, size = json.loads(run.stdout)
    output.unlink()
    assert done == images
    return memory, size


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_peak_memory_at_1200_images_is_that_at_240(photos, tmp_path):
    """All codes together are five times as large, 0.3 GB, and would be seen."""
    few, _ = peak(photos, 240, tmp_path / "few.h5")
    many, size = peak(photos, 1200, tmp_path / "many.h5")
    assert size > 0.25e9
    assert size > 0.3 * few, "holding all of it would show"
    assert many <= 1.10 * few
