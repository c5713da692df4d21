"""Files that torch and safetensors wrote: what they hold arrives, and what is wrong with them is said."""

import argparse
import json
import os
import pickle
import struct
import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cnncodes.core.errors import (
    NetworkError,
    OptionError,
    OutputExistsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from cnncodes.networks import NETWORKS, get_network
from cnncodes.weights import (
    CAFFE_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
    build_network,
    check,
    convert,
    load_weights,
    read_arrays,
    read_tensors,
    save_weights,
    write_arrays,
    write_tensors,
)
from cnncodes.weights.keys import LeftOut, fit_network, left_out
from cnncodes.weights.resolve import usual_preprocessing


@pytest.fixture(scope="module")
def weights():
    return load_weights("random:7", network="alexnet-tf")  # 2.2 million numbers


def same(ours, tensors):
    return list(ours) == list(tensors) and all(torch.equal(ours[key], tensors[key]) for key in tensors)


# ------------------------------------------------------------------ torch


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".PTH"])
def test_a_state_dict_arrives_bit_for_bit(weights, tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    torch.save(OrderedDict(weights.tensors), path)
    loaded = load_weights(path)
    assert same(loaded.tensors, weights.tensors)
    assert (loaded.network, loaded.name) == ("alexnet-tf", str(path))
    assert loaded.source.startswith(f"mine{suffix} (sha256 ")
    assert loaded.fingerprint == weights.fingerprint and loaded.left_out is None


def test_the_format_before_2020_arrives_too(weights, tmp_path):
    torch.save(weights.tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(load_weights(tmp_path / "old.pth").tensors, weights.tensors)


def test_data_parallel_features_as_places365_has_them(tmp_path):
    shapes = get_network("alexnet", classes=3).tensor_shapes()
    tensors = {key: torch.ones(1).expand(shape) for key, shape in shapes.items()}
    wrapped = {key.replace("features.", "features.module."): value for key, value in tensors.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "places.pth.tar")
    loaded = load_weights(tmp_path / "places.pth.tar")
    assert (loaded.network, loaded.architecture.classes, list(loaded.tensors)) == ("alexnet", 3, list(shapes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_and_layouts_become_float32_in_order(weights, tmp_path, dtype):
    given = {key: tensor.to(dtype) for key, tensor in weights.tensors.items()}
    last = {key: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for key, t in given.items()}
    torch.save(last, tmp_path / "half.pth")
    loaded = load_weights(tmp_path / "half.pth").tensors
    assert same(loaded, {key: tensor.float() for key, tensor in given.items()})
    assert all(tensor.is_contiguous() for tensor in loaded.values())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda tensor: tensor.int(),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    ],
    ids=["integers", "complex", "sparse", "meta", "quantised"],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, about quantised tensors
def test_tensors_that_hold_no_plain_numbers_are_refused(weights, tmp_path, wrong):
    torch.save(weights.tensors | {"conv1.bias": wrong(weights.tensors["conv1.bias"])}, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=r"wrong\.pth"):
        load_weights(tmp_path / "wrong.pth")


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_tries_to_run_code_is_refused(weights, tmp_path, zipped):
    trace = tmp_path / "ran"
    content = {"state_dict": weights.tensors, "extra": Evil(trace)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"asks for .*open.: loading it could run code") as caught:
        load_weights(tmp_path / "evil.pth")
    assert not trace.exists()
    assert "state_dict()" in caught.value.remedy
    torch.load(tmp_path / "evil.pth", weights_only=False)["extra"].close()  # the file is what it claims to be
    assert trace.exists()


def test_a_bare_malicious_pickle_is_refused(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=2))
    with pytest.raises(WeightsError):
        load_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [torch.zeros(3), {"a": 1}, [torch.zeros(3)], {}, {3: torch.zeros(1)}, 5])
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"holds no state dict, but a {type(content).__name__}"):
        load_weights(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("entry", "prefix"),
    [
        ("state_dict", "model."),
        ("state_dict", "module."),
        ("model_state_dict", "student.encoder."),
        ("model", "_orig_mod."),
        ("net", "model._orig_mod.module."),
    ],
)
def test_checkpoints_load_and_other_tensors_in_them_are_named(weights, tmp_path, prefix, entry):
    state = {prefix + key: torch.nn.Parameter(tensor) for key, tensor in weights.tensors.items()}
    beside = {"criterion.weight": torch.ones(7), "head.0.weight": torch.ones(3, 12)}
    content = {
        entry: OrderedDict(state | beside),
        "epoch": np.int64(3),
        "callbacks": {"best": {"score": np.float64(0.5), "curve": np.arange(3.0), "path": tmp_path}},
        "hyper_parameters": {"lr": np.float32(0.1), "args": argparse.Namespace(batch=8)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"params": [0]}]}],
    }
    torch.save(content, tmp_path / "last.ckpt")
    loaded = load_weights(tmp_path / "last.ckpt")
    assert same(loaded.tensors, weights.tensors)
    assert not any(tensor.requires_grad for tensor in loaded.tensors.values())
    assert loaded.left_out == LeftOut({"criterion.weight": (7,), "head.0.weight": (3, 12)}, ())
    report = check(tmp_path / "last.ckpt")
    assert report.left_out == loaded.left_out and "criterion.weight (7)" in str(report.left_out)


