"""`learning_rate=auto`: a rate that works, found without leaving a trace in what is trained."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
from hooks import AtBegin, Learning, StopAt

from cnncodes.advice import load_recipe
from cnncodes.advice.facts import rate_found
from cnncodes.advice.recipe import Recipe
from cnncodes.cli import main
from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.records import from_json, from_value, to_json, to_value
from cnncodes.training import InterruptedTrainingError, NetworkSettings, RangeTest, TrainingSettings
from cnncodes.training import range_test as range_test_module
from cnncodes.training.range_test import range_test
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(
    epochs=2, batch_size=8, middle_rate=1.0, early_rate=1.0, dropout=0.2, mirror=False, pca_noise=0.1
)
AUTO = dataclasses.replace(SETTINGS, learning_rate="auto")


@pytest.fixture
def learn(network, pixels, stripes, tmp_path):
    return Learning(network, pixels, stripes, tmp_path, AUTO)


def same(one, other):
    """Whether nested dictionaries and lists hold the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def everything(training):
    kept = training.snapshot()
    del kept["run"]["settings"]  # the one thing that a range test is for
    kept["gradients"] = [p.grad is None for p in training.learner.parameters()]
    return copy.deepcopy(kept)


@pytest.mark.parametrize(
    "more",
    [
        {"network": NetworkSettings(batch_norm=True), "warmup_epochs": 1.0},
        {"optimizer": "adamw", "clip_norm": 1.0, "mixup": 0.2},
        {"freeze": "conv1-2"},
    ],
)
def test_a_range_test_leaves_everything_as_it_was(learn, monkeypatch, more):
    seen = {}
    measure = range_test_module.find_rate

    def watched(training):
        seen["before"] = everything(training)
        steps = []
        step = training.step
        training.step = lambda *values: (steps.append(1), step(*values))
        test = measure(training)
        del training.step
        assert len(steps) >= len(test.rates) > 10, "the network itself was trained"
        seen["after"] = everything(training)
        return test

    theirs = []
    monkeypatch.setattr(range_test_module, "find_rate", watched)
    look = AtBegin(lambda training: theirs.append(torch.get_rng_state()))
    result = learn("auto", callbacks=[look], **more)
    for name, value in seen["before"].items():
        assert same(value, seen["after"][name]), name
    assert torch.equal(theirs[0], torch.get_rng_state())

    rate = RangeTest.load(result.folder).rate
    assert same(load_weights(result.model).tensors, learn.tensors("given", learning_rate=rate, **more))
    record = json.loads((result.folder / "run.json").read_text())
    assert record["settings"] == to_value(dataclasses.replace(AUTO, learning_rate=rate, **more))


# one starts at guessing's loss, one at six times that
@pytest.mark.parametrize(("seed", "optimizer"), [(0, "adamw"), (2, "sgd")])
def test_the_found_rate_learns(learn, seed, optimizer):
    result = learn(epochs=20, pca_noise=0.0, dropout=0.1, seed=seed, optimizer=optimizer)
    assert result.best.val_accuracy > 0.6  # of three classes: a wrong rate stays at a third


def test_a_resumed_run_takes_the_rate_that_was_found(learn, tmp_path, monkeypatch):
    whole = learn.tensors("whole")
    with pytest.raises(InterruptedTrainingError):
        learn("parts", callbacks=[StopAt(3)])
    monkeypatch.setattr(range_test_module, "find_rate", lambda training: pytest.fail("tested again"))
    # a kill between the two files that keep the rate
    path = tmp_path / "parts" / "run.json"
    path.write_text(path.read_text().replace(str(RangeTest.load(tmp_path / "parts").rate), '"auto"'))
    assert same(whole, learn.tensors("parts", resume=True))
    found = RangeTest.load(tmp_path / "parts").rate
    assert json.loads(path.read_text())["settings"]["learning_rate"] == found
    with pytest.raises(OptionError, match="settings"):
        learn("parts", learning_rate=0.01, resume=True)


