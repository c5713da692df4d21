"""Frozen layers are computed once: the same training in less time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hooks import AtBegin, Learning, StopAt

from cnncodes.codes import CodesFile
from cnncodes.core.errors import OptionError
from cnncodes.images import read_catalog
from cnncodes.training import InterruptedTrainingError, TrainingSettings
from cnncodes.training.learner import Learner

SETTINGS = TrainingSettings(epochs=3, batch_size=8, learning_rate=0.05, freeze="conv1-2", dropout=0.3)


@pytest.fixture
def learn(network, pixels, stripes, tmp_path):
    return Learning(network, pixels, stripes, tmp_path, SETTINGS)


@pytest.fixture
def computed(monkeypatch):
    """Images that went through the frozen stages, a number for each batch."""
    seen, original = [], Learner.before
    monkeypatch.setattr(
        Learner, "before", lambda self, pixels: seen.append(len(pixels)) or original(self, pixels)
    )
    return seen


@pytest.mark.parametrize("more", [{}, {"precision": "bfloat16", "crop_area": 0.5}])
def test_a_view_for_each_epoch_gives_the_training_without_a_cache(learn, more):
    """In reduced precision too views are made in float32: a grid of crops in bfloat16 is off by pixels."""
    kept = learn("kept", weights=learn.random, cached_views=3, **more)
    anew = learn("anew", weights=learn.random, cached_views=0, **more)
    assert [epoch.accuracy for epoch in kept.epochs] == [epoch.accuracy for epoch in anew.epochs]
    for one, other in zip(kept.epochs, anew.epochs, strict=True):
        assert (one.loss, one.val_loss) == pytest.approx((other.loss, other.val_loss), rel=1e-4)


def test_frozen_stages_compute_once_per_view(learn, computed):
    split = learn(weights=learn.random, epochs=6, cached_views=2).split
    end = len(split.choose) + len(split.test)
    assert sum(computed) == 2 * len(split.train) + len(split.choose) + end, (
        "temperature and test, once, at the end"
    )
    assert not (learn.folder / "run" / "frozen.h5").exists(), "it is gone with the end of the run"


def test_what_is_kept_is_a_codes_file(learn):
    def look(training):
        training.frozen.remove = lambda: None

    count = len(learn(weights=learn.random, cached_views=2, callbacks=[AtBegin(look)]).split.train)
    with CodesFile(learn.folder / "run" / "frozen.h5") as codes:
        assert codes.stages == ("conv2",) and (codes.state == 1).all()
        views = codes.read("conv2")[: 2 * count].reshape(2, count, -1)
        assert not np.allclose(views[0], views[1])
        assert codes.catalog.names[:count] == codes.catalog.names[count : 2 * count]


def test_a_stop_while_filling_or_learning_continues_to_the_same_bits(learn, computed):
    more = {"weights": learn.random, "cached_views": 2}
    whole, kept = learn.tensors("whole", **more), {}

    def stop(step, done, total, word):
        if step == "frozen stages":
            kept["training"].stop()

    look = AtBegin(lambda training: kept.update(training=training))
    with pytest.raises(InterruptedTrainingError, match="--resume"):
        learn(progress=stop, callbacks=[look], **more)
    with CodesFile(learn.folder / "run" / "frozen.h5") as codes:
        assert 0 < (codes.state == 1).sum() < len(codes)
    computed.clear()
    with pytest.raises(InterruptedTrainingError):
        learn(resume=True, callbacks=[StopAt(9)], **more)
    assert 0 < sum(computed) < 2 * 42 + 6, "only what was pending"
    again = learn.tensors(resume=True, **more)
    assert all(torch.equal(again[key], value) for key, value in whole.items())


def test_unreadable_images_are_left_out(learn, stripes, tmp_path):
    for split in ("train", "val"):
        for label in ("across", "along"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for path in sorted((stripes.root / split / label).iterdir())[:4]:
                (folder / path.name).write_bytes(path.read_bytes())
            (folder / "broken.png").write_bytes(b"no picture")
    seen, catalog = [], read_catalog(tmp_path / "data")
    result = learn(
        data=catalog, weights=learn.random, cached_views=2, progress=lambda *given: seen.append(given[:2])
    )
    readable = [row for row in result.split.train if "broken" not in catalog.names[row]]
    assert max(done for step, done in seen if step == "epoch 1 of 3") == len(readable)
    assert np.isfinite([epoch.loss for epoch in result.epochs]).all()


@pytest.mark.parametrize(
    ("more", "views"),
    [({}, 3), ({"epochs": 9}, 4), ({"freeze": "conv1"}, 0), ({"mixup": 0.2}, 0), ({"cached_views": 0}, 0)],
)
def test_by_default_only_what_pays_is_kept(learn, more, views):
    kept = {}

    def look(training):
        kept["frozen"] = training.frozen
        training.stop()

    with pytest.raises(InterruptedTrainingError):
        learn(weights=learn.random, callbacks=[AtBegin(look)], **more)
    assert (kept["frozen"].views if kept["frozen"] else 0) == views


@pytest.mark.parametrize("more", [{"freeze": "none"}, {"mixup": 0.5}, {"input_sizes": "32"}])
def test_views_that_cannot_be_kept_are_refused(learn, more):
    with pytest.raises(OptionError, match="cached_views"):
        learn(weights=learn.random, cached_views=2, **more)
