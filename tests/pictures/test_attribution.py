"""Attributions are what a direct computation gives, for the class and the classifier that were asked about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures.small import in_double, linear_model, state_of, subject_of, view_for, weights_of
from PIL import Image

from cnncodes.core.errors import ModelError, NetworkError, OptionError, StageError
from cnncodes.networks import Convolution, Linear, LocalResponseNorm, MaxPool, Network
from cnncodes.pictures.attribution import (
    METHODS,
    Hookable,
    attribute,
    attribute_all,
    draw_attribution,
    draw_attributions,
    field_centres,
    spread,
)
from cnncodes.pictures.drawing import save_figure
from cnncodes.pictures.occlusion import draw_occlusion, occlude
from cnncodes.pictures.units import read_activations
from cnncodes.weights import load_weights

SIDE = 15
CLASSIFIER = (Linear("fc6", 12), Linear("fc7", 4, relu=False))
PLAIN = Network("small", SIDE, (Convolution("conv1", 5, kernel=5, stride=2, padding=1), *CLASSIFIER))
STAGES = (
    Convolution("conv1", 6, kernel=5, stride=2, padding=2),
    LocalResponseNorm("norm1", n=3, alpha=0.1),
    MaxPool("pool1", kernel=3, stride=2, ceil=True),
    Convolution("conv2", 8, kernel=3, padding=1, groups=2),
)
DEEP = Network("small", SIDE, (*STAGES, *CLASSIFIER))
BGR = {"channels": "BGR", "scale": 1.0, "mean": (104.0, 117.0, 123.0), "std": (1.0, 2.0, 3.0)}


@pytest.mark.parametrize("preprocessing", [{}, BGR], ids=["RGB", "BGR"])
def test_saliency_is_the_gradient_of_the_score_by_finite_differences(monkeypatch, preprocessing):
    """Per grey level, in the order red, green, blue, whatever order the network reads."""
    subject = subject_of(weights_of(monkeypatch, DEEP, **preprocessing))
    view = in_double(subject, view_for(subject, SIDE))
    found = attribute(subject, view, "saliency", class_name=2)
    record, step = subject.preprocessing, 1e-6
    levels = (
        torch.tensor(record.std, dtype=torch.float64) * record.scale
    )  # grey levels in one unit of a pixel
    moves = step * torch.eye(3 * SIDE * SIDE, dtype=torch.float64).reshape(-1, 3, SIDE, SIDE)
    moves = moves / levels[:, None, None]
    with torch.no_grad():
        rise = subject.scores(view.pixels + moves)[:, 2] - subject.scores(view.pixels - moves)[:, 2]
    slope = (rise / (2 * step)).reshape(3, SIDE, SIDE).permute(1, 2, 0).numpy()
    slope = slope if record.channels == "RGB" else slope[..., ::-1]
    np.testing.assert_allclose(found.values, slope, rtol=1e-5, atol=1e-6 * np.abs(slope).max())
    np.testing.assert_array_equal(found.strength, np.abs(found.values).max(axis=2))


@pytest.mark.parametrize("method", ["guided", "deconv"])
def test_guided_and_deconv_are_the_hand_written_backward_pass(monkeypatch, method):
    """Through every ReLU, that of the fully connected stage too."""
    subject = subject_of(weights_of(monkeypatch, PLAIN))
    view = in_double(subject, view_for(subject, SIDE))
    tensors = {key: value.double() for key, value in subject.weights.tensors.items()}
    before1 = F.conv2d(view.pixels, tensors["conv1.weight"], tensors["conv1.bias"], stride=2, padding=1)
    before6 = tensors["fc6.weight"] @ before1.relu().flatten() + tensors["fc6.bias"]

    def back(gradient, before):
        """What the rule lets through a ReLU that got ``before`` on the way up."""
        passes = gradient > 0 if method == "deconv" else (gradient > 0) & (before > 0)
        return torch.where(passes, gradient, torch.zeros_like(gradient))

    for place in range(4):
        at6 = back(tensors["fc7.weight"][place], before6)
        at1 = back((tensors["fc6.weight"].T @ at6).reshape(before1.shape), before1)
        wanted = F.conv_transpose2d(at1, tensors["conv1.weight"], stride=2, padding=1)[0]
        std = torch.tensor(subject.preprocessing.std)[:, None, None]
        wanted = (wanted / std / 255).permute(1, 2, 0).numpy()
        found = attribute(subject, view, method, class_name=place)
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(found.values, wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("layer", [None, "pool1", "conv1"])
def test_gradcam_is_the_papers_formula(monkeypatch, layer):
    subject = subject_of(weights_of(monkeypatch, DEEP))
    view = in_double(subject, view_for(subject, SIDE))
    network, stages = subject.network, subject.network.network.stages
    name = layer or "conv2"
    maps = network.activations(view.pixels, [name])[name].detach().requires_grad_()
    value = maps
    for stage in stages[subject.network.network.stage_names.index(name) + 1 :]:
        value = network.compute(stage, value)
    (gradient,) = torch.autograd.grad(value[0, 1], maps)
    alpha = gradient[0].mean(dim=(1, 2))  # equation 1
    wanted = (alpha[:, None, None] * maps[0]).sum(0).clamp(min=0).detach().numpy()  # equation 2
    found = attribute(subject, view, "gradcam", class_name=1, layer=layer)
    assert found.layer == name and wanted.max() > 0
    np.testing.assert_allclose(found.map, wanted, rtol=1e-9, atol=1e-12)
    assert found.values.shape == (SIDE, SIDE) and found.values.min() >= 0


def test_a_map_lies_where_its_units_look(monkeypatch):
    """The centre of every unit's receptive field, found by its gradient, is where the map's value stands."""
    network = Network("small", 40, (*STAGES, Linear("fc6", 4, relu=False)))
    subject = subject_of(weights_of(monkeypatch, network))
    pixels = view_for(subject, 40).pixels.requires_grad_()
    maps = subject.network.activations(pixels, ["conv2:linear"])["conv2:linear"]
    centres = field_centres(network, "conv2", 40)
    assert len(centres) == maps.shape[2]
    middle = len(centres) // 2
    touched = np.zeros(40, bool)
    for seed in range(20):  # a pooling unit looks at one of its pixels at a time
        noisy = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        maps = subject.network.activations(noisy, ["conv2:linear"])["conv2:linear"]
        (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), noisy)
        touched |= (gradient[0].abs().sum((0, 1)) > 0).numpy()
    places = np.flatnonzero(touched)
    assert (places[0] + places[-1]) / 2 == centres[middle]
    shown = spread(np.eye(len(centres))[middle][:, None] * np.eye(len(centres))[middle], centres, 40)
    assert np.unravel_index(shown.argmax(), shown.shape) == (centres[middle], centres[middle])


HEADS = [
    ("alexnet", None, ""), ("alexnet", "fc7", "l2"), ("alexnet", "pool5", "l2"), ("alexnet", "pool5", "standard"),
    ("alexnet", "fc6:linear", "none"), ("alexnet2012", None, ""), ("alexnet2012", "conv4", "standard"),
]  # fmt: skip


@pytest.fixture(scope="module")
def large(small_weights):
    """alexnet at 64 px and alexnet2012 at its own 227."""
    found = {"alexnet": small_weights, "alexnet2012": load_weights("random:0", network="alexnet2012")}
    return found.__getitem__


@pytest.mark.parametrize(("name", "stage", "normalisation"), HEADS)
def test_the_chain_gives_the_same_scores(large, name, stage, normalisation):
    """Whatever the classifier reads; and the chain's parameters are the network's own."""
    weights = large(name)
    subject = subject_of(weights, linear_model(weights, stage, normalisation) if stage else None)
    pixels = view_for(subject, weights.preprocessing.crop).pixels
    chain = Hookable(subject)
    before = state_of(subject.network)
    with torch.no_grad():
        torch.testing.assert_close(chain(pixels), subject.scores(pixels), rtol=1e-6, atol=1e-6)
    assert list(chain.parameters()) == [] and state_of(subject.network) == before
    relus = [module for module in chain.modules() if isinstance(module, torch.nn.ReLU)]
    asked = chain.stages if stage != "fc6:linear" else chain.stages[:-1]
    assert len(relus) == len(set(relus)) == sum(entry.relu for entry in asked)


@pytest.mark.parametrize("head", [None, "conv2", "fc6"])
def test_nothing_changes_the_network(monkeypatch, head):
    """Weights, hooks, mode, requires_grad and in-place flags are what they were, whatever they were."""
    weights = weights_of(monkeypatch, DEEP)
    subject = subject_of(weights, linear_model(weights, head) if head else None)
    subject.network.train()
    subject.network.get_parameter("conv1.weight").requires_grad_(True)
    subject.network.register_forward_hook(lambda *_: None)
    view = view_for(subject, SIDE)
    pixels = view.pixels.clone()
    before = state_of(subject.network)
    attribute_all(subject, view)
    occlude(subject, view, patch=5, stride=2)
    read_activations(subject, view, "pool1")
    assert state_of(subject.network) == before
    assert torch.equal(view.pixels, pixels) and not view.pixels.requires_grad and view.pixels.grad is None


def test_the_predicted_class_is_asked_unless_one_is_named(monkeypatch):
    subject = subject_of(weights_of(monkeypatch, PLAIN))
    view = view_for(subject, SIDE)
    values = subject.scores(view.pixels).softmax(1)[0]
    best, other = int(values.argmax()), int(values.argmin())
    question = attribute(subject, view, "saliency").question
    assert (question.place, question.unit) == (best, "probability")
    assert question.value == pytest.approx(float(values[best])) and "the predicted class" in question.title
    named = attribute(subject, view, "saliency", class_name=f"class {other}")
    assert named.question.place == other and f"predicted is 'class {best}'" in named.question.title
    by_number = attribute(subject, view, "saliency", class_name=other)
    np.testing.assert_array_equal(named.values, by_number.values)


def test_two_classes_of_one_name_are_two_classes(monkeypatch):
    """As ImageNet's two "crane" and two "maillot"."""
    weights = weights_of(monkeypatch, PLAIN)
    subject = subject_of(weights, linear_model(weights, "conv1", classes=("crane", "crane", "crane")))
    view = view_for(subject, SIDE)
    best = int(subject.scores(view.pixels)[0].argmax())
    other = (best + 1) % 3
    assert "the predicted class" in attribute(subject, view, "saliency", class_name=best).question.title
    question = attribute(subject, view, "saliency", class_name=other).question
    assert "predicted is 'crane'" in question.title
    assert (question.to_json()["place"], question.to_json()["predicted_place"]) == (other, best)


