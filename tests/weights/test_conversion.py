"""Other input sizes and other class names for weights: the numbers stay, and what cannot be is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cnncodes.core.errors import InputSizeError, OptionError, WeightsError, WeightsMismatchError
from cnncodes.networks import NETWORKS, Convolution, Linear, Network, get_network
from cnncodes.weights import (
    Preprocessing,
    Weights,
    convert,
    load_weights,
    read_class_names,
    save_weights,
    with_class_names,
    with_input,
)


@pytest.fixture
def weights(monkeypatch):
    """Of a network with three classes, which knows them by WordNet id."""
    network = Network(
        "little", 32, (Convolution("conv1", 4, kernel=5, stride=2), Linear("fc6", 3, relu=False, pool_to=2))
    )
    monkeypatch.setitem(NETWORKS, "little", lambda: network)
    tensors = {key: torch.ones(shape) for key, shape in network.tensor_shapes().items()}
    classes = ("n01440764", "n01443537", "n01484850")
    return Weights(
        "little", "three", tensors, Preprocessing(resize=40, crop=32), classes, "made here", (7, 8)
    )


def test_another_input_keeps_numbers_and_all_else_that_travels(weights, tmp_path):
    save_weights(weights, tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "larger.safetensors", input_size=48)
    found = load_weights(tmp_path / "larger.safetensors")
    assert found.fingerprint == weights.fingerprint
    assert (found.classes, found.source, found.seen) == (weights.classes, weights.source, weights.seen)
    assert found.preprocessing == replace(weights.preprocessing, crop=48, resize=60)  # 40 / 32 as before
    assert with_input(weights, 48, resize=50).preprocessing.resize == 50
    assert with_input(weights, resize=300).preprocessing.crop == weights.preprocessing.crop


@pytest.mark.parametrize(
    ("name", "size", "says"), [("alexnet", 62, "63 px"), ("bvlc_alexnet", 256, "230 px")]
)
def test_a_size_that_the_network_cannot_take_is_refused_with_those_that_it_can(name, size, says):
    shapes = get_network(name).tensor_shapes()
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    weights = Weights(name, name, tensors, Preprocessing(), None, "made here")
    with pytest.raises(InputSizeError, match=f"{size} px does not fit") as caught:
        with_input(weights, size)
    assert says in caught.value.remedy


def test_a_crop_larger_than_the_picture_is_refused(weights):
    with pytest.raises(OptionError, match="crop=48 and resize=40"):
        with_input(weights, 48, 40)


def test_class_names_come_in_the_order_of_the_outputs_or_by_wordnet_id(weights, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tench\ngoldfish\n\ngreat white shark\n")
    plain = ("tench", "goldfish", "great white shark")
    assert read_class_names(path, weights) == plain
    path.write_text("n01484850 great white shark\nn01443537 goldfish\nn02012849 crane\nn01440764 tench\n")
    assert read_class_names(path, weights) == plain
    assert with_class_names(weights, plain).classes == plain
    unnamed = replace(weights, classes=None)  # no ids to go by: the lines are the names
    assert read_class_names(path, unnamed)[0] == "n01484850 great white shark"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tench\ngoldfish\n", "2 class names do not fit the 3 classes"),
        ("n01440764 tench\nn01484850 shark\nn01484851 other\n", "the first is n01443537"),
        ("crane\ntench\ncrane\n", "classes 1 and 3 would both be named 'crane'"),
        (b"\xff\xfe\x00\xd8", "not text"),
        (None, "No such file"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(weights, tmp_path, text, says):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((WeightsError, WeightsMismatchError), match=says):
        with_class_names(weights, read_class_names(path, weights))
