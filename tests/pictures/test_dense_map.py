"""`show dense`: each value of the maps is the classifier's on its window, at the places that are told."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from small import linear_model, state_of, subject_of, weights_of

from cnncodes.core.errors import ImageError, OptionError
from cnncodes.images import normalise
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures.dense import dense_map, draw_dense, on_pixels


def network(padding):
    return Network("small-map", 24, (
        Convolution("conv1", 8, kernel=3, padding=padding),
        MaxPool("pool1", kernel=2),
        Convolution("conv2", 8, padding=padding),
        MaxPool("pool2", kernel=2),
        Linear("fc3", 12),
        Linear("fc4", 4, relu=False),
    ))  # fmt: skip


@pytest.fixture(params=["RGB", "BGR"])
def subject(request, monkeypatch):
    return subject_of(weights_of(monkeypatch, network(1), resize=30, channels=request.param))


@pytest.fixture
def photo(tmp_path):
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_of_a_padded_picture_the_map_shows_all_and_what_is_around(photo, monkeypatch):
    found = dense_map(subject_of(weights_of(monkeypatch, network(1), fit="pad")), photo, 48)
    assert found.rgb.shape == (48, 48, 3)  # 80 x 60 became 48 x 36
    assert (found.rgb[[0, 5, 42, 47]] == (124, 116, 104)).all() and np.ptp(found.rgb[6:42]) > 100


@pytest.mark.parametrize("kind", [None, "softmax", "svm"])
@pytest.mark.parametrize("normalisation", ["l2", "standard"])
@pytest.mark.parametrize("step", [4, 2])
def test_without_padding_each_value_is_that_of_the_crop(photo, monkeypatch, kind, normalisation, step):
    """Whatever the classifier; there is one more window at the lower edge of 42 px, whose crop would stick out."""
    weights = weights_of(monkeypatch, network(0), resize=30)
    subject = subject_of(weights, linear_model(weights, "pool2", normalisation, kind) if kind else None)
    before = state_of(subject.network)
    found = dense_map(subject, photo, 42, step=step)
    assert state_of(subject.network) == before
    assert found.step == step and found.values.shape[1] == (42 - 24) // step + 1
    pixels = torch.from_numpy(normalise(found.rgb[None], subject.preprocessing))
    for row, column in np.ndindex(*found.best.shape):
        top, left = row * step, column * step
        with torch.no_grad():
            wanted = subject.values(subject.scores(pixels[:, :, top : top + 24, left : left + 24]))[0]
        np.testing.assert_allclose(found.values[:, row, column], wanted.numpy(), atol=1e-5)
    assert np.ptp(found.values) > 0.01, "and they do differ from place to place"


def test_what_is_told_is_what_is_drawn(subject, photo):
    found = dense_map(subject, photo)
    assert min(found.rgb.shape[:2]) == 36, "by default one and a half times the crop"
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["size"] == [48, 36] and told["places"] == [4, 7] and told["step_px"] == 4
    assert max(told["share_of_places"].values()) == np.bincount(found.best.ravel()).max() / found.best.size
    assert found.shown[0] == np.bincount(found.best.ravel()).argmax()
    assert len(draw_dense(found).axes) >= 2 + len(found.shown), "the image, a map per class and a colour bar"
    assert dense_map(subject, photo, class_name="class 1").shown == (1,)


def test_finer_steps_keep_the_places_of_the_coarse_ones(subject, photo):
    coarse, fine = (dense_map(subject, photo, 45, step=step) for step in (4, 2))
    np.testing.assert_allclose(fine.values[:, ::2, ::2], coarse.values, atol=1e-6)
    assert fine.values.shape[1] >= 2 * coarse.values.shape[1] - 1 and fine.first == coarse.first
    with pytest.raises(OptionError, match=r"3 px .* 4 px\.\n?.*1, 2, 4"):
        dense_map(subject, photo, 45, step=3)


def test_panels_of_a_panorama_stand_one_above_another(subject, tmp_path):
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((240, 60)).save(tmp_path / "wide.png")
    figure = draw_dense(dense_map(subject, tmp_path / "wide.png"))
    figure.canvas.draw()
    panels = [axes.get_position() for axes in figure.axes[:-1]]
    assert all(below.y1 < above.y0 and below.x0 == above.x0 for above, below in pairwise(panels))


def test_a_square_lies_around_the_middle_of_its_window(subject, photo):
    found = dense_map(subject, photo)
    numbers = np.arange(found.best.size).reshape(found.best.shape)
    drawn = on_pixels(found, numbers)
    for (row, column), number in np.ndenumerate(numbers):
        y, x = (np.flatnonzero(np.any(drawn.filled(-1) == number, axis=axis)) for axis in (1, 0))
        assert len(y) == len(x) == found.step
        for middle, place in ((y.mean(), row), (x.mean(), column)):
            assert abs(middle - (found.first + place * found.step)) <= 0.5
    assert drawn.mask[0].all() and drawn.mask[:, -1].all(), "no window has its middle at the rim"


def test_what_cannot_be_shown_is_said(subject, photo, tmp_path):
    with pytest.raises(OptionError, match="20"):
        dense_map(subject, photo, 20)
    with pytest.raises(ImageError, match="is a folder, and one image"):
        dense_map(subject, tmp_path)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"'broken\.png' cannot be shown"):
        dense_map(subject, tmp_path / "broken.png")


def test_a_class_that_a_person_names_and_no_window_shows_is_doubted_and_few_classes_are_told(photo, subject):
    found = dense_map(subject, photo, 48, class_name="class 1")
    low = replace(found, values=found.values * 0 + 0.012)
    assert "at most 1.2 %" in low.doubt and replace(low, named=False).doubt is None
    assert replace(found, values=found.values * 0 + 0.9).doubt is None
    note = draw_dense(low).texts[-1].get_text().replace("\n", " ")
    assert low.doubt in note and "knows only class 0" in note
