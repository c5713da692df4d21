"""What the picture commands would overwrite, and which network their next command names."""

from __future__ import annotations

import shlex

import pytest

from cnncodes.cli.show.common import named
from cnncodes.core.errors import OptionError, WeightsMissingError
from cnncodes.heads import LinearModel
from cnncodes.pictures import load_classifier
from cnncodes.weights import load_weights, save_weights


def test_the_image_that_fools_is_not_overwritten_by_its_picture(run, shared, tmp_path) -> None:
    photo, path = shared.photos / "cat" / "0.jpg", tmp_path / "same.png"
    ran = run("show", "fool", photo, "--weights", shared.svm, "--keep", path, "-o", path)
    assert ran.code == 2 and "asked for twice" in ran.err and not path.exists()


def test_the_next_command_looks_at_the_same_network(run, tmp_path) -> None:
    ran = run("show", "filters", "--weights", "random:0", "--model", "caffenet", "-o", tmp_path / "f.png")
    assert "--weights random:0 --model caffenet" in ran.err
    assert shlex.split(named("my weights.pth", None)) == ["--weights", "my weights.pth"]


def test_a_class_is_found_by_name_or_number_and_nothing_else(shared) -> None:
    subject = load_classifier(shared.svm)
    assert subject.class_place("CAT") == subject.class_place(1) == 1
    for wrong in ("²", "3", "cow"):
        with pytest.raises(OptionError):
            subject.class_place(wrong)


def test_a_model_whose_weights_are_gone_says_where_they_belong(shared, tmp_path) -> None:
    from dataclasses import replace

    model = LinearModel.load(shared.svm)
    kept = tmp_path / "kept"
    kept.mkdir()
    save_weights(load_weights("random:0"), kept / "mine.safetensors")
    path = tmp_path / "model.safetensors"
    replace(model, settings=replace(model.settings, weights="mine.safetensors")).save(path)
    with pytest.raises(WeightsMissingError) as caught:
        load_classifier(path)
    assert str(tmp_path) in caught.value.remedy and "--weights" not in caught.value.remedy
    (kept / "mine.safetensors").rename(tmp_path / "mine.safetensors")
    assert load_classifier(path).classes == model.classes
