"""Source statistics travel with weights in every file, and never pass for something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cnncodes.core.errors import OptionError, OutputExistsError, WeightsError
from cnncodes.networks import NETWORKS, Convolution, Linear, Network
from cnncodes.weights import (
    Preprocessing,
    SourceStatistics,
    Weights,
    compress,
    load_weights,
    save_changed,
    save_compressed,
    save_weights,
    with_input,
)
from cnncodes.weights.file_record import content_of, record_of
from cnncodes.weights.imagenet import STARTER_FILE

NUMBERS = 24


@pytest.fixture
def weights(monkeypatch):
    network = Network(
        "little",
        32,
        (
            Convolution("conv1", 4, kernel=5, stride=2),
            Linear("fc7", NUMBERS, pool_to=2),
            Linear("fc8", 3, relu=False),
        ),
    )
    monkeypatch.setitem(NETWORKS, "little", lambda: network)
    random = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(shape, generator=random) for key, shape in network.tensor_shapes().items()}
    numbers = np.random.default_rng(0)
    statistics = SourceStatistics(
        "fc7",
        50,
        (1e4 * numbers.random(NUMBERS)).astype(np.float32),
        numbers.random(NUMBERS).astype(np.float32),
    )
    preprocessing = Preprocessing(resize=40, crop=32)
    return Weights("little", "mine", tensors, preprocessing, None, "made here", (7,), statistics)


def save_small(weights, path):
    save_compressed(compress(weights), path)


@pytest.mark.parametrize(("save", "suffix"), [(save_weights, "safetensors"), (save_small, "cnnz")])
def test_they_come_back_from_both_files_and_change_no_fingerprint(weights, tmp_path, save, suffix):
    save(weights, tmp_path / f"with.{suffix}")
    save(replace(weights, statistics=None), tmp_path / f"without.{suffix}")
    found, without = (load_weights(tmp_path / f"{name}.{suffix}") for name in ("with", "without"))
    assert without.statistics is None and found.fingerprint == without.fingerprint
    assert (found.statistics.stage, found.statistics.images) == ("fc7", 50)
    for name in ("mean", "deviation"):
        was, now = getattr(weights.statistics, name), getattr(found.statistics, name)
        assert np.abs(was - now).max() < 1e-3 * was.max()


def test_codes_of_another_input_are_not_those_that_were_described(weights):
    assert with_input(weights, 36).statistics is None
    assert with_input(weights, 32).statistics is not None


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "fc8"},
        {"stage": "fc9"},
        {"images": "many"},
        {"images": 1},
        {"mean": [1.0, "AAAA"]},
        {"mean": [float("nan"), "AAAA"]},
        {"mean": [10**400, "AAAA"]},
        {"mean": [1.0, "!"]},
        {"deviation": [1.0, "AAC8AAC8" * 12]},
        {"deviation": 5},
    ],
)
def test_statistics_that_are_none_of_these_weights_are_refused(weights, tmp_path, monkeypatch, change):
    path = tmp_path / "w.safetensors"
    values = weights.statistics.to_values() | change
    monkeypatch.setattr(SourceStatistics, "to_values", lambda _: values)
    save_weights(weights, path)
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load_weights(path)


def test_a_newer_form_of_them_is_passed_over(weights, tmp_path):
    record = record_of(weights, 1)
    record["statistics"] = {"format": 2, "anything": True}
    assert content_of(tmp_path / "w", record, weights.tensors, 1).statistics is None


def test_a_compressed_file_is_copied_with_its_numbers_as_they_are(weights, tmp_path):
    path, other = tmp_path / "small.cnnz", tmp_path / "other.cnnz"
    save_small(replace(weights, statistics=None), path)
    loaded = load_weights(path)
    save_changed(replace(loaded, statistics=weights.statistics, classes=("a", "b", "c")), other)
    found = load_weights(other)
    assert found.fingerprint == loaded.fingerprint and found.statistics.images == 50
    assert found.classes == ("a", "b", "c") and found.source == loaded.source
    with pytest.raises(OutputExistsError):
        save_changed(loaded, other)
    doubled = {key: 2 * tensor for key, tensor in loaded.tensors.items()}
    with pytest.raises(WeightsError, match="does not hold the numbers"):
        save_changed(replace(loaded, tensors=doubled), tmp_path / "third.cnnz")
    with pytest.raises(OptionError, match="not compressed"):
        save_changed(weights, tmp_path / "third.cnnz")
    with pytest.raises(OptionError, match=r"third\.txt"):
        save_changed(weights, tmp_path / "third.txt")
    assert not list(tmp_path.glob("third*"))


def test_starter_knows_its_source_and_stays_small():
    statistics = load_weights("starter").statistics
    assert statistics.stage == "fc7" and statistics.images == 3000 and len(statistics.mean) == 4096
    assert (statistics.mean >= 0).all() and statistics.deviation.max() > 0  # after a ReLU
    assert STARTER_FILE.stat().st_size < 8e6
