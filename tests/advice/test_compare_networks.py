"""Models are compared on one split; one that fails ends nothing; interrupted, a comparison goes on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from advice_tools import tiny_weights
from drawn import draw_photos

from cnncodes import compare, read_catalog
from cnncodes.advice import comparing
from cnncodes.cli import main
from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError, ResumeError
from cnncodes.evaluation import Predictions
from cnncodes.evaluation.evaluating import paired_interval
from cnncodes.weights import Preprocessing, load_weights, save_weights

WIDTHS = {"torchvision/mobilenet_v3_small": (1024,), "tiny": (16, 12)}  # of the last layers


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images without a split, and random weights of two networks for small inputs, one of them a library's."""
    folder = tmp_path_factory.mktemp("compare")
    draw_photos(folder / "photos", ("cat", "dog"), each=10)
    weights = load_weights("random:0", network="torchvision/mobilenet_v3_small")
    save_weights(
        replace(weights, preprocessing=Preprocessing(resize=64, crop=64)), folder / "one.safetensors"
    )
    save_weights(tiny_weights(trained=False), folder / "two.safetensors")
    return folder


@pytest.fixture(scope="module")
def compared(place):
    """Two models by two recipes, and one whose file is not there."""
    models = f"{place / 'one.safetensors'},tiny={place / 'two.safetensors'},alexnet={place / 'no.pth'}"
    code = main(
        ["compare", str(place / "photos"), "--models", models, "--recipes", "linear,finetune", "-o", str(place / "out"),
         "--set", "train.epochs=1", "--set", "head.C=1"]
    )  # fmt: skip
    return code, json.loads((place / "out" / "compare.json").read_text())


def test_one_table_of_all_models_with_paired_differences(compared, place) -> None:
    code, found = compared
    assert code == 1 and found["n"] == found["test"] == 4 and found["train"] + found["val"] == 16
    models = found["models"]
    assert {(model["network"], model["recipe"]) for model in models} == {
        (network, recipe) for network in WIDTHS for recipe in ("linear", "finetune")
    }
    answers = [Predictions.load(Path(model["folder"]) / "predictions.h5") for model in models]
    assert len({tuple(answer.rows) for answer in answers}) == 1
    best, *others = [answer.predicted == answer.labels for answer in answers]
    for model, right in zip(models[1:], others, strict=True):
        alone, missed = int((right & ~best).sum()), int((best & ~right).sum())
        assert model["difference"] == pytest.approx(right.mean() - best.mean())
        assert (model["difference_low"], model["difference_high"]) == paired_interval(
            alone, missed, len(best)
        )
    for model in models:
        assert model["low"] < model["accuracy"] <= model["high"] + 1e-9
        assert model["images_per_second"] > 0 and model["seconds"] > 0 and model["untrained"]
        sizes = [4 * width for width in WIDTHS[model["network"]]] if model["recipe"] == "linear" else [None]
        assert model["codes_bytes"] in sizes
    with (place / "out" / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["accuracy"]) for line in lines] == [model["accuracy"] for model in models]
    assert (place / "out" / "compare.png").stat().st_size > 1000


def test_a_failure_is_told_with_its_reason(compared) -> None:
    failed = compared[1]["failed"]
    assert [model["recipe"] for model in failed] == ["linear", "finetune"]
    assert all("no.pth" in model["problem"] and model["remedy"] for model in failed)


def again(place, *models: str, **options):  # type: ignore[no-untyped-def]
    catalog = read_catalog([str(place / "photos")])
    return compare(catalog, models, place / "out", assignments=("head.C=1",), **options)


def test_what_is_done_is_shown_again_and_models_are_added(compared, place, monkeypatch) -> None:
    ran = []
    real = comparing.follow_order
    monkeypatch.setattr(
        comparing,
        "follow_order",
        lambda *given, **options: ran.append(given[3].name) or real(*given, **options),
    )
    monkeypatch.setattr(comparing, "images_per_second", lambda *_: 1.0)
    found = again(place, str(place / "one.safetensors"), "tiny=random:0")
    assert ran == ["tiny=random-0-linear"] and len(found.models) == 2
    kept = {(model["folder"], model["accuracy"]) for model in compared[1]["models"]}
    assert sum((model.folder, model.accuracy) in kept for model in found.models) == 1


def test_an_interrupted_comparison_goes_on(place, monkeypatch, tmp_path) -> None:
    catalog = read_catalog([str(place / "photos")])
    models = [str(place / "one.safetensors"), str(place / "two.safetensors")]
    real = comparing.follow_order
    ran = []

    def interrupted(*given, **options):  # type: ignore[no-untyped-def]
        ran.append(given[3].name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(comparing, "follow_order", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(catalog, models, tmp_path / "out")
    assert not (tmp_path / "out" / "compare.json").exists()
    found = compare(catalog, models, tmp_path / "out")
    assert len(found.models) == 2 and ran[1] == ran[2] and len(ran) == 3
    rows = [np.loadtxt(Path(model.folder) / "split.csv", str, delimiter=",") for model in found.models]
    assert (rows[0] == rows[1]).all()


def test_a_comparison_of_other_images_or_seed_is_refused(compared, place) -> None:
    with pytest.raises(ResumeError, match="seed"):
        again(place, "tiny=random:0", seed=1)


@pytest.mark.parametrize(
    ("models", "options"),
    [
        (["torchvision/resnet19"], {}),
        (["alexnet", "alexnet"], {}),
        ([], {}),
        (["alexnet"], {"recipes": ["nothing"]}),
        (["alexnet"], {"recipes": ["scratch"]}),
        (["alexnet"], {"assignments": ["train.epochs=3"]}),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(place, tmp_path, models, options) -> None:
    with pytest.raises((OptionError, CnnCodesError)):
        compare(read_catalog([str(place / "photos")]), models, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_another_folder_is_not_touched(place, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"mine\.txt"):
        compare(read_catalog([str(place / "photos")]), ["alexnet=random:0"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
