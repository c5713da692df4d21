"""Factors and 8-bit integers, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cnncodes.core.errors import OptionError, WeightsError, WeightsMismatchError
from cnncodes.networks import get_network
from cnncodes.weights import build_network, convert, load_weights, save_weights
from cnncodes.weights.conversion import expanded, with_rank
from cnncodes.weights.safetensors_file import as_integers, from_integers, read_tensors


@pytest.fixture(scope="module")
def weights(little):
    return load_weights("random:0", network=little)


def test_the_factors_of_a_product_give_the_same_activations(weights):
    low = with_rank(weights, 6)
    plain = expanded(low)
    assert plain.architecture == weights.architecture != low.architecture
    assert sum(t.numel() for t in low.tensors.values()) < sum(t.numel() for t in plain.tensors.values())
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        small, whole = (build_network(each).activations(pixels, "all") for each in (low, plain))
    for stage, value in whole.items():
        torch.testing.assert_close(small[stage], value, rtol=1e-3, atol=1e-4)


def test_ranks_that_change_nothing_or_cannot_be(weights):
    assert with_rank(weights, 10**6).tensors.keys() == weights.tensors.keys()
    smaller = with_rank(with_rank(weights, 6), 3)
    assert {t.shape[1] for key, t in smaller.tensors.items() if key.endswith(".left")} == {3}
    with pytest.raises(OptionError, match="rank of 0"):
        with_rank(weights, 0)
    with pytest.raises(OptionError, match="built by its library"):
        with_rank(load_weights("random:0", network="torchvision/resnet18"), 8)


def test_integers_are_within_half_a_step_and_read_back_the_same(weights, tmp_path):
    low = with_rank(weights, 6)
    stored = as_integers(low.tensors)
    for key, value in from_integers(stored).items():
        step = stored.get(f"{key}.scale", torch.zeros(1))
        assert ((value - low.tensors[key]).abs() <= 0.501 * step).all(), key
    saved = save_weights(low, tmp_path / "a.safetensors", int8=True)
    again = load_weights(tmp_path / "a.safetensors")
    assert again.fingerprint == saved.fingerprint != low.fingerprint
    for key, value in saved.tensors.items():
        assert torch.equal(again.tensors[key], value), key


def test_a_matrix_of_zeros_stays_one():
    zero = {"a.weight": torch.zeros(3, 4), "a.bias": torch.ones(3)}
    assert all(torch.equal(from_integers(as_integers(zero))[key], value) for key, value in zero.items())


@pytest.mark.parametrize("wrong", ["shape", "type", "gone"])
def test_scales_that_do_not_fit_are_refused(weights, tmp_path, wrong):
    from safetensors.torch import save_file

    save_weights(weights, tmp_path / "a.safetensors", int8=True)
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    key = next(key for key in tensors if key.endswith(".scale"))
    if wrong == "gone":
        del tensors[key]
    else:
        tensors[key] = torch.ones(7, 1, 1, 1) if wrong == "shape" else tensors[key].double()
    save_file(tensors, tmp_path / "b.safetensors", metadata)
    with pytest.raises(WeightsError):
        load_weights(tmp_path / "b.safetensors")


def test_factors_of_wrong_shapes_are_of_no_network(weights, tmp_path):
    low = with_rank(weights, 6)
    key = next(key for key in low.tensors if key.endswith(".right"))
    broken = dict(low.tensors) | {key: low.tensors[key][:, :-1].contiguous()}
    save_weights(low, tmp_path / "good.safetensors")
    with pytest.raises(WeightsMismatchError):
        save_weights(replace(low, tensors=broken), tmp_path / "a.safetensors")
        load_weights(tmp_path / "a.safetensors")


def test_convert_returns_what_is_written(weights, little, tmp_path):
    whole = convert(weights, tmp_path / "whole.safetensors")
    made = convert(weights, tmp_path / "a.safetensors", rank=2, int8=True)
    assert made.architecture.stage("fc6").rank == 2
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("a", "whole")]
    assert sizes[0] < 0.5 * sizes[1]
    plain = convert(made, tmp_path / "b.safetensors", expand=True)
    assert plain.architecture == get_network(little) == whole.architecture
