"""Two processes that train together do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnncodes.codes.compute import choose_device
from cnncodes.core.errors import OptionError
from cnncodes.images import read_catalog
from cnncodes.networks import Network
from cnncodes.training import NetworkSettings, TrainingSettings, train
from cnncodes.training.device import Processes, Resources
from cnncodes.training.inputs import choose_task
from cnncodes.training.learner import Learner
from cnncodes.training.loop import Training
from cnncodes.training.start import from_scratch
from cnncodes.weights import Preprocessing, load_weights

DRIVER = Path(__file__).with_name("process_driver.py")
SETTINGS = {
    "epochs": 2, "batch_size": 7, "learning_rate": 0.03, "middle_rate": 1.0, "early_rate": 1.0, "dropout": 0.4,
    "pca_noise": 0.1, "clip_norm": 1.0,
}  # fmt: skip


TORCHRUN = [
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "--master-port",
    "0",
    DRIVER,
]
FORKED = [DRIVER, "--fork", "2"]


def train_in_two(how: list[object], data: Path, folder: Path, settings: dict[str, object]) -> None:
    here = os.pathsep.join([str(DRIVER.parent), str(DRIVER.parents[2])])
    ran = subprocess.run(
        [str(word) for word in (sys.executable, *how, data, folder, json.dumps(settings))],
        env=os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout


def train_in_one(
    network: Network, pixels: Preprocessing, data: Path, folder: Path, settings: dict[str, Any]
) -> None:
    train(read_catalog(data), network, pixels, folder, TrainingSettings(**settings), device="cpu")


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(network, pixels, stripes, tmp_path):
    """48 images in batches of 7: the last batch has 6 images, and shares differ in size."""
    train_in_one(network, pixels, stripes.root, tmp_path / "one", SETTINGS)
    train_in_two(TORCHRUN, stripes.root, tmp_path / "two", SETTINGS)
    one, two = (load_weights(str(tmp_path / name / "model.safetensors")).tensors for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5)
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert b[name] == pytest.approx(a[name], rel=1e-3), name
    assert (tmp_path / "two" / "run.json").exists()
    assert not list((tmp_path / "two").glob("checkpoint-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes start by fork")
def test_processes_get_over_unreadable_images_and_empty_shares(network, pixels, stripes, tmp_path):
    """49 images, one of them broken, in batches of 8: the last batch leaves one process without any."""
    for row in np.flatnonzero(stripes.splits == 1):
        folder = tmp_path / "data" / "train" / stripes.classes[stripes.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(Path(stripes.files[row]).read_bytes())
    (tmp_path / "data" / "train" / "along" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "data" / "val").symlink_to(stripes.root / "val", target_is_directory=True)
    settings = SETTINGS | {"batch_size": 8, "epochs": 1}
    train_in_one(network, pixels, tmp_path / "data", tmp_path / "of1", settings)
    train_in_two(FORKED, tmp_path / "data", tmp_path / "of2", settings)
    one, two = metrics(tmp_path / "of1")[0], metrics(tmp_path / "of2")[0]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)


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
