"""The stage table against numbers worked by hand, and against the shapes that torch gives."""

import json

import pytest
import torch

from cnncodes.core.errors import InputSizeError, NetworkError
from cnncodes.networks import NETWORKS, Convolution, MaxPool, TorchNetwork, get_network, stage_table


def test_totals_of_the_one_tower_network():
    table = stage_table(get_network("alexnet"))
    assert table.parameters == 61_100_840
    assert table.multiply_adds == 714_188_480
    assert table.model_bytes == 4 * 61_100_840
    convolutions = [row for row in table.rows if row.kind == "conv"]
    assert sum(row.parameters for row in convolutions) == 2_469_696
    assert sum(row.multiply_adds for row in convolutions) == 655_566_528


def test_stages_of_the_2012_paper():
    table = stage_table(get_network("alexnet2012"))
    rows = {row.name: row for row in table.rows}
    # 227 px: out = (227 - 11) / 4 + 1 = 55; connections = 55^2 (11^2 * 3 + 1) 96
    assert rows["conv1"].shape == (96, 55, 55)
    assert rows["conv1"].connections == 105_705_600
    assert rows["conv1"].parameters == 96 * (11 * 11 * 3 + 1)
    # two groups halve what each filter sees
    assert rows["conv2"].shape == (256, 27, 27)
    assert rows["conv2"].parameters == 256 * (5 * 5 * 48 + 1)
    assert rows["conv2"].connections == 27 * 27 * (5 * 5 * 48 + 1) * 256
    assert rows["conv3"].parameters == 384 * (3 * 3 * 256 + 1)
    assert rows["pool5"].shape == (256, 6, 6)
    assert rows["pool5"].receptive_field == 195  # R-CNN, section 3.1
    assert [rows[name].receptive_field for name in ("conv1", "pool1", "conv2")] == [11, 19, 51]
    assert rows["fc6"].parameters == 9216 * 4096 + 4096
    assert table.parameters == 60_965_224  # the sum that course notes give


def test_vgg16_is_cs231ns_worked_table():
    table = stage_table(get_network("vgg16"))
    rows = {row.name: row for row in table.rows}
    assert table.parameters == 138_357_544
    assert rows["pool5"].shape == (512, 7, 7)
    assert rows["fc6"].parameters == 7 * 7 * 512 * 4096 + 4096
    # The entries of its column "memory". The course adds them up to "24M * 4 bytes ~= 93MB"; their sum is 15.2M.
    values = (
        224 * 224 * (3 + 64 + 64) + 112 * 112 * (64 + 128 + 128) + 56 * 56 * (128 + 3 * 256)
        + 28 * 28 * (256 + 3 * 512) + 14 * 14 * (512 + 3 * 512) + 7 * 7 * 512 + 4096 + 4096 + 1000
    )  # fmt: skip
    assert table.forward_bytes == 4 * values == 60_950_432
    assert table.backward_bytes == 2 * table.forward_bytes


def test_tensorflows_benchmark_network_pads_conv1_to_56():
    rows = {row.name: row for row in stage_table(get_network("alexnet-tf")).rows}
    assert rows["conv1"].shape == (64, 56, 56)
    assert rows["pool1"].shape == (64, 27, 27)
    assert rows["pool5"].shape == (256, 6, 6)


SIZES = {
    "alexnet": (63, 64, 97, 224, 227, 256),
    "alexnet2012": (199, 213, 227, 230),
    "bvlc_alexnet": (227,),
    "caffenet": (227, 229),
    "vgg16": (32, 33, 48),
    "alexnet-tf": (57, 63, 64, 65, 66, 67, 97, 224, 225),
}


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_shapes_are_those_that_torch_gives_at_every_stage(name, size):
    network = get_network(name)
    with torch.device("meta"), torch.inference_mode():
        module = TorchNetwork(network)
        found = module(torch.empty(2, 3, size, size))
        every = module.activations(torch.empty(2, 3, size, size), "all")
    assert {stage: tuple(value.shape[1:]) for stage, value in every.items()} == network.output_shapes(size)
    assert tuple(found.shape[1:]) == network.output_shapes(size)[network.stage_names[-1]]
    tensors = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert list(tensors.items()) == list(network.tensor_shapes().items())


def test_all_networks_are_among_the_sizes_tried():
    assert set(SIZES) == set(NETWORKS)