def test_a_file_with_two_networks_is_refused(weights, tmp_path):
    both = {f"{name}.{key}": tensor for name in ("model", "ema") for key, tensor in weights.tensors.items()}
    torch.save({"state_dict": both}, tmp_path / "both.pth")
    with pytest.raises(WeightsMismatchError, match=r"two networks: keys begin with 'model\.' and 'ema\.'"):
        load_weights(tmp_path / "both.pth")


HEADS = {"fc8_flickr.weight": (20, 4096), "fc8_flickr.bias": (20,)}
CAFFENET = get_network("caffenet").tensor_shapes()
HIDDEN = {key: shape for key, shape in CAFFENET.items() if not key.startswith("fc8")}
CONVOLUTIONS = {key: shape for key, shape in CAFFENET.items() if key.startswith("conv")}
TORCHVISION = {
    key: shape for key, shape in get_network("alexnet").tensor_shapes().items() if "classifier.6" not in key
}


@pytest.mark.parametrize(
    ("shapes", "network", "last", "tensors", "stages"),
    [
        (HIDDEN | HEADS, "caffenet", "fc7", HEADS, ("fc8",)),
        (HIDDEN, "caffenet", "fc7", {}, ("fc8",)),
        (CAFFENET | HEADS, "caffenet", "fc8", HEADS, ()),
        (HIDDEN | {"hash.weight": (48, 4096), "fc9.weight": (20, 48)}, "caffenet", "fc7",
         {"hash.weight": (48, 4096), "fc9.weight": (20, 48)}, ("fc8",)),
        (HIDDEN | {"fc6b.weight": (4096, 4096)}, "caffenet", "fc6",  # fc7 may read it
         {"fc7.weight": (4096, 4096), "fc7.bias": (4096,), "fc6b.weight": (4096, 4096)}, ("fc7", "fc8")),
        (CONVOLUTIONS, "caffenet", "pool5", {}, ("fc6", "fc7", "fc8")),
        (CONVOLUTIONS | {"fc6.weight": (512, 9216), "fc6.bias": (512,), "fc7.weight": (3, 512)}, "caffenet", "pool5",
         {"fc6.weight": (512, 9216), "fc6.bias": (512,), "fc7.weight": (3, 512)}, ("fc6", "fc7", "fc8")),
        (TORCHVISION | {"classifier.6.1.weight": (5, 4096), "classifier.6.1.bias": (5,)}, None, "fc7",
         {"classifier.6.1.weight": (5, 4096), "classifier.6.1.bias": (5,)}, ("fc8",)),
        (TORCHVISION | {"classifier.6.weight": (5, 4096)}, None, "fc7", {"classifier.6.weight": (5, 4096)}, ("fc8",)),
    ],
)  # fmt: skip
def test_a_last_layer_of_another_name_or_none_is_left_out(shapes, network, last, tensors, stages):
    found = fit_network(shapes, "x", network=network)
    assert (found.stage_names[-1], left_out(found, shapes)) == (last, LeftOut(tensors, stages))


