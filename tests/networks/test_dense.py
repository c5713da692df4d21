"""The fully convolutional form gives what the network gives on every window, whatever its first fully connected stage reads."""

import pytest
import torch

from cnncodes.core.errors import InputSizeError
from cnncodes.networks import (
    Convolution,
    Linear,
    LocalResponseNorm,
    MaxPool,
    Network,
    TorchNetwork,
    get_network,
)
from cnncodes.networks.dense import DenseNetwork, adaptive_average, dense_bytes, window_places


def network_of(name: str) -> TorchNetwork:
    """Small networks of the three makes: pooled on average before fc6, ceil mode with norms and groups, VGG's blocks."""
    ends = (Linear("fc7", 12), Linear("fc8", 5, relu=False))
    stages = {
        "alexnet": (
            Convolution("conv1", 8, kernel=5, stride=2, padding=2), MaxPool("pool1"),
            Convolution("conv5", 6, kernel=3, padding=1), MaxPool("pool5"), Linear("fc6", 16, pool_to=3), *ends,
        ),
        "caffenet": (
            Convolution("conv1", 8, kernel=5, stride=2), MaxPool("pool1", ceil=True), LocalResponseNorm("norm1", alpha=0.1),
            Convolution("conv5", 6, kernel=3, padding=1, groups=2), MaxPool("pool5", ceil=True), Linear("fc6", 16), *ends,
        ),
        "vgg": (
            Convolution("conv1_1", 8, padding=1), Convolution("conv1_2", 8, padding=1), MaxPool("pool1", kernel=2),
            Convolution("conv2_1", 6, padding=1), MaxPool("pool2", kernel=2), Linear("fc6", 16, pool_to=7), *ends,
        ),
    }[name]  # fmt: skip
    torch.manual_seed(0)
    return TorchNetwork(Network(name, {"alexnet": 32, "caffenet": 35, "vgg": 28}[name], stages)).eval()


@pytest.mark.parametrize(
    ("name", "crop", "grid"),
    [
        ("alexnet", 32, 3),
        ("alexnet", 24, 2),
        ("alexnet", 48, 5),
        ("caffenet", 35, 4),
        ("vgg", 28, 7),
        ("vgg", 20, 5),
    ],
)
def test_every_window_has_the_numbers_of_the_network(name, crop, grid):
    """At the usual crop, below it and above it, where the grid is pooled on average to another size."""
    torch.set_num_threads(1)
    network = network_of(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dense = DenseNetwork(network, crop)
    assert dense.grid == grid
    pixels = torch.randn(2, 3, crop + 16, crop + 33, generator=torch.Generator().manual_seed(1))
    first = next(place for place, stage in enumerate(network.network.stages) if isinstance(stage, Linear))
    with torch.inference_mode():
        last = dense.activations(pixels, network.network.stages[first - 1].name)
        for stage in ("fc6:linear", "fc7", "fc8"):
            maps = dense.activations(pixels, stage)
            assert maps.shape[2] == last.shape[2] - grid + 1 > 1
            for y in range(maps.shape[2]):
                for x in range(maps.shape[3]):
                    value = last[:, :, y : y + grid, x : x + grid]
                    for found in network.network.stages[first:]:
                        linear = network.linear(found, value)
                        value = network.activate(linear) if found.relu else linear
                        if stage.startswith(found.name):
                            break
                    expected = linear if stage.endswith(":linear") else value
                    error = (maps[:, :, y, x] - expected).norm() / expected.norm()
                    assert error < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "vgg"])
def test_an_image_as_large_as_the_crop_gives_the_network_itself(name):
    network = network_of(name)
    crop = network.network.input_size
    pixels = torch.randn(2, 3, crop, crop, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(
            DenseNetwork(network, crop).activations(pixels, "fc8")[:, :, 0, 0], network(pixels)
        )


def test_a_smaller_image_is_refused_with_both_numbers():
    with pytest.raises(InputSizeError, match=r"30 x 24 px .* 32 px"):
        DenseNetwork(network_of("alexnet"), 32).activations(torch.zeros(1, 3, 24, 30), "fc8")


@pytest.mark.parametrize(("incoming", "outgoing"), [(5, 6), (6, 6), (9, 6), (1, 3), (13, 7)])
def test_average_pooling_as_a_matrix_is_that_of_torch(incoming, outgoing):
    row = torch.randn(1, 1, incoming, dtype=torch.float64)
    expected = torch.nn.functional.adaptive_avg_pool1d(row, outgoing)[0, 0]
    torch.testing.assert_close(adaptive_average(incoming, outgoing) @ row[0, 0], expected)


def test_a_bright_spot_moves_the_window_that_is_drawn_there():
    """`window_places` says where in the image a window lies: the gradient of its scores is centred there."""
    network = network_of("vgg")
    dense = DenseNetwork(network, 28)
    first, step = window_places(network.network, "fc8", 28)
    pixels = torch.randn(1, 3, 60, 60, generator=torch.Generator().manual_seed(1)).requires_grad_()
    dense.activations(pixels, "fc8")[0, :, 3, 5].square().sum().backward()
    seen = pixels.grad[0].abs().sum(0).nonzero()
    centre = (seen.min(0).values + seen.max(0).values) / 2
    assert abs(centre[0] - (first + 3 * step)) <= step and abs(centre[1] - (first + 5 * step)) <= step


def test_windows_of_an_early_stage_are_as_far_apart_as_its_units():
    """A head on conv3 slides over conv3's grid, not over pool5's."""
    record = get_network("alexnet")
    first, step = window_places(record, "conv3", 224)
    assert step == 16 and abs(first - 112) <= step
    assert window_places(record, "pool5", 224)[1] == window_places(record, "fc7", 224)[1] == 32


def test_memory_grows_with_the_image():
    record = network_of("alexnet").network
    assert dense_bytes(record, 200, 300, 3) > 3 * dense_bytes(record, 100, 150, 3) > 0
