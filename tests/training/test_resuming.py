"""A training is gone on with as it was begun, by one process at a time, and leaves what is needed and no more."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from hooks import AtBegin, StopAt

from cnncodes.cli import main
from cnncodes.core.errors import OptionError, OutputBusyError, OutputExistsError
from cnncodes.images import read_catalog
from cnncodes.training import InterruptedTrainingError, TrainingSettings, finetune, train
from cnncodes.training import run as run_module
from cnncodes.training.learner import Learner
from cnncodes.training.state import checkpoints
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(
    epochs=2, batch_size=8, learning_rate=0.01, middle_rate=1.0, early_rate=1.0, mirror=False
)
FROZEN = dataclasses.replace(SETTINGS, freeze="conv1-2", cached_views=1)


@pytest.fixture
def start(network, pixels):
    """A function that trains in a folder; words as for :func:`train`, or with ``freeze`` as for :func:`finetune`."""
    weights = dataclasses.replace(load_weights("random:0", network="tiny"), preprocessing=pixels)

    def begin(data, folder, settings=SETTINGS, **options):
        if settings.freeze == "none":
            return train(data, network, pixels, folder, settings, **options)
        return finetune(data, weights, folder, settings, **options)

    return begin


@pytest.fixture
def data(stripes, tmp_path):
    """A folder of images of its own, which a test may change."""
    return shutil.copytree(stripes.root, tmp_path / "data")


def stopped_at(start, data, folder, steps, settings=SETTINGS, **options):
    """Begin a training and stop it after so many steps."""
    with pytest.raises(InterruptedTrainingError):
        start(data, folder, settings, callbacks=[StopAt(steps)], **options)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_image(path):
    """Another picture of the same name, which was written later."""
    before = path.stat().st_mtime_ns
    path.write_bytes(path.with_name("3.png").read_bytes())
    os.utime(path, ns=(before + 10**9, before + 10**9))


def break_images(data):
    """Two images to learn from and one to watch, as no reader takes them; their names."""
    names = ("train/along/0.png", "train/across/5.png", "val/across/1.png")
    for name in names:
        (data / name).write_bytes(f"no picture: {name}".encode())  # copies of one another would not test
    return sorted(names)


def test_a_second_training_in_the_same_folder_is_refused_and_changes_nothing(start, stripes, tmp_path):
    """Before it has a checkpoint, the record is all that the first one goes on by."""
    folder, found = tmp_path / "run", {}
    other = dataclasses.replace(SETTINGS, seed=1)

    def meanwhile(training):
        before = contents(folder)
        for resume in (False, True):
            with pytest.raises(OutputBusyError):
                start(stripes, folder, other, resume=resume)
        found.update(before=before, after=contents(folder))

    first = start(stripes, folder, callbacks=[AtBegin(meanwhile)])
    assert found["before"] == found["after"] and "run.json" in found["before"]
    assert start(stripes, folder, resume=True).epochs == first.epochs


def test_a_training_goes_on_from_its_own_checkpoints_only(start, stripes, tmp_path):
    other = dataclasses.replace(SETTINGS, seed=1)
    stopped_at(start, stripes, tmp_path / "one", 2)
    stopped_at(start, stripes, tmp_path / "other", 2, other)
    (theirs,) = checkpoints(tmp_path / "other")
    shutil.copy(theirs, tmp_path / "one" / theirs.name)
    with pytest.raises(OptionError, match=r"train\.seed \(1 then, 0 now\)"):
        start(stripes, tmp_path / "one", resume=True)


@pytest.mark.parametrize("settings", [SETTINGS, FROZEN])
@pytest.mark.parametrize("name", ["train/along/0.png", "val/across/1.png"])
def test_replaced_images_are_noticed(start, data, tmp_path, settings, name):
    stopped_at(start, read_catalog(data), tmp_path / "run", 2, settings)
    replace_image(data / name)
    with pytest.raises(OptionError, match="image files"):
        start(read_catalog(data), tmp_path / "run", settings, resume=True)


def test_frozen_work_of_replaced_images_is_done_anew(start, data, tmp_path, monkeypatch):
    stopped_at(start, read_catalog(data), tmp_path / "old", 2, FROZEN)
    replace_image(data / "train/along/0.png")
    computed = []
    original = Learner.before
    monkeypatch.setattr(
        Learner, "before", lambda self, pixels: computed.append(len(pixels)) or original(self, pixels)
    )

    def put_old(training):
        shutil.copy(tmp_path / "old" / "frozen.h5", training.folder)

    result = start(read_catalog(data), tmp_path / "new", FROZEN, callbacks=[AtBegin(put_old)])
    assert sum(computed) == len(result.split.train) + len(result.split.choose) + len(result.split.test)


@pytest.mark.parametrize("settings", [SETTINGS, FROZEN])
def test_images_that_could_not_be_read_are_told_after_a_kill_as_without_one(
    start, data, tmp_path, monkeypatch, settings
):
    names, catalog = break_images(data), read_catalog(data)

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # all is learned, and nothing saved but the checkpoint
        patched.setattr(run_module, "_save", kill)
        with pytest.raises(KeyboardInterrupt):
            start(catalog, tmp_path / "run", settings)
    whole = start(catalog, tmp_path / "whole", settings)
    assert sorted(whole.unreadable) == names
    for _ in range(2):  # what is left to do, and then nothing
        again = start(catalog, tmp_path / "run", settings, resume=True)
        assert again.unreadable == whole.unreadable
        assert [line.loss for line in again.epochs] == [line.loss for line in whole.epochs]
    assert again.already and not whole.already


def test_images_that_could_not_be_read_are_remembered_from_step_to_step(start, data, tmp_path):
    """Those of the batches before a stop are not read again in the last epoch."""
    names, catalog = break_images(data), read_catalog(data)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    stopped_at(start, catalog, tmp_path / "run", 6, settings)
    assert sorted(start(catalog, tmp_path / "run", settings, resume=True).unreadable) == names


def test_the_command_lists_them_each_time(network, data, tmp_path, capsys):
    names = break_images(data)
    command = ["train", str(data), "-o", str(tmp_path / "run"), "--model", network.name, "--epochs", "1"]
    assert main([*command, "--json"]) == 3
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "--resume", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == first and sorted(first["unreadable"]) == names


def test_names_that_are_no_text_are_kept_in_checkpoints(start, data, tmp_path):
    odd = os.fsdecode(b"train/along/caf\xe9.png")
    try:
        (data / odd).write_bytes(b"no picture")
    except OSError:
        pytest.skip("file names here are UTF-8")
    catalog = read_catalog(data)
    stopped_at(start, catalog, tmp_path / "run", 6)
    assert set(start(catalog, tmp_path / "run", resume=True).unreadable) == {odd}


@pytest.mark.parametrize(("keep", "count"), [(False, 0), (True, 1)])
def test_checkpoints_go_when_the_model_is_safe(start, stripes, tmp_path, keep, count):
    folder = tmp_path / "run"
    stopped_at(start, stripes, folder, 2, keep_checkpoints=keep)
    assert len(checkpoints(folder)) == 1
    result = start(stripes, folder, resume=True, keep_checkpoints=keep)
    assert Path(result.model).exists() and len(checkpoints(folder)) == count
    with pytest.raises(OutputExistsError, match="finished"):
        start(stripes, folder)


def test_a_finished_run_whose_model_is_gone_is_trained_again(start, stripes, tmp_path):
    folder = tmp_path / "run"
    model = start(stripes, folder).model
    whole = model.read_bytes()
    model.unlink()
    said = []
    again = start(stripes, folder, resume=True, notes=said.append)
    assert model.read_bytes() == whole and not again.already and "no checkpoint" in said[0]


def test_a_kill_before_the_checkpoints_are_deleted_leaves_them_to_the_next(
    start, stripes, tmp_path, monkeypatch
):
    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "keep_last", kill)
        with pytest.raises(KeyboardInterrupt):
            start(stripes, tmp_path / "run")
    assert checkpoints(tmp_path / "run")
    assert start(stripes, tmp_path / "run", resume=True).already and not checkpoints(tmp_path / "run")
