"""Names and ranges of stages: whatever the network lists can be asked for, by our names and by torchvision's."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from cnncodes.core.errors import StageError
from cnncodes.networks import NETWORKS, get_network, parse_stages, torchvision_spellings
from cnncodes.weights import build_network, load_weights

networks = st.sampled_from(sorted(NETWORKS)).map(get_network)


@st.composite
def network_and_names(draw):
    """A network and some of its canonical names, ``:linear`` ones among them."""
    network = draw(networks)
    names = [*network.stage_names, *(f"{stage.name}:linear" for stage in network.stages if stage.relu)]
    return network, draw(st.lists(st.sampled_from(names), min_size=1, unique=True))


@given(network_and_names())
def test_any_names_the_network_lists_come_back_in_the_order_asked(case):
    network, names = case
    assert parse_stages(network, names) == tuple(names)
    assert parse_stages(network, ",".join(names)) == tuple(names)
    assert parse_stages(network, " , ".join(names)) == tuple(names)
    assert parse_stages(network, [*names, *names]) == tuple(names), "each once"


@given(networks, st.data())
def test_a_range_is_the_slice_between_its_ends(network, data):
    places = st.integers(0, len(network.stages) - 1)
    start, end = sorted((data.draw(places), data.draw(places)))
    kinds = {network.stages[start].kind, network.stages[end].kind}
    expected = tuple(stage.name for stage in network.stages[start : end + 1] if stage.kind in kinds)
    first, last = network.stage_names[start], network.stage_names[end]
    assert parse_stages(network, f"{first}-{last}") == expected
    if network.stages[start].kind == network.stages[end].kind and "_" not in first:
        assert parse_stages(network, f"{first}-{last[-1]}") == expected
    if start < end:
        with pytest.raises(StageError, match="backwards"):
            parse_stages(network, f"{last}-{first}")


@given(networks, st.text(alphabet="convplfc0123456789_-:. line", max_size=12))
def test_any_text_is_a_stage_of_the_network_or_a_clear_error(network, text):
    try:
        found = parse_stages(network, text)
    except StageError as error:
        assert text.strip() in error.problem or "backwards" in error.problem or "has no ReLU" in error.problem
        assert error.remedy
    else:
        assert {name.removesuffix(":linear") for name in found} <= set(network.stage_names)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("fc7", "fc7"),
        ("conv1-3", "conv1 conv2 conv3"),
        ("conv1-conv5", "conv1 conv2 conv3 conv4 conv5"),
        ("conv", "conv1 conv2 conv3 conv4 conv5"),
        ("pool", "pool1 pool2 pool5"),
        ("fc", "fc6 fc7 fc8"),
        ("fc6,fc7", "fc6 fc7"),
        ("fc7,conv1,fc7", "fc7 conv1"),
        ("fc7:linear", "fc7:linear"),
        ("conv:linear", "conv1:linear conv2:linear conv3:linear conv4:linear conv5:linear"),
        ("fc8:linear", "fc8"),
        ("conv4-fc6", "conv4 conv5 fc6"),
        ("all", "conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8"),
        ("none", ""),
        ("features.10", "conv5:linear"),
        ("features.11,classifier.5", "conv5 fc7"),
        ("classifier.6", "fc8"),
    ],
)
def test_spellings_for_alexnet(asked, expected):
    assert parse_stages(get_network("alexnet"), asked) == tuple(expected.split())


def test_blocks_and_norms():
    assert parse_stages(get_network("vgg16"), "conv3") == ("conv3_1", "conv3_2", "conv3_3")
    assert parse_stages(get_network("vgg16"), "conv1-2") == ("conv1_1", "conv1_2", "conv2_1", "conv2_2")
    assert parse_stages(get_network("caffenet"), "norm") == ("norm1", "norm2")


@pytest.mark.parametrize(
    ("network", "wrong", "named"),
    [
        ("alexnet", "fc77", "Did you mean 'fc7'"),
        ("alexnet", "cnov3", "Did you mean 'conv3'"),
        ("alexnet", "norm1", "stage 'norm1'"),
        ("alexnet", "conv6", "stage 'conv6'"),
        ("alexnet", "", "stage ''"),
        ("alexnet", "fc7,", "stage ''"),
        ("alexnet", "pool5:linear", "Use 'pool5'"),
        ("vgg16", "conv3_4", "Did you mean 'conv3_"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(network, wrong, named):
    with pytest.raises(StageError, match=named):
        get_network(network).select(wrong)


def test_one_stage_is_one_stage():
    network = get_network("alexnet")
    assert network.stage("fc7:linear").name == "fc7"
    with pytest.raises(StageError, match="names 3 stages"):
        network.stage("fc")


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_torchvisions_spellings_are_the_values_of_its_modules(name):
    """Hooks on every module of the real torchvision network, against our value for the same spelling."""
    weights = load_weights("random:1", network=name)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None)
    theirs.load_state_dict(weights.tensors, assign=True)
    theirs.eval()
    values = {}
    for path, module in theirs.named_modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
        module.register_forward_hook(lambda _module, _input, value, path=path: values.update({path: value}))
    spellings = torchvision_spellings(weights.architecture)
    leaves = [
        path
        for path, module in theirs.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.ReLU | torch.nn.MaxPool2d)
    ]
    assert sorted(spellings) == sorted(leaves)
    size = 64 if name == "alexnet" else 32
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs(pixels)
        ours = build_network(weights).activations(pixels, list(spellings))
    for spelling, canonical in spellings.items():
        expected = values[spelling]
        scale = expected.abs().max().item()
        torch.testing.assert_close(ours[canonical], expected, rtol=1e-5, atol=1e-5 * scale)
        if canonical.endswith(":linear"):
            assert ours[canonical].min() < 0
