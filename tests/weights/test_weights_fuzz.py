"""Whatever a file holds, loading it ends in weights or in a clear error, within bounded memory."""

import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from weights_writers import caffemodel, nested, varint

from cnncodes.core.errors import CnnCodesError, WeightsError
from cnncodes.networks import get_network
from cnncodes.weights import load_weights

TENSORS = {"conv1.weight": torch.ones(2, 3, 2, 2), "conv1.bias": torch.arange(2.0)}
ARRAYS = {key: tensor.numpy() for key, tensor in TENSORS.items()}


def _samples():
    """A small file of every format, whole, but of no known network."""
    torch_file, old, npy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(TENSORS, torch_file)
    torch.save(TENSORS, old, _use_new_zipfile_serialization=False)
    np.save(npy, {"conv1": list(ARRAYS.values())}, allow_pickle=True)
    network = get_network("caffenet")
    return {
        "zip.pth": torch_file.getvalue(),
        "old.pth": old.getvalue(),
        "x.safetensors": save(TENSORS, {"cnncodes": '{"format": 1}'}),
        "foreign.safetensors": save(TENSORS),
        "v1.caffemodel": caffemodel("AlexNet", network, ARRAYS, v1=True),
        "v2.caffemodel": caffemodel("CaffeNet", network, ARRAYS, v1=False),
        "x.npy": npy.getvalue(),
    }


SAMPLES = _samples()
formats = pytest.mark.parametrize("name", SAMPLES)
fuzzed = settings(
    max_examples=40,
    derandomize=True,
)


def ends_in_a_clear_error(path, content):
    """None of these files is of a known network, so that even an unharmed one ends in an error."""
    path.write_bytes(content)
    try:
        load_weights(path)
    except CnnCodesError as error:
        assert str(path.name) in str(error)
        assert len(str(error)) < 2000
        return
    raise AssertionError("no error")


@formats
def test_truncated_anywhere(name, tmp_path):
    content = SAMPLES[name]
    for end in range(0, len(content), max(1, len(content) // 120)):
        ends_in_a_clear_error(tmp_path / name, content[:end])


@formats
@fuzzed
@given(data=st.data())
def test_bytes_changed_moved_and_repeated(name, tmp_path, data):
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        until = data.draw(st.integers(place, min(len(content), place + 16)))
        content[place:until] = data.draw(
            st.one_of(
                st.binary(max_size=9),
                st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 3, b"\xff\xff\xff\xff\x07"]),
                st.just(bytes(content[:64])),
            )
        )
    ends_in_a_clear_error(tmp_path / name, bytes(content))


@formats
@fuzzed
@given(content=st.binary(max_size=300))
def test_noise_and_noise_behind_a_right_beginning(name, tmp_path, content):
    ends_in_a_clear_error(tmp_path / name, content)
    ends_in_a_clear_error(tmp_path / name, SAMPLES[name][:12] + content)


@formats
def test_a_format_under_another_formats_name(name, tmp_path):
    for suffix in (".pth", ".safetensors", ".caffemodel", ".npy"):
        ends_in_a_clear_error(tmp_path / f"x{suffix}", SAMPLES[name])