def test_a_range_test_can_be_interrupted_and_is_done_again(learn):
    def ready(training):
        step, steps = training.step, []

        def stopped(*values):
            steps.append(1)
            if len(steps) == 5:
                training.stop()
            step(*values)

        training.step = stopped

    with pytest.raises(InterruptedTrainingError, match="epoch 1"):
        learn("parts", callbacks=[AtBegin(ready)])
    assert RangeTest.load(learn.folder / "parts") is None
    assert same(learn.tensors("parts", resume=True), learn.tensors("whole"))


@pytest.mark.parametrize("curvature", [20.0, 500.0, 20_000.0])
def test_the_suggestion_is_safe_where_the_largest_safe_rate_is_known(curvature):
    """Gradient descent on ``h w^2 / 2`` converges below 2 / h and blows up above; noise is that of batches."""
    generator = torch.Generator().manual_seed(0)
    place = [1.0]

    def step(rate):
        loss = 1 + curvature * place[0] ** 2 / 2 / curvature
        place[0] -= rate * curvature * place[0]
        return loss * (1 + 0.02 * torch.randn((), generator=generator).item())

    test = range_test(step)
    limit = 2 / curvature
    assert limit / 1000 < test.rate < limit
    assert test.blew_up and limit / 3 < test.blow_up < 20 * limit
    assert test.rates == tuple(sorted(test.rates)) and len(test.rates) == len(test.losses) < 100
    assert from_json(to_json(test), RangeTest, "the test") == test


def test_a_fall_to_what_guessing_gives_is_not_learning():
    """A network may start far above it; the steepest fall down to it would be a rate that is much too small."""
    learned = range_test(lambda rate: 5.0 if rate < 1e-5 else 1.1 if rate < 1e-2 else 0.8, guessing=1.1)
    assert 5e-3 < learned.steepest < 2e-2
    guessed = range_test(lambda rate: 5.0 if rate < 1e-3 else 1.1, guessing=1.1)
    assert guessed.steepest is None and 5e-4 < guessed.level < 5e-3 and "guessing" in rate_found(guessed)


def test_without_a_fall_a_tenth_of_the_blow_up_is_taken():
    test = range_test(lambda rate: 1.0 if rate < 0.5 else math.nan)
    assert test.steepest is None and test.blew_up
    assert 0.5 <= test.blow_up < 0.6 and test.rate == pytest.approx(test.blow_up / 10, rel=0.05)
    assert "does not fall" in rate_found(test) and "a tenth of that" in rate_found(test)


def test_a_loss_that_is_never_a_number_is_an_error():
    with pytest.raises(CnnCodesError, match="not a number at a rate of 1e-06"):
        range_test(lambda rate: math.nan)


def test_auto_is_a_rate_in_recipes_and_no_other_word_is(tmp_path):
    recipe = load_recipe("scratch", ["train.learning_rate=auto"])
    assert recipe.training.learning_rate == "auto"
    assert Recipe.from_toml(recipe.to_toml()).training == recipe.training
    assert from_value(to_value(AUTO), TrainingSettings) == AUTO
    with pytest.raises(OptionError, match="learning_rate"):
        load_recipe("scratch", ["train.learning_rate=fast"])
    with pytest.raises(OptionError, match="learning_rate = 'fast'"):
        TrainingSettings(learning_rate="fast")
    with pytest.raises(OptionError, match="no rate has been measured"):
        AUTO.rate_at(0.5)


def test_the_command_tells_draws_and_keeps_the_rate(network, stripes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = str(stripes.root)
    command = ["train", data, "-o", "run", "--model", "tiny", "--epochs", "1", "--batch-size", "8"]
    sizes = ["--set", "images.resize=36", "--set", "images.crop=32"]
    assert main([*command, *sizes, "--set", "train.learning_rate=auto", "--json"]) == 0
    captured = capsys.readouterr()
    test = RangeTest.load("run")
    assert f"learning rate {test.rate:g}, by a range test" in captured.err
    assert json.loads(captured.out)["curves"] == "run/curves.png"
    for name in ("learning_rate.png", "curves.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert load_recipe("run/recipe.toml").training.learning_rate == test.rate
    assert main([*command, *sizes, "--set", "train.learning_rate=auto", "--resume"]) == 0
    assert "range test" not in capsys.readouterr().err
    assert load_recipe("run/recipe.toml").training.learning_rate == test.rate