@pytest.mark.parametrize(
    "more",
    [
        {"bn1.weight": (96,), "bn1.bias": (96,)},  # a normalisation in between: the codes would be wrong
        {"conv6.weight": (256, 256, 3, 3)},
        {"other.weight": (20, 17)},
        {"fc8.weight": (20, 4096), "fc8.bias": (19,)},
        {f"head{number}.weight": (2, 4096) for number in range(200)},
    ],
)
@pytest.mark.parametrize("network", ["caffenet", None])
def test_layers_that_may_stand_in_between_are_not_left_out(more, network):
    with pytest.raises(WeightsMismatchError):
        fit_network(HIDDEN | more, "caffenet", network=network, hints=("caffenet",))


def test_without_a_convolution_a_file_is_of_no_network():
    with pytest.raises(WeightsMismatchError, match="keys are missing"):
        fit_network({key: shape for key, shape in CAFFENET.items() if not key.startswith("conv5")}, "x")


# ------------------------------------------------------------------ safetensors


def test_what_is_saved_comes_back_with_all_that_travels(weights, tmp_path):
    path = tmp_path / "mine.safetensors"
    record = replace(
        weights,
        preprocessing=Preprocessing(resize=300, crop=224, channels="BGR", mean=(0.1, 0.2, 0.3)),
        source="trained on a boat",
        origin="trained",
    )
    save_weights(record, path)
    loaded = load_weights(path)
    assert loaded.origin == "trained"
    assert same(loaded.tensors, weights.tensors)
    assert (loaded.network, loaded.source, loaded.preprocessing, loaded.fingerprint) == (
        "alexnet-tf",
        "trained on a boat",
        record.preprocessing,
        weights.fingerprint,
    )
    assert build_network(loaded).state_dict().keys() == weights.tensors.keys()
    save_weights(
        loaded, tmp_path / "again.safetensors"
    )  # mapped tensors can be written, even onto themselves
    save_weights(loaded, path, overwrite=True)
    assert load_weights(path).fingerprint == weights.fingerprint


