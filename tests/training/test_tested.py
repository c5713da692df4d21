"""A training is tested once, at the end, on images that neither taught it nor chose anything; what chose is no test later."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from cnncodes.cli import main
from cnncodes.core.errors import WeightsError
from cnncodes.evaluation import evaluate, score
from cnncodes.heads import LinearModel, fit_temperature, load_model, split_rows
from cnncodes.heads.splits import Split
from cnncodes.images import SPLITS, file_digests, read_catalog
from cnncodes.weights import check, convert, load_weights, read_tensors, save_weights, write_tensors

TRAIN, VAL, TEST = (SPLITS.index(name) for name in ("train", "val", "test"))


def divided(stripes, kind):
    """The stripes without splits, with their own train and val, or with a third part to test."""
    splits = np.array(stripes.splits)
    if kind == "none":
        splits[:] = 0
    elif kind == "three":
        splits[np.flatnonzero(splits == TRAIN)[::4]] = TEST
    return dataclasses.replace(stripes, splits=splits)


def check_parts(split, catalog):
    """Nothing is in two parts, and each has something in it."""
    parts = [set(rows.tolist()) for rows in (split.train, split.choose, split.test)]
    assert all(parts) and sum(map(len, parts)) == len(set().union(*parts)) == len(catalog)


@pytest.mark.parametrize("kind", ["none", "two", "three"])
@pytest.mark.parametrize("freeze", ["none", "conv1-2"])
def test_images_that_had_no_part_are_tested_once(learn, stripes, kind, freeze):
    """The same that every other command tests on, and the same figure that an evaluation gives."""
    catalog = divided(stripes, kind)
    views = -1 if freeze == "none" else 1
    result = learn(data=catalog, weights=learn.random, epochs=2, freeze=freeze, cached_views=views)
    check_parts(result.split, catalog)
    others = split_rows(catalog, np.ones(len(catalog), bool))
    assert result.split.test.tolist() == others.test.tolist()
    if kind == "three":
        assert (catalog.splits[result.split.choose] == VAL).all()
    evaluated = evaluate(load_model(result.model), catalog)
    assert (result.test.images, result.test.accuracy) == (evaluated.evaluation.n, evaluated.evaluation.top1)
    assert result.test.images == len(result.split.test) and not evaluated.seen and not evaluated.watched
    assert [line.val_accuracy for line in result.epochs] != [None, None]


def test_the_test_is_kept_in_the_folder_and_in_the_model(learn, stripes, tmp_path, capsys):
    result = learn(data=divided(stripes, "none"))
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    weights = load_weights(result.model)
    assert kept["test"] == weights.evidence["test"] == dataclasses.asdict(result.test)
    assert kept["split"] == weights.evidence["split"] == result.split.how
    assert weights.evidence["split_record"] == result.split.record(stripes)
    watched = stripes.subset(result.split.choose)
    logits = score(result.model, watched).values
    temperature = fit_temperature(logits, watched.labels)
    assert load_model(weights).head.temperature == pytest.approx(temperature, rel=1e-3), (
        "of the images that chose"
    )
    again = learn(data=divided(stripes, "none"), resume=True)
    assert again.test == result.test
    assert check(result.model).evidence == weights.evidence
    assert main(["weights", "check", str(result.model)]) == 0
    assert "not used in training" in capsys.readouterr().out
    small = convert(weights, tmp_path / "small.safetensors", int8=True)
    assert not small.evidence, "other numbers, of which nothing is known"


def test_what_the_command_says(network, stripes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = str(stripes.root)
    command = ["train", data, "-o", "run", "--model", "tiny", "--epochs", "2", "--batch-size", "8"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["watched"], found["test"]["images"]) == (42, 6, 18)
    assert found["test"]["accuracy_low"] < found["test"]["accuracy"] < found["test"]["accuracy_high"]
    assert main([*command, "--resume"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main(["evaluate", "run/model.safetensors", data, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert (evaluated["n"], evaluated["top1"]) == (18, found["test"]["accuracy"])


def test_an_evaluation_on_images_that_chose_says_so_first(learn, stripes, tmp_path, capsys):
    catalog = divided(stripes, "three")
    result = learn(data=catalog)
    model = load_model(result.model)
    watched = np.sort(file_digests(catalog.subset(result.split.choose)))
    assert np.array_equal(model.watched, watched) and not model.has_seen(watched).any()
    on_val = evaluate(model, catalog, split="val")
    assert (on_val.watched, on_val.evaluation.n) == (18, 18) and "no test" in on_val.how
    assert json.loads(on_val.to_json())["watched_in_training"] == 18
    everything = evaluate(model, catalog, split="all")
    assert everything.seen == len(result.split.train) and "no test" in everything.how
    # of images that chose and nothing else there is no better choice, and it is said
    assert main(["evaluate", str(result.model), str(stripes.root / "val")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "18 of them chose the epoch that was kept" in first and "no test" in first


def test_a_model_file_keeps_what_chose(learn, stripes, tmp_path):
    result = learn(data=divided(stripes, "three"))
    model = load_model(result.model)
    model.save(tmp_path / "linear.safetensors")
    assert np.array_equal(LinearModel.load(tmp_path / "linear.safetensors").watched, model.watched)
    first = load_weights(result.model)
    second = learn("second", divided(stripes, "none"), first, split="none")
    weights = load_weights(second.model)
    assert len(weights.seen) == len(stripes) and not weights.watched, "learned from counts more"
    part = stripes.subset(np.flatnonzero(stripes.splits == TRAIN))
    third = learn("third", part, first, split="none")
    assert set(model.watched.tolist()) == set(load_weights(third.model).watched)


@pytest.mark.parametrize("how", ["none", "own"])
def test_nothing_is_tested_that_nobody_kept(learn, stripes, how):
    """A split of one's own says itself what is watched; `cnncodes run` tests by itself."""
    rows = np.arange(len(stripes))
    split = "none" if how == "none" else Split(rows[::2], rows[1::2], rows[:0], "mine")
    result = learn(split=split)
    assert result.test is None and len(result.split.choose) == (0 if how == "none" else 33)
    assert result.split.how == ("mine" if how == "own" else result.split.how)


def test_copies_of_learned_images_and_broken_files_do_not_test(learn, stripes, tmp_path):
    data = shutil.copytree(stripes.root, tmp_path / "data")
    shutil.copy(data / "train/along/1.png", data / "val/along/0.png")
    (data / "val/across/1.png").write_bytes(b"no picture")
    result = learn(data=read_catalog(data))
    assert len(result.split.test) == 17 and result.test.images == 16
    assert set(result.unreadable) == {"val/across/1.png"}


@pytest.mark.parametrize(("sets", "refused"), [(["one"] * 3, False), (["one", "two", "two"], True)])
def test_a_file_of_an_earlier_version_with_several_heads_is_refused_by_name(learn, tmp_path, sets, refused):
    """Their scores cannot be compared: an answer over all classes would be wrong."""
    weights = learn.random
    save_weights(weights, tmp_path / "new.safetensors")
    tensors, metadata = read_tensors(tmp_path / "new.safetensors")
    record = json.loads(metadata["cnncodes"]) | {"class_sets": sets}
    write_tensors(tmp_path / "old.safetensors", tensors, record)
    if refused:
        with pytest.raises(WeightsError, match=r"old\.safetensors.*several data sets"):
            load_weights(tmp_path / "old.safetensors")
    else:
        assert load_weights(tmp_path / "old.safetensors").fingerprint == weights.fingerprint