_bytes = st.binary(max_size=40)
_fields = st.recursive(
    st.one_of(
        st.builds(
            lambda field, value: varint(field << 3) + varint(value),
            st.integers(1, 110),
            st.integers(0, 2**64 - 1),
        ),
        st.builds(
            lambda field, value: varint(field << 3 | 5) + value,
            st.integers(1, 9),
            st.binary(min_size=4, max_size=4),
        ),
        st.builds(
            lambda field, value: varint(field << 3 | 1) + value,
            st.integers(1, 9),
            st.binary(min_size=8, max_size=8),
        ),
        st.builds(nested, st.sampled_from([1, 2, 4, 5, 6, 7, 8, 100]), _bytes),
    ),
    lambda inner: st.builds(
        lambda field, parts: nested(field, *parts),
        st.sampled_from([2, 6, 7, 100]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@fuzzed
@given(parts=st.lists(_fields, max_size=6))
def test_messages_of_the_right_form_with_any_fields(tmp_path, parts):
    ends_in_a_clear_error(tmp_path / "x.caffemodel", b"".join(parts))


def _pickle(opcodes):
    return b"\x80\x02" + opcodes


def _zip(pickled, **others):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in others.items():
            archive.writestr(f"archive/data/{name}", content)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def _bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (1 << 26) + b"N.")
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def _huge_storage(count, shape, stride):
    """A state dict of one tensor over a storage that claims ``count`` numbers."""

    def integers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    return _pickle(
        b"}X\x0c\x00\x00\x00conv1.weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x08" + struct.pack("<q", count) + b"tQK\x00"
        + integers(shape) + integers(stride) + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


HUGE = {
    "storage.pth": _zip(_huge_storage(10**11, (10**11,), (1,)), **{"0": b"\0" * 16}),
    "strides.pth": _zip(_huge_storage(4, (10**6, 10**6), (0, 0)), **{"0": b"\0" * 16}),
    "bytes.pth": _zip(
        _pickle(b"cbuiltins\nbytearray\n\x8a\x05" + (10**11).to_bytes(5, "little") + b"\x85R.")
    ),
    "memo.pth": _zip(_pickle(b"Nr\xff\xff\xff\x7f.")),
    "bomb.pth": _bomb(),
    "old.pth": pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
    + _huge_storage(10**11, (10**11,), (1,)).replace(b"tQK", b"NtQK"),
    "header.safetensors": struct.pack("<Q", 2**40) + b"{}",
    "tensor.safetensors": struct.pack("<Q", 80)
    + b'{"a":{"dtype":"F32","shape":[25000000000],"data_offsets":[0,100000000000]}}'.ljust(80),
    "blob.caffemodel": nested(100, nested(7, nested(7, nested(1, varint(10**11))), nested(5, b"\0" * 8))),
    "length.caffemodel": varint(100 << 3 | 2) + varint(10**11),
    "string.npy": SAMPLES["x.npy"][:128] + b"\x80\x04\x8d" + struct.pack("<Q", 10**11) + b"a.",
    "memo.npy": SAMPLES["x.npy"][:128] + _pickle(b"Nr\xff\xff\xff\x7f."),
    "header.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Each file of HUGE loaded in one process that may take 1.5 GB of addresses more than it starts with."""
    folder = tmp_path_factory.mktemp("huge")
    for name, content in HUGE.items():
        (folder / name).write_bytes(content)
    script = f"""
import resource, sys
from pathlib import Path
from cnncodes.weights import load_weights
from cnncodes.core.errors import CnnCodesError
load_weights("random:0", network="alexnet-tf")
import numpy, torch, safetensors.torch, pickletools, zipfile
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 3 * 2**29, taken + 3 * 2**29))
for path in sorted(Path({str(folder)!r}).iterdir()):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_weights(path)
        outcome = "loaded"
    except CnnCodesError as error:
        outcome = type(error).__name__
    except BaseException as error:
        outcome = "bare " + type(error).__name__
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(path.name, outcome.replace(" ", "_"), grown // 1024, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_that_are_only_declared_take_no_memory(outcomes, name):
    outcome, megabytes = outcomes[name]
    assert outcome in ("WeightsError", "WeightsMismatchError")
    assert int(megabytes) < 100


@formats
def test_memory_stays_near_the_size_of_the_file(name, tmp_path):
    path = tmp_path / name
    padded = SAMPLES[name] + b"\0" * (4 << 20)
    path.write_bytes(padded)
    tracemalloc.start()
    try:
        with pytest.raises(CnnCodesError):
            load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(padded)
    finally:
        tracemalloc.stop()


def test_a_bomb_is_known_by_its_compression(tmp_path):
    (tmp_path / "bomb.pth").write_bytes(HUGE["bomb.pth"])
    with pytest.raises(WeightsError, match="larger than the file"):
        load_weights(tmp_path / "bomb.pth")
