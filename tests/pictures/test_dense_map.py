"""`show dense`: the map that is drawn is the classifier's, at the places that are told, and the crops are real ones."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from small import linear_model, state_of, subject_of, weights_of

from cnncodes.codes.compute import choose_device
from cnncodes.errors import ImageError, OptionError
from cnncodes.evaluation.dense import DenseClassifier
from cnncodes.images import normalise
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures import dense as room
from cnncodes.pictures.dense import dense_map, draw_dense

NETWORK = Network(
    "small-map",
    24,
    (
        Convolution("conv1", 8, kernel=3, padding=1),
        MaxPool("pool1", kernel=2),
        Convolution("conv2", 8, padding=1),
        MaxPool("pool2", kernel=2),
        Linear("fc3", 12),
        Linear("fc4", 4, relu=False),
    ),
)


@pytest.fixture(params=["RGB", "BGR"])
def subject(request, monkeypatch):
    torch.set_num_threads(1)
    return subject_of(weights_of(monkeypatch, NETWORK, resize=30, channels=request.param))


@pytest.fixture
def photo(tmp_path):
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("with_head", [None, "softmax", "svm"])
def test_the_map_is_the_classifiers_over_the_image_that_is_drawn(subject, photo, with_head):
    if with_head:
        subject = subject_of(subject.weights, linear_model(subject.weights, "pool2", kind=with_head))
    before = state_of(subject.network)
    found = dense_map(subject, photo)
    assert state_of(subject.network) == before
    assert min(found.rgb.shape[:2]) == 2 * 24, "by default twice the crop"
    seen = found.rgb if subject.preprocessing.channels == "RGB" else found.rgb[:, :, ::-1]
    classifier = DenseClassifier(subject.weights, subject.head, choose_device("cpu"))
    pixels = torch.from_numpy(normalise(seen[None], subject.preprocessing))
    expected = classifier.values(classifier.scores(pixels))[0].numpy()
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.unit == ("score" if with_head == "svm" else "probability")
    assert found.best.shape == found.values.shape[1:] and found.mean.shape == (len(subject.classes),)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["size"] == [64, 48] and told["places"] == [12 - 6 + 1, 16 - 6 + 1] and told["step_px"] == 4
    assert max(told["mean"], key=told["mean"].get) == found.classes[found.mean.argmax()]
    assert len(draw_dense(found).axes) == 4, "three panels and a colour bar"


def test_crops_are_cut_where_the_windows_lie(subject, photo):
    """Without padding a crop is its window: then the comparison finds no difference at all."""
    bare = Network("small-map", 24, tuple(
        Convolution(stage.name, stage.channels, kernel=3) if isinstance(stage, Convolution) else stage
        for stage in NETWORK.stages
    ))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        subject = subject_of(weights_of(patch, bare, resize=30))
        found = dense_map(subject, photo, 40)
    assert found.values.shape[1] > 1 and found.difference < 1e-6 and found.agree == 1
    assert found.values.max() - found.values.min() > 0.01, "and they do differ from place to place"


def test_many_crops_are_estimated_and_progress_ends(subject, photo, monkeypatch):
    monkeypatch.setattr(room, "MOST_CROPS", 20)
    told = []
    found = dense_map(subject, photo, progress=lambda done, total: told.append((done, total)))
    assert found.values[0].size > 20 and told[-1] == (20, 20) and found.crops_seconds > 0


def test_what_cannot_be_shown_is_said(subject, photo, tmp_path):
    with pytest.raises(OptionError, match="20"):
        dense_map(subject, photo, 20)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"'broken\.png' cannot be shown"):
        dense_map(subject, tmp_path / "broken.png")