def test_class_names_travel(tmp_path, weights, little):
    shapes = get_network(little, classes=2).tensor_shapes()
    tensors = {key: torch.full(shape, 0.5) for key, shape in shapes.items()}
    record = replace(weights, network=little, tensors=tensors, classes=("ants", "Bienen äöü"))
    save_weights(record, tmp_path / "ab.safetensors")
    loaded = load_weights(tmp_path / "ab.safetensors")
    assert loaded.classes == loaded.class_names() == ("ants", "Bienen äöü")
    assert loaded.architecture.classes == 2
    assert build_network(loaded)(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_same_weights_give_the_same_bytes(weights, tmp_path):
    for name in ("a", "b"):
        save_weights(weights, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_that_exists_is_not_lost(weights, tmp_path):
    path = tmp_path / "kept.safetensors"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="exists already"):
        save_weights(weights, path)
    assert path.read_text() == "precious"
    save_weights(weights, path, overwrite=True)
    assert load_weights(path).fingerprint == weights.fingerprint


def test_a_failed_write_leaves_nothing_behind_and_the_old_file_whole(weights, tmp_path, monkeypatch):
    path = tmp_path / "kept.safetensors"
    path.write_text("precious")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(weights, path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]
    assert path.read_text() == "precious"


def test_other_people_may_read_what_the_umask_lets_them_read(weights, tmp_path):
    save_weights(weights, tmp_path / "w.safetensors")
    (tmp_path / "usual").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("place", ["no/such/folder/w.safetensors", "file/w.safetensors"])
def test_a_place_that_cannot_be_written_is_an_error(weights, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(weights, tmp_path / place)


def test_only_safetensors_are_written(weights, tmp_path):
    with pytest.raises(OptionError, match=r"\.safetensors"):
        save_weights(weights, tmp_path / "w.pth")


def test_a_foreign_file_is_known_by_its_keys(weights, tmp_path):
    save_file({key: tensor.half() for key, tensor in weights.tensors.items()}, tmp_path / "f.safetensors")
    loaded = load_weights(tmp_path / "f.safetensors")
    assert (loaded.network, loaded.preprocessing) == ("alexnet-tf", TORCHVISION_PREPROCESSING)
    assert same(loaded.tensors, {key: tensor.half().float() for key, tensor in weights.tensors.items()})


def test_a_changed_number_is_noticed(weights, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_weights(weights, path)
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WeightsMismatchError, match="fingerprint"):
        load_weights(path)


def test_our_file_is_not_loaded_as_another_network(weights, tmp_path):
    save_weights(weights, tmp_path / "mine.safetensors")
    with pytest.raises(WeightsMismatchError, match="alexnet-tf"):
        load_weights(tmp_path / "mine.safetensors", network="alexnet")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"network": 5},
        {"network": "alexnet-xy"},
        {"preprocessing": {"crop": 9999}},
        {"preprocessing": {"rotation": 90}},
        {"preprocessing": []},
        {"classes": [1, 2]},
        {"classes": "ab"},
        {"source": None},
        {"fingerprint": "0" * 63},
        None,
    ],
)
def test_a_record_that_is_not_ours_is_refused(weights, tmp_path, change):
    path = tmp_path / "mine.safetensors"
    save_weights(weights, path)
    tensors, metadata = read_tensors(path)
    record = [] if change is None else json.loads(metadata["cnncodes"]) | change
    write_tensors(tmp_path / "other.safetensors", tensors, record)
    with pytest.raises((WeightsError, NetworkError)):
        load_weights(tmp_path / "other.safetensors")


def test_a_record_nested_without_end_is_refused(weights, tmp_path):
    save_file(weights.tensors, tmp_path / "deep.safetensors", {"cnncodes": "[" * 200_000})
    for read in (load_weights, read_arrays):
        with pytest.raises(WeightsError):
            read(tmp_path / "deep.safetensors")


def test_another_file_of_ours_is_not_called_damaged(tmp_path):
    write_arrays(tmp_path / "head.safetensors", {"a": np.zeros(2)}, {"kind": "linear head", "format": 1})
    with pytest.raises(WeightsError, match="holds no weights: linear head"):
        load_weights(tmp_path / "head.safetensors")


def test_arrays_come_back_with_type_shape_and_record(tmp_path):
    arrays = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3).T,
        "number": np.array(5.5),
        "count": np.array([2**62, -1]),
        "none": np.zeros((0, 4), np.float32),
        "same": np.ones(3),
    }
    arrays["view"] = arrays["same"][1:]
    write_arrays(tmp_path / "a.safetensors", arrays, {"note": "äöü", "deep": {"list": [1, None]}})
    found, record = read_arrays(tmp_path / "a.safetensors")
    assert record == {"note": "äöü", "deep": {"list": [1, None]}}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].flags.writeable


def test_foreign_arrays_have_no_record_and_strange_types_are_an_error(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "f.safetensors", {"note": "x"})
    assert read_arrays(tmp_path / "f.safetensors")[1] is None
    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="numpy does not know"):
        read_arrays(tmp_path / "b.safetensors")


HUGE = b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,8]}}'
FAR = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999]}}'


