"""Torchvision is the reference: the same keys, shapes, numbers, addresses and preprocessing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import AlexNet_Weights, VGG16_Weights, alexnet, vgg16
from torchvision.transforms import InterpolationMode

from cnncodes.networks import TorchNetwork, get_network
from cnncodes.weights import load_weights
from cnncodes.weights.published import PUBLISHED, cache_folder, find_published, imagenet_classes

REFERENCES = {"alexnet": AlexNet_Weights.IMAGENET1K_V1, "vgg16": VGG16_Weights.IMAGENET1K_V1}


@pytest.mark.parametrize(("name", "reference"), [("alexnet", alexnet), ("vgg16", vgg16)])
def test_keys_shapes_and_order_are_torchvisions(name, reference):
    with torch.device("meta"):
        theirs = {key: tuple(tensor.shape) for key, tensor in reference(weights=None).state_dict().items()}
        ours = {
            key: tuple(tensor.shape) for key, tensor in TorchNetwork(get_network(name)).state_dict().items()
        }
    assert list(ours.items()) == list(theirs.items())
    assert list(get_network(name).tensor_shapes().items()) == list(theirs.items())


def test_a_file_that_torch_saved_from_torchvisions_network_loads_with_its_numbers(tmp_path):
    torch.manual_seed(0)
    theirs = alexnet(num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    weights = load_weights(tmp_path / "mine.pth")
    assert (weights.network, weights.architecture.classes) == ("alexnet", 5)
    torch.testing.assert_close(weights.tensors, dict(theirs.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.network)
def test_the_record_of_published_weights_is_torchvisions(entry):
    theirs = REFERENCES[entry.network]
    assert entry.url == theirs.url
    assert entry.file_name == Path(theirs.url).name
    assert len(entry.sha256_prefix) == 8
    assert entry.sha256_prefix in entry.file_name
    assert round(entry.size / 2**20, 3) == theirs.meta["_file_size"]
    accuracy = theirs.meta["_metrics"]["ImageNet-1K"]
    assert (entry.top1, entry.top5) == (accuracy["acc@1"], accuracy["acc@5"])
    preset, ours = theirs.transforms(), entry.preprocessing
    assert [ours.resize] == preset.resize_size
    assert [ours.crop] == preset.crop_size
    assert (list(ours.mean), list(ours.std)) == (preset.mean, preset.std)
    assert (ours.interpolation, ours.fit, ours.channels, ours.scale) == ("bilinear", "shorter", "RGB", 255)
    assert preset.interpolation is InterpolationMode.BILINEAR


def test_class_names_are_torchvisions_and_only_for_imagenet():
    weights = replace(load_weights("random:0", network="alexnet-tf"), name="imagenet")
    assert (
        weights.class_names() == tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"]) == imagenet_classes()
    )
    assert VGG16_Weights.IMAGENET1K_V1.meta["categories"] == AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    assert replace(weights, name="random:0").class_names() is None
    assert replace(weights, classes=("a", "b")).class_names() == ("a", "b")


def test_files_are_shared_with_torchs_own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for variables in ({}, {"XDG_CACHE_HOME": str(tmp_path / "xdg")}, {"TORCH_HOME": str(tmp_path / "th")}):
        for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        theirs = Path(torch.hub.get_dir()) / "checkpoints"
        assert cache_folder() == theirs
        with monkeypatch.context() as patch:  # as if torch had not been imported
            patch.delitem(__import__("sys").modules, "torch.hub")
            assert cache_folder() == theirs
    torch.hub.set_dir(tmp_path / "set")
    assert find_published("imagenet").path == tmp_path / "set" / "checkpoints" / "alexnet-owt-7be5be79.pth"
