"""Events for TensorBoard, each epoch once, and the figures of the curves."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings

import numpy as np
import pytest
from hooks import StopAt

from cnncodes.core.errors import OptionError
from cnncodes.images.decode import decode
from cnncodes.pictures import draw_curves, draw_rates
from cnncodes.training import Epoch, InterruptedTrainingError
from cnncodes.training.callbacks import TAGS, Events
from cnncodes.training.range_test import range_test


def scalars(folder):
    """{tag: {step: [values]}} as TensorBoard itself reads a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    read = EventAccumulator(str(folder))
    read.Reload()
    found = {}
    for tag in read.Tags()["scalars"]:
        found[tag] = {}
        for event in read.Scalars(tag):
            found[tag].setdefault(event.step, []).append(event.value)
    return found


def agree(folder, epochs):
    found = scalars(folder)
    for name, tag in TAGS.items():
        expected = {line.epoch: [getattr(line, name)] for line in epochs}
        assert found[tag].keys() == expected.keys(), tag
        for step, values in expected.items():
            assert found[tag][step] == pytest.approx(values, rel=1e-6), tag


def epoch(number, **more):
    line = {"loss": 2.0 / number, "accuracy": 1 - 0.9 / number, "val_loss": 2.2 / number + 0.02 * number,
            "val_accuracy": 0.9 - 0.8 / number, "learning_rate": 0.01 / number, "seconds": 1.5,
            "images_per_second": 80.0}  # fmt: skip
    return Epoch(epoch=number, **(line | more))


def test_tensorboard_finds_every_figure_of_every_epoch_once_also_after_a_resume(learn):
    with pytest.raises(InterruptedTrainingError):
        learn(epochs=3, callbacks=[StopAt(9)])
    events = learn.folder / "run" / "events"
    assert scalars(events)["loss/train"].keys() == {1}
    result = learn(epochs=3, resume=True)
    agree(events, result.epochs)
    learn(epochs=3, resume=True)  # nothing left to do
    agree(events, result.epochs)


def test_epochs_that_are_done_again_replace_the_old_ones(tmp_path):
    """After a kill, the newest checkpoint may be older than the last epoch that was written."""
    first = [epoch(number) for number in (1, 2, 3)]
    again = [*first[:1], *(epoch(number, loss=0.5, val_loss=0.6) for number in (2, 3, 4))]
    for lines, start in ((first, 1), (again, 2)):
        events = Events()
        for count in range(start, len(lines) + 1):
            events.write(tmp_path, [dataclasses.asdict(line) for line in lines[:count]])
        events.close()
    agree(tmp_path, again)


def test_without_a_val_split_there_are_no_val_curves(tmp_path):
    events = Events()
    events.write(tmp_path, [dataclasses.asdict(epoch(1, val_loss=None, val_accuracy=None))])
    events.close()
    assert "loss/val" not in scalars(tmp_path) and "loss/train" in scalars(tmp_path)


def test_a_training_works_without_tensorboard_and_notes_it_once(learn, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    notes = []
    result = learn(epochs=3, notes=notes.append)
    assert len(result.epochs) == 3 and result.model.exists()
    (note,) = notes
    assert "TensorBoard" in note and "metrics.jsonl" in note


@pytest.mark.parametrize(("count", "watched"), [(1, False), (90, True)])
def test_the_curves_are_a_picture_with_ink(tmp_path, count, watched):
    more = {} if watched else {"val_loss": None, "val_accuracy": None}
    lines = [epoch(number, **more) for number in range(1, count + 1)]
    path = draw_curves(lines, tmp_path / "curves.png", title="a run")
    picture = np.asarray(decode(path))
    assert picture.shape[0] > 400 and picture.shape[1] > 1000
    train_colour, val_colour = (
        np.abs(picture.astype(int) - colour).sum(2) < 30 for colour in ((0, 114, 178), (213, 94, 0))
    )
    assert train_colour.sum() > 20 and (val_colour.sum() > 20) == watched
    assert os.listdir(tmp_path) == ["curves.png"]


def test_a_rate_of_nothing_can_be_drawn(tmp_path):
    still = [epoch(number, learning_rate=0.0) for number in (1, 2)]
    assert draw_curves(still, tmp_path / "a.png").exists()
    with pytest.raises(OptionError, match="no epoch"):
        draw_curves([], tmp_path / "b.png")


def test_the_range_test_s_picture(tmp_path):
    test = range_test(lambda rate: 2.0 - min(rate * 100, 1) + (rate > 0.3) * 20)
    assert draw_rates(test, tmp_path / "rates.png").stat().st_size > 5000