@pytest.mark.parametrize(
    ("length", "header"),
    [(2**63, b"{}"), (100, b"{}"), (2, b"{}"), (2, b"[]"), (len(HUGE), HUGE), (len(FAR), FAR), (0, b"")],
)
def test_headers_that_lie_are_refused(tmp_path, length, header):
    content = struct.pack("<Q", length) + header + b"12345678" if header else b""
    (tmp_path / "liar.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"liar\.safetensors"):
        load_weights(tmp_path / "liar.safetensors")


# ------------------------------------------------------------------ any file


def test_a_file_of_another_network_names_the_keys_and_shapes_that_differ(weights, tmp_path):
    tensors = dict(weights.tensors) | {"conv2.weight": torch.zeros(3, 4), "extra": torch.zeros(())}
    del tensors["conv5.bias"]
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        load_weights(tmp_path / "other.pth")
    for part in (
        "network 'alexnet-tf' (10 tensors)",
        "1 key is missing (conv5.bias)",
        "1 key is unexpected (extra)",
        "1 shape differs (conv2.weight is 3 x 4, not 192 x 64 x 5 x 5)",
    ):
        assert part in caught.value.problem
    with pytest.raises(
        WeightsMismatchError, match=r"16 keys are missing \(features\.0\.weight, .* and 13 more\)"
    ):
        load_weights(tmp_path / "other.pth", network="alexnet")


@pytest.mark.parametrize(
    ("hint", "network", "expected", "preprocessing"),
    [
        ("my-caffenet-v2", None, "caffenet", CAFFE_PREPROCESSING),
        ("BVLC_AlexNet", None, "bvlc_alexnet", CAFFE_PREPROCESSING),
        ("caffenet", "alexnet2012", "alexnet2012", replace(TORCHVISION_PREPROCESSING, crop=227)),
    ],
)
def test_two_tower_networks_are_told_apart_by_name_only(hint, network, expected, preprocessing):
    shapes = get_network("alexnet2012", classes=9).tensor_shapes()
    found = fit_network(shapes, "x.pth", network=network, hints=(hint,))
    assert (found.name, found.classes) == (expected, 9)
    assert usual_preprocessing(found) == preprocessing


@pytest.mark.parametrize("hint", ["x", "", "caffenet-as-bvlc_alexnet"])
def test_two_tower_networks_without_a_name_are_asked_for(hint):
    shapes = get_network("alexnet2012").tensor_shapes()
    with pytest.raises(WeightsMismatchError, match=r"fit 3 networks.*alexnet2012, bvlc_alexnet, caffenet"):
        fit_network(shapes, "x.pth", hints=(hint,))


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if name not in ("alexnet2012", "bvlc_alexnet", "caffenet")]
)
def test_other_networks_are_known_by_keys_and_shapes_with_any_number_of_classes(name):
    network = get_network(name)
    assert fit_network(network.tensor_shapes(), "x.pth") == network
    if network.classes:
        assert fit_network(network.with_classes(3).tensor_shapes(), "x.pth") == network.with_classes(3)


