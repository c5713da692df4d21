"""The whole road as a person walks it, each command on what the one before has left."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.cli.app import COMMANDS, GROUPS
from cnncodes.codes import CodesFile


def test_codes_are_extracted_and_shown(run, shared, tmp_path: Path) -> None:
    output = tmp_path / "codes.h5"
    made = run("extract", shared.photos, "-o", output, "--weights", "random:0", "--layers", "fc6,fc7")
    assert made.code == 0
    assert made.out.startswith("18 images in ") and "images/s" in made.out and made.out.count("\n") == 1
    announced, *_ = made.err.splitlines()  # what was found is said before the start
    assert announced == "18 images, 3 classes (bird 6, cat 6, dog 6)"
    assert f"next: cnncodes fit-linear {output}" in made.err

    shown = run("info", output)
    assert shown.code == 0 and "18 images, 18 done, 0 pending, 0 unreadable" in shown.out
    assert "random:0 for alexnet" in shown.out
    assert [line.split()[0] for line in shown.out.splitlines()[-2:]] == ["fc6", "fc7"]


def test_a_finished_file_is_left_as_it_is(run, shared, tmp_path: Path) -> None:
    before = shared.codes.read_bytes()
    settings = ("--weights", "random:0", "--layers", "pool5,fc7")
    again = run("extract", shared.photos, "-o", shared.codes, *settings)
    assert again.code == 0 and "nothing was left to do" in again.out
    assert shared.codes.read_bytes() == before


def test_a_dry_run_writes_nothing(run, shared, tmp_path: Path) -> None:
    output = tmp_path / "codes.h5"
    planned = run("extract", shared.photos, "-o", output, "--weights", "random:0", "--dry-run")
    assert planned.code == 0 and "18 images" in planned.err and "the file will have" in planned.err
    assert list(tmp_path.iterdir()) == []


def test_settings_of_another_file_are_repeated(run, shared, tmp_path: Path) -> None:
    output = tmp_path / "new.h5"
    assert run("extract", shared.photos / "cat", "-o", output, "--like", shared.codes).code == 0
    there, here = (json.loads(run("info", path, "--json").out)["settings"] for path in (shared.codes, output))
    del there["batch_size"], here["batch_size"]
    assert there == here


def test_how_much_of_a_photograph_is_seen_is_said_and_can_be_chosen(
    run, photo_folder, tmp_path: Path
) -> None:
    photos = photo_folder(2, classes=("ant", "bee"), width=200, height=100)
    seen = {}
    for fit in (None, "pad", "squash", "ten"):
        given = ["--fit", fit] if fit else []
        made = run("extract", photos, "-o", tmp_path / f"{fit}.h5", "--weights", "random:0", *given, "--json")
        assert made.code == 0
        seen[fit] = json.loads(made.out)["seen"]
        assert ("--fit pad shows all of it" in made.err) == (fit in (None, "ten"))
        said = {"pad": "padded", "squash": "squashed", "ten": "(ten)"}.get(fit, "shorter side to 256")
        assert said in run("info", tmp_path / f"{fit}.h5").out
    assert seen["pad"] == seen["squash"] == 1
    assert seen[None] == pytest.approx(0.38, abs=0.01)  # 0.5 of the area, 224 of 256 pixels
    assert seen["ten"] == pytest.approx(0.5, abs=0.02)
    assert run("extract", photos, "-o", tmp_path / "x.h5", "--weights", "random:0", "--fit", "all").code == 2
    both = ("--fit", "pad", "--crops", "ten")
    assert "ten crops" in run("extract", photos, "-o", tmp_path / "x.h5", "--weights", "random:0", *both).err


def test_fit_evaluate_predict(run, shared, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    fitted = run("fit-linear", shared.codes, "--layer", "auto", "-o", model, "--C", "0.1,1", "--folds", "2")
    assert fitted.code == 0 and "accuracy for each C" in fitted.out and "top-1" in fitted.out
    assert f"next: cnncodes predict {model}" in fitted.err

    judged = run("evaluate", model, shared.photos)
    assert judged.code == 0 and "the 3 images that the model was not fitted on" in judged.out
    from_codes = run("evaluate", model, shared.codes)
    assert from_codes.out == judged.out, "codes or images: the same model, the same figures"
    assert "classes  bird, cat, dog" in run("info", model).out


def test_a_runs_folder_is_named_for_the_model_in_it(run, shared, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(shared.svm, out / "model.safetensors")
    photo = shared.photos / "cat" / "0.jpg"
    assert run("predict", out, photo).out == run("predict", shared.svm, photo).out
    assert run("evaluate", out, shared.photos).out == run("evaluate", shared.svm, shared.photos).out
    assert run("evaluate", out, out, shared.photos).code == 0
    assert run("info", out, "--json").out == run("info", shared.svm, "--json").out
    assert run("show", "filters", "--weights", out, "-o", tmp_path / "filters.png").code == 0
    (out / "model.safetensors").unlink()
    for command in (("predict", out, photo), ("evaluate", out, shared.photos), ("info", out)):
        ended = run(*command)
        assert ended.code == 1 and "model" in ended.err and len(ended.err.splitlines()) == 2


def test_accuracy_with_few_images_per_class(run, shared, tmp_path: Path) -> None:
    options = ("--C", "1", "--folds", "2", "--shots", "1,2", "--repeats", "3")
    fitted = run("fit-linear", shared.codes, "-o", tmp_path / "model.safetensors", *options)
    table = fitted.out.split("few images per class")[1].splitlines()[2:4]
    assert [line.split()[0] for line in table] == ["1", "2"]
    assert [line.split()[-1] for line in table] == ["3", "3"], "the number of draws"


@pytest.mark.parametrize("head", ["svm", "softmax"])
@pytest.mark.parametrize(("to", "suffix"), [("sklearn", ".skops"), ("onnx", ".onnx")])
def test_other_tools_get_the_same_predictions(run, shared, tmp_path: Path, head, to, suffix) -> None:
    model, codes = tmp_path / "model.safetensors", CodesFile(shared.codes).read("fc7").astype(np.float32)
    assert run("fit-linear", shared.codes, "-o", model, "--C", "1", "--head", head, "--export", to).code == 0
    ours = [entry["classes"][0] for entry in json.loads(run("predict", model, shared.codes, "--json").out)]
    written = model.with_suffix(suffix)
    if to == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(written)
        theirs = session.run(None, {"codes": codes})[0]
    else:
        skops = pytest.importorskip("skops.io")
        theirs = skops.load(written, trusted=skops.get_untrusted_types(file=written)).predict(codes)
    assert theirs.tolist() == ours


def test_predictions_name_files_that_can_be_opened_from_here(run, shared, tmp_path, monkeypatch) -> None:
    cats = shared.photos / "cat"
    monkeypatch.chdir(shared.photos)
    near = run("predict", shared.svm, cats / "0.jpg")
    assert near.out.startswith("'cat/0.jpg'  ")
    rows = list(csv.DictReader(io.StringIO(run("predict", shared.svm, cats, "--csv").out)))
    assert {row["filename"] for row in rows} == {f"cat/{n}.jpg" for n in range(6)}
    monkeypatch.chdir(tmp_path)
    far = json.loads(run("predict", shared.svm, cats, "--json").out)
    assert all(Path(entry["name"]).is_file() for entry in far)


def test_predictions_have_the_best_class_first_and_probabilities(run, shared) -> None:
    for model in (shared.softmax, shared.svm):
        (found,) = json.loads(run("predict", model, shared.photos / "cat" / "0.jpg", "--json").out)
        assert sum(found["probabilities"]) == pytest.approx(1)
        assert found["probabilities"] == sorted(found["probabilities"], reverse=True)
        assert found["unsure"] in (True, False)


def test_a_line_and_a_row_per_image(run, shared) -> None:
    plain = run("predict", shared.svm, shared.codes)
    assert len(plain.out.splitlines()) == 18 and all("%" in line for line in plain.out.splitlines())
    assert "calibrated" in plain.err
    assert "calibrated" not in run("predict", shared.svm, shared.codes, "-q").err
    raw = run("predict", shared.svm, shared.codes, "--scores")
    assert "%" not in raw.out and "the highest is the prediction" in raw.err
    found = json.loads(run("predict", shared.svm, shared.codes, "--json").out)
    rows = list(csv.DictReader(run("predict", shared.svm, shared.codes, "--csv", "--wide").out.splitlines()))
    for row, entry in zip(rows, found, strict=True):
        assert (row["label"], row["second"]) == tuple(entry["classes"][:2])
        assert float(row["probability"]) == pytest.approx(entry["probabilities"][0], abs=1e-5)
        assert sum(float(row[name]) for name in ("bird", "cat", "dog")) == pytest.approx(1, abs=1e-5)
        assert row["unsure"] == ("yes" if entry["unsure"] else "no")


def test_images_are_sorted_by_their_predicted_class(run, shared, tmp_path) -> None:
    sorted_ = run("predict", shared.svm, shared.photos, "--sort-into", tmp_path / "sorted")
    assert sorted_.code == 0 and "sorted into" in sorted_.err
    assert len([path for path in (tmp_path / "sorted").glob("*/*") if path.is_file()]) == 18
    again = run("predict", shared.svm, shared.photos, "--sort-into", tmp_path / "sorted")
    assert again.code == 1 and again.out == "" and "not an empty folder" in again.err
    assert run("predict", shared.svm, shared.photos, "--copy").code == 2


def test_a_codes_file_is_checked_packed_and_exported(run, shared, tmp_path: Path) -> None:
    checked = run("check", shared.codes, "--sample", 4)
    assert checked.code == 0 and "the codes match the header of the file" in checked.out
    packed = run("pack", shared.codes, "-o", tmp_path / "packed.h5")
    assert packed.code == 0 and "times smaller" in packed.out
    of_packed = run("predict", shared.svm, tmp_path / "packed.h5")
    assert of_packed.out == run("predict", shared.svm, shared.codes).out
    assert run("export", shared.codes, "--to", "npy", "-o", tmp_path / "npy.npy").code == 0
    assert np.load(tmp_path / "npy.npy").shape == (18, 4096)
    assert run("export", shared.codes, "--to", "csv", "-o", tmp_path / "fc7.csv").code == 0
    assert len((tmp_path / "fc7.csv").read_text().splitlines()) == 19


def test_a_file_that_does_not_hold_what_it_says_fails_the_check(run, shared, tmp_path: Path) -> None:
    import h5py

    spoilt = tmp_path / "spoilt.h5"
    spoilt.write_bytes(shared.codes.read_bytes())
    with h5py.File(spoilt, "r+") as file:
        file["layers/fc7"][5] += 1
    checked = run("check", spoilt, "--sample", 18)
    assert checked.code == 1 and "NOT" in checked.err


def test_weights_are_listed_checked_and_converted(run, tmp_path: Path) -> None:
    listed = run("weights", "list")
    assert listed.code == 0 and "imagenet" in listed.out and "random:SEED" in listed.out
    checked = run("weights", "check", "random:0")
    assert checked.code == 0 and "alexnet, 61,100,840 parameters" in checked.out
    copy = tmp_path / "w.safetensors"
    assert run("weights", "convert", "random:0", "-o", copy).code == 0
    same = json.loads(run("weights", "check", copy, "--json").out)
    assert same["fingerprint"] in checked.out, "a converted file holds the same numbers"


def test_recipes_are_listed_and_shown(run) -> None:
    names = json.loads(run("recipes", "list", "--json").out)
    assert names
    for name in names:
        assert "summary = " in run("recipes", "show", name).out


DEMO = r"starter ([0-9.]+) %, random weights ([0-9.]+) %: \+([0-9.]+) points on 60 images that neither has learned from"


def test_demo_shows_what_trained_weights_are_worth_by_commands_that_can_be_repeated(
    run, tmp_path, monkeypatch
) -> None:
    from cnncodes.cli import demo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "DIGITS_EACH", 6)
    shown = run("demo")
    assert shown.code == 0
    starter, untrained, margin = map(float, re.search(DEMO, shown.out).groups())
    assert margin == pytest.approx(starter - untrained, abs=0.11)
    assert margin > 20 and "cannot tell" not in shown.out
    commands = [shlex.split(line)[2:] for line in shown.out.splitlines() if line.startswith("$ cnncodes ")]
    known = {name for name, _ in COMMANDS} | {name for name, _, _ in GROUPS}
    assert {command[0] for command in commands} <= known, "each can be typed as it stands"
    (predicted,) = (command for command in commands if command[0] == "predict")
    assert sum(Path(word).suffix == ".jpg" and Path(word).is_file() for word in predicted) == 4
    verdicts = shown.out.split("both verdicts")[1].splitlines()[2:4]
    assert [line.split("  ")[0] for line in verdicts] == ["drawn animals", "scanned digits"]
    assert "60 scanned digits" in shown.out
    with Image.open("demo/starter_against_random.png") as picture:
        picture.verify()
    opened = Path(shown.out.splitlines()[-1].rpartition(": ")[2])
    assert opened.suffix == ".html" and opened.is_file(), "what to open first"
    model = Path("demo/run/model.safetensors")
    before = model.stat().st_mtime_ns
    for command in (commands[0], commands[-1]):
        assert run(*command).code == 0, "a second demo finds what the first has left"
    assert model.stat().st_mtime_ns == before
