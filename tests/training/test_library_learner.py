"""Fine-tuning a network with skips and batch normalisation: what is frozen stays as it was, all of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn import draw_photos

from cnncodes.core.errors import ModelError, OptionError
from cnncodes.images import read_catalog
from cnncodes.training import TrainingSettings, finetune
from cnncodes.training.learner import LibraryLearner, check_head, layers_of_modules, put_head, start_from
from cnncodes.training.settings import NetworkSettings
from cnncodes.weights import Preprocessing, load_weights

FROZEN = ("conv1.", "bn1.", "layer1.", "layer2.")


@pytest.fixture(scope="module")
def weights():
    found = load_weights("random:0", network="torchvision/resnet18")
    return replace(found, preprocessing=Preprocessing(resize=64, crop=64))


def learner(weights, freeze: str) -> LibraryLearner:
    settings = TrainingSettings(freeze=freeze)
    module = start_from(weights, ("cat", "dog"), settings)
    return LibraryLearner(module, settings).train()  # type: ignore[arg-type]


def test_frozen_layers_keep_weights_and_running_statistics_and_the_model_comes_back(
    weights, tmp_path
) -> None:
    catalog = read_catalog(draw_photos(tmp_path / "photos", ("cat", "dog"), each=8))
    settings = TrainingSettings(freeze="conv1-layer2", epochs=1, batch_size=4)
    finetune(catalog, weights, tmp_path / "run", settings)
    found = load_weights(tmp_path / "run" / "model.safetensors")
    assert found.classes == ("cat", "dog") and found.tensors["fc.weight"].shape == (2, 512)
    for key, value in weights.tensors.items():
        if key.startswith(FROZEN):
            assert torch.equal(found.tensors[key], value), key
    for key in ("layer3.0.conv1.weight", "layer3.0.bn1.running_mean", "layer4.1.bn2.bias"):
        assert not torch.equal(found.tensors[key], weights.tensors[key]), key


@pytest.mark.parametrize(
    ("freeze", "begins"), [("none", "conv1"), ("conv1", "layer1"), ("conv1-layer4", "classifier")]
)
def test_learning_begins_after_what_is_frozen(weights, freeze: str, begins: str) -> None:
    found = learner(weights, freeze)
    assert found.begins == begins
    assert found.module.model.bn1.training == (freeze == "none")
    assert found.module.model.bn1.weight.requires_grad == (freeze == "none")
    assert found.module.model.fc.weight.requires_grad


def test_a_module_path_is_frozen_alone(weights) -> None:
    found = learner(weights, "layer1.0.bn1")
    still = [key for key, value in found.module.model.named_parameters() if not value.requires_grad]
    assert still == ["layer1.0.bn1.weight", "layer1.0.bn1.bias"]


def test_every_parameter_that_learns_has_a_rate_once(weights) -> None:
    found = learner(weights, "conv1")
    given = [parameter for group in found.groups(TrainingSettings()) for parameter in group["params"]]
    wanted = [parameter for parameter in found.parameters() if parameter.requires_grad]
    assert sorted(map(id, given)) == sorted(map(id, wanted))


@pytest.mark.parametrize(
    "name", ["timm/vit_tiny_patch16_224", "torchvision/densenet121", "torchvision/mobilenet_v3_small"]
)
def test_freezing_the_stem_of_other_networks_freezes_no_later_layer(name: str) -> None:
    pytest.importorskip(name.partition("/")[0])
    weights = load_weights("random:0", network=name)
    first, second = weights.architecture.stage_names[:2]
    found = learner(weights, first)
    assert found.begins == second
    layers = layers_of_modules(found.module)
    for path, layer in layers.items():
        own = list(found.module.model.get_submodule(path).parameters(recurse=False))
        assert all(value.requires_grad == (layer != first) for value in own), path


def test_a_head_becomes_the_classifier(weights) -> None:
    module = learner(weights, "none").module
    generator = np.random.default_rng(0)
    head = SimpleNamespace(
        weight=generator.normal(size=(2, 512)),
        bias=np.array([0.5, -0.5]),
        normalisation=SimpleNamespace(kind="none"),
    )
    fitted = SimpleNamespace(weights_sha256=weights.fingerprint)
    model = SimpleNamespace(head=head, classes=("dog", "cat"), stage="penultimate", settings=fitted)
    put_head(module, model, weights, ("cat", "dog"), None, None)  # type: ignore[arg-type]
    module.eval()
    pixels = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        codes = module.activations(pixels, "penultimate")["penultimate"].double().numpy()
        logits = module(pixels).double().numpy()
    np.testing.assert_allclose(logits, (codes @ head.weight.T + head.bias)[:, ::-1], rtol=1e-3, atol=1e-2)


def test_a_single_image_can_be_a_batch(weights) -> None:
    found = learner(weights, "none")
    found(torch.randn(1, 3, 32, 32)).sum().backward()
    assert found.module.model.layer4[1].bn2.training


def test_what_a_library_has_built_is_not_rebuilt(weights) -> None:
    settings = TrainingSettings(network=NetworkSettings(batch_norm=True))
    with pytest.raises(OptionError, match="resnet18"):
        LibraryLearner(start_from(weights, ("a", "b"), settings), settings)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="leaves no layer"):
        learner(weights, "all")


def test_a_kept_classifier_has_the_order_of_the_data(weights) -> None:
    """A class in another one's place would spoil a training without a word."""
    named = replace(weights, classes=tuple(f"class{place}" for place in range(1000)))
    order = tuple(reversed(named.classes))
    module = start_from(named, order, TrainingSettings(), keep_head=True)
    assert torch.equal(module.model.fc.weight, weights.tensors["fc.weight"].flip(0))  # type: ignore[union-attr]
    for other, problem in ((order[:2], "1000 classes"), (("new", *order[1:]), "does not know class 'new'")):
        with pytest.raises(OptionError, match=problem):
            start_from(named, other, TrainingSettings(), keep_head=True)


def test_drop_path_is_the_networks_own_and_rests_where_frozen() -> None:
    from torchvision.ops import StochasticDepth

    weights = load_weights("random:0", network="torchvision/convnext_tiny")
    model = learner(weights, "features.0,features.1").module.model
    drops = {path: part for path, part in model.named_modules() if isinstance(part, StochasticDepth)}
    assert {path.startswith("features.1.") for path in drops} == {True, False}
    assert all(part.training == (not path.startswith("features.1.")) for path, part in drops.items())
    assert max(part.p for part in drops.values()) == pytest.approx(0.1)


def test_a_convolution_as_classifier_is_replaced_but_not_by_a_head() -> None:
    weights = load_weights("random:0", network="torchvision/squeezenet1_1")
    found = learner(weights, "features.0-features.12")
    assert found.begins == "classifier" and found(torch.randn(2, 3, 64, 64)).shape == (2, 2)
    head = SimpleNamespace(stage="penultimate")
    with pytest.raises(ModelError, match="is a convolution"):
        check_head(head, weights, ("cat", "dog"))  # type: ignore[arg-type]
