"""Two processes that train together do what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnncodes.codes.compute import choose_device
from cnncodes.core.errors import OptionError
from cnncodes.images import read_catalog
from cnncodes.training import NetworkSettings, TrainingSettings, train
from cnncodes.training.device import Processes, Resources
from cnncodes.training.inputs import choose_task
from cnncodes.training.learner import Learner, from_scratch
from cnncodes.training.loop import Training
from cnncodes.weights import load_weights

DRIVER = Path(__file__).with_name("process_driver.py")
SETTINGS = {
    "epochs": 2, "batch_size": 7, "learning_rate": 0.03, "middle_rate": 1.0, "early_rate": 1.0, "dropout": 0.4,
    "pca_noise": 0.1, "clip_norm": 1.0,
}  # fmt: skip


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--master-port", "0"]


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(network, pixels, stripes, tmp_path):
    """43 images to learn from in batches of 7: shares differ in size, and the last batch leaves one process without any."""
    data = shutil.copytree(stripes.root, tmp_path / "data")
    (data / "train" / "along" / "broken.png").write_bytes(b"no picture")
    one, two = tmp_path / "one", tmp_path / "two"
    split = train(read_catalog(data), network, pixels, one, TrainingSettings(**SETTINGS), device="cpu").split
    assert len(split.train) % SETTINGS["batch_size"] == 1
    here = os.pathsep.join([str(DRIVER.parent), str(DRIVER.parents[2])])
    ran = subprocess.run(
        [sys.executable, *TORCHRUN, str(DRIVER), str(data), str(two), json.dumps(SETTINGS)],
        env=os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    expected, found = (load_weights(str(folder / "model.safetensors")).tensors for folder in (one, two))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)
    for a, b in zip(metrics(one), metrics(two), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert b[name] == pytest.approx(a[name], rel=1e-3), name
    assert (two / "run.json").exists() and not list(two.glob("checkpoint-*"))


def test_every_image_is_in_one_share():
    rows = list(range(100, 111))
    shares = [Processes(rank, 3).share(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows
    assert [[rows[place] for place in Processes(rank, 3).places(11)] for rank in range(3)] == shares


def test_batch_normalisation_is_refused_where_batches_are_shared(network, pixels, stripes, tmp_path):
    settings = TrainingSettings(network=NetworkSettings(batch_norm=True))
    task = choose_task(stripes, pixels, "auto", seed=0)
    learner = Learner(from_scratch(network, settings), settings)
    with pytest.raises(OptionError, match="batch_norm"):
        Training(
            learner, task, settings, tmp_path, Resources(choose_device("cpu"), processes=Processes(0, 2))
        )
