"""Dead units: those that a direct count finds, from images and from a codes file, and nothing is learned from logits."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from pictures.small import subject_of, weights_of
from PIL import Image

from cnncodes.cli import main
from cnncodes.codes import extract
from cnncodes.core.errors import CatalogError, OptionError, StageError
from cnncodes.images import read_catalog
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures import dead
from cnncodes.pictures.classifier import see_image
from cnncodes.pictures.dead import count_firing, draw_dead, how_often

STAGES = (
    Convolution("conv1", 9, kernel=5, stride=2, padding=2),
    MaxPool("pool1", kernel=3, stride=2),
    Linear("fc2", 40),
    Linear("fc3", 5, relu=False),
)
KILLED = {"conv1": [0, 4], "fc2": [7, 8, 39]}


@pytest.fixture
def subject(monkeypatch):
    """Some units are dead by hand: no image lifts them above a bias of minus a million."""
    weights = weights_of(monkeypatch, Network("small", 32, STAGES))
    for stage, units in KILLED.items():
        weights.tensors[f"{stage}.bias"][units] = -1e6
    return subject_of(weights)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for place in range(11):
        name = folder / ("train" if place % 3 else "val") / ("cat", "dog")[place % 2] / f"{place}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (32, 32, 3)) * random.random(3)
        Image.fromarray(pixels.astype(np.uint8)).save(name)
    return folder


def by_hand(subject, catalog, stage):
    """On how many images each unit is above 0 anywhere, one image at a time."""
    fired = 0
    for row in range(len(catalog)):
        pixels = see_image(catalog.path(row), subject).pixels
        with torch.no_grad():
            value = subject.network.activations(pixels, [stage])[stage][0]
        fired = fired + (value.reshape(len(value), -1) > 0).any(1).numpy().astype(int)
    return fired


def test_it_is_a_direct_count(subject, photos, monkeypatch):
    """In batches of three of 11 images, of which the last is smaller."""
    monkeypatch.setattr(dead, "MOST_IMAGES", 3)
    catalog = read_catalog(photos)
    told = []
    found = count_firing(photos, subject, progress=lambda _, done, total, word: told.append((done, total)))
    assert list(found.counts) == ["conv1", "fc2"] and found.left_out == ("fc3",) and found.images == 11
    for stage, counts in found.counts.items():
        np.testing.assert_array_equal(counts, by_hand(subject, catalog, stage))
        assert set(KILLED[stage]) <= set(found.dead(stage))
        assert found.share(stage) == len(found.dead(stage)) / len(counts) < 1
    assert told == [(3, 11), (6, 11), (9, 11), (11, 11)]


def test_only_a_split_or_some_images(subject, photos):
    catalog = read_catalog(photos)
    found = count_firing(photos, subject, split="val", stages="fc2")
    assert found.images == 4
    val = catalog.subset(np.flatnonzero(catalog.splits == 2))
    np.testing.assert_array_equal(found.counts["fc2"], by_hand(subject, val, "fc2"))
    assert count_firing(photos, subject, limit=5).images == 5


@pytest.mark.parametrize("crops", ["center", "mirror"])
def test_a_codes_file_tells_the_same(subject, photos, tmp_path, crops):
    path = tmp_path / "codes.h5"
    extract(read_catalog(photos), path, subject.weights, layers="conv1,fc2,fc3", crops=crops, device="cpu")
    found = count_firing(path)
    assert list(found.counts) == ["conv1", "fc2"] and found.left_out == ("fc3",)
    images = count_firing(photos, subject)
    for stage in KILLED:
        if crops == "center":
            np.testing.assert_array_equal(found.counts[stage], images.counts[stage])
        else:
            assert (found.counts[stage] >= images.counts[stage]).all(), "one crop of two is enough"
        assert set(KILLED[stage]) <= set(found.dead(stage))
    with pytest.raises(StageError, match="holds no layer pool1"):
        count_firing(path, stages="pool1")


def test_unreadable_images_are_named_and_not_counted(subject, photos):
    (photos / "val" / "cat" / "broken.png").write_bytes(b"no image")
    found = count_firing(photos, subject)
    assert found.images == 11 and list(found.problems) == ["val/cat/broken.png"]
    assert max(found.counts["conv1"]) == 11, "an empty row would count as one more image"
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(CatalogError, match=r"none of the 12 images can be read"):
        count_firing(photos, subject)


def test_what_has_no_relu_is_refused(subject, photos):
    for stage in ("fc3", "fc2:linear"):
        with pytest.raises(StageError, match=f"{stage}: without a ReLU.*\nName stages"):
            count_firing(photos, subject, stages=stage)
    with pytest.raises(OptionError, match="split 'vall'"):
        count_firing(photos, subject, split="vall")


def test_how_often_units_fire(subject, photos):
    """Every unit stands in one piece of its layer's bar: none, up to 10 %, 10 to 50 %, over 50 %, all."""
    found = count_firing(photos, subject)
    counts = np.array([0, 1, 10, 11, 50, 51, 99, 100])
    found = dataclasses.replace(found, images=100, counts={"fc2": counts})
    wanted = [1 / 8, 2 / 8, 2 / 8, 2 / 8, 1 / 8]
    np.testing.assert_allclose(how_often(found), [wanted])
    figure = draw_dead(found)
    bars = figure.axes[0].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], 100 * np.array(wanted))
    np.testing.assert_allclose([bar.get_x() for bar in bars], 100 * np.cumsum([0, *wanted[:-1]]))
    assert "fc2: 1 of 8 units fired on none of the 100 images" in figure.get_suptitle()