def test_an_svm_has_scores_and_no_probabilities(monkeypatch):
    weights = weights_of(monkeypatch, DEEP)
    subject = subject_of(weights, linear_model(weights, "fc6", kind="svm"))
    view = view_for(subject, SIDE)
    question = attribute(subject, view, "saliency", class_name="bee").question
    assert question.unit == "score"
    assert question.value == pytest.approx(subject.scores(view.pixels)[0, 1].item())
    assert "probability" not in question.title and "score" in question.title


def test_gradcam_takes_the_last_convolution_that_the_classifier_stands_on(monkeypatch):
    weights = weights_of(monkeypatch, DEEP)
    wanted_of = {"fc6": "conv2", "conv2": "conv2", "pool1": "conv1", "conv2:linear": "conv1"}
    for stage, wanted in wanted_of.items():
        subject = subject_of(weights, linear_model(weights, stage))
        assert attribute(subject, view_for(subject, SIDE), "gradcam").layer == wanted
    subject = subject_of(weights, linear_model(weights, "pool1"))
    with pytest.raises(StageError, match=r"(?s)reads pool1.*Use one of conv1, norm1, pool1\."):
        attribute(subject, view_for(subject, SIDE), "gradcam", layer="conv2")
    subject = subject_of(weights, linear_model(weights, "conv1:linear"))
    with pytest.raises(StageError, match="no convolution"):
        attribute(subject, view_for(subject, SIDE), "gradcam")


