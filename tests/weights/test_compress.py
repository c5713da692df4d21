"""Weights compressed to a few bits: small, close to the original, the same bits everywhere, and safe to read."""

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError, WeightsError
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.weights import (
    Preprocessing,
    Weights,
    check,
    compress,
    compression_report,
    convert,
    load_weights,
    save_compressed,
    stage_outputs,
)
from cnncodes.weights.compressed_file import MAGIC, START, to_bytes
from cnncodes.weights.compression import low_rank, relative_error
from cnncodes.weights.quantise import (
    EXACT,
    Factors,
    Rows,
    largest,
    largest_rank,
    pack_scales,
    quantise_factors,
    quantise_rows,
    unpack_scales,
)

RANK = 12


def little(classes: int = 40) -> Network:
    """Wide enough that its fully connected matrices are worth factors; 0.3 million numbers."""
    return Network(
        "little",
        32,
        (
            Convolution("conv1", 16, kernel=5, stride=2, padding=2),
            MaxPool("pool1", kernel=3, stride=2),
            Convolution("conv2", 32, kernel=3, padding=1),
            Linear("fc6", 300, pool_to=4),
            Linear("fc7", 250),
            Linear("fc8", classes, relu=False),
        ),
    )


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "little", little)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield little()
    torch.set_num_threads(before)


