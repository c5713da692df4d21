"""Images made by descent: one that fools keeps fooling after it was written, one rebuilt from a code comes near it."""

import numpy as np
import pytest
import torch
from PIL import Image
from small import linear_model, state_of, subject_of, weights_of

from cnncodes.core.errors import OptionError
from cnncodes.images import normalise
from cnncodes.images.decode import write_png
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures import fooling
from cnncodes.pictures.classifier import ask, see_image
from cnncodes.pictures.fooling import NotFooledError, draw_fooled, fool, in_whole
from cnncodes.pictures.inversion import draw_inversions, invert

STAGES = (
    Convolution("conv1", 12, kernel=5, padding=2),
    MaxPool("pool1", kernel=2),
    Convolution("conv2", 12, padding=1),
    MaxPool("pool2", kernel=2),
    Linear("fc3", 20),
    Linear("fc4", 4, relu=False),
)


@pytest.fixture(
    params=[{"resize": 30}, {"resize": 30, "channels": "BGR"}, {"fit": "pad"}], ids=["RGB", "BGR", "pad"]
)
def subject(request, monkeypatch):
    return subject_of(weights_of(monkeypatch, Network("small-steps", 24, STAGES), **request.param))


@pytest.fixture
def photo(tmp_path):
    """A picture neither square nor of the size that the network reads; as in photographs, lightness varies most."""
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3))
    grey = noise.mean(2, keepdims=True)
    pixels = (128 + 2 * (grey - 128) + 0.3 * (noise - grey)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("with_head", [None, "softmax", "svm"])
def test_the_image_that_fools_still_fools_when_it_is_read_again(subject, photo, tmp_path, with_head):
    if with_head:
        subject = subject_of(subject.weights, linear_model(subject.weights, "fc3", kind=with_head))
    view = see_image(photo, subject)
    before = state_of(subject.network)
    found = fool(subject, view, limit=255)
    assert state_of(subject.network) == before
    write_png(tmp_path / "fooled.png", in_whole(found, photo, subject.preprocessing))
    again = see_image(tmp_path / "fooled.png", subject)
    np.testing.assert_array_equal(again.rgb, found.fooled)
    assert (ask(subject, view).predicted, ask(subject, again).predicted) == found.classes
    assert found.classes[0] != found.classes[1]
    assert 1 <= np.abs(found.fooled.astype(int) - view.rgb).max() <= found.epsilon
    axes = draw_fooled(found).axes
    assert len(axes) + len(axes[1].child_axes) == 4, "three images and the legend of the difference"


def test_a_class_can_be_asked_for_and_what_cannot_be_done_is_said(subject, photo):
    view = see_image(photo, subject)
    wanted = int(subject.scores(view.pixels).argmin())
    assert fool(subject, view, wanted, limit=255).classes[1] == subject.classes[wanted]
    with pytest.raises(OptionError, match="already"):
        fool(subject, view, int(subject.scores(view.pixels).argmax()))
    subject.weights.tensors["fc4.bias"].sub_(torch.tensor([1e6 * (k == wanted) for k in range(4)]))
    with pytest.raises(NotFooledError, match="no step of at most 3 grey levels"):
        fool(subject, see_image(photo, subject), wanted, limit=3)


def test_two_classes_that_are_nearly_alike_are_not_swapped_unless_asked_for(subject, photo):
    """Else a tie would be shown as a fooled network; where one is asked for, the picture says so."""
    view = see_image(photo, subject)
    scores = subject.scores(view.pixels)[0]
    wanted = torch.log(torch.tensor([0.4, 0.35, 0.15, 0.1]))
    subject.weights.tensors["fc4.bias"].add_(wanted - scores)
    subject = subject_of(subject.weights)
    far = fool(subject, view, limit=255)
    assert far.classes == ("class 0", "class 2") and not any("close" in text for text in far.cautions)
    near = fool(subject, view, "class 1", limit=255)
    assert any("close" in text for text in near.cautions) and "before 35 %" in near.describe()
    note = draw_fooled(near).texts[-1].get_text().replace("\n", " ")
    assert "Beware" in note and ask(subject, view).doubt in note


def test_it_goes_on_until_the_network_is_sure(subject, photo):
    """A change that is just enough ends at a tie, which shows little."""
    view = see_image(photo, subject)
    told = fool(subject, view, limit=255, confidence=0)
    sure = fool(subject, view, limit=255)
    assert told.after[1] < 0.9 <= sure.after[1] and told.epsilon < sure.epsilon
    assert not any("not reached" in text for text in sure.cautions)
    least = fool(subject, view, limit=told.epsilon)
    assert (least.epsilon, least.after) == (told.epsilon, told.after)
    assert any(f"90 % is not reached by {told.epsilon} grey" in text for text in least.cautions)
    with pytest.raises(OptionError, match="90"):
        fool(subject, view, confidence=90)


def test_an_early_layer_gives_the_image_back_and_the_error_falls(subject, photo):
    view = see_image(photo, subject)
    before = state_of(subject.network)
    found = invert(subject, view, "pool1,fc3", iterations=150)
    assert state_of(subject.network) == before
    for part in found.parts:
        assert part.error < 0.3 * part.errors[0] and part.steps[-1] == found.iterations == 150
    early, late = (np.abs(part.rgb.astype(float) - view.rgb).mean() for part in found.parts)
    assert early < 25 < late, "grey levels"
    assert early < 0.5 * np.abs(view.rgb.astype(float) - view.rgb.mean((0, 1))).mean()
    assert len(draw_inversions(found).axes) == 4


def test_errors_count_in_the_distance_of_a_grey_image_and_the_answer_is_the_networks(subject, photo):
    """So that layers can be compared; a symmetric image is its own mirror image."""
    view = see_image(photo, subject)
    view.pixels.copy_((view.pixels + view.pixels.flip(3)) / 2)
    found = invert(subject, view, "pool1", iterations=1)
    with torch.no_grad():
        given = (view.pixels, view.pixels * 0)
        code, grey = (subject.network.activations(x, "pool1")["pool1"] for x in given)
        rgb = found.parts[0].rgb if subject.preprocessing.channels == "RGB" else found.parts[0].rgb[..., ::-1]
        pixels = torch.from_numpy(normalise(np.ascontiguousarray(rgb[None]), subject.preprocessing))
        rebuilt = subject.network.activations(pixels, "pool1")["pool1"]
    error = (rebuilt - code).square().sum() / (grey - code).square().sum()
    assert found.parts[0].error == pytest.approx(float(error), rel=0.05), "rounded to bytes"
    assert found.parts[0].mirrored < 1e-6
    question = ask(subject, view)
    assert found.answer == (question.predicted, pytest.approx(question.predicted_value))
    name, value = found.parts[0].answer
    with torch.no_grad():
        values = subject.values(subject.scores(pixels))[0]
    assert value == pytest.approx(float(values.max()), abs=0.01) != pytest.approx(found.answer[1], abs=0.01)
    assert name == subject.classes[int(values.argmax())], "of the rebuilt image, not of the photograph"
    assert found.to_json()["stages"]["pool1"]["answer"] == found.parts[0].answer
    assert "100 % is as far as a plain grey image" in found.meaning()


def test_the_seed_decides(subject, photo):
    view = see_image(photo, subject)
    one, same, other = (invert(subject, view, "fc3", 3, seed).parts[0].rgb for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_boxes_grow_until_one_does_it(subject, photo, monkeypatch):
    """A large step may jump over the answer that small ones reach, and small boxes are the usual answer: they come first."""
    real = fooling._Attack.step
    tried = []

    def step(self, wanted, epsilon, steps):
        tried.append(epsilon)
        return real(self, wanted, epsilon, steps) if 5 <= epsilon <= 100 else None

    monkeypatch.setattr(fooling._Attack, "step", step)
    found = fool(subject, see_image(photo, subject), limit=255)
    assert 5 <= found.epsilon <= 100 and tried[:3] == [1, 2, 4]
    monkeypatch.setattr(fooling._Attack, "step", lambda self, wanted, epsilon, steps: tried.append(epsilon))
    tried.clear()
    with pytest.raises(NotFooledError):
        fool(subject, see_image(photo, subject), limit=9, confidence=0)
    assert tried == [1, 2, 4, 8, 9] * 2, "one step, then many; no size twice, and the limit last"
