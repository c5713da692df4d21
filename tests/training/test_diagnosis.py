"""A training that does not learn says so, once, and what to try."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cnncodes.networks import TorchNetwork
from cnncodes.training import NetworkSettings, TrainingSettings
from cnncodes.training.callbacks import advice, dead_units, guessing_loss, is_stalled
from cnncodes.training.learner import Learner, from_scratch


def losses(*values):
    return [{"loss": value} for value in values]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_guessing_is_the_best_that_can_be_said_without_looking(smoothing):
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2)
    settings = TrainingSettings(label_smoothing=smoothing)
    logits = torch.zeros(3, requires_grad=True)
    descent = torch.optim.LBFGS([logits], max_iter=100)

    def loss():
        descent.zero_grad()
        value = F.cross_entropy(logits.expand(10, 3), torch.from_numpy(labels), label_smoothing=smoothing)
        value.backward()
        return value

    descent.step(loss)
    assert guessing_loss(labels, 3, settings) == pytest.approx(loss().item(), abs=1e-5)


def test_guessing_with_balanced_classes_says_all_are_alike():
    labels, weight = np.array([0] * 9 + [1]), torch.tensor([10 / 18, 5.0])
    assert guessing_loss(labels, 2, TrainingSettings(), weight) == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("history", "guessing", "warmup", "expected"),
    [
        ((1.1, 1.1), 1.1, 0, True),
        ((1.1,), 1.1, 0, False),  # one epoch is no evidence
        ((1.1, 1.05), 1.1, 0, False),
        ((9.0, 7.0), 1.1, 0, False),  # bad, but on its way
        ((9.0, 9.0), 1.1, 0, True),
        ((1.1, 1.1), 1.1, 3, False),  # the rate is still small
        ((1.1, 1.1, 1.1, 1.1), 1.1, 3, True),
    ],
)
def test_what_counts_as_stalled(history, guessing, warmup, expected):
    assert is_stalled(losses(*history), guessing, warmup) is expected


def test_a_val_loss_that_moves_is_learning_that_dropout_hides():
    hidden = [{"loss": 0.84, "val_loss": 0.70}, {"loss": 0.84, "val_loss": 0.65}]
    assert not is_stalled(hidden, 0.693)
    assert is_stalled([hidden[0], hidden[1] | {"val_loss": 0.70}], 0.693)
    assert is_stalled([hidden[0] | {"val_loss": None}, hidden[1] | {"val_loss": None}], 0.693)


def test_dead_units_are_those_that_fire_for_no_image(network):
    module = TorchNetwork(network)
    with torch.no_grad():
        module.get_submodule("conv2").bias[:6] = -1e6
        module.get_submodule("fc6").bias[3] = -1e6
    learner = Learner(module, TrainingSettings(freeze="conv1")).train()
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = dead_units(learner, images.split(5))
    activations = module.activations(images, ["conv1", "conv2", "fc6"])
    for name, values in activations.items():
        units = values.detach().transpose(0, 1).flatten(1)
        assert found[name] == pytest.approx((units.max(1).values <= 0).float().mean().item())
    assert list(found) == ["conv1", "conv2", "fc6"] and found["conv2"] >= 0.75 and found["fc6"] >= 1 / 16
    assert learner.training


def test_dead_units_are_counted_behind_batch_normalisation(network):
    settings = TrainingSettings(network=NetworkSettings(batch_norm=True))
    learner = Learner(from_scratch(network, settings), settings)
    with torch.no_grad():
        learner.norms["conv1"].bias[:3] = -1e6
    statistics = learner.norms["conv1"].running_mean.clone()
    found = dead_units(learner, [torch.randn(4, 3, 32, 32)])
    assert found["conv1"] == 0.5
    assert torch.equal(statistics, learner.norms["conv1"].running_mean)


def test_the_advice_follows_from_the_figures():
    def said(*values, dead):
        history = [{"epoch": place, "loss": value} for place, value in enumerate(values, start=1)]
        return advice(history, 1.1, 0.01, dead)

    still = said(1.1, 1.1, dead={"conv1": 0.1, "fc6": 0.3})
    assert "1.100 in epoch 2" in still and "most in fc6" in still and "auto" in still
    assert "larger rate (--set train.learning_rate=0.1)" in still
    assert "larger" in said(8.0, 8.0, dead={"conv1": 0.1}), "as high as in the first epoch"
    assert "smaller rate (--set train.learning_rate=0.001)" in said(3.0, 8.0, dead={"conv1": 0.1})
    assert "smaller" in said(1.1, 1.1, dead={"conv1": 0.9})
    assert "never active" not in said(1.1, 1.1, dead={})
    assert "All units are active" in said(1.1, 1.1, dead={"conv1": 0.0})


def test_a_training_whose_loss_does_not_fall_says_so_once(learn, stripes, watching_val):
    notes = []
    still = {"learning_rate": 1e-30, "schedule": "constant", "dropout": 0.0, "random_crop": False}
    learn(epochs=6, split=watching_val(stripes), notes=notes.append, **still)
    (note,) = notes
    assert "in epoch 2" in note and "guessing by class frequency gives 1.099" in note
    assert "Try a larger rate (--set train.learning_rate=1e-29)" in note
    assert "Units that are never active: " in note and "; most in " in note


def test_a_diagnosis_changes_nothing(learn, monkeypatch):
    notes = []
    asked = learn.tensors("asked", epochs=3, learning_rate=1e-5, notes=notes.append)
    monkeypatch.setattr("cnncodes.training.callbacks.is_stalled", lambda *values: False)
    other = learn.tensors("other", epochs=3, learning_rate=1e-5)
    assert len(notes) == 1 and all(torch.equal(values, other[key]) for key, values in asked.items())


def test_a_training_that_learns_has_no_note(learn):
    notes = []
    result = learn(epochs=6, notes=notes.append)
    assert result.epochs[-1].loss < 0.9 * result.epochs[0].loss and notes == []


def test_a_warm_up_that_never_ends_is_noted(learn):
    notes = []
    learn(warmup_epochs=3.0, notes=notes.append)
    assert len(notes) == 1 and "warmup_epochs = 3" in notes[0] and "before the rate reaches 0.02" in notes[0]