@pytest.fixture
def weights(network):
    """Of rank 12 in fc6 to fc8, as a network that was trained so."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for key, shape in network.tensor_shapes().items():
        if len(shape) == 2:
            left = torch.randn(shape[0], RANK, generator=generator)
            tensors[key] = left @ torch.randn(RANK, shape[1], generator=generator) / 50
        else:
            tensors[key] = torch.randn(shape, generator=generator) / 10
    return Weights(
        network="little",
        name="mine",
        tensors=tensors,
        preprocessing=Preprocessing(resize=40, crop=32),
        classes=tuple(f"class {place} é" for place in range(40)),
        source="trained for this test",
        seen=(7, 2**64 - 1),
    )


@pytest.fixture
def path(weights, tmp_path):
    save_compressed(compress(weights, bits=6), tmp_path / "small.cnnz")
    return tmp_path / "small.cnnz"


# ------------------------------------------------------------------ what comes back


def test_everything_that_travels_comes_back_and_the_numbers_are_close(weights, path):
    loaded = load_weights(path)
    for name in ("network", "preprocessing", "classes", "seen"):
        assert getattr(loaded, name) == getattr(weights, name), name
    assert weights.source in loaded.source and "6 bits, rank 12" in loaded.source, (
        "what was done to them is said"
    )
    for key, tensor in weights.tensors.items():
        error = relative_error(tensor, loaded.tensors[key])
        assert error == 0 if key.endswith("bias") else error < 0.06, key


def test_the_file_gives_back_the_bits_that_compress_announced(weights, path):
    announced = compress(weights, bits=6).weights
    assert load_weights(path).fingerprint == announced.fingerprint != weights.fingerprint
    assert all(
        torch.equal(tensor, load_weights(path).tensors[key]) for key, tensor in announced.tensors.items()
    )


def test_the_same_weights_give_the_same_file(weights, path, tmp_path):
    save_compressed(compress(weights, bits=6), tmp_path / "again.cnnz")
    assert (tmp_path / "again.cnnz").read_bytes() == path.read_bytes()


def test_fewer_bits_are_smaller_and_further_away(weights):
    pixels = np.random.default_rng(2).normal(0, 1, (4, 3, 32, 32)).astype(np.float32)
    made = [compress(weights, bits=bits) for bits in (8, 6, 4)]
    sizes = [len(to_bytes(compressed)) for compressed in made]
    assert sizes == sorted(sizes, reverse=True)
    exact = stage_outputs(weights, pixels, ("fc7", "fc8"))
    outputs = [stage_outputs(compressed.weights, pixels, ("fc7", "fc8")) for compressed in made]
    for stage in ("fc7", "fc8"):
        size = np.linalg.norm(exact[stage])
        errors = [np.linalg.norm(found[stage] - exact[stage]) / size for found in outputs]
        assert 0 < errors[0] < 0.05
        assert errors == sorted(errors)


def test_low_rank_weights_are_many_times_smaller_than_whole_matrices_of_as_many_bits(weights):
    report = compression_report(weights, compress(weights), bits=8)
    whole = replace(weights, tensors={key: torch.randn(t.shape) for key, t in weights.tensors.items()})
    assert [tensor.rank for tensor in report.tensors if tensor.key.endswith("weight")][2:] == [RANK] * 3
    assert report.bytes * 3 < len(to_bytes(compress(whole)))
    assert report.bytes > sum(tensor.bytes for tensor in report.tensors)
    assert report.ratio == pytest.approx(report.original_bytes / report.bytes)


def test_without_a_low_rank_whole_matrices_stay_and_a_rank_cuts_them_as_well_as_an_exact_svd():
    matrix = torch.randn(200, 300, generator=torch.Generator().manual_seed(3))
    assert low_rank(matrix, 100, needs_all=True) is None
    left, right = low_rank(matrix, 60, needs_all=False)
    values = torch.linalg.svdvals(matrix)
    best = float(values[60:].norm() / values.norm())  # Eckart and Young 1936
    assert best <= relative_error(matrix, torch.from_numpy(left @ right)) < 1.03 * best
    assert np.allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-3), "balanced"


def test_a_rank_that_is_asked_for_is_used_where_it_saves(weights):
    report = compression_report(weights, compress(weights, rank=5), rank=5)
    assert {tensor.rank for tensor in report.tensors if len(tensor.shape) == 2} == {5}
    assert all(tensor.error > 0.2 for tensor in report.tensors if tensor.rank), "the loss is told"
    wide = compress(weights, rank=400).stored
    assert {len(wide[f"{stage}.weight"].left) for stage in ("fc6", "fc7")} == {RANK}, (
        "no rank it does not have"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_broken_weights_are_not_compressed(weights, value):
    weights.tensors["fc7.weight"][3, 4] = value
    with pytest.raises(WeightsError, match=r"fc7\.weight"):
        compress(weights)


def test_zeros_stay_zeros(weights):
    weights.tensors["fc6.weight"][7] = 0
    weights.tensors["fc7.weight"][:] = 0
    weights.tensors["conv2.weight"][1] = 0
    found = compress(weights, bits=4).weights.tensors
    assert not found["fc6.weight"][7].any() and not found["fc7.weight"].any()
    assert not found["conv2.weight"][1].any()


@pytest.mark.parametrize(
    "options", [{"bits": 3}, {"bits": 9}, {"rank": 0}, {"rank": 1041}, {"rank": 5000, "bits": 7}]
)
def test_options_out_of_range_are_refused(weights, options):
    with pytest.raises(OptionError):
        compress(weights, **options)


# ------------------------------------------------------------------ the same bits everywhere


@pytest.fixture(scope="module")
def factors():
    """At the largest rank and with the largest integers, where a sum is nearest to what float32 can hold."""
    rng = np.random.default_rng(0)
    rank, top = largest_rank(8), largest(8)
    left = rng.integers(-top, top + 1, (rank, 190)).astype(np.int8)
    right = rng.integers(-top, top + 1, (rank, 230)).astype(np.int8)
    left[:, 0], right[:, 0], left[:, 1] = top, top, 0
    scales = [rng.uniform(1e-5, 1e-2, size).astype(np.float32) for size in (190, 230)]
    return Factors(left, right, *(unpack_scales(pack_scales(scale)) for scale in scales))


def test_products_are_exact_so_that_any_machine_gets_the_same_bits(factors):
    sums = factors.left.astype(np.int64).T @ factors.right.astype(np.int64)
    assert EXACT - 20_000 < np.abs(sums).max() < EXACT, "the hardest case there is"
    expected = sums.astype(np.float32) * factors.row_scale[:, None] * factors.column_scale
    assert factors.decode().numpy().tobytes() == expected.tobytes()


def test_the_order_of_the_sum_the_library_and_the_threads_change_nothing(factors):
    decoded = factors.decode()
    order = np.random.default_rng(1).permutation(len(factors.left))
    shuffled = replace(factors, left=factors.left[order], right=factors.right[order])
    assert torch.equal(shuffled.decode(), decoded)

    left, right = factors.left.astype(np.float32).T, factors.right.astype(np.float32)
    whole = left @ right * factors.row_scale[:, None] * factors.column_scale
    blocks = np.concatenate([left[:, k : k + 7] @ right[k : k + 7] for k in (0,)], axis=0)
    for k in range(7, len(right), 7):
        blocks = blocks + left[:, k : k + 7] @ right[k : k + 7]
    assert np.array_equal(whole, decoded.numpy())
    assert np.array_equal(blocks * factors.row_scale[:, None] * factors.column_scale, decoded.numpy())

    for threads in (2, 3, 1):
        torch.set_num_threads(threads)
        assert torch.equal(factors.decode(), decoded)


def test_a_sum_of_zeros_is_never_minus_zero(factors):
    """-0 and +0 are equal but have other bits, and so another fingerprint."""
    decoded = factors.decode()
    assert not decoded[1].any() and not torch.signbit(decoded[1]).any()
    rows = Rows(np.array([[0, -5], [0, 0]], np.int8), np.array([0.5, 1], np.float32)).decode()
    assert torch.signbit(rows).tolist() == [[False, True], [False, False]]


def test_processors_with_other_instructions_give_the_same_bits(factors, tmp_path):
    """An ordinary float32 product differs between them, and a fingerprint with it."""
    np.savez(tmp_path / "factors.npz", **vars(factors))
    code = (
        "import hashlib, sys, numpy, torch; from cnncodes.weights.quantise import Factors; "
        "torch.set_num_threads(2); stored = Factors(**numpy.load(sys.argv[1])); "
        "print(hashlib.sha256(stored.decode().numpy()).hexdigest())"
    )
    older = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"}
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "factors.npz"],
        capture_output=True, text=True, check=True, env=os.environ | older,
    )  # fmt: skip
    assert ran.stdout.strip() == hashlib.sha256(factors.decode().numpy()).hexdigest()


@given(bits=st.integers(4, 8), seed=st.integers(0, 10**6), power=st.integers(-30, 30))
@settings(max_examples=30, derandomize=True)
def test_rounding_is_never_off_by_more_than_half_a_step(bits, seed, power):
    tensor = torch.randn(5, 9, generator=torch.Generator().manual_seed(seed)) * 2.0**power
    stored = quantise_rows(tensor, bits)
    assert np.abs(stored.values).max() <= largest(bits)
    step = torch.from_numpy(stored.scale)[:, None]
    assert bool(((stored.decode() - tensor).abs() <= 0.501 * step).all())
    assert bool((step <= 1.01 * tensor.abs().amax(1, keepdim=True) / largest(bits)).all()), (
        "no finer step would do"
    )
    again = quantise_rows(stored.decode(), bits)
    assert relative_error(stored.decode(), again.decode()) < 1 / largest(bits), (
        "compressing twice is no disaster"
    )


def test_factors_are_rounded_with_a_scale_per_output_and_per_input():
    left, right = np.float32([[1, 0.1], [1000, 50]]), np.float32([[1, 100], [2, 30]])
    decoded = quantise_factors(left, right, 8).decode().numpy()
    assert np.abs(decoded / (left @ right) - 1).max() < 0.02, (
        "small rows and columns are not drowned by large ones"
    )


# ------------------------------------------------------------------ a file like any other


def test_it_works_where_other_weights_do(weights, path, tmp_path):
    assert check(path).fingerprint == load_weights(path).fingerprint
    convert(path, tmp_path / "large.safetensors")
    assert load_weights(tmp_path / "large.safetensors").fingerprint == load_weights(path).fingerprint


def test_nothing_is_overwritten_unasked_and_a_wrong_name_is_refused(weights, path, tmp_path):
    with pytest.raises(OutputExistsError):
        save_compressed(compress(weights), path)
    with pytest.raises(OptionError):
        save_compressed(compress(weights), tmp_path / "small.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.cnnz"]
    before = path.stat().st_size
    assert save_compressed(compress(weights, bits=4), path, overwrite=True) == path.stat().st_size < before


# ------------------------------------------------------------------ damaged and hostile files


def opened(path):
    """The header and the streams of a file."""
    content = path.read_bytes()
    length = int.from_bytes(content[START - 4 : START], "little")
    return json.loads(content[START : START + length]), content[START + length :]


def seal(path, record, streams):
    """Write a file whose sha256 is right whatever it holds, so that the checks behind it are reached."""
    header = json.dumps(record).encode()
    rest = len(header).to_bytes(4, "little") + header + streams
    path.write_bytes(MAGIC + hashlib.sha256(rest).digest() + rest)


def refused(path):
    with pytest.raises(CnnCodesError) as caught:
        load_weights(path)
    assert path.name in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    content = path.read_bytes()
    for end in [*range(0, 60), *range(60, len(content), len(content) // 50), len(content) - 1]:
        path.write_bytes(content[:end])
        refused(path)
    path.write_bytes(content + b"\0")
    refused(path)


@given(data=st.data())
@settings(
    max_examples=60,
    derandomize=True,
)
def test_one_altered_byte_is_noticed(path, data):
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    altered = bytearray(content)
    altered[place] ^= data.draw(st.integers(1, 255))
    other = path.with_name("altered.cnnz")
    other.write_bytes(altered)
    refused(other)


def test_altered_numbers_are_noticed_even_under_a_right_sha256(path):
    record, streams = opened(path)
    for place in range(0, len(streams), len(streams) // 60):
        altered = bytearray(streams)
        altered[place] ^= 16
        seal(path, record, bytes(altered))
        refused(path)


def _set(record, where, value):
    for step in where[:-1]:
        record = record[step]
    record[where[-1]] = value


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["format"], 2),
        (["network"], "resnet"),
        (["network"], ["alexnet"]),
        (["network"], "alexnet"),
        (["shapes"], []),
        (["shapes", "fc8.weight"], [2**39, 250]),
        (["shapes", "fc8.weight"], [40, -250]),
        (["shapes", "fc8.weight"], [True, 250]),
        (["shapes", "extra"], [4]),
        (["tensors"], {}),
        (["tensors", "fc7.weight"], 5),
        (["tensors", "fc7.weight", 0], "pickle"),
        (["tensors", "fc7.weight", 0], ["rows"]),
        (["tensors", "fc7.weight", 0], "rows"),
        (["tensors", "fc7.weight", 1], 64),
        (["tensors", "fc7.weight", 1], 4),
        (["tensors", "fc7.weight", 2], 1000),
        (["tensors", "fc7.weight", 2], 11),
        (["tensors", "fc7.weight", 2], 12.0),
        (["tensors", "fc7.weight", 3], [1, 2]),
        (["tensors", "fc7.weight", 3], None),
        (["tensors", "fc7.weight", 3, 0], 2**40),
        (["fingerprint"], "0" * 64),
        (["fingerprint"], None),
        (["classes"], [1, 2]),
        (["preprocessing"], {"crop": -1}),
    ],
)
def test_a_header_that_lies_is_refused(path, where, value):
    record, streams = opened(path)
    _set(record, where, value)
    seal(path, record, streams)
    refused(path)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["factors", "little", 12, 2**63]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data())
@settings(
    max_examples=150,
    derandomize=True,
)
def test_whatever_a_header_says_the_numbers_are_right_or_refused(path, data):
    record, streams = opened(path)
    fingerprint, where, value = record["fingerprint"], [], record
    while isinstance(value, dict | list) and value and (not where or data.draw(st.integers(0, 3))):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        where.append(data.draw(st.sampled_from(keys)))
        value = value[where[-1]]
    _set(record, where, data.draw(_json))
    other = path.with_name("other.cnnz")
    seal(other, record, streams)
    try:
        assert load_weights(other).fingerprint == fingerprint
    except CnnCodesError as error:
        assert "other.cnnz" in str(error) and len(str(error)) < 2000


def test_a_file_too_large_to_be_one_is_not_read(path):
    with path.open("r+b") as file:
        file.truncate(2**31)  # takes no space on the disk
    assert "2,147,483,648 bytes" in refused(path)


def test_a_newer_format_asks_for_a_newer_version(path):
    record, streams = opened(path)
    seal(path, {**record, "format": 2}, streams)
    assert "newer version" in refused(path)


def test_a_small_file_cannot_claim_much_memory(path):
    """A thousand bytes that claim a hundred million numbers are refused before these are made."""
    record, streams = opened(path)
    for classes in (1_000_000, 10**9, 10**12):
        for key in ("fc8.weight", "fc8.bias"):
            record["shapes"][key][0] = classes
        seal(path, record, streams)
        tracemalloc.start()
        refused(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * 2**20


@given(content=st.binary(max_size=200))
@settings(
    max_examples=60,
    derandomize=True,
)
def test_noise_is_refused(tmp_path, content):
    path = tmp_path / "noise.cnnz"
    for start in (b"", MAGIC, MAGIC + hashlib.sha256(content).digest()):
        path.write_bytes(start + content)
        refused(path)
