"""`cnncodes evaluate`: what a person sees and what is written, for one model and for several."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from cnncodes.heads import LinearModel


@pytest.fixture
def turned(shared, tmp_path: Path) -> Path:
    """The softmax model with its classes in another order."""
    model, order = LinearModel.load(shared.softmax), [2, 0, 1]
    classes = tuple(model.classes[place] for place in order)
    moved = {"weight": model.head.weight[order], "bias": model.head.bias[order], "classes": classes}
    head = dataclasses.replace(model.head, **moved)
    dataclasses.replace(model, head=head).save(tmp_path / "turned.safetensors")
    return tmp_path / "turned.safetensors"


def test_few_classes_show_the_whole_matrix(run, shared) -> None:
    shown = run("evaluate", shared.svm, shared.codes, "--split", "all").out
    lines = shown.split("true \\ predicted")[1].splitlines()[:4]
    assert lines[0].split() == ["bird", "cat", "dog"]
    cells = [line.split() for line in lines[1:]]
    assert [line[0] for line in cells] == ["bird", "cat", "dog"]
    document = json.loads(run("evaluate", shared.svm, shared.codes, "--split", "all", "--json").out)
    assert [[int(cell) for cell in line[1:]] for line in cells] == document["confusion"]
    assert "calibration error" in shown and "no probabilities" not in shown


def test_json_has_everything_that_is_measured(run, shared) -> None:
    document = json.loads(run("evaluate", shared.softmax, shared.codes, "--json").out)
    figures = {"top1", "top5", "mean_per_class", "confusion", "calibration", "how", "unreadable"}
    assert figures <= set(document)
    assert {"precision", "recall", "f1", "support"} <= set(document["per_class"][0])
    assert len(document["calibration"]["bins"]) == 15
    assert document["calibration"]["temperature"] > 0
    assert document["model"] == str(shared.softmax)


def test_several_models_and_their_average(run, shared, turned) -> None:
    models = (shared.svm, shared.softmax, turned)
    shown = run("evaluate", *models, shared.photos)
    assert shown.code == 0
    table = shown.out.split("calibration error\n")[1].splitlines()[:4]
    assert [line.split()[0] for line in table] == [*map(str, models), "average"]
    assert "averaged: the mean of the models' probabilities" in shown.out
    assert "average of 3 models, tested on the 3 images that none of the models was fitted on" in shown.out
    document = json.loads(run("evaluate", *models, shared.codes, "--json").out)
    assert [entry["model"] for entry in document["models"]] == [str(model) for model in models]
    one, other = document["models"][1:]
    del one["model"], other["model"]
    assert one["confusion"] == other["confusion"], "the order of the classes is the first model's"
    assert document["n"] == one["n"] == 3


def test_the_last_word_is_the_data_and_data_may_be_several(run, shared, tmp_path) -> None:
    lists = [tmp_path / "birds.txt", tmp_path / "cats.txt"]
    for path, name in zip(lists, ("bird", "cat"), strict=True):
        path.write_text("".join(f"{shared.photos}/{name}/{n}.jpg {name}\n" for n in range(6)))
    document = json.loads(run("evaluate", shared.svm, *lists, "--split", "all", "--json").out)
    assert document["n"] == 12
    both = json.loads(run("evaluate", shared.svm, shared.softmax, *lists, "--split", "all", "--json").out)
    assert (both["n"], len(both["models"])) == (12, 2)
    alone = run("evaluate", shared.svm)
    assert alone.code == 2 and "a model and data" in alone.err
    swapped = run("evaluate", shared.photos, shared.svm)
    assert swapped.code == 1 and "and then the images" in swapped.err


def test_the_picture_and_the_csv_are_written(run, shared, tmp_path) -> None:
    picture, table = tmp_path / "confusion.png", tmp_path / "answers.csv"
    ran = run("evaluate", shared.svm, shared.codes, "--split", "all", "--confusion", picture, "--csv", table)
    assert ran.code == 0
    with Image.open(picture) as image:
        assert image.format == "PNG"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert all(0 < float(row["probability_true"]) < 1 for row in rows)
    assert {row["filename"] for row in rows} == {
        f"{c}/{n}.jpg" for c in ("bird", "cat", "dog") for n in range(6)
    }


@pytest.mark.parametrize(
    ("option", "name", "word"),
    [
        ("--confusion", "there.png", "--overwrite"),
        ("--csv", "there.csv", "--overwrite"),
        ("--confusion", "matrix.jpg", ".png"),
        ("--csv", "no/such.csv", "mkdir"),
        ("--csv", "folder", "folder"),
    ],
)
def test_what_could_not_be_written_is_said_before_the_work(run, shared, tmp_path, option, name, word) -> None:
    (tmp_path / "folder").mkdir()
    for there in ("there.png", "there.csv"):
        (tmp_path / there).write_text("precious")
    ran = run("evaluate", shared.svm, shared.photos, option, tmp_path / name)
    assert ran.code in (1, 2) and word in ran.err and ran.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "there.png", "there.csv"}
    assert (tmp_path / "there.csv").read_text() == "precious"


def test_models_of_other_classes_are_refused(run, shared, tmp_path) -> None:
    model = LinearModel.load(shared.softmax)
    head = dataclasses.replace(model.head, classes=("bird", "cat", "wolf"))
    dataclasses.replace(model, head=head).save(tmp_path / "other.safetensors")
    ran = run("evaluate", shared.svm, tmp_path / "other.safetensors", shared.codes)
    assert ran.code == 1 and "'dog'" in ran.err and "'wolf'" in ran.err
