"""`bvlc_alexnet.npy`: the layout of caffe-tensorflow becomes torch's, and nothing in the file runs."""

import io
import pickle
import struct

import numpy as np
import pytest
import torch

from cnncodes.core.errors import WeightsError, WeightsMismatchError
from cnncodes.weights import CAFFE_PREPROCESSING, load_weights
from cnncodes.weights.foreign_files import read_npy_file


def npy(pickled):
    """The .npy format, version 1.0, around a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 16) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def save(path, layers, protocol=None):
    """As np.save does it (protocol None), or as Python 2's numpy did (protocol 2)."""
    if protocol is None:
        np.save(path, layers, allow_pickle=True)
    else:
        path.write_bytes(npy(pickle.dumps(np.array(layers, dtype=object), protocol=protocol)))


def python2(layers):
    """The very opcodes of Python 2's cPickle, whose strings are bytes: what the published file consists of."""
    out = io.BytesIO()
    out.write(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01)")
    out.write(
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]("
    )
    out.write(b"}(")
    for name, arrays in layers.items():
        out.write(b"U" + bytes([len(name)]) + name.encode() + b"](")
        for array in arrays:
            out.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(")
            out.write(b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t")
            out.write(
                b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            )
            raw = array.astype("<f4").tobytes()
            out.write(b"T" + struct.pack("<i", len(raw)) + raw + b"tb")
        out.write(b"e")
    out.write(b"ue" + b"tb.")
    return npy(out.getvalue())


@pytest.fixture(scope="module")
def layers():
    """Small layers in the form of the published file; only fc6's rows have their real number, 6 x 6 x 256."""
    random = np.random.default_rng(0)
    shapes = {"conv1": (11, 11, 3, 8), "conv2": (5, 5, 4, 6), "fc6": (9216, 3), "fc7": (5, 4)}
    return {
        name: [random.normal(size=shape).astype(np.float32), random.normal(size=shape[-1]).astype(np.float32)]
        for name, shape in shapes.items()
    }


def assert_torch_order(content, layers):
    """Every number is where its indices say, looked up one by one in a sample."""
    random = np.random.default_rng(1)
    found = {key: tensor.numpy() for key, tensor in content.tensors.items()}
    assert list(found) == [f"{name}.{end}" for name in layers for end in ("weight", "bias")]
    for name, (filters, biases) in layers.items():
        weight = found[f"{name}.weight"]
        assert weight.dtype == np.float32
        assert np.array_equal(found[f"{name}.bias"], biases)
        assert weight.size == filters.size
        for _ in range(200):
            if filters.ndim == 4:
                y, x, source, target = (random.integers(size) for size in filters.shape)
                assert weight[target, source, y, x] == filters[y, x, source, target]
            elif name == "fc6":
                y, x, channel, target = (random.integers(size) for size in (6, 6, 256, filters.shape[1]))
                row = (y * 6 + x) * 256 + channel
                assert weight[target, (channel * 6 + y) * 6 + x] == filters[row, target]
            else:
                row, target = (random.integers(size) for size in filters.shape)
                assert weight[target, row] == filters[row, target]
    assert content.preprocessing == CAFFE_PREPROCESSING


@pytest.mark.parametrize("protocol", [None, 0, 1, 2, 3, 4])
def test_layouts_become_torchs(layers, tmp_path, protocol):
    save(tmp_path / "x.npy", layers, protocol)
    assert_torch_order(read_npy_file(tmp_path / "x.npy"), layers)


def test_the_form_that_python_2_wrote(layers, tmp_path):
    (tmp_path / "x.npy").write_bytes(python2(layers))
    theirs = np.load(
        tmp_path / "x.npy", allow_pickle=True, encoding="latin1"
    ).item()  # numpy agrees on the form
    assert all(np.array_equal(theirs[name][0], layers[name][0]) for name in layers)
    assert_torch_order(read_npy_file(tmp_path / "x.npy"), layers)


@pytest.mark.parametrize(
    "change",
    [
        lambda array: np.asfortranarray(array),
        lambda array: array.astype(">f4"),
        lambda array: array.astype("<f8"),
        lambda array: array.astype("<f2"),
    ],
    ids=["columns first", "big endian", "float64", "float16"],
)
def test_other_orders_and_types(layers, tmp_path, change):
    changed = {name: [change(array) for array in pair] for name, pair in layers.items()}
    save(tmp_path / "x.npy", changed)
    expected = {name: [array.astype(np.float32) for array in pair] for name, pair in changed.items()}
    assert_torch_order(read_npy_file(tmp_path / "x.npy"), expected)


def test_a_whole_file_loads_by_the_name_of_its_network(tmp_path):
    expected = load_weights("random:6", network="alexnet-tf").tensors
    layers = {}
    for key, tensor in expected.items():
        values = tensor.numpy()
        layers.setdefault(key.partition(".")[0], []).append(
            values.transpose(2, 3, 1, 0) if values.ndim == 4 else values
        )
    save(tmp_path / "x.npy", layers)
    weights = load_weights(tmp_path / "x.npy")
    assert (weights.network, weights.preprocessing) == ("alexnet-tf", CAFFE_PREPROCESSING)
    assert all(torch.equal(weights.tensors[key], tensor) for key, tensor in expected.items())
    with pytest.raises(WeightsMismatchError, match=r"'bvlc_alexnet'.*6 keys are missing \(fc6\.weight"):
        load_weights(tmp_path / "x.npy", network="bvlc_alexnet")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [None, 0, 2])
def test_a_file_that_tries_to_run_code_is_refused(layers, tmp_path, protocol):
    trace = tmp_path / "ran"
    save(tmp_path / "evil.npy", layers | {"conv3": Evil(trace)}, protocol)
    with pytest.raises(WeightsError, match=r"asks for '.*open': loading it could run code"):
        load_weights(tmp_path / "evil.npy")
    assert not trace.exists()
    np.load(tmp_path / "evil.npy", allow_pickle=True).item()[
        "conv3"
    ].close()  # the file is what it claims to be
    assert trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "builtins getattr",
        "numpy load",
        "numpy.core.multiarray scalar",
        "functools partial",
    ],
)
def test_only_arrays_are_known(tmp_path, name):
    module, attribute = name.split()
    (tmp_path / "x.npy").write_bytes(npy(f"c{module}\n{attribute}\n.".encode()))
    with pytest.raises(WeightsError, match=f"'{module}.{attribute}'"):
        load_weights(tmp_path / "x.npy")


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b".",
        b"N.",
        b"}.",
        b"\x80\x02}q\x00.",
        RECONSTRUCT + b"}b.",  # change what stands in for numpy's function
        RECONSTRUCT + b"}}U\x04__defaults__N\x86b.",
        b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",  # allocate
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\ndtype\nU\x0cV99999999999\x85R.",
        b"c_codecs\nencode\nU\x01aU\x03hex\x86R.",
        b"c_codecs\nencode\nX\xff\xff\xff\x7fa.",  # a string longer than the file
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",  # a frame longer than the file
        b"Nr\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"Np2000000000\n.",
        b"(" * 4000 + b"t" * 3999 + b".",
        b"\x8a\xff" + b"\x7f" * 255 + b".",
        b"I" + b"9" * 100_000 + b"\n.",
        b"\x82\x01.",
        b"P1\n.",
        b"\x97.",
    ],
)
def test_pickles_that_are_no_arrays_are_refused_without_harm(tmp_path, pickled):
    (tmp_path / "x.npy").write_bytes(npy(pickled))
    with pytest.raises(WeightsError, match=r"x\.npy"):
        load_weights(tmp_path / "x.npy")


