"""What a user would lose: learning at all, frozen stages that stay, and a run that can be resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hooks import AtBegin, StopAt

from cnncodes.core.errors import (
    CnnCodesError,
    HeadError,
    InputSizeError,
    ModelError,
    OptionError,
    OutputExistsError,
)
from cnncodes.images import read_catalog
from cnncodes.networks import TorchNetwork
from cnncodes.training import InterruptedTrainingError, TrainingSettings, train
from cnncodes.training.folder import checkpoints, forget_after, last_checkpoint, open_run, save_checkpoint
from cnncodes.training.learner import Learner, from_scratch, start_from
from cnncodes.training.views import Augmentation, ColourAxes
from cnncodes.weights import build_network, load_weights
from cnncodes.weights.preprocessing import Preprocessing


def test_a_network_learns_and_its_weights_are_a_file_like_any_other(learn, pixels):
    result = learn(epochs=30)
    assert result.epochs[0].val_accuracy < 0.7 < 0.9 < result.best.val_accuracy
    weights = load_weights(result.model)
    assert (weights.network, weights.classes, weights.preprocessing) == ("tiny", result.classes, pixels)
    assert build_network(weights)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 31))


def test_the_same_training_gives_the_same_bits(learn):
    first, second, other = (
        learn.tensors(name, pca_noise=0.1, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert all(torch.equal(values, second[key]) for key, values in first.items())
    assert any((values != other[key]).any() for key, values in first.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stopped_run_continues_to_the_same_bits(learn, optimizer):
    more = {"epochs": 3, "optimizer": optimizer, "learning_rate": 0.003, "pca_noise": 0.1}
    whole = learn("whole", **more)
    for steps in (2, 9):  # in the middle of the first epoch, and of the second
        with pytest.raises(InterruptedTrainingError):
            learn("parts", resume=steps > 2, callbacks=[StopAt(steps)], **more)
        assert [int(path.stem[-8:]) for path in checkpoints(learn.folder / "parts")][-1] == steps
    parts = learn("parts", resume=True, **more)
    found = load_weights(parts.model).tensors
    for key, values in load_weights(whole.model).tensors.items():
        assert torch.equal(values, found[key]), key
    same = ("epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")
    for one, other in zip(whole.epochs, parts.epochs, strict=True):
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]


def test_frozen_stages_keep_their_bits_and_cost_no_gradient(learn, network):
    after = learn.tensors(weights=learn.random, epochs=2, freeze="conv1-2")
    for key, values in learn.random.tensors.items():
        assert torch.equal(values, after[key]) == key.startswith("conv"), key
    learner = Learner(TorchNetwork(network), TrainingSettings(freeze="conv1-2"))
    learner(torch.zeros(2, 3, 32, 32)).sum().backward()
    learning = {name for name, value in learner.module.named_parameters() if value.grad is not None}
    assert learning == {"fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"} and learner.begins == "fc6"


def test_a_frozen_stage_in_the_middle_still_passes_the_gradient_on(network):
    learner = Learner(TorchNetwork(network), TrainingSettings(freeze="conv2"))
    learner(torch.randn(2, 3, 32, 32)).sum().backward()
    assert learner.module.get_submodule("conv1").weight.grad.abs().sum() > 0
    assert learner.module.get_submodule("conv2").weight.grad is None


def test_the_rates_of_new_middle_and_early_layers(network):
    settings = TrainingSettings(middle_rate=0.5, early_rate=0.25, weight_decay=0.1)
    groups = Learner(TorchNetwork(network), settings).groups(settings)
    assert [(group["rate"], group["weight_decay"]) for group in groups] == [
        (0.25, 0.1), (0.25, 0.0), (0.25, 0.1), (0.25, 0.0), (0.5, 0.1), (0.5, 0.0), (1.0, 0.1), (1.0, 0.0),
    ]  # fmt: skip


def test_a_loss_that_is_not_a_number_restarts_at_a_tenth_of_the_rate(learn):
    notes, kept = [], {}
    look = AtBegin(lambda training: kept.update(state=training))
    try:
        learn(epochs=3, learning_rate=1e6, momentum=0.0, notes=notes.append, callbacks=[look])
    except CnnCodesError as error:
        assert "not a number" in error.problem and "learning_rate" in error.remedy
    assert kept["state"].state.divisor >= 1000 and kept["state"].state.restarts == 3
    for note, count, rate in zip(notes, (1, 2, 3), ("100000", "10000", "1000"), strict=False):
        assert "not a number in epoch 1" in note and f"a rate of {rate} (restart {count} of 3)" in note


def test_a_second_restart_goes_back_to_the_same_good_state(learn):
    """The optimizer must not change the state that it was restored from."""
    kept = {}
    learn(callbacks=[AtBegin(lambda training: kept.update(training=training))])
    training = kept["training"]
    good = training.snapshot()
    training.restore(good)
    momentum = good["optimizer"]["state"][0]["momentum_buffer"]
    before = momentum.clone()
    for state in training.optimizer.state.values():
        state["momentum_buffer"].fill_(float("nan"))
    assert torch.equal(before, momentum)


def test_a_plateau_divides_the_rate_by_ten_three_times(learn):
    result = learn(schedule="plateau", patience=1, epochs=8, learning_rate=1e-30)  # changes nothing
    drops = [round(np.log10(1e-30 / epoch.learning_rate)) for epoch in result.epochs]
    assert drops == [0, 0, 1, 2, 3, 3, 3, 3]


def test_early_stopping_ends_a_run_that_no_longer_improves(learn):
    assert len(learn(schedule="constant", stop_after=2, epochs=50, learning_rate=1e-30).epochs) == 3


def test_a_run_is_never_overwritten_and_resumes_only_as_it_was_started(learn):
    learn()
    with pytest.raises(OutputExistsError, match="--resume"):
        learn()
    with pytest.raises(OptionError, match=r"train.epochs \(1 then, 2 now\)"):
        learn(epochs=2, resume=True)


def test_initialisation_of_the_paper(network):
    module = from_scratch(network, TrainingSettings(initialisation="paper"))
    values = dict(module.named_parameters())
    biases = {name: value.mean().item() for name, value in values.items() if name.endswith("bias")}
    assert biases == {"conv1.bias": 0.0, "conv2.bias": 1.0, "fc6.bias": 1.0, "fc7.bias": 0.0}
    assert values["fc6.weight"].std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    "more", [{}, {"crop_area": 0.3}, {"crop_area": 0.5, "jitter": 0.4, "input_sizes": "6"}]
)
def test_an_image_s_draws_do_not_depend_on_its_batch(more):
    draws = Augmentation(TrainingSettings(seed=3, **more), 10, Preprocessing(resize=12, crop=8), epoch=2)
    squares = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), dtype=np.uint8))
    together = draws.views(squares, range(10))
    assert together.shape[2:] == ((6, 6) if "input_sizes" in more else (8, 8))
    for row in range(10):
        alone = draws.views(squares[row : row + 1], [row])[0]
        torch.testing.assert_close(alone, together[row], rtol=0, atol=0 if not more else 1e-3)
    assert len({view.numpy().tobytes() for view in together}) == 10


def test_plain_crops_are_parts_of_the_square_and_half_of_them_mirrored():
    draws = Augmentation(TrainingSettings(seed=3), 40, Preprocessing(resize=12, crop=8), epoch=2)
    square = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    squares = torch.from_numpy(np.repeat(square[None], 40, axis=0))
    crops = {square[top : top + 8, left : left + 8].tobytes() for top in range(5) for left in range(5)}
    views = draws.views(squares, range(40)).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    straight = [view.tobytes() in crops for view in views]
    mirrored = [np.ascontiguousarray(view[:, ::-1]).tobytes() in crops for view in views]
    assert all(a != b for a, b in zip(straight, mirrored, strict=True)) and 8 < sum(mirrored) < 32


def test_crops_of_random_size_keep_to_their_area_and_cover_the_square():
    """A ramp shows where a crop began and ended: its area and its ratio can be read off."""
    rows, columns = np.mgrid[:64, :64]
    ramp = torch.from_numpy(np.stack([rows * 4, columns * 4, rows], axis=2).astype(np.uint8))
    settings = TrainingSettings(crop_area=0.25, mirror=False)
    draws = Augmentation(settings, 200, Preprocessing(resize=64, crop=32), epoch=0)
    views = draws.views(ramp.repeat(200, 1, 1, 1), range(200))
    height = (views[:, 0, -1, 16] - views[:, 0, 0, 16]) / 4 / 64 * 32 / 31
    width = (views[:, 1, 16, -1] - views[:, 1, 16, 0]) / 4 / 64 * 32 / 31
    area = (height * width).numpy()
    assert 0.2 < area.min() < 0.35 and 0.85 < area.max() <= 1.03
    assert (views[:, 0].amin() < 8) and (views[:, 0].amax() > 244)


def test_colour_axes_are_those_of_all_pixels_at_once():
    random = np.random.default_rng(0)
    pixels = (
        random.normal(0, 1, (4, 50, 50, 3)) @ np.array([[30, 20, 10], [0, 10, 5], [0, 0, 3]]) + 128
    ).clip(0, 255)
    pixels = pixels.astype(np.uint8)
    axes = ColourAxes.of(pixels[place : place + 1] for place in range(4))
    expected = np.cov(pixels.reshape(-1, 3).T.astype(float), bias=True)
    np.testing.assert_allclose(axes.vectors * axes.values @ axes.vectors.T, expected, rtol=1e-9)


def test_schedules():
    cosine = TrainingSettings(epochs=10, learning_rate=1.0, warmup_epochs=1.0)
    assert [round(cosine.rate_at(x), 6) for x in (0.0, 0.05, 0.1, 0.55, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    step = TrainingSettings(schedule="step", learning_rate=1.0)
    assert [step.rate_at(x) for x in (0.0, 0.5, 0.9, 1.0)] == pytest.approx([1.0, 0.1, 0.01, 0.01])
    one = TrainingSettings(schedule="one-cycle", learning_rate=1.0)
    assert [one.rate_at(x) for x in (0.0, 1 / 3, 1.0)] == pytest.approx([0.04, 1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"optimizer": "adam"}, {"schedule": "cos"}, {"dropout": 1.0}, {"learning_rate": -1.0}],
)
def test_settings_that_cannot_be_used_are_refused_by_name(wrong):
    with pytest.raises(OptionError, match=f"train.{next(iter(wrong))}"):
        TrainingSettings(**wrong)


@pytest.mark.parametrize("changed", ["split", "labels"])
def test_a_run_is_resumed_with_the_same_images_only(learn, stripes, changed):
    """Otherwise it would watch images that it has learned from."""
    plain = dataclasses.replace(stripes, splits=np.zeros(len(stripes), np.uint8))
    learn(data=plain, split=0.3)
    labels = np.array(plain.labels)
    labels[0] = (labels[0] + 1) % 3
    other = dataclasses.replace(plain, labels=labels) if changed == "labels" else plain
    with pytest.raises(OptionError, match=f"{changed}[^.]* changed"):
        learn(data=other, resume=True, split=0.2 if changed == "split" else 0.3)


def test_a_start_that_failed_leaves_room_for_the_next(learn):
    with pytest.raises(OptionError, match="cached_views"):
        learn(cached_views=3)
    learn()
    (learn.folder / "run" / "run.json").write_text('{"settings": ')
    with pytest.raises(OptionError, match="cannot be read"):
        learn(resume=True)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", '{"kind": "cnncodes run", "inputs": {}}', "not written by a training"),
        ("run.json", '{"kind": "cnncodes run", "settings": {}}', "not written by a training"),
        ("run.json", "[]", "not written by a training"),
        ("model.safetensors", "of fit-linear", r"'model\.safetensors' in it, and no run\.json"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_files_of_other_commands_are_refused_and_kept(learn, name, content, says, resume):
    """The record of an interrupted `cnncodes run` is all that it resumes from."""
    (learn.folder / "run").mkdir()
    (learn.folder / "run" / name).write_text(content)
    with pytest.raises(OutputExistsError, match=says):
        learn(resume=resume)
    assert {path.name: path.read_text() for path in (learn.folder / "run").iterdir()} == {name: content}


def test_hours_of_frozen_work_are_a_run_to_resume(tmp_path):
    """A training that was killed before its first checkpoint has its views in ``frozen.h5``."""
    record = {"settings": {"epochs": 3}}
    open_run(tmp_path, record, resume=False)
    open_run(tmp_path, record, resume=False)  # nothing was done yet
    (tmp_path / "frozen.h5").write_bytes(b"views")
    with pytest.raises(OutputExistsError, match="--resume"):
        open_run(tmp_path, record, resume=False)
    open_run(tmp_path, record, resume=True)
    with pytest.raises(OptionError, match=r"train.epochs \(3 then, 4 now\)"):
        open_run(tmp_path, {"settings": {"epochs": 4}}, resume=True)


def test_unreadable_images_are_reported_and_none_readable_is_an_error(learn, stripes, tmp_path):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for place in range(4):
            (tmp_path / "data" / label / f"{place}.png").write_bytes(b"no picture")
    for name, rate in (("none", 0.02), ("auto", "auto")):
        with pytest.raises(HeadError, match="could be read"):
            learn(name, read_catalog(tmp_path / "data"), batch_size=1, learning_rate=rate)
    for row, path in enumerate(stripes.files):  # two readable classes, and batches of one broken image
        folder = tmp_path / "data" / "ab"[stripes.labels[row] % 2]
        (folder / f"good{row}.png").write_bytes(Path(path).read_bytes())
    result = learn("some", read_catalog(tmp_path / "data"), batch_size=1)
    assert len(result.unreadable) == 8 and "a/0.png" in result.unreadable
    assert np.isfinite([result.epochs[0].loss, result.epochs[0].val_loss]).all()


def test_a_kept_last_layer_has_the_order_of_classes_of_the_data(learn):
    weights = load_weights(learn().model)
    turned = dataclasses.replace(weights, classes=weights.classes[::-1])
    module = start_from(turned, weights.classes, learn.settings, keep_head=True)
    assert torch.equal(module.get_submodule("fc7").weight, weights.tensors["fc7.weight"].flip(0))
    other = dataclasses.replace(weights, classes=("zebra", *weights.classes[1:]))
    with pytest.raises(OptionError, match="does not know"):
        start_from(other, weights.classes, learn.settings, keep_head=True)


def test_a_second_fine_tuning_remembers_what_the_first_learned_from(learn, stripes):
    first = load_weights(learn("first").model)
    second = learn("second", stripes.subset(np.r_[0:12, 20:32]), weights=first)
    assert set(first.seen) <= set(load_weights(second.model).seen)


def test_a_crop_that_the_network_cannot_take_is_refused_with_those_that_fit(network, stripes, tmp_path):
    with pytest.raises(InputSizeError, match="4 px"):
        train(stripes, network, Preprocessing(resize=36, crop=4), tmp_path / "run")


def test_the_last_two_checkpoints_are_kept_and_those_after_a_restart_are_not(tmp_path):
    (tmp_path / ".checkpoint-00000010.pt.4711.part").write_bytes(b"half of one, left by a kill")
    for step in (100, 110, 120):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name[-6:-3] for path in sorted(tmp_path.iterdir())] == ["110", "120"]
    forget_after(tmp_path, 90)
    save_checkpoint(tmp_path, 95, {"step": 95})
    assert last_checkpoint(tmp_path) == {"step": 95}


def test_a_checkpoint_that_cannot_be_written_is_a_clear_error_and_the_last_one_stays(tmp_path):
    save_checkpoint(tmp_path, 10, {"step": 10})
    (tmp_path / "checkpoint-00000020.pt").mkdir()
    with pytest.raises(ModelError, match="cannot be written"):
        save_checkpoint(tmp_path, 20, {"step": 20})
    (tmp_path / "checkpoint-00000020.pt").rmdir()
    assert last_checkpoint(tmp_path) == {"step": 10}
