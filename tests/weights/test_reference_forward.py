"""`alexnet2012` against a forward pass in float64 numpy that shares no code and no library call with ours."""

import numpy as np
import pytest
import torch

from cnncodes.weights import build_network, load_weights


def convolution(x, weight, bias, stride, padding, groups):
    """Cross-correlation by its definition: a sum over the kernel's places. ``x`` is [channels, height, width]."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    targets, sources, kernel, _ = weight.shape
    side = (x.shape[1] - kernel) // stride + 1
    result = np.zeros((targets, side, side))
    for group in range(groups):
        tower = slice(group * targets // groups, (group + 1) * targets // groups)
        inputs = x[group * sources : (group + 1) * sources]
        for row in range(kernel):
            for column in range(kernel):
                seen = inputs[
                    :,
                    row : row + stride * (side - 1) + 1 : stride,
                    column : column + stride * (side - 1) + 1 : stride,
                ]
                result[tower] += np.tensordot(weight[tower, :, row, column], seen, axes=1)
    return result + bias[:, None, None]


def relu(x):
    return np.where(x > 0, x, 0)


def normalisation(x):
    """Krizhevsky et al. 2012, section 3.3, as printed: k = 2, n = 5, alpha = 1e-4, beta = 0.75."""
    result = np.empty_like(x)
    last = len(x) - 1
    for channel in range(len(x)):
        window = x[max(0, channel - 2) : min(last, channel + 2) + 1]
        result[channel] = x[channel] / (2 + 1e-4 * (window**2).sum(axis=0)) ** 0.75
    return result


def pooling(x):
    """Maximum over 3 x 3, every 2; a window that hangs over the edge counts (Caffe)."""
    side = -(-(x.shape[1] - 3) // 2) + 1
    result = np.empty((len(x), side, side))
    for row in range(side):
        for column in range(side):
            result[:, row, column] = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max(axis=(1, 2))
    return result


def reference(x, weights):
    """Every stage of the paper's network, figure 2 and section 3.5."""
    t = {key: tensor.double().numpy() for key, tensor in weights.tensors.items()}
    geometry = {
        "conv1": (4, 0, 1),
        "conv2": (1, 2, 2),
        "conv3": (1, 1, 1),
        "conv4": (1, 1, 2),
        "conv5": (1, 1, 2),
    }
    stages = {}

    def step(name, value):
        nonlocal x
        stages[name] = x = value

    for name, (stride, padding, groups) in geometry.items():
        step(name, relu(convolution(x, t[f"{name}.weight"], t[f"{name}.bias"], stride, padding, groups)))
        number = name[-1]
        if number in "12":
            step(f"norm{number}", normalisation(x))
        if number in "125":
            step(f"pool{number}", pooling(x))
    x = x.reshape(-1)
    for name in ("fc6", "fc7"):
        step(name, relu(t[f"{name}.weight"] @ x + t[f"{name}.bias"]))
    step("fc8", t["fc8.weight"] @ x + t["fc8.bias"])
    return stages


@pytest.fixture(scope="module")
def weights():
    """Random, the biases too: zero biases would hide a lost one."""
    drawn = load_weights("random:8", network="alexnet2012")
    generator = torch.Generator().manual_seed(0)
    for key, tensor in drawn.tensors.items():
        if key.endswith("bias"):
            tensor.normal_(generator=generator)
    return drawn


def test_every_stage_of_alexnet2012_is_the_papers(weights):
    # Grey levels of +-100, so that the normalisation's sum outweighs its k.
    pixels = torch.randn(1, 3, 227, 227, generator=torch.Generator().manual_seed(1)) * 100
    expected = reference(pixels[0].double().numpy(), weights)
    with torch.inference_mode():
        found = build_network(weights).activations(pixels, "all")
    assert list(found) == list(expected)
    for name, theirs in expected.items():
        ours = found[name][0].double().numpy()
        assert ours.shape == theirs.shape, name
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), name


def test_the_normalisation_mattered_in_that_comparison(weights):
    pixels = torch.randn(1, 3, 227, 227, generator=torch.Generator().manual_seed(1)) * 100
    with torch.inference_mode():
        found = build_network(weights).activations(pixels, "conv1,norm1")
    ratio = (found["norm1"] / found["conv1"])[found["conv1"] > 0]
    assert ratio.max() / ratio.min() > 1.5  # not one constant, as k alone would give