def test_a_pickle_of_endless_steps_is_not_followed(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(b"N0" * 10_000 + b"N."))
    with pytest.raises(WeightsError, match="over 5,000 steps"):
        load_weights(tmp_path / "x.npy")


def test_a_text_that_is_encoded_again_and_again_does_not_fill_the_memory(tmp_path):
    text = b"X" + struct.pack("<i", 1 << 20) + b"a" * (1 << 20)
    again = b"c_codecs\nencode\nh\x00U\x06latin1\x86R0"
    (tmp_path / "x.npy").write_bytes(npy(text + b"q\x000" + again * 800 + b"N."))
    with pytest.raises(WeightsError, match="encodes"):
        load_weights(tmp_path / "x.npy")


def test_one_array_under_a_thousand_names_does_not_fill_the_memory(tmp_path):
    array = np.zeros(1 << 20, np.float32)
    save(tmp_path / "x.npy", {f"a{place}": [array, array] for place in range(500)})
    with pytest.raises(WeightsError, match="larger than the file"):
        load_weights(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"conv1": 5},
        {"conv1": [np.zeros(3, np.float32)]},
        {"conv1": [np.zeros(3, np.int32), np.zeros(3, np.float32)]},
        {"conv1": [np.zeros(3, complex), np.zeros(3, np.float32)]},
        {"conv1": [np.array(["a", "b"]), np.zeros(3, np.float32)]},
        {"conv1": [np.array([None]), np.zeros(3, np.float32)]},
        {"conv1": [np.zeros((1,) * 9, np.float32), np.zeros(3, np.float32)]},
        {3: [np.zeros(3, np.float32), np.zeros(3, np.float32)]},
        [np.zeros(3, np.float32)],
        "conv1",
    ],
)
def test_other_things_that_numpy_saved_are_refused(tmp_path, layers):
    np.save(tmp_path / "x.npy", np.array(layers, dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"x\.npy"):
        load_weights(tmp_path / "x.npy")


def test_a_plain_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(5))
    with pytest.raises(WeightsError, match="not a dictionary"):
        load_weights(tmp_path / "x.npy")


@pytest.mark.parametrize("shape", [(-1, -12), (4,), (2**62, 4), (12.0,), ("a",), None, 12])
def test_shapes_that_lie_are_refused(tmp_path, shape):
    class Liar:
        def __reduce__(self):
            return (
                np.zeros(1).__reduce__()[0],
                (np.ndarray, (0,), b"b"),
                (1, shape, np.dtype("f4"), False, b"\0" * 48),
            )

    (tmp_path / "x.npy").write_bytes(
        npy(pickle.dumps(np.array({"a": [Liar(), np.zeros(1, np.float32)]}, dtype=object), protocol=2))
    )
    with pytest.raises(WeightsError, match=r"x\.npy"):
        load_weights(tmp_path / "x.npy")


def test_tensors_can_be_written_to(layers, tmp_path):
    save(tmp_path / "x.npy", layers)
    for tensor in read_npy_file(tmp_path / "x.npy").tensors.values():
        tensor.add_(1)
        assert isinstance(tensor, torch.Tensor)
