"""OpenCV reads the same .caffemodel and computes the same network: the reader and the networks at once."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from weights_writers import blob, caffemodel, nested, number, prototxt, varint

from cnncodes.core.errors import StageError, WeightsError, WeightsMismatchError
from cnncodes.networks import TorchNetwork, get_network
from cnncodes.weights import CAFFE_PREPROCESSING, build_network, load_weights, save_weights
from cnncodes.weights.foreign_files import read_caffe_file


@pytest.fixture(scope="module")
def small():
    """Weights of a network without fully connected stages, as numpy arrays; 2.5 million numbers."""
    return _numpy(load_weights("random:3", network="alexnet-tf"))


@pytest.fixture(scope="module")
def full():
    return _numpy(load_weights("random:3", network="bvlc_alexnet"))


def _numpy(weights):
    """With biases that are not zero, or a lost bias would not be noticed."""
    random = np.random.default_rng(0)
    return {
        key: random.normal(size=tensor.shape).astype(np.float32) if key.endswith("bias") else tensor.numpy()
        for key, tensor in weights.tensors.items()
    }


def opencv_stages(network, model, upto):
    """All stages up to ``upto`` as OpenCV computes them from the bytes of a .caffemodel, and the pixels it got."""
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt(network, upto).encode(), np.uint8), np.frombuffer(model, np.uint8)
    )
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)  # or the values before a ReLU or a pooling are gone
    size = network.input_size
    pixels = (np.random.default_rng(1).normal(size=(1, 3, size, size)) * 60).astype(np.float32)
    net.setInput(pixels)
    stages = network.stages[: network.stage_names.index(upto) + 1]
    values = net.forward([f"relu_{stage.name}" if stage.relu else stage.name for stage in stages])
    return dict(zip((stage.name for stage in stages), values, strict=True)), torch.from_numpy(pixels)


def assert_equal_stages(found, expected):
    assert list(found) == list(expected)
    for name, theirs in expected.items():
        ours = found[name].numpy()
        assert ours.shape == theirs.shape, name
        assert np.abs(theirs).max() > 0.1
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), name


def test_bvlc_alexnet_in_the_form_of_2014_is_what_opencv_computes_from_the_same_file(full, tmp_path):
    network = get_network("bvlc_alexnet")
    model = caffemodel("AlexNet", network, full, v1=True)
    (tmp_path / "reference.caffemodel").write_bytes(model)
    weights = load_weights(tmp_path / "reference.caffemodel")
    assert (weights.network, weights.preprocessing) == ("bvlc_alexnet", CAFFE_PREPROCESSING)
    assert all(np.array_equal(weights.tensors[key].numpy(), values) for key, values in full.items())
    expected, pixels = opencv_stages(network, model, "fc8")
    with torch.inference_mode():
        assert_equal_stages(build_network(weights).activations(pixels, "all"), expected)


def test_caffenet_in_todays_form_is_what_opencv_computes_from_the_same_file(full, tmp_path):
    network = get_network("caffenet")
    convolutions = {key: values for key, values in full.items() if key.startswith("conv")}
    model = caffemodel("CaffeNet", network, convolutions, v1=False)
    (tmp_path / "convolutions.caffemodel").write_bytes(model)
    content = read_caffe_file(tmp_path / "convolutions.caffemodel")
    assert content.network == "caffenet"
    assert content.tensors.keys() == convolutions.keys()
    with torch.device("meta"):
        ours = TorchNetwork(network)
    ours.load_state_dict(dict(content.tensors), assign=True, strict=False)
    expected, pixels = opencv_stages(network, model, "pool5")
    with torch.inference_mode():
        assert_equal_stages(ours.activations(pixels, expected), expected)
        differ = TorchNetwork.activations(_as("bvlc_alexnet", ours), pixels, "pool2")["pool2"]
    assert not np.allclose(
        differ.numpy(), expected["pool2"], rtol=0.01
    )  # the comparison can tell the two apart


def _as(name, module):
    with torch.device("meta"):
        other = TorchNetwork(get_network(name))
    other.load_state_dict(module.state_dict(), assign=True)
    return other


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("double", [True, False])
def test_every_way_to_write_a_blob_gives_the_same_tensors(tmp_path, v1, packed, double):
    network = get_network("alexnet-tf")
    random = np.random.default_rng(2)
    tensors = {}
    for name, shape in (("conv1", (4, 3, 11, 11)), ("conv2", (1, 2, 1, 1)), ("conv3", (200, 5, 3, 3))):
        tensors[f"{name}.weight"] = random.normal(size=shape).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(size=shape[:1]).astype(np.float32)
    (tmp_path / "x.caffemodel").write_bytes(
        caffemodel("any", network, tensors, v1=v1, packed=packed, double=double)
    )
    content = read_caffe_file(tmp_path / "x.caffemodel")
    assert content.network is None
    assert list(content.tensors) == list(tensors)
    for key, values in tensors.items():
        assert np.array_equal(content.tensors[key].numpy(), values)
        assert content.tensors[key].dtype == torch.float32


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("classes", [1, 5])
def test_fully_connected_layers_have_two_dimensions_in_both_forms(tmp_path, v1, classes):
    tensors = {
        "fc8.weight": np.ones((classes, 7), np.float32),
        "fc8.bias": np.arange(classes, dtype=np.float32),
    }
    (tmp_path / "x.caffemodel").write_bytes(caffemodel("x", get_network("caffenet"), tensors, v1=v1))
    read = read_caffe_file(tmp_path / "x.caffemodel").tensors
    assert {key: tuple(tensor.shape) for key, tensor in read.items()} == {
        "fc8.weight": (classes, 7),
        "fc8.bias": (classes,),
    }


def test_whole_files_load_by_name_and_what_does_not_fit_is_named(small, tmp_path):
    network = get_network("alexnet-tf")
    (tmp_path / "x.caffemodel").write_bytes(caffemodel("whatever", network, small, v1=False))
    weights = load_weights(tmp_path / "x.caffemodel", network="alexnet-tf")
    assert all(np.array_equal(weights.tensors[key].numpy(), values) for key, values in small.items())
    (tmp_path / "y.caffemodel").write_bytes(caffemodel("AlexNet", network, small, v1=False))
    with pytest.raises(WeightsMismatchError, match=r"'bvlc_alexnet'.*6 keys are missing \(fc6\.weight"):
        load_weights(tmp_path / "y.caffemodel")


WEIGHTS = b"".join(blob(np.ones((2, 2), np.float32), legacy=False))
EIGHT_BYTES = (
    varint(5 << 3 | 1) + b"\0" * 8
)  # a single number of double precision where one of single precision belongs


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (nested(1, b"AlexNet"), "no layer with weights"),
        (b"not a protocol buffer at all", "byte"),
        (b"\x0b\x0b\x0c\x0c", "type 3"),
        (varint(100 << 3 | 2) + varint(10**12) + b"x", "goes beyond"),
        (nested(100, nested(1, b"a"), varint(7 << 3 | 2) + varint(2**63)), "goes beyond"),
        (nested(100, nested(1, b"a"), nested(7, WEIGHTS)[:-1] + b""), "goes beyond"),
        (
            nested(100, nested(7, nested(7, nested(1, varint(2**40) * 2)), nested(5, b"\0" * 8))),
            "do not have the declared shape",
        ),
        (
            nested(100, nested(7, nested(7, nested(1, varint(1) * 40)), nested(5, b"\0" * 4))),
            "do not have the declared shape",
        ),
        (nested(100, nested(7, number(1, 3), nested(5, b"\0" * 4))), "do not have the declared shape"),
        (nested(100, nested(7, nested(7, nested(1, varint(1))), nested(5, b"\0" * 5))), "no numbers of 4"),
        (nested(100, nested(7, nested(7, number(1, 1)), number(5, 7))), "no numbers of 4"),
        (nested(100, nested(7, nested(7, nested(1, b"\xff" * 11)), nested(5, b"\0" * 4))), "does not end"),
        (nested(100, number(7, 5)), "not a message"),
        (number(1, 5) + nested(100, nested(1, b"a"), nested(7, WEIGHTS)), "not a message"),
        (nested(100, nested(7, nested(7, nested(1, varint(2))), EIGHT_BYTES)), "no numbers of 4"),
        (nested(100, nested(7, nested(1, b""), nested(5, b"\0" * 4))), "do not have the declared shape"),
        (nested(100, nested(1, b"a"), nested(7, WEIGHTS)) * 2, "two tensors 'a.weight'"),
        (number(9, 1) * 150_000, "100,000 fields"),
        (nested(100, nested(7, nested(7, nested(1, varint(1) * 150_000)))), "100,000 fields"),
    ],
)
def test_what_is_no_caffemodel_is_refused_with_the_reason(tmp_path, content, reason):
    (tmp_path / "x.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        load_weights(tmp_path / "x.caffemodel")


def test_alternating_fields_of_fixed_size_take_no_quadratic_time(tmp_path):
    """Each could start a run of unpacked numbers; looking for its end must not read the rest of the file."""
    pair = varint(5 << 3 | 5) + b"\0" * 4 + varint(9 << 3 | 5) + b"\0" * 4
    (tmp_path / "x.caffemodel").write_bytes(nested(100, nested(7, pair * 20_000)))
    with pytest.raises(WeightsError, match="20,000 numbers do not have the declared shape"):
        load_weights(tmp_path / "x.caffemodel")


def test_a_record_keeps_bgr_and_the_mean(small, tmp_path):
    (tmp_path / "x.caffemodel").write_bytes(caffemodel("x", get_network("alexnet-tf"), small, v1=True))
    weights = load_weights(tmp_path / "x.caffemodel", network="alexnet-tf")
    assert weights.preprocessing == replace(CAFFE_PREPROCESSING, channels="BGR", scale=1.0)
    assert weights.preprocessing.mean == (104.00698793, 116.66876762, 122.67891434)


def test_a_file_with_another_classifier_gives_the_codes_below_it(full, tmp_path):
    """As finetune_flickr_style has it: the network is told by its name, and what is left out is named."""
    network = get_network("caffenet")
    convolutions = {key: values for key, values in full.items() if key.startswith("conv")}
    blobs = [blob(np.ones(shape, np.float32), legacy=False) for shape in ((5, 9216), (5,))]
    head = nested(100, nested(1, b"fc_flickr"), *(piece for b in blobs for piece in [nested(7, *b)]))
    content = caffemodel("FlickrStyleCaffeNet", network, convolutions, v1=False) + head
    (tmp_path / "style.caffemodel").write_bytes(content)
    weights = load_weights(tmp_path / "style.caffemodel")
    assert weights.network == "caffenet" and weights.architecture.stage_names[-1] == "pool5"
    assert weights.left_out is not None
    assert weights.left_out.stages == ("fc6", "fc7", "fc8")
    assert weights.left_out.tensors == {"fc_flickr.weight": (5, 9216), "fc_flickr.bias": (5,)}
    pixels = torch.zeros(1, 3, 227, 227)
    assert build_network(weights).activations(pixels, "pool5")["pool5"].shape == (1, 256, 6, 6)
    with pytest.raises(StageError, match="no stage 'fc7'"):
        weights.architecture.select_one("fc7")
    save_weights(weights, tmp_path / "style.safetensors")
    assert load_weights(tmp_path / "style.safetensors").fingerprint == weights.fingerprint
    assert weights.whole == network
