"""Receptive fields against those that gradients find, pixel by pixel."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cnncodes.networks import Convolution, Linear, Network, TorchNetwork, get_network, receptive_fields


def thin(network: Network) -> Network:
    """The same geometry with as few channels as its groups allow."""
    stages = []
    for stage in network.stages:
        if isinstance(stage, Convolution):
            stages.append(replace(stage, channels=2))
        elif isinstance(stage, Linear):
            stages.append(replace(stage, features=2))
        else:
            stages.append(stage)
    return replace(network, stages=tuple(stages))


@pytest.fixture
def averaging(monkeypatch):
    """Pooling that hands its gradient to all of a window, not only to the largest: the field is what a unit can see."""

    def average(value, kernel, stride, ceil_mode):
        return F.avg_pool2d(value, kernel, stride, ceil_mode=ceil_mode)

    monkeypatch.setattr("cnncodes.networks.torch_network.F.max_pool2d", average)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "side"),
    [("alexnet", 224), ("alexnet", 197), ("alexnet2012", 227), ("caffenet", 210), ("alexnet-tf", 224), ("vgg16", 107)],
)  # fmt: skip
def test_fields_are_those_that_gradients_find(averaging, name, side):
    """Of units at both borders and inside: where no pixel is missing, none too many, at every stage."""
    record = thin(get_network(name))
    network = TorchNetwork(record).double()
    for parameter in network.parameters():  # all positive: nothing cancels, and every ReLU is open
        torch.nn.init.constant_(parameter, 0.01)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).double() + 0.5
    pixels.requires_grad_()
    fields = receptive_fields(record, side)
    maps = network.activations(pixels, record.stage_names)
    assert set(fields) == set(maps)
    for stage, values in maps.items():
        spans = fields[stage].spans
        assert len(spans) == (values.shape[-1] if values.dim() == 4 else 1)
        row_of_one = {
            0: len(spans) - 1,
            1: 0,
            len(spans) // 2: len(spans) // 2,
            len(spans) - 1: len(spans) // 3,
        }
        for row, column in row_of_one.items():
            if max(row, column) >= len(spans):
                continue
            value = values[0, 0, row, column] if values.dim() == 4 else values[0, 0]
            (gradient,) = torch.autograd.grad(value, pixels, retain_graph=True)
            seen = gradient[0].abs().sum(0) > 0
            box = torch.zeros_like(seen)
            (top, bottom), (left, right) = spans[row], spans[column]
            box[top:bottom, left:right] = True
            assert torch.equal(seen, box), (stage, row, column)


def test_a_whole_field_is_size_pixels_around_its_centre():
    fields = receptive_fields(get_network("alexnet"))
    assert (fields["pool5"].size, fields["pool5"].jump) == (195, 32)
    field = fields["conv3"]
    start, stop = field.spans[6]
    assert stop - start == field.size == 99 and (start + stop - 1) / 2 == field.centres[6]
    assert fields["fc7"].spans == fields["fc6"].spans == ((0, 224),)
