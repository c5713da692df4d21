"""`show dense`: the map that is drawn is the classifier's, at the places that are told, and the crops are real ones."""

import dataclasses
import json
from itertools import pairwise

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
from cnncodes.pictures.dense import CropComparison, dense_map
from cnncodes.pictures.dense_drawing import draw_dense, on_pixels
from cnncodes.pictures.question import ask
from cnncodes.pictures.subject import view_of

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
    found = dense_map(subject, photo, sliding=False)
    assert state_of(subject.network) == before
    assert min(found.rgb.shape[:2]) == 36, "by default one and a half times the crop"
    seen = found.rgb if subject.preprocessing.channels == "RGB" else found.rgb[:, :, ::-1]
    classifier = DenseClassifier(subject.weights, subject.head, choose_device("cpu"))
    pixels = torch.from_numpy(normalise(seen[None], subject.preprocessing))
    expected = subject.values(classifier.scores(pixels))[0].numpy()
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.unit == ("score" if with_head == "svm" else "probability")
    assert found.best.shape == found.values.shape[1:] and found.mean.shape == (len(subject.classes),)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["size"] == [48, 36] and told["places"] == [9 - 6 + 1, 12 - 6 + 1] and told["step_px"] == 4
    assert found.place == np.bincount(found.best.ravel()).argmax() and told["original"] == [80, 60]
    assert found.whole.predicted == told["whole_image"] == ask(subject, view_of(photo, subject)).predicted
    assert max(told["mean"], key=told["mean"].get) == found.classes[found.mean.argmax()]
    several = len(np.unique(found.best)) > 1
    assert len(draw_dense(found).axes) == (4 if several else 3), "panels and a colour bar"


def test_crops_and_their_mirror_images_are_those_of_the_image(subject, photo):
    """How many crops keep their class when mirrored is the yardstick of what the picture warns of."""
    found = dense_map(subject, photo, sliding=True)
    seen = found.rgb if subject.preprocessing.channels == "RGB" else found.rgb[:, :, ::-1]
    pixels = torch.from_numpy(normalise(np.ascontiguousarray(seen[None]), subject.preprocessing))
    side, (rows, columns) = 24, found.values.shape[1:]
    first = round(found.first - side / 2 + 0.5)
    kept = []
    for row in range(rows):
        for column in range(columns):
            top, left = first + row * found.step, first + column * found.step
            crop = pixels[:, :, top : top + side, left : left + side]
            with torch.no_grad():
                values, mirrored = (subject.values(subject.scores(x))[0] for x in (crop, crop.flip(3)))
            np.testing.assert_allclose(found.values[:, row, column], values.numpy(), atol=1e-5)
            kept.append(int(values.argmax()) == int(mirrored.argmax()))
    assert 0 < np.mean(kept) < 1, "or the test says nothing"
    assert found.crops.mirrored == pytest.approx(np.mean(kept))


def bare_subject(patch):
    """The network without padding: a crop is its window."""
    bare = Network("small-map", 24, tuple(
        Convolution(stage.name, stage.channels, kernel=3) if isinstance(stage, Convolution) else stage
        for stage in NETWORK.stages
    ))  # fmt: skip
    return subject_of(weights_of(patch, bare, resize=30))


@pytest.mark.parametrize("step", [4, 2, 1])
def test_crops_are_cut_where_the_windows_lie(photo, monkeypatch, step):
    """Without padding the comparison finds no difference at all, between the grid's own places neither.

    There is one more window at the lower edge of 42 px, whose crop would stick out: it has no place in the map.
    """
    subject = bare_subject(monkeypatch)
    found = dense_map(subject, photo, 42, step=step)
    assert found.values.shape[1] == (42 - 24) // step + 1 and found.step == step
    assert found.crops.difference < 1e-6 and found.crops.agree == 1
    assert found.values.max() - found.values.min() > 0.01, "and they do differ from place to place"
    slow = dense_map(subject, photo, 42, step=step, sliding=True)
    np.testing.assert_allclose(slow.values, found.values, atol=1e-6)
    assert slow.sliding and slow.crops.crops == slow.values[0].size


def test_finer_steps_keep_the_places_of_the_coarse_ones(subject, photo):
    coarse, fine = (dense_map(subject, photo, 45, step=step) for step in (4, 2))
    np.testing.assert_allclose(fine.values[:, ::2, ::2], coarse.values, atol=1e-6)
    assert fine.values.shape[1] >= 2 * coarse.values.shape[1] - 1 and fine.first == coarse.first
    with pytest.raises(OptionError, match=r"3 px .* 4 px\.\n?.*1, 2, 4"):
        dense_map(subject, photo, 45, step=3)