def test_what_cannot_be_asked_is_said(monkeypatch):
    subject = subject_of(weights_of(monkeypatch, PLAIN))
    view = view_for(subject, SIDE)
    with pytest.raises(OptionError, match="'guide' is not known"):
        attribute(subject, view, "guide")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="class 4 is not there"):
        attribute(subject, view, "saliency", class_name=4)
    with pytest.raises(StageError, match=r"(?s)layer 'fc6'.*conv1"):
        attribute(subject, view, "gradcam", layer="fc6")
    headless = subject_of(weights_of(monkeypatch, Network("small", SIDE, STAGES[:3])))
    with pytest.raises(ModelError, match="ends before a classifier"):
        attribute(headless, view, "saliency")


def test_tanh_has_no_guided_backpropagation(monkeypatch):
    subject = subject_of(weights_of(monkeypatch, replace(PLAIN, activation="tanh")))
    view = view_for(subject, SIDE)
    with pytest.raises(NetworkError, match=r"has tanh instead.*\nUse saliency or gradcam"):
        attribute(subject, view, "guided")
    assert [found.method for found in attribute_all(subject, view)] == ["saliency", "gradcam"]


def test_the_pictures_open_and_hold_names_as_they_are(monkeypatch, tmp_path):
    weights = weights_of(monkeypatch, DEEP)
    names = ("a$b$", "<script>", "x" * 80)
    subject = subject_of(weights, linear_model(weights, "fc6", classes=names))
    view = view_for(subject, SIDE)
    figures = [draw_attribution(attribute(subject, view, method, class_name=0)) for method in METHODS]
    figures.append(draw_attributions(attribute_all(subject, view, class_name=2)))
    figures.append(draw_occlusion(occlude(subject, view, class_name=0, patch=5, stride=2)))
    assert [len(figure.axes) for figure in figures[:5]] == [3, 2, 2, 2, 6], "panels"
    for figure, legends in zip(figures[:5], (2, 1, 1, 1, 4), strict=True):
        said = [axes for axes in figure.axes if axes.get_xlabel() or axes.child_axes]
        assert len(said) == legends, "each with a legend"
    assert "centre crop" not in figures[0].axes[0].get_title(loc="left"), "all of it is seen"
    with_crop = replace(attribute(subject, view, "gradcam").question, seen=0.08)
    cropped = draw_attribution(replace(attribute(subject, view, "gradcam"), question=with_crop))
    assert cropped.axes[0].get_title(loc="left") == "the centre crop, 8 % of the photo"
    assert "only 8 % of the photo" in " ".join(cropped.texts[-1].get_text().split())
    for place, figure in enumerate(figures):
        with Image.open(save_figure(figure, tmp_path / f"{place}.png")) as image:
            image.load()
            assert min(image.size) > 300
    with pytest.raises(OptionError):
        draw_attributions([])
