"""The weights that come with the package: there without a network, small, and always the same numbers."""

from __future__ import annotations

import pytest
import torch

from cnncodes.core.errors import WeightsMismatchError
from cnncodes.weights import build_network, list_weights, load_weights
from cnncodes.weights.published import STARTER_FILE

# Every codes file and model that was made with them names this fingerprint: another one would orphan them.
FINGERPRINT = "4720679cfbf0f86af58de51292d5ec508f77679efad80a8bba5a5dd91db9facd"


@pytest.fixture(scope="module")
def starter():
    return load_weights("starter")


def test_starter_is_here_and_the_same_everywhere(starter):
    assert starter.fingerprint == FINGERPRINT and starter.name == "starter"
    assert starter.network == "alexnet" and len(starter.classes) == 1000
    assert starter.preprocessing.crop == 224
    assert "MobileNet" in starter.source


def test_starter_fits_into_a_wheel():
    assert STARTER_FILE.stat().st_size < 8e6
    line = next(line for line in list_weights() if line.name == "starter")
    assert line.present and line.size == STARTER_FILE.stat().st_size and "docs/starter.md" in line.terms


def test_starter_has_learned(starter):
    """Units differ and answer to pictures; a damaged or untrained network would not tell these apart."""
    flat = torch.zeros(1, 3, 224, 224)
    stripes = torch.zeros(1, 3, 224, 224)
    stripes[:, :, ::8] = 2.0
    with torch.inference_mode():
        found = build_network(starter).activations(torch.cat([flat, stripes]), "conv1,fc7,fc8")
    assert 0.05 < (found["fc7"] > 0).float().mean() < 0.95
    assert torch.cosine_similarity(found["fc7"][:1], found["fc7"][1:]).item() < 0.9
    assert (found["fc8"].softmax(1).max(1).values < 0.9).all()


def test_starter_has_one_network():
    with pytest.raises(WeightsMismatchError, match="not of vgg16"):
        load_weights("starter", network="vgg16")


def test_the_stages_of_starter_vary_alike(starter):
    """At scales that differ by tens, fine-tuning at the rates of the recipes ends at chance."""
    pixels = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = build_network(starter).activations(pixels, "conv1-5,fc6,fc7")
    for stage, value in found.items():
        assert 0.05 < value.std() < 5, stage
