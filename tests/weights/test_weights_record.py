"""What travels with the numbers, what their fingerprint sees, and the network they make."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnncodes.core.errors import WeightsMismatchError
from cnncodes.weights import build_network, load_weights


@pytest.fixture(scope="module")
def weights():
    return load_weights("random:0", network="alexnet-tf")


def test_importing_the_room_and_listing_loads_neither_torch_nor_numpy():
    code = (
        "import sys, cnncodes.weights as weights; weights.list_weights(); "
        "sys.exit(int(any(name in sys.modules for name in ('torch', 'numpy', 'safetensors', 'torchvision'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_weights_does_not_import_torchvision(tmp_path):
    code = (
        "import sys; from cnncodes.weights import load_weights, build_network; "
        "build_network(load_weights('random:0', network='alexnet-tf')); sys.exit(int('torchvision' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_fingerprint_is_the_documented_sha256(weights):
    digest = hashlib.sha256()
    for key in sorted(weights.tensors):
        values = weights.tensors[key].numpy()
        digest.update(f"{key} float32 {list(values.shape)}\n".encode() + values.astype("<f4").tobytes())
    assert weights.fingerprint == digest.hexdigest()


def test_the_fingerprint_sees_a_single_bit_a_key_and_a_shape(weights):
    key = "conv3.weight"
    bit = weights.tensors[key].clone()
    bit.view(-1)[7] = torch.nextafter(bit.view(-1)[7], torch.tensor(1.0))
    renamed = {("conv9.weight" if name == key else name): tensor for name, tensor in weights.tensors.items()}
    reshaped = weights.tensors | {
        key: weights.tensors[key].transpose(0, 1).contiguous().reshape(384, 3, 64, 3, 3)
    }
    prints = [replace(weights, tensors=weights.tensors | {key: bit}).fingerprint]
    prints += [replace(weights, tensors=other).fingerprint for other in (renamed, reshaped)]
    assert len({weights.fingerprint, *prints}) == 4


def test_the_network_holds_the_tensors_themselves_and_is_ready_to_compute(weights):
    network = build_network(weights)
    assert not network.training
    for key, parameter in network.state_dict(keep_vars=True).items():
        assert parameter.data_ptr() == weights.tensors[key].data_ptr()
        assert not parameter.requires_grad
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 256, 6, 6)


def test_tensors_of_another_network_are_refused(weights):
    with pytest.raises(WeightsMismatchError, match="network 'vgg16'"):
        build_network(replace(weights, network="vgg16"))


def test_codes_of_random_weights_are_neither_dead_nor_exploding():
    pixels = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32))
    for stage, value in build_network(load_weights("random:0")).activations(pixels, "all").items():
        assert 0.1 < value.std() < 10, stage
        assert (value > 0).float().mean() > 0.4, stage
