"""Where the centre crop shows little, padded photographs are tried; what is better is followed, and what a person says, first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from advice_tools import tiny_weights

from cnncodes.advice import Advice, RunOrder, advise, load_recipe, run
from cnncodes.advice.facts import reason_of
from cnncodes.advice.run_folder import finished_run, weights_mark
from cnncodes.cli import main
from cnncodes.codes import CodesFile
from cnncodes.core.errors import ResumeError
from cnncodes.heads import load_model
from cnncodes.images import read_catalog
from cnncodes.images.decode import write_png
from cnncodes.page.gather import read_run
from cnncodes.weights import save_weights

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


def saved(folder: Path) -> str:
    save_weights(tiny_weights(), folder / "w.safetensors")
    return str(folder / "w.safetensors")


def draw(folder: Path, ends: bool, each: int = 15) -> Path:
    """Pictures of 120 x 40 px with their class's colour at both ends, or in the middle alone; the rest is noise."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.normal(128, 50, (40, 120, 3))
            part = np.r_[0:35, 85:120] if ends else np.r_[45:75]
            pixels[:, part] = colour + random.normal(0, 20, (40, len(part), 3))
            write_png(folder / name / f"{number}.png", pixels.clip(0, 255).astype(np.uint8))
    return folder


def test_things_at_the_rim_are_found_padded(tmp_path):
    catalog, weights = read_catalog(draw(tmp_path / "photos", ends=True)), tiny_weights()
    advice = advise(catalog, weights, data="photos/")
    assert advice.seen == pytest.approx(40 / 120 * (32 / 36) ** 2)
    found = advice.fits
    assert found.judged == 36 and found.pad > 0.9 > 0.7 > found.crop and found.gain == found.pad - found.crop
    assert advice.fit == "pad" and "--fit pad" in advice.command
    (reason,) = [fact for fact in advice.reasons if fact.kind == "fit"]
    assert f"{100 * found.gain:+.1f} points" in reason_of(reason).figures
    assert Advice.from_json(advice.to_json()) == advice
    chosen = [advise(catalog, weights, fit=fit) for fit in ("crop", "pad")]
    assert [each.fits for each in chosen] == [None, None] and chosen[1].seen == 1
    assert chosen[1].evidence.best_late.linear == pytest.approx(found.pad, abs=0.06)


def test_where_the_middle_says_all_the_crop_stays(tmp_path):
    catalog = read_catalog(draw(tmp_path / "photos", ends=False))
    advice = advise(catalog, tiny_weights())
    assert advice.fits is not None and advice.fit is None and "--fit" not in advice.command
    assert any(fact.kind == "fit" for fact in advice.reasons)
    square = dataclasses.replace(advice.thresholds, little_seen=0.1)
    (tmp_path / "own.toml").write_text(f"little_seen = {square.little_seen}")
    assert advise(catalog, tiny_weights(), thresholds=tmp_path / "own.toml").fits is None


def test_a_run_follows_what_is_better_and_its_model_sees_all(tmp_path):
    catalog = read_catalog(draw(tmp_path / "photos", ends=True))
    weights = saved(tmp_path)
    report = run(catalog, weights, tmp_path / "out")
    assert report.advice.fit == "pad" and load_recipe(str(tmp_path / "out" / "recipe.toml")).fit == "pad"
    record = load_model(report.model).settings.preprocessing
    assert (record.fit, record.resize) == ("pad", 32) and report.evaluation.top1 > 0.85
    assert read_run(tmp_path / "out").fit == "pad"
    again = run(catalog, weights, tmp_path / "out")
    assert again.finished == report.finished
    (tmp_path / "out" / "report.json").unlink()  # killed at the end
    assert run(catalog, weights, tmp_path / "out").evaluation == report.evaluation
    cropped = run(catalog, weights, tmp_path / "crop", assignments=("images.fit=shorter",))
    assert load_model(cropped.model).settings.preprocessing.fit == "shorter"
    assert cropped.advice.fits is None and cropped.evaluation.top1 < report.evaluation.top1
    with pytest.raises(ResumeError, match=r"images\.fit"):
        run(catalog, weights, tmp_path / "crop")


@pytest.mark.parametrize(("recipe", "entries"), [("few-shot", ()), ("large-different", ("train.epochs=1",))])
def test_what_a_person_says_is_done_at_once(recipe, entries, tmp_path):
    """The codes that find copies are those that are fitted: one pass over the images."""
    photos = draw(tmp_path / "photos", ends=True)
    weights = saved(tmp_path)
    command = ["run", str(photos), "-o", str(tmp_path / "out"), "--weights", str(weights), "--recipe", recipe]
    changes = [word for entry in entries for word in ("--set", entry)]
    assert main([*command, "--fit", "pad", *changes, "--json"]) == 0
    model = load_model(tmp_path / "out")
    assert model.settings.preprocessing.fit == "pad"
    with CodesFile(tmp_path / "out" / "codes.h5") as codes:
        assert codes.settings.preprocessing.fit == "pad"
    mark = weights_mark(str(weights))
    orders = [RunOrder(recipe=recipe, assignments=(*fit, *entries)) for fit in ((), ("images.fit=pad",))]
    found = [finished_run(read_catalog(photos), mark, tmp_path / "out", order) for order in orders]
    assert found[0] is None and found[1] is not None, "it is shown again where the same is asked"


def test_ten_crops_are_averaged_and_other_commands_have_it_too(tmp_path, capsys):
    photos = draw(tmp_path / "photos", ends=True, each=10)
    weights = saved(tmp_path)
    out, given = str(tmp_path / "out"), ["--weights", weights]
    command = ["run", str(photos), "-o", out, *given, "--recipe", "few-shot", "--fit", "ten", "--json"]
    assert main(command) == 0
    assert load_model(out).settings.crops == "ten-mean"
    capsys.readouterr()
    assert main(["advise", str(photos), *given, "--fit", "pad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seen"] == 1
    compared = ["compare", str(photos), "--models", f"tiny={weights}", "-o", str(tmp_path / "compared")]
    assert main([*compared, "--fit", "pad", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert load_model(model["folder"]).settings.preprocessing.fit == "pad"
