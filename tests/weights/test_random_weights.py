"""`random:SEED` must give the same numbers on every machine, for ever."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnncodes.core.errors import NetworkError, OptionError
from cnncodes.networks import get_network
from cnncodes.weights import TORCHVISION_PREPROCESSING, load_weights
from cnncodes.weights.resolve import parse_seed


def test_the_numbers_never_change():
    """Copied by hand from the first version: a change here takes their weights from all files of codes."""
    weights = load_weights("random:0")
    first = weights.tensors["features.0.weight"].flatten()[:4]
    assert [value.hex() for value in first.double().tolist()] == FIRST
    assert weights.fingerprint == "f3b6499ecb7e81534d8c753ef55d4ff55af3dd32c269d45886511558cb83bb1f"
    assert load_weights("random:1", network="alexnet-tf").fingerprint == SMALL


FIRST = ["0x1.e1b5360000000p-4", "-0x1.dfc7780000000p-4", "0x1.548ddc0000000p-6", "-0x1.da519c0000000p-5"]
SMALL = "7db20b28ff8c5b3cbd6a487b164b83ff550fd2b16c236d44132ccd3773eae905"


def test_the_numbers_follow_their_definition():
    """Philox-4x64-10 written out again, from Salmon et al. 2011, for the first block of a tensor."""
    key = int.from_bytes(
        hashlib.sha256(b"cnncodes random 5 conv2.bias-of-nothing.weight").digest()[:16], "little"
    )
    words = _philox(1, key)  # numpy counts before it draws
    assert [int(word) for word in np.random.Philox(key=key).random_raw(4)] == words

    weights = load_weights("random:5", network="alexnet-tf")
    key = int.from_bytes(hashlib.sha256(b"cnncodes random 5 conv2.weight").digest()[:16], "little")
    halves = [half for word in _philox(1, key) for half in (word & 0xFFFFFFFF, word >> 32)]
    bound = math.sqrt(6 / (64 * 25))
    expected = [np.float32(2 * (half >> 8) + 1 - 2**24) * np.float32(bound / 2**24) for half in halves]
    assert weights.tensors["conv2.weight"].flatten()[:8].tolist() == [float(value) for value in expected]


def _philox(counter: int, key: int) -> list[int]:
    mask = 2**64 - 1
    x = [counter & mask, 0, 0, 0]
    k = [key & mask, key >> 64]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return x


def test_weights_are_uniform_with_the_variance_of_he_et_al_and_biases_are_zero():
    weights = load_weights("random:2", network="alexnet-tf")
    for key, tensor in weights.tensors.items():
        if key.endswith("bias"):
            assert not tensor.any()
            continue
        fan_in = math.prod(tensor.shape[1:])
        assert tensor.abs().max() <= math.sqrt(6 / fan_in)
        spread = 6 / math.sqrt(tensor.numel())  # six standard errors
        assert abs(tensor.mean() / math.sqrt(2 / fan_in)) < spread
        assert abs(tensor.var() / (2 / fan_in) - 1) < spread
        parts = torch.histc(tensor, bins=8) / tensor.numel()
        assert (parts - 1 / 8).abs().max() < spread


def test_tensors_and_seeds_are_independent_of_one_another():
    here, there = (
        load_weights("random:0", network="alexnet-tf"),
        load_weights("random:1", network="alexnet-tf"),
    )
    rows = [
        weights.tensors[f"conv{n}.weight"].flatten()[:20000] for weights in (here, there) for n in range(1, 6)
    ]
    correlations = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert correlations.abs().max() < 6 / math.sqrt(20000)


@pytest.mark.parametrize("name", ["alexnet-tf", "alexnet2012"])
def test_preprocessing_has_the_networks_own_input_size(name):
    record = load_weights("random:0", network=name).preprocessing
    assert record.crop == get_network(name).input_size
    assert (record.mean, record.std, record.channels, record.resize) == (
        TORCHVISION_PREPROCESSING.mean,
        TORCHVISION_PREPROCESSING.std,
        "RGB",
        256,
    )


def test_random_weights_say_what_they_are():
    weights = load_weights("random:9", network="alexnet-tf")
    assert (weights.network, weights.name, weights.origin) == ("alexnet-tf", "random:9", "random")
    assert weights.source == "random numbers, untrained (Philox, Kaiming uniform, seed 9)"


@pytest.mark.parametrize(
    "name", ["random", "random:", "random:-1", "random:x", "random:1.0", "random:٣", "random: 1"]
)
def test_a_bad_seed_is_a_wrong_option(name):
    with pytest.raises(OptionError, match="random:0"):
        load_weights(name)
    with pytest.raises(OptionError):
        parse_seed(f"random:{2**63}")


def test_an_unknown_network_is_named():
    with pytest.raises(NetworkError, match="alexnet"):
        load_weights("random:0", network="alexnett")


@given(st.integers(0, 2**63 - 1))
def test_every_seed_keeps_its_name(seed):
    assert parse_seed(f"random:{seed}") == parse_seed(f"random:{seed:019d}") == seed