def test_files_that_are_not_there_or_not_readable_are_named(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"gone\.pth"):
        load_weights(tmp_path / "gone.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(WeightsError, match="is a folder"):
        load_weights(tmp_path / "folder.pth")
    (tmp_path / "weights.bin").touch()
    with pytest.raises(WeightsError, match=r"\.safetensors, \.pth"):
        load_weights(tmp_path / "weights.bin")
    with pytest.raises(WeightsMissingError, match="Did you mean 'imagenet'"):
        load_weights("imagnet")
    os.symlink("loop.pth", tmp_path / "loop.pth")
    for name in ("loop.pth", "x" * 300 + ".pth", "zero\0byte.pth"):
        with pytest.raises(WeightsError):
            load_weights(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npy", ".caffemodel"])
def test_a_pipe_does_not_hang(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    result = []
    thread = threading.Thread(target=lambda: result.append(_raised(tmp_path / f"pipe{suffix}")), daemon=True)
    thread.start()
    thread.join(10)
    assert result == [WeightsError]


def _raised(path):
    try:
        load_weights(path)
    except Exception as error:
        return type(error)


def test_convert_and_check_tell_the_same(weights, tmp_path):
    torch.save(weights.tensors, tmp_path / "w.pth")
    converted = convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    report = check(tmp_path / "w.safetensors")
    assert report.fingerprint == converted.fingerprint == weights.fingerprint
    assert report.source == converted.source
    assert report.shapes == get_network("alexnet-tf").tensor_shapes()
    assert (report.parameters, report.classes) == (2_469_696, None)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", "ours.safetensors"])
def test_numbers_that_are_none_are_refused_by_tensor_and_count(weights, tmp_path, suffix):
    path = tmp_path / f"nan{suffix}"
    broken = weights.tensors["conv1.bias"].clone()
    broken[:3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    tensors = weights.tensors | {"conv1.bias": broken}
    if suffix == ".pth":
        torch.save(tensors, path)
    elif suffix == ".safetensors":
        save_file(tensors, path)
    else:
        save_weights(replace(weights, tensors=tensors), path)
    for read in (load_weights, check):
        with pytest.raises(
            WeightsError, match=r"3 numbers .* in 1 of its 10 tensors: conv1\.bias \(3 of 64\)"
        ):
            read(path)


def test_float64_beyond_float32_is_refused(weights, tmp_path):
    large = {key: tensor.double() * 1e300 for key, tensor in weights.tensors.items()}
    torch.save(large, tmp_path / "large.pth")
    with pytest.raises(WeightsError, match=r"in 5 of its 10 tensors: .* and 2 more"):  # biases are zero
        load_weights(tmp_path / "large.pth")


@pytest.mark.parametrize(
    "value", [{"scale": float("inf")}, {"mean": (0.0, float("nan"), 0.0)}, {"std": (1.0, 1.0, float("inf"))}]
)
def test_preprocessing_has_finite_numbers(value):
    with pytest.raises(OptionError):
        Preprocessing(**value)


# ------------------------------------------------------------------ loaded again


def test_a_file_is_read_again_only_when_it_has_changed(weights, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save(weights.tensors, path)
    first = load_weights(path)
    monkeypatch.chdir(tmp_path)
    assert load_weights(path) is load_weights(str(path)) is first
    assert load_weights(path, network="alexnet-tf").fingerprint == first.fingerprint
    status = path.stat()
    other = {key: tensor + 1 for key, tensor in weights.tensors.items()}
    torch.save(other, tmp_path / "other.pth")
    os.replace(tmp_path / "other.pth", path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(load_weights(path).tensors, other), "a file of the same size and time"
    (tmp_path / "w.pth").unlink()
    with pytest.raises(WeightsMissingError):
        load_weights(path)


def test_numbers_that_somebody_changed_in_place_are_not_given_to_the_next(weights, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(weights.tensors, path)
    load_weights(path).tensors["conv1.bias"] += 1
    assert same(load_weights(path).tensors, weights.tensors)
    build_network(load_weights(path)).get_parameter("conv2.weight").zero_()
    assert same(load_weights(path).tensors, weights.tensors)
    load_weights(path).tensors["conv1.bias"] = torch.ones(64)
    assert same(load_weights(path).tensors, weights.tensors)


def test_only_the_last_few_are_kept(weights, tmp_path):
    paths = [tmp_path / f"{number}.pth" for number in range(4)]
    for path in paths:
        torch.save(weights.tensors, path)
    loaded = [load_weights(path) for path in paths]
    assert load_weights(paths[1]) is loaded[1]
    assert load_weights(paths[0]) is not loaded[0]
    assert load_weights(paths[1]) is loaded[1], "the last one used is the last to go"
    assert load_weights(paths[2]) is not loaded[2]


def test_loaded_weights_and_folders_are_weights_too(weights, tmp_path):
    assert load_weights(weights) is weights
    with pytest.raises(WeightsMismatchError, match="alexnet-tf"):
        load_weights(weights, network="alexnet")
    save_weights(weights, tmp_path / "model.safetensors")
    save_weights(tmp_path, tmp_path / "copy.safetensors")
    assert load_weights(tmp_path / "copy.safetensors").fingerprint == load_weights(tmp_path).fingerprint
    assert same(build_network(tmp_path).state_dict(), weights.tensors)
    with torch.inference_mode():
        assert load_weights("random:17", network="alexnet-tf") is load_weights(
            "random:17", network="alexnet-tf"
        )