def test_multiply_adds_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("alexnet", "alexnet2012", "vgg16"):
        network = get_network(name)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            TorchNetwork(network)(torch.empty(1, 3, network.input_size, network.input_size))
        assert stage_table(network).multiply_adds == counter.get_total_flops() // 2


def test_ceil_mode_counts_the_last_partly_covered_window():
    # 231 px: conv1 gives (231 - 11) // 4 + 1 = 56, and 3 x 3 windows at a stride of 2 cover 55 of these;
    # the 28th starts at the last row. Without ceil mode there would be 27.
    assert [MaxPool("pool", ceil=ceil).output_shape((96, 56, 56)) for ceil in (True, False)] == [
        (96, 28, 28),
        (96, 27, 27),
    ]
    # A window that would start outside is not counted (torch and Caffe alike): 3 px, windows of 2 at 3.
    assert MaxPool("pool", kernel=2, stride=3, ceil=True).output_shape((1, 3, 3)) == (1, 1, 1)


@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_agrees_with_torch_for_every_size_window_and_stride(ceil):
    for size in range(1, 20):
        for kernel in range(1, min(size, 5) + 1):
            for stride in range(1, 5):
                expected = torch.nn.functional.max_pool2d(
                    torch.empty(1, 1, size, size, device="meta"), kernel, stride, ceil_mode=ceil
                ).shape[1:]
                stage = MaxPool("pool", kernel=kernel, stride=stride, ceil=ceil)
                assert stage.output_shape((1, size, size)) == tuple(expected), (size, kernel, stride)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_same_padding_is_tensorflows(kernel, stride):
    """ceil(in / stride) outputs, the odd zero behind: TensorFlow's documentation of tf.nn.convolution."""
    stage = Convolution("conv", 1, kernel=kernel, stride=stride, padding="same")
    for size in range(1, 40):
        before, after = stage.pads(size)
        assert stage.output_shape((1, size, size)) == (1, -(-size // stride), -(-size // stride))
        assert after - before in (0, 1)
        if size % stride == 0:
            assert before + after == max(kernel - stride, 0)
        else:
            assert before + after == max(kernel - size % stride, 0)


@pytest.mark.parametrize(
    ("name", "smallest"), [("alexnet", 63), ("alexnet2012", 199), ("alexnet-tf", 57), ("vgg16", 32)]
)
def test_an_input_too_small_is_refused_with_the_smallest(name, smallest):
    network = get_network(name)
    assert network.fitting_sizes[0] == smallest
    network.output_shapes(smallest)
    with pytest.raises(InputSizeError, match=f"smallest input is {smallest} px"):
        network.output_shapes(smallest - 1)
    with pytest.raises(InputSizeError, match=f"an input of {smallest - 1} px does not fit network '{name}'"):
        stage_table(network, smallest - 1)


def test_a_network_without_adaptive_pooling_names_the_sizes_between_which_it_works():
    with pytest.raises(InputSizeError, match="fc6 is made for") as caught:
        get_network("alexnet2012").output_shapes(400)
    assert "227" in caught.value.remedy


def test_the_table_as_json_has_rows_and_totals():
    values = json.loads(stage_table(get_network("alexnet"), 227).to_json())
    assert values["input_size"] == 227
    assert values["parameters"] == 61_100_840
    assert [row["name"] for row in values["rows"]] == list(get_network("alexnet").stage_names)


def test_a_wrong_network_gets_the_nearest_right_one():
    with pytest.raises(NetworkError, match="Did you mean 'alexnet2012'"):
        get_network("alexnet2021")


def test_another_number_of_classes_changes_the_last_stage_only():
    network = get_network("alexnet", 7)
    assert network.classes == 7
    assert network.stages[:-1] == get_network("alexnet").stages[:-1]
    with pytest.raises(NetworkError):
        get_network("alexnet", 0)
    with pytest.raises(NetworkError):
        get_network("alexnet-tf", 10)


def test_what_went_through_a_relu_is_known() -> None:
    alexnet = get_network("alexnet")
    assert alexnet.is_rectified("conv3") and alexnet.is_rectified("pool5") and alexnet.is_rectified("fc7")
    assert not alexnet.is_rectified("fc7:linear") and not alexnet.is_rectified("fc8")
    assert not get_network("alexnet2012-tanh").is_rectified("conv3"), "tanh gives negative values, too"
