"""A sliding patch: the same answers as a loop over images with a patch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from pictures.small import linear_model, subject_of, view_for, weights_of

from cnncodes.core.errors import OptionError
from cnncodes.images.preprocess import share_seen
from cnncodes.networks import Convolution, Linear, LocalResponseNorm, MaxPool, Network
from cnncodes.pictures.classifier import crop_caution, crop_words
from cnncodes.pictures.occlusion import draw_occlusion, occlude
from cnncodes.weights import Preprocessing

VALID = (
    Convolution("conv1", 6, kernel=5, stride=2, padding=2),
    LocalResponseNorm("norm1", n=3, alpha=0.1),
    MaxPool("pool1", kernel=3, stride=2),
    Convolution("conv2", 8, kernel=3, padding=1, groups=2),
    MaxPool("pool2", kernel=2, stride=2, ceil=True),
    Linear("fc6", 12),
    Linear("fc7", 4, relu=False),
)
SMALL = Network("small", 24, VALID)


def by_loop(subject, view, patch, stride):
    """Probabilities (or scores) for every window, one image at a time."""
    side = view.pixels.shape[-1]
    starts = [0]
    while starts[-1] + patch < side:
        starts.append(starts[-1] + stride)
    rows = []
    for top, left in itertools.product(starts, starts):
        covered = view.pixels.clone()
        covered[:, :, top : top + patch, left : left + patch] = 0
        rows.append(subject.values(subject.scores(covered))[0].numpy())
    return np.array(rows).reshape(len(starts), len(starts), -1)


@pytest.mark.parametrize(("side", "patch", "stride"), [(48, 8, 4), (47, 7, 7), (24, 3, 1), (48, 47, 40)])
def test_it_gives_what_a_loop_gives(monkeypatch, side, patch, stride):
    subject = subject_of(weights_of(monkeypatch, Network("small", side, VALID)))
    view = view_for(subject, side)
    with torch.no_grad():
        wanted = by_loop(subject, view, patch, stride)
    found = occlude(subject, view, patch=patch, stride=stride, batch_size=50).values
    assert wanted.std(axis=(0, 1)).max() > 1e-6, "the patch makes a difference"
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", [None, "conv2", "fc6"])
def test_what_a_pixel_costs_is_the_mean_over_the_patches_on_it(monkeypatch, head):
    weights = weights_of(monkeypatch, Network("small", 48, VALID))
    subject = subject_of(weights, linear_model(weights, head) if head else None)
    found = occlude(subject, view_for(subject, 48), class_name=1, patch=9, stride=5)
    total, count = np.zeros((48, 48)), np.zeros((48, 48))
    for (i, row), (j, column) in itertools.product(enumerate(found.starts), repeat=2):
        total[row : row + 9, column : column + 9] += found.question.value - found.asked[i, j]
        count[row : row + 9, column : column + 9] += 1
    wanted = total / count
    np.testing.assert_allclose(found.per_pixel, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


def test_an_image_whose_class_hangs_on_one_spot(monkeypatch):
    """The map shows the spot, and the second panel what the classifier says without it."""
    subject = subject_of(weights_of(monkeypatch, Network("small", 24, (Linear("fc", 3, relu=False),))))
    weight = torch.zeros(3, 3, 24, 24)
    weight[1, :, 12:15, 4:7] = 1.0
    subject.network.fc.weight.data = weight.reshape(3, -1)
    subject.network.fc.bias.data = torch.tensor([0.5, 0.0, 0.0])
    view = view_for(subject, 24)
    view.pixels[:] = 1.0
    found = occlude(subject, view, patch=6, stride=3)
    assert found.question.place == 1
    low = np.argwhere(found.asked < 0.5)
    covered = {(int(found.starts[i]), int(found.starts[j])) for i, j in low}
    assert covered == {(9, 3), (12, 3)}, "all of it covered"
    assert set(found.best[found.asked < 0.5]) == {0} and set(found.best[found.asked > 0.5]) == {1}
    assert found.per_pixel[13, 5] == found.per_pixel.max()


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (48, 8), (100, 8), (8, 0), (8, 9)])
def test_a_patch_that_does_not_slide_is_refused(monkeypatch, patch, stride):
    subject = subject_of(weights_of(monkeypatch, Network("small", 48, VALID)))
    with pytest.raises(OptionError, match=r"(?s)patch of \d+ px.*\nUse 1 to"):
        occlude(subject, view_for(subject, 48), patch=patch, stride=stride)


def test_the_legend_names_the_classes_that_occur(monkeypatch):
    """Only few have a colour of their own; a picture with one value everywhere is drawn, too."""
    weights = weights_of(monkeypatch, SMALL)
    weights.tensors["fc7.weight"][:] = 0
    subject = subject_of(weights)
    found = occlude(subject, view_for(subject, 24), patch=6, stride=3)
    figure = draw_occlusion(found)
    title = " ".join(figure.get_suptitle().split())
    assert not figure.legends and f"No patch changes the answer '{found.question.predicted}'" in title
    values = np.random.default_rng(0).dirichlet(np.ones(40), found.values.shape[:2])
    many = replace(found, values=values, classes=tuple(f"class {k}" for k in range(40)))
    (legend,) = draw_occlusion(many).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 8 and names[-1].startswith(f"{len(np.unique(many.best)) - 7} other classes ")


def test_colours_start_at_the_value_without_a_patch_and_do_not_blow_up_little_changes(monkeypatch):
    """Clear where the patch changes nothing; a change of one percent must not look like evidence."""
    subject = subject_of(weights_of(monkeypatch, SMALL))
    found = occlude(subject, view_for(subject, 24), patch=6, stride=3)
    place, value = found.question.place, 0.6

    def drawn(change, value=value):
        question = replace(found.question, value=value)
        values = np.full_like(found.values, 0.1)
        values[:, :, place] = value
        values[0, 0, place] = value + change
        heat = draw_occlusion(replace(found, question=question, values=values)).axes[1].get_images()[1]
        low, high = heat.get_clim()
        assert (low + high) / 2 == pytest.approx(value), "the middle of the colours means no change"
        return heat.get_alpha().min(), heat.get_alpha().max(), high - low

    rest, little, width = drawn(-0.01)
    assert width == pytest.approx(2 * 0.1) and little < 2.1 * rest < 0.3
    rest, much, width = drawn(-0.4)
    assert width == pytest.approx(0.8) and much > 0.8 > 4 * rest
    _, much, width = drawn(-0.037, value=0.039)
    assert width == pytest.approx(2 * 0.037) and much > 0.8, "a twentieth of a small probability is left"
    _, little, width = drawn(-0.0004, value=0.0005)
    assert width == pytest.approx(2 * 0.005) and little < 0.3, "next to nothing stays next to nothing"


@pytest.mark.parametrize(
    ("value", "asked", "unit", "said"),
    [(0.3, False, "probability", "only guesses"), (0.5, False, "probability", "unsure"),
     (0.7, False, "probability", None), (0.05, False, "score", None), (-0.3, False, "score", None),
     (0.002, True, "probability", "sees no"), (0.012, True, "probability", "only 1.2 %"),
     (0.15, True, "probability", None), (-0.7, True, "score", None)],
)  # fmt: skip
def test_it_is_said_where_a_picture_explains_a_guess(monkeypatch, value, asked, unit, said):
    """With four classes chance is 25 %."""
    subject = subject_of(weights_of(monkeypatch, SMALL))
    question = occlude(subject, view_for(subject, 24), patch=12, stride=12).question
    place = question.predicted_place + 1 if asked else question.predicted_place
    question = replace(question, value=value, place=place, unit=unit)
    assert (said in question.doubt and question.doubt in question.note) if said else question.doubt is None
    predicted = replace(question, place=question.predicted_place, value=0.6, unit="probability")
    few = replace(predicted, known=("ants", "bees"))
    assert "knows only ants and bees" in few.note
    sure = replace(few, value=0.99)
    assert sure.doubt is None and "knows only ants and bees" in sure.note, "a confident mistake needs it most"
    many = replace(few, known=tuple("abcdefg"))
    assert "may not be among" in many.note and "may not be among" not in replace(many, named=True).note
    assert "above 0" not in replace(few, unit="score").title, "the best of many scores may be below 0"


def test_a_third_panel_says_how_often_the_answer_changes(monkeypatch):
    subject = subject_of(weights_of(monkeypatch, SMALL))
    found = occlude(subject, view_for(subject, 24), patch=12, stride=6)
    values = np.zeros_like(found.values)
    values[..., found.question.predicted_place] = 0.5
    values[0, :, found.question.predicted_place - 1] = 0.9
    changed = replace(found, values=values)
    assert changed.changed == pytest.approx(1 / 3)
    assert "at 33 % of the places" in draw_occlusion(changed).axes[2].get_title(loc="left")
    elsewhere = replace(found, values=np.roll(np.where(values == 0.9, 0, values), 1, axis=2))
    assert "With any patch" in draw_occlusion(elsewhere).get_suptitle()


@pytest.mark.parametrize(
    ("size", "record", "seen", "caption"),
    [
        ((1200, 100), {"resize": 256, "crop": 224}, 0.0638, "the centre crop, 6 % of the photo"),
        ((100, 133), {"resize": 256, "crop": 224}, 0.5757, "the centre crop, 58 % of the photo"),
        ((300, 300), {"resize": 224, "crop": 224}, 1, "the image, as the network sees it"),
        ((1200, 100), {"resize": 256, "crop": 256, "fit": "squash"}, 1, "the image, as the network sees it"),
        ((1200, 100), {"resize": 224, "crop": 224, "fit": "pad"}, 1, "the image, as the network sees it"),
    ],
)
def test_a_picture_says_what_part_of_the_photograph_it_is_about(size, record, seen, caption):
    share = share_seen(size, Preprocessing(**record))
    assert share == pytest.approx(seen, rel=1e-3) and crop_words(share) == caption
    assert (crop_caution(share) is not None) == (seen < 0.4)
