"""A training is resumed as it was started, by one process at a time, and leaves only the files that are needed."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hooks import AtBegin, StopAt

from cnncodes.cli import main
from cnncodes.core.errors import OptionError, OutputBusyError, OutputExistsError
from cnncodes.images import read_catalog
from cnncodes.training import InterruptedTrainingError
from cnncodes.training import run as run_module
from cnncodes.training.folder import checkpoints
from cnncodes.training.learner import Learner

FROZEN = {"freeze": "conv1-2", "cached_views": 1}


@pytest.fixture
def start(learn):
    """A function that trains for two epochs; with ``freeze`` it fine-tunes."""

    def begin(name, data=None, epochs=2, **more):
        return learn(name, data, learn.random if "freeze" in more else None, epochs=epochs, **more)

    return begin


@pytest.fixture
def data(stripes, tmp_path):
    """A folder of images of its own, which a test may change."""
    return shutil.copytree(stripes.root, tmp_path / "data")


def stopped_at(start, steps, *given, **more):
    """Start a training and stop it after so many steps."""
    with pytest.raises(InterruptedTrainingError):
        start(*given, callbacks=[StopAt(steps)], **more)


def kill(*_):
    raise KeyboardInterrupt


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


def test_a_second_training_in_the_same_folder_is_refused_and_changes_nothing(start, tmp_path):
    """Before it has a checkpoint, the first one needs its record to be resumed."""
    folder, found = tmp_path / "run", {}

    def meanwhile(training):
        before = contents(folder)
        for resume in (False, True):
            with pytest.raises(OutputBusyError):
                start("run", seed=1, resume=resume)
        found.update(before=before, after=contents(folder))

    first = start("run", callbacks=[AtBegin(meanwhile)])
    assert found["before"] == found["after"] and "run.json" in found["before"]
    assert start("run", resume=True).epochs == first.epochs


def test_a_training_is_resumed_from_its_own_checkpoints_only(start, tmp_path):
    stopped_at(start, 2, "one")
    stopped_at(start, 2, "other", seed=1)
    (theirs,) = checkpoints(tmp_path / "other")
    shutil.copy(theirs, tmp_path / "one" / theirs.name)
    with pytest.raises(OptionError, match=r"train\.seed \(1 then, 0 now\)"):
        start("one", resume=True)


@pytest.mark.parametrize("more", [{}, FROZEN])
@pytest.mark.parametrize("name", ["train/along/0.png", "val/across/1.png"])
def test_replaced_images_are_noticed(start, data, more, name):
    stopped_at(start, 2, "run", read_catalog(data), **more)
    replace_image(data / name)
    with pytest.raises(OptionError, match="image files"):
        start("run", read_catalog(data), resume=True, **more)


def test_frozen_layers_of_replaced_images_are_computed_again(start, data, tmp_path, monkeypatch):
    stopped_at(start, 2, "old", read_catalog(data), **FROZEN)
    replace_image(data / "train/along/0.png")
    computed, original = [], Learner.before
    monkeypatch.setattr(
        Learner, "before", lambda self, pixels: computed.append(len(pixels)) or original(self, pixels)
    )

    def put_old(training):
        shutil.copy(tmp_path / "old" / "frozen.h5", training.folder)

    split = start("new", read_catalog(data), callbacks=[AtBegin(put_old)], **FROZEN).split
    watched_twice = 2 * len(split.choose)  # also at the end, for the temperature
    assert sum(computed) == len(split.train) + watched_twice + len(split.test)


@pytest.mark.parametrize("more", [{}, FROZEN])
def test_unreadable_images_are_reported_after_a_kill_as_without_one(start, data, monkeypatch, more):
    names, catalog = break_images(data), read_catalog(data)
    with monkeypatch.context() as patched:  # all is learned, and nothing saved but the checkpoint
        patched.setattr(run_module._Job, "_save", kill)
        with pytest.raises(KeyboardInterrupt):
            start("run", catalog, **more)
    whole = start("whole", catalog, **more)
    assert sorted(whole.unreadable) == names
    for _ in range(2):  # what is left to do, and then nothing
        again = start("run", catalog, resume=True, **more)
        assert again.unreadable == whole.unreadable
        assert [line.loss for line in again.epochs] == [line.loss for line in whole.epochs]
    assert again.already and not whole.already


def test_unreadable_images_are_remembered_from_step_to_step(start, data):
    """Those of the batches before a stop are not read again in the last epoch."""
    names, catalog = break_images(data), read_catalog(data)
    stopped_at(start, 6, "run", catalog, epochs=1)
    assert sorted(start("run", catalog, epochs=1, resume=True).unreadable) == names


def test_the_command_lists_them_each_time(network, data, tmp_path, capsys):
    names = break_images(data)
    command = ["train", str(data), "-o", str(tmp_path / "run"), "--model", network.name, "--epochs", "1"]
    assert main([*command, "--json"]) == 3
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "--resume", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == first and sorted(first["unreadable"]) == names


def test_names_that_are_no_text_are_kept_in_checkpoints(start, data):
    odd = os.fsdecode(b"train/along/caf\xe9.png")
    try:
        (data / odd).write_bytes(b"no picture")
    except OSError:
        pytest.skip("file names here are UTF-8")
    catalog = read_catalog(data)
    stopped_at(start, 6, "run", catalog)
    assert set(start("run", catalog, resume=True).unreadable) == {odd}


@pytest.mark.parametrize(("keep", "count"), [(False, 0), (True, 1)])
def test_checkpoints_are_deleted_when_the_model_is_safe(start, tmp_path, keep, count):
    folder = tmp_path / "run"
    stopped_at(start, 2, "run", keep_checkpoints=keep)
    assert len(checkpoints(folder)) == 1
    result = start("run", resume=True, keep_checkpoints=keep)
    assert result.model.exists() and len(checkpoints(folder)) == count
    with pytest.raises(OutputExistsError, match="finished"):
        start("run")


def test_a_finished_run_whose_model_is_gone_is_trained_again(start):
    model = start("run").model
    whole, said = model.read_bytes(), []
    model.unlink()
    again = start("run", resume=True, notes=said.append)
    assert model.read_bytes() == whole and not again.already and "no checkpoint" in said[0]


def test_a_kill_before_the_checkpoints_are_deleted_leaves_them_to_the_next(start, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "keep_last", kill)
        with pytest.raises(KeyboardInterrupt):
            start("run")
    assert checkpoints(tmp_path / "run")
    assert start("run", resume=True).already and not checkpoints(tmp_path / "run")
