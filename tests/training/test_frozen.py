"""Frozen work done once: the same training, for less."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hooks import AtBegin, StopAt

from cnncodes.codes import CodesFile
from cnncodes.core.errors import OptionError
from cnncodes.images import read_catalog
from cnncodes.training import InterruptedTrainingError, TrainingSettings, finetune, train
from cnncodes.training.learner import Learner
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(epochs=3, batch_size=8, learning_rate=0.05, freeze="conv1-2", dropout=0.3)


@pytest.fixture
def start_weights(network, pixels, stripes, tmp_path):
    settings = TrainingSettings(epochs=1, batch_size=16, learning_rate=0.01, middle_rate=1.0, early_rate=1.0)
    return load_weights(str(train(stripes, network, pixels, tmp_path / "start", settings).model))


def tensors(result):
    return load_weights(str(result.model)).tensors


@pytest.mark.parametrize("more", [{}, {"precision": "bfloat16", "crop_area": 0.5}])
def test_a_view_for_each_epoch_gives_the_training_without_a_cache(start_weights, stripes, tmp_path, more):
    """In reduced precision too views are made in float32: a grid of crops in bfloat16 is off by pixels."""
    settings = dataclasses.replace(SETTINGS, **more)
    kept = finetune(stripes, start_weights, tmp_path / "kept", dataclasses.replace(settings, cached_views=3))
    anew = finetune(stripes, start_weights, tmp_path / "anew", dataclasses.replace(settings, cached_views=0))
    for key, value in tensors(anew).items():
        torch.testing.assert_close(tensors(kept)[key], value, rtol=1e-4, atol=1e-6)
    assert [epoch.accuracy for epoch in kept.epochs] == [epoch.accuracy for epoch in anew.epochs]
    assert kept.best.val_loss == pytest.approx(anew.best.val_loss, rel=1e-4)


def test_frozen_stages_compute_once_per_view(start_weights, stripes, tmp_path, monkeypatch):
    seen = []
    original = Learner.before
    monkeypatch.setattr(
        Learner, "before", lambda self, pixels: seen.append(len(pixels)) or original(self, pixels)
    )
    settings = dataclasses.replace(SETTINGS, epochs=6, cached_views=2)
    result = finetune(stripes, start_weights, tmp_path / "run", settings)
    split = result.split
    assert sum(seen) == 2 * len(split.train) + len(split.choose) + len(split.test), (
        "the test once, at the end"
    )


def test_what_is_kept_is_a_codes_file_and_goes_when_the_run_is_done(start_weights, stripes, tmp_path):
    def look(training):
        training.frozen.remove = lambda: None

    settings = dataclasses.replace(SETTINGS, cached_views=2)
    result = finetune(stripes, start_weights, tmp_path / "run", settings, callbacks=[AtBegin(look)])
    with CodesFile(tmp_path / "run" / "frozen.h5") as codes:
        assert codes.stages == ("conv2",) and (codes.state == 1).all()
        count = len(result.split.train)
        views = codes.read("conv2")[: 2 * count].reshape(2, count, -1)
        assert not np.allclose(views[0], views[1])
        assert codes.catalog.names[:count] == codes.catalog.names[count : 2 * count]
    finetune(stripes, start_weights, tmp_path / "other", settings)
    assert not (tmp_path / "other" / "frozen.h5").exists()


def test_filling_that_was_stopped_goes_on_with_what_is_pending(start_weights, stripes, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, cached_views=2)
    whole = finetune(stripes, start_weights, tmp_path / "whole", settings)
    kept = {}

    def stop(step, done, total, word):
        if step == "frozen stages":
            kept["training"].stop()

    with pytest.raises(InterruptedTrainingError, match="--resume"):
        finetune(
            stripes, start_weights, tmp_path / "run", settings, progress=stop,
            callbacks=[AtBegin(lambda training: kept.update(training=training))],
        )  # fmt: skip
    with CodesFile(tmp_path / "run" / "frozen.h5") as codes:
        assert 0 < (codes.state == 1).sum() < len(codes)
    seen = []
    original = Learner.before
    monkeypatch.setattr(
        Learner, "before", lambda self, pixels: seen.append(len(pixels)) or original(self, pixels)
    )
    again = finetune(stripes, start_weights, tmp_path / "run", settings, resume=True)
    assert 0 < sum(seen) < 2 * len(again.split.train) + len(again.split.choose)
    for key, value in tensors(whole).items():
        assert torch.equal(tensors(again)[key], value)


def test_a_run_stopped_while_it_learns_continues_to_the_same_bits(start_weights, stripes, tmp_path):
    settings = dataclasses.replace(SETTINGS, cached_views=2)
    whole = finetune(stripes, start_weights, tmp_path / "whole", settings)
    with pytest.raises(InterruptedTrainingError):
        finetune(stripes, start_weights, tmp_path / "run", settings, callbacks=[StopAt(9)])
    again = finetune(stripes, start_weights, tmp_path / "run", settings, resume=True)
    assert all(torch.equal(tensors(again)[key], value) for key, value in tensors(whole).items())


def test_unreadable_images_are_left_out(start_weights, stripes, tmp_path):
    folder = tmp_path / "data"
    for split in ("train", "val"):
        for label in ("across", "along"):
            (folder / split / label).mkdir(parents=True)
            for path in sorted((stripes.root / split / label).iterdir())[:4]:
                (folder / split / label / path.name).write_bytes(path.read_bytes())
            (folder / split / label / "broken.png").write_bytes(b"no picture")
    seen = []
    catalog = read_catalog(folder)
    result = finetune(
        catalog, start_weights, tmp_path / "run", dataclasses.replace(SETTINGS, cached_views=2),
        progress=lambda step, done, total, word: seen.append((step, done)),
    )  # fmt: skip
    readable = [row for row in result.split.train if "broken" not in catalog.names[row]]
    assert max(done for step, done in seen if step == "epoch 1 of 3") == len(readable)
    assert np.isfinite([epoch.loss for epoch in result.epochs]).all()


@pytest.mark.parametrize(
    ("more", "views"),
    [({}, 3), ({"epochs": 9}, 4), ({"freeze": "conv1"}, 0), ({"mixup": 0.2}, 0), ({"cached_views": 0}, 0)],
)
def test_by_itself_only_what_pays_is_kept(start_weights, stripes, tmp_path, more, views):
    kept = {}

    def look(training):
        kept["frozen"] = training.frozen
        training.stop()

    with pytest.raises(InterruptedTrainingError):
        finetune(
            stripes,
            start_weights,
            tmp_path / "run",
            dataclasses.replace(SETTINGS, **more),
            callbacks=[AtBegin(look)],
        )
    assert (kept["frozen"].views if kept["frozen"] else 0) == views


@pytest.mark.parametrize("more", [{"freeze": "none"}, {"mixup": 0.5}, {"input_sizes": "32"}])
def test_views_that_cannot_be_kept_are_refused(start_weights, stripes, tmp_path, more):
    with pytest.raises(OptionError, match="cached_views"):
        finetune(
            stripes, start_weights, tmp_path / "run", dataclasses.replace(SETTINGS, cached_views=2, **more)
        )
