"""What the networks compute: against torchvision, a float64 loop, and each stage asked alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import alexnet
from torchvision.models.feature_extraction import create_feature_extractor

from cnncodes.core.errors import StageError
from cnncodes.networks import LocalResponseNorm, get_network
from cnncodes.networks.torch_network import local_response_norm
from cnncodes.weights import build_network


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def torchvisions(random_weights):
    with torch.device("meta"):
        network = alexnet(weights=None)
    network.load_state_dict(random_weights.tensors, assign=True)
    return network.eval()


def test_the_in_place_trap(random_weights, torchvisions, pixels):
    """Torchvision's in-place ReLU overwrites the layer before it; ours gives the same, whatever else is asked."""
    with torch.inference_mode():
        alone = create_feature_extractor(torchvisions, ["classifier.4"])(pixels)["classifier.4"]
        both = create_feature_extractor(torchvisions, ["classifier.4", "classifier.5"])(pixels)
        ours = build_network(random_weights)
        one = ours.activations(pixels, "classifier.4")["fc7:linear"]
        two = ours.activations(pixels, "classifier.4,classifier.5")
    assert torch.equal(both["classifier.4"], both["classifier.5"]), "torchvision mended it: tell the README"
    assert not torch.equal(both["classifier.4"], alone)

    assert torch.equal(two["fc7:linear"], one)
    assert torch.equal(two["fc7"], one.relu())
    assert (one < 0).any()
    torch.testing.assert_close(one, alone, rtol=1e-5, atol=1e-5 * alone.abs().max().item())
    ours.load_state_dict(torchvisions.state_dict())
    with torch.inference_mode():
        logits = torchvisions(pixels)
        last = ours.activations(pixels, "fc8")["fc8"]
    torch.testing.assert_close(last, logits, rtol=1e-5, atol=1e-5 * logits.abs().max().item())


def test_what_a_stage_gives_never_depends_on_what_else_was_asked(random_weights, pixels):
    network = build_network(random_weights)
    names = [*network.network.stage_names, *(f"{s.name}:linear" for s in network.network.stages if s.relu)]
    with torch.inference_mode():
        together = network.activations(pixels, names)
        assert list(together) == names
        for name in ("conv1:linear", "conv1", "conv5:linear", "pool5", "fc7:linear", "fc7"):
            assert torch.equal(network.activations(pixels, name)[name], together[name]), name
    assert torch.equal(pixels, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))


def test_the_pass_stops_after_the_deepest_stage(random_weights, pixels):
    network = build_network(random_weights)
    del network.classifier  # what lies deeper is not even looked at
    with torch.inference_mode():
        assert list(network.activations(pixels, "pool5,conv1")) == ["pool5", "conv1"]
        with pytest.raises(AttributeError):
            network.activations(pixels, "fc6")


def test_nothing_asked_is_nothing_computed(random_weights):
    assert build_network(random_weights).activations(torch.empty(0), "none") == {}


def test_a_wrong_stage_is_refused(random_weights, pixels):
    with pytest.raises(StageError, match="fc7"):
        build_network(random_weights).activations(pixels, "fc77")


def naive_norm(value: np.ndarray, n: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Krizhevsky et al. 2012, section 3.3, term by term in float64; ``value`` is [channels, pixels]."""
    channels = len(value)
    result = np.empty(value.shape)
    for i in range(channels):
        total = np.zeros(value.shape[1:])
        for j in range(max(0, i - n // 2), min(channels - 1, i + n // 2) + 1):
            total += value[j].astype(np.float64) ** 2
        result[i] = value[i] / (k + alpha * total) ** beta
    return result


@pytest.mark.parametrize("channels", [1, 3, 5, 96])
@pytest.mark.parametrize(
    "stage", [LocalResponseNorm("norm1"), LocalResponseNorm("norm1", n=3, alpha=2e-5, beta=0.5, k=1.0)]
)
def test_local_response_norm_is_the_papers(channels, stage):
    rng = np.random.default_rng(0)
    value = (rng.normal(0, 60, (2, channels, 4, 5))).astype(np.float32)
    found = local_response_norm(torch.from_numpy(value), stage)
    for image in range(2):
        expected = naive_norm(value[image], stage.n, stage.alpha, stage.beta, stage.k)
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=2e-6)
    # torch divides its alpha by n
    theirs = F.local_response_norm(
        torch.from_numpy(value), stage.n, stage.alpha * stage.n, stage.beta, stage.k
    )
    torch.testing.assert_close(found, theirs, rtol=2e-6, atol=1e-6)


def test_norms_of_the_papers_network_and_of_caffes():
    paper, caffe = get_network("alexnet2012").stage("norm1"), get_network("bvlc_alexnet").stage("norm1")
    assert (paper.n, paper.alpha, paper.beta, paper.k) == (5, 1e-4, 0.75, 2.0)
    assert (caffe.n, caffe.alpha * caffe.n, caffe.beta, caffe.k) == (5, 1e-4, 0.75, 1.0)
    order = {name: get_network(name).stage_names[:3] for name in ("alexnet2012", "bvlc_alexnet", "caffenet")}
    assert order == {
        "alexnet2012": ("conv1", "norm1", "pool1"),
        "bvlc_alexnet": ("conv1", "norm1", "pool1"),
        "caffenet": ("conv1", "pool1", "norm1"),
    }


def test_half_precision_does_not_overflow_in_the_norm():
    value = torch.full((1, 8, 2, 2), 300.0)  # 300^2 is beyond float16
    found = local_response_norm(value.half(), LocalResponseNorm("norm1"))
    assert found.dtype == torch.float16
    torch.testing.assert_close(
        found.float(), local_response_norm(value, LocalResponseNorm("norm1")), rtol=1e-3, atol=0
    )


def test_the_network_of_tensorflow_gives_numbers_of_the_shapes_that_it_states(light_weights):
    network = light_weights.architecture
    size = network.fitting_sizes[0]
    with torch.inference_mode():
        found = build_network(light_weights).activations(torch.randn(1, 3, size, size), "all")
    assert {stage: tuple(value.shape[1:]) for stage, value in found.items()} == network.output_shapes(size)
    assert all(value.isfinite().all() for value in found.values())
