"""What a network has only while it learns leaves a plain network behind that computes the same."""

from __future__ import annotations

import pytest
import torch

from cnncodes.core.errors import InputSizeError, OptionError
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import crops_of
from cnncodes.networks import TorchNetwork, get_network
from cnncodes.networks.torch_network import factors
from cnncodes.training import NetworkSettings, TrainingSettings, train
from cnncodes.training.learner import DropoutMask, Learner, Objective, Targets, from_scratch, mixed_views
from cnncodes.weights import build_network, load_weights


@pytest.mark.parametrize(
    "more",
    [
        {"network": NetworkSettings(batch_norm=True)},
        {"network": NetworkSettings(rank=3)},
        {"network": NetworkSettings(batch_norm=True, rank=4)},
        {"network": NetworkSettings(batch_norm=True), "freeze": "conv2"},
    ],
)
def test_the_plain_network_computes_what_was_learned(network, more):
    settings = TrainingSettings(**more)
    learner = Learner(from_scratch(network, settings), settings)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():  # statistics and scales far from those of a new network
        for norm in learner.norms.values():
            norm.running_mean.normal_(0, 2, generator=random)
            norm.running_var.uniform_(0.2, 5, generator=random)
            norm.weight.normal_(0, 1, generator=random)
            norm.bias.normal_(0, 1, generator=random)
    pixels = torch.randn(5, 3, 32, 32, generator=random)
    plain = TorchNetwork(learner.module.network)
    plain.load_state_dict(learner.plain())
    with torch.no_grad():
        expected, found = learner.eval()(pixels), plain.eval()(pixels)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_run_with_batch_normalisation_saves_a_plain_network(learn, pixels, stripes):
    result = learn(epochs=2, network=NetworkSettings(batch_norm=True, rank=6))
    weights = load_weights(result.model)
    assert set(weights.tensors) == set(TorchNetwork(weights.architecture).state_dict())
    assert weights.architecture.stage("fc6").rank == 6 == weights.tensors["fc6.left"].shape[1]
    watched, logits = result.split.choose, []
    for row in watched:
        crop = crops_of(decode(stripes.files[row], pixels), pixels, "center")
        value = torch.from_numpy(crop).permute(0, 3, 1, 2) / 255
        value = (value - torch.tensor(pixels.mean).view(3, 1, 1)) / torch.tensor(pixels.std).view(3, 1, 1)
        logits.append(build_network(weights)(value)[0])
    loss = torch.nn.functional.cross_entropy(
        torch.stack(logits), torch.from_numpy(stripes.labels[watched]).long()
    )
    assert loss.item() == pytest.approx(result.best.val_loss, rel=1e-3)


def test_a_last_batch_of_one_image_joins_the_one_before(learn, stripes, watching_val):
    split, seen = watching_val(stripes), []
    norm, count = NetworkSettings(batch_norm=True), len(split.train)
    learn(batch_size=count - 1, network=norm, split=split, progress=lambda *given: seen.append(given[1]))
    assert seen == [count]


def test_frozen_stages_have_no_batch_normalisation(network):
    settings = TrainingSettings(freeze="conv1-2", network=NetworkSettings(batch_norm=True))
    assert list(Learner(TorchNetwork(network), settings).norms) == ["fc6"]


def test_low_rank_starts_as_near_as_a_rank_allows():
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 5, generator=random) @ torch.randn(5, 40, generator=random)
    left, right = factors(weight, 5)
    torch.testing.assert_close(left @ right, weight, rtol=1e-4, atol=1e-4)


def test_dropout_is_the_same_however_a_batch_is_shared():
    value = torch.ones(6, 50)
    torch.manual_seed(3)
    whole = DropoutMask()(value, 0.4)
    parts = []
    for places in ([0, 2, 4], [1, 3, 5]):
        torch.manual_seed(3)
        parts.append(DropoutMask(6, places)(value[places], 0.4))
    assert torch.equal(whole[[0, 2, 4]], parts[0]) and torch.equal(whole[[1, 3, 5]], parts[1])
    assert 0.2 < (whole == 0).float().mean() < 0.6 and whole.max() == pytest.approx(1 / 0.6)


def test_tanh_is_another_network_and_says_so_in_its_file(learn):
    weights = load_weights(learn(network=NetworkSettings(activation="tanh")).model)
    assert weights.network == "tiny-tanh" and weights.architecture.activation == "tanh"
    found = build_network(weights).activations(torch.randn(2, 3, 32, 32), "conv1")["conv1"]
    assert found.min() < 0 and found.abs().max() <= 1
    assert get_network("alexnet-tanh").activation == "tanh"


def test_input_sizes_that_do_not_fit_are_refused_before_anything_is_decoded(
    network, pixels, stripes, tmp_path
):
    with pytest.raises(OptionError, match="input_sizes"):
        TrainingSettings(input_sizes="32,big")
    with pytest.raises(InputSizeError, match="fit"):
        train(stripes, network, pixels, tmp_path / "run", TrainingSettings(input_sizes="4"))


def test_mixed_images_have_mixed_labels():
    views = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    mixed = mixed_views(views, [1.0, 0.75, 0.5])[:, 0, 0, 0]
    assert mixed.tolist() == [0.0, 0.75, 1.5]
    logits = torch.log_softmax(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), 1)
    targets = Targets(torch.tensor([0, 1, 2]), mix=torch.tensor([1.0, 0.75, 0.5]))
    loss = Objective(TrainingSettings())(logits, targets)
    assert loss[1].item() == pytest.approx(-(0.75 * logits[1, 1] + 0.25 * logits[1, 0]).item())