def test_what_may_be_concluded(subject, photos):
    """Nobody may read "dead" where the images are few, the layer is sparse, or nothing was ever trained."""
    found = dataclasses.replace(count_firing(photos, subject), untrained=False)
    assert found.spatial == ("conv1",)
    sparse = dataclasses.replace(found, images=200, counts={"fc2": np.array([0, 3, 2])})
    assert "fc2: not fired is not dead" in sparse.meaning() and "learning rate" not in sparse.meaning()
    bound = sparse.unseen
    assert (1 - bound) ** 200 == pytest.approx(0.05), "200 images miss so rare a unit once in 20 times"
    enough = int(re.search(r"(\d+) images would bring that to 1 %", sparse.meaning())[1])
    assert 0.99**enough <= 0.05 < 0.99 ** (enough - 1)
    assert "would bring" not in dataclasses.replace(sparse, images=5000).meaning()
    both = dataclasses.replace(sparse, counts={"conv1": np.array([0, 3, 2]), **sparse.counts}).meaning()
    assert "conv1: convolution units" in both and "learning rate" in both and "fc2: not fired" in both
    few = dataclasses.replace(found, images=3, counts={"conv1": np.array([0, 3, 2])}).meaning()
    assert "tell nothing" in few and "dead" not in few
    assert "untrained" in dataclasses.replace(sparse, untrained=True).meaning()
    alive = dataclasses.replace(sparse, counts={"fc2": np.array([1, 3, 2])})
    assert "none of them is dead" in alive.meaning() and "every unit fired" in alive.summary()


def test_the_command_line(monkeypatch, tmp_path, capsys, subject, photos):
    monkeypatch.setattr("cnncodes.pictures.classifier.load_classifier", lambda *_, **__: subject)
    monkeypatch.chdir(tmp_path)
    assert main(["show", "dead", "photos", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(KILLED["fc2"]) <= set(told["stages"]["fc2"]["dead"]) and (tmp_path / "dead.png").is_file()
    (photos / "val" / "cat" / "broken.png").write_bytes(b"no image")
    assert main(["show", "dead", "photos", "--overwrite"]) == 3
    assert "unreadable: 'val/cat/broken.png'" in capsys.readouterr().err