def test_real_crops_are_drawn_if_asked_for(subject, photo):
    """With padding they are not the windows' answers, but those of the network itself on each crop."""
    found = dense_map(subject, photo, 45, sliding=True)
    pixels = torch.from_numpy(normalise(
        (found.rgb if subject.preprocessing.channels == "RGB" else found.rgb[:, :, ::-1].copy())[None],
        subject.preprocessing,
    ))  # fmt: skip
    with torch.inference_mode():
        crop = subject.values(subject.scores(pixels[:, :, 4:28, 8:32]))[0].numpy()
    np.testing.assert_allclose(found.values[:, 1, 2], crop, atol=1e-6)
    assert found.crops.agree < 1 or found.crops.difference > 1e-4, "else this test tells nothing apart"


def test_somebody_is_warned_of_what_means_little(subject, photo):
    """In print and in the picture: few crops agree, or the image was enlarged."""
    found = dense_map(subject, photo, class_name="class 1", sliding=False)
    assert found.place == 1
    sure = CropComparison(20, 0.9, 0.9, 0.01, 1.0)
    good = dataclasses.replace(found, crops=sure)
    assert good.enlarged < 1 and good.cautions() == ()
    unlike = dataclasses.replace(sure, agree=0.36, mirrored=0.54)
    poor = dataclasses.replace(found, crops=unlike, original=(20, 15))
    assert ["2.4 times" in text for text in poor.cautions()] == [True, False]
    assert "36 %" in poor.cautions()[1] and "54 %" in poor.cautions()[1]
    for record, times in ((good, 0), (poor, 2)):
        texts = " ".join(text.get_text() for text in draw_dense(record).texts)
        assert texts.count("Beware") == times
    vague = dataclasses.replace(good, values=np.full_like(good.values, 0.25))
    assert ["25 %" in text for text in vague.cautions()] == [vague.unit == "probability"]
    slow = dataclasses.replace(poor, sliding=True, original=(80, 60))
    assert "unsure" in slow.cautions()[0] and len(slow.cautions()) == 1


def test_real_crops_are_drawn_where_few_agree_unless_they_are_too_many(subject, photo, monkeypatch):
    """No title says what its own warning denies."""
    monkeypatch.setattr(room, "MOST_CROPS", 10)
    form, crops = (dense_map(subject, photo, 45, sliding=sliding) for sliding in (False, True))
    monkeypatch.setattr(room, "RELIABLE", 1.01)  # nothing is reliable
    found = dense_map(subject, photo, 45)
    np.testing.assert_allclose(found.values, crops.values, atol=1e-6)
    assert found.sliding and not found.unreliable and found.crops.crops == crops.crops.crops > 10
    assert np.abs(crops.values - form.values).max() > 1e-4, "else this test tells nothing apart"
    monkeypatch.setattr(room, "MOST_SLIDING", found.best.size - 1)
    many = dense_map(subject, photo, 45)
    np.testing.assert_allclose(many.values, form.values, atol=1e-6)
    texts = [text.get_text() for text in draw_dense(many).texts]
    assert many.unreliable and texts[0].startswith("Unreliable here")


def test_what_is_a_guess_is_no_class_and_one_class_needs_no_panel_of_one_colour(subject, photo):
    found = dense_map(subject, photo, sliding=False)
    values = np.full_like(found.values, 0.05)
    values[2, 0, 0], values[1, 1:, 1:] = 0.4, 0.06
    some = dataclasses.replace(found, values=values)
    assert np.count_nonzero(some.best == 2) == 1 and np.unique(some.best).tolist() == [2, 4]
    assert "unsure (under 10 %)" in some.describe() and len(draw_dense(some).axes) == 4
    values[2] = 0.4
    one = draw_dense(found if found.unit == "score" else dataclasses.replace(found, values=values))
    assert len(one.axes) == 3 and f"'class 2' at all {found.best.size} places" in " ".join(
        text.get_text() for text in one.texts
    )


def test_panels_of_a_panorama_stand_one_above_another(subject, tmp_path):
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((240, 60)).save(tmp_path / "wide.png")
    figure = draw_dense(dense_map(subject, tmp_path / "wide.png"))
    figure.canvas.draw()
    panels = [axes.get_position() for axes in figure.axes[:-1]]
    assert all(below.y1 < above.y0 and below.x0 == above.x0 for above, below in pairwise(panels))
    assert min(panel.width for panel in panels) > 0.7


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


def test_many_crops_are_estimated_and_progress_ends(subject, photo, monkeypatch):
    monkeypatch.setattr(room, "MOST_CROPS", 10)
    told = []
    found = dense_map(subject, photo, progress=lambda done, total: told.append((done, total)))
    assert found.values[0].size > 10 and told[-1] == (10, 10) and found.crops.seconds > 0


def test_what_cannot_be_shown_is_said(subject, photo, tmp_path):
    with pytest.raises(OptionError, match="20"):
        dense_map(subject, photo, 20)
    with pytest.raises(ImageError, match="is a folder, and one image"):
        dense_map(subject, tmp_path)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"'broken\.png' cannot be shown"):
        dense_map(subject, tmp_path / "broken.png")
