"""A run: it ends in an honest test, survives being interrupted anywhere, and touches nothing else."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from advice_tools import draw_stripes, striped, tiny_weights
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnncodes import training
from cnncodes.advice import RunReport, advise, plan_run, probe, run, steps
from cnncodes.advice.comparing import suitable
from cnncodes.advice.division import draw_division, for_training, grown_division, own_division
from cnncodes.advice.evidence import measure_size
from cnncodes.advice.facts import Fact
from cnncodes.advice.probe_data import Protocol, find_pool
from cnncodes.advice.run_folder import finished_on, remove_run
from cnncodes.cli import main
from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import (
    CatalogError,
    CnnCodesError,
    HeadError,
    OptionError,
    OutputExistsError,
    ResumeError,
)
from cnncodes.evaluation import evaluate
from cnncodes.heads import Split, fit_linear, load_model
from cnncodes.images import Catalog, file_digests, read_catalog
from cnncodes.images.decode import write_png
from cnncodes.training import InterruptedTrainingError
from cnncodes.training.inputs import choose_task
from cnncodes.weights import Preprocessing, read_tensors, save_weights

FINE = "large-different"
TRAINED = ("train.epochs=3", "train.batch_size=8", "train.mirror=false", "train.learning_rate=0.02")
SHORT = ("train.epochs=1", "train.batch_size=8")


@pytest.fixture
def stripes(tmp_path) -> Path:
    return draw_stripes(tmp_path / "stripes", each=15)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


def made(labels: np.ndarray, splits: int = 0) -> Catalog:
    """A catalog without files."""
    names = tuple(map(str, range(len(labels))))
    return Catalog(
        Path("/made"), names, labels, np.full(len(labels), splits), tuple("abcd"[: labels.max() + 1])
    )


@pytest.fixture(scope="module")
def linear(weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    run(
        read_catalog(draw_stripes(folder / "stripes", each=15)),
        weights,
        folder / "out",
        recipe="small-similar",
    )
    return folder


@pytest.fixture
def finished(linear, tmp_path) -> tuple[Path, Path]:
    """Images, and the folder of a finished run of recipe small-similar on them."""
    shutil.copytree(linear, tmp_path / "finished")
    return tmp_path / "finished/stripes", tmp_path / "finished/out"


def tensors_of(report: RunReport) -> dict[str, torch.Tensor]:
    return read_tensors(Path(report.model))[0]


def assert_same_model(one: RunReport, other: RunReport) -> None:
    first, second = tensors_of(one), tensors_of(other)
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_a_run_ends_with_a_tested_model_and_a_report(stripes, weights, tmp_path, monkeypatch) -> None:
    clock = itertools.count()  # a second later each time that it is looked at
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    report = run(read_catalog(stripes), weights, tmp_path / "out", data="stripes/")
    assert {"split", "codes", "fit", "test"} < set(report.seconds)
    assert sum(report.seconds.values()) < next(clock), "no time is counted in two steps"
    assert report.chosen_by == "advice" and report.recipe.startswith("small-")
    assert (report.train, report.test, report.classes) == (36, 9, 3)
    assert report.evaluation.n == 9 and report.evaluation.top1 > report.evaluation.majority
    assert Fact("few-tested", {"tested": 9}) in report.notes
    assert RunReport.from_json((tmp_path / "out/report.json").read_text()) == report
    for what, name in report.files.items():
        assert (tmp_path / "out" / name).exists(), what
    apart = advise(read_catalog(tmp_path / "out/split.csv"), weights).evidence
    assert [depth.linear for depth in report.advice.evidence.depths] == pytest.approx(
        [depth.linear for depth in apart.depths], abs=1 / 36
    ), "the advice reads codes of the run's own pass, and they are those that it would make"


def test_what_is_known_is_told_at_once_and_a_run_goes_on_from_its_plan(stripes, weights, tmp_path) -> None:
    catalog, told = read_catalog(stripes), []
    options = {"told": lambda what, record: told.append((what, record))}
    plan = plan_run(catalog, weights, tmp_path / "out", **options)
    assert [what for what, _ in told] == ["split", "advice", "plan"] and told[-1][1] == plan
    assert (plan.train, plan.test, plan.chosen_by) == (36, 9, "advice") and plan.expected_seconds > 0
    assert not (tmp_path / "out/model.safetensors").exists()
    report = run(catalog, weights, tmp_path / "out", **options)
    assert report.recipe == plan.recipe and report.reasons[1:] == plan.reasons and len(told) == 6
    run(catalog, weights, tmp_path / "out", **options)
    assert len(told) == 6, "nothing is new of a finished run"


def test_the_share_that_tests_is_a_persons_choice(stripes, weights, tmp_path) -> None:
    catalog, options = read_catalog(stripes), {"recipe": "small-similar"}
    assert run(catalog, weights, tmp_path / "out", test=0.4, **options).test == 18
    with pytest.raises(ResumeError, match=r"share to test \(0.4 then, 0.2 now\)"):
        run(catalog, weights, tmp_path / "out", **options)
    own = replace(catalog, splits=np.resize([1, 1, 3], len(catalog)).astype(np.uint8))
    for images, share, words in ((catalog, 1.5, "between 0 and 1"), (own, 0.4, "split of their own")):
        with pytest.raises(OptionError, match=words):
            run(images, weights, tmp_path / "other", test=share, **options)


def test_nothing_of_the_test_images_was_fitted(stripes, weights, tmp_path) -> None:
    shutil.copy(stripes / "along/3.png", stripes / "along/copy.png")
    report = run(read_catalog(stripes), weights, tmp_path / "out", recipe="small-similar")
    divided = read_catalog(tmp_path / "out/split.csv")  # any command takes it as its data
    test = divided.subset(divided.splits == 3)
    assert len(test) == report.test and not load_model(report.model).has_seen(file_digests(test)).any()
    of = sides(tmp_path / "out")
    assert of["along/3.png"] == of["along/copy.png"], "a copy stays with its original"


def test_every_command_tests_on_the_same_images(stripes, weights, tmp_path) -> None:
    """The stripes are near copies of each other to this network, so the run may differ in those, and its codes follow it."""
    catalog = read_catalog(stripes)
    order = np.random.default_rng(0).permutation(len(catalog))
    extract(catalog.subset(order), tmp_path / "codes.h5", weights)
    fit = fit_linear(tmp_path / "codes.h5", layer="fc7", C=1.0)
    fitted = fit.model.evidence["split_record"]
    _, advised = measure_size(catalog)
    assert fitted == advised.record(catalog) and fitted["kind"] == "drawn" and fitted["test"] == 9
    task = choose_task(catalog, Preprocessing(), "auto", seed=0)
    assert task.split.test.tolist() == advised.test.tolist()
    pool = find_pool(catalog, np.ones(len(catalog), bool), Protocol((2,)))
    assert pool.test.tolist() == advised.test.tolist()

    probed = probe(catalog, weights, layers="fc7", shots=(2,), repeats=1)
    assert advise(catalog, weights).split == probed.split == fitted

    run(catalog, weights, tmp_path / "out", recipe=FINE, assignments=SHORT)
    note = json.loads((tmp_path / "out/run.json").read_text())["split_record"]
    divided = read_catalog(tmp_path / "out/split.csv")
    differ = (divided.splits == 3) != np.isin(np.arange(len(catalog)), advised.test)
    assert differ.sum() <= note["near_copies"]
    assert note["near_copies"] or note["test_names"] == fitted["test_names"]
    again = fit_linear(tmp_path / "out/codes.h5", layer="fc7", C=1.0)
    assert again.split.test.tolist() == np.flatnonzero(divided.splits == 3).tolist()


@pytest.mark.parametrize("recipe", ["small-similar", FINE])
def test_copies_in_the_datas_own_test_split_are_not_counted_first(weights, tmp_path, recipe) -> None:
    """Three test images are training images saved anew: the same pixels, other bytes."""
    data = draw_stripes(tmp_path / "data", each=12, split="train")
    draw_stripes(data, each=3, split="test", seed=1)
    for number in range(3):
        again = PngInfo()
        again.add_text("Comment", "saved anew")
        image = Image.open(data / f"train/along/{number}.png")
        image.save(data / f"test/along/copy{number}.png", pnginfo=again)
    catalog = read_catalog(data)
    options = {"recipe": recipe, "assignments": SHORT if recipe == FINE else ()}
    report = run(catalog, weights, tmp_path / "out", **options)
    copies = [row for row, name in enumerate(catalog.names) if "copy" in name]
    assert report.left_out == tuple(copies) and report.copies == 3
    assert report.evaluation.n == report.test == 9
    hits = report.evaluation.top1 * 9
    assert hits <= round(report.top1_with_copies * 12, 6) <= hits + 3
    assert Fact("copies", {"copies": 3, "top1": report.top1_with_copies}) in report.notes
    assert run(catalog, weights, tmp_path / "out", **options) == report
    if recipe != FINE:
        result = evaluate(load_model(report.model), catalog)
        assert (result.evaluation.n, result.copies) == (9, 3)
        assert result.top1_with_copies == pytest.approx(report.top1_with_copies)


def test_a_run_says_when_its_weights_were_trained_on_the_test_images(stripes, weights, tmp_path) -> None:
    catalog = read_catalog(stripes)
    trained = replace(weights, seen=tuple(file_digests(catalog).tolist()))
    report = run(catalog, trained, tmp_path / "out", recipe="small-similar")
    assert Fact("seen", {"seen": 9, "tested": 9}) in report.notes


def test_the_split_is_drawn_by_groups_and_no_class_is_lost() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [60, 30, 8, 2])
    catalog = made(labels)
    groups = np.arange(len(labels))
    for _ in range(20):  # chains of copies, some across classes
        one, other = random.choice(98, 2, replace=False)
        groups[groups == groups[other]] = groups[one]
    groups[98:] = 5  # all of a class are copies of another's image
    division = draw_division(catalog, np.ones(len(labels), bool), groups, seed=1)
    for group in np.unique(groups):
        assert len(set(division.splits[groups == group].tolist())) == 1
    assert set(labels[division.splits == 1]) == {0, 1, 2, 3}
    assert 16 <= (division.splits == 3).sum() <= 20
    again = draw_division(catalog, np.ones(len(labels), bool), groups, seed=1)
    assert (again.splits == division.splits).all()


def test_a_val_split_alone_tests_and_a_training_chooses_inside_train(tmp_path) -> None:
    folder = draw_stripes(
        draw_stripes(tmp_path / "data", each=20, split="train"), each=4, split="val", seed=1
    )
    catalog = read_catalog(folder)
    division = own_division(catalog)
    assert ((division.splits == 3) == (catalog.splits == 2)).all() and "val 12 (tests)" in division.how
    split = for_training(division.applied(catalog), division.groups)
    assert len(split.choose) == 6 and not len(split.test)
    rows = np.sort(np.concatenate([split.train, split.choose]))
    assert rows.tolist() == np.flatnonzero(catalog.splits == 1).tolist(), "a tenth of train, no test images"


@pytest.fixture
def trained_on(monkeypatch) -> list[Split]:
    """The rows of every training, as the training itself used them."""
    splits: list[Split] = []
    real = training.finetune

    def spied(*arguments: object, **options: object) -> training.TrainingResult:
        result = real(*arguments, **options)
        splits.append(result.split)
        return result

    monkeypatch.setattr(training, "finetune", spied)
    return splits


def test_an_epoch_is_never_chosen_on_the_images_that_test(stripes, weights, tmp_path, trained_on) -> None:
    """Seven pictures a class, each there twice: every group of copies is more than a tenth of its class."""
    for path in sorted(stripes.glob("*/*.png")):
        if int(path.stem) < 7:
            shutil.copy(path, path.with_name(f"copy{path.name}"))
        else:
            path.unlink()
    catalog = read_catalog(stripes)
    report = run(catalog, weights, tmp_path / "out", recipe=FINE, assignments=TRAINED)
    (rows,) = trained_on
    divided = read_catalog(tmp_path / "out/split.csv")
    assert [Path(name).name for name in divided.names] == [Path(name).name for name in catalog.names]
    test = np.flatnonzero(divided.splits == 3)
    assert len(test) == report.test == 6 and len(rows.choose) == 6
    assert not np.isin(rows.choose, test).any() and not np.isin(rows.train, test).any()
    digests = file_digests(catalog)
    assert not np.isin(digests[rows.train], digests[rows.choose]).any(), "copies stay on one side"


def test_where_no_image_can_be_watched_none_is(weights, tmp_path, trained_on) -> None:
    """One picture a class to fit: nothing is left to choose an epoch with, least of all what tests."""
    folder = draw_stripes(
        draw_stripes(tmp_path / "data", each=1, split="train"), each=3, split="test", seed=1
    )
    report = run(read_catalog(folder), weights, tmp_path / "out", recipe=FINE, assignments=TRAINED)
    (rows,) = trained_on
    assert not len(rows.choose) and len(rows.train) == 3 and report.test == 9


def test_copies_stay_together_in_a_val_split_and_no_class_is_lost() -> None:
    labels = np.repeat([0, 1, 2], [8, 6, 4])
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6])
    catalog = made(labels, 1)
    val = for_training(catalog, groups).choose
    assert val[:2].tolist() == [6, 7] and len(val) == 4, "the smallest group of a and b; c is one group"
    assert groups[val[2]] == groups[val[3]]
    assert not len(for_training(catalog, labels).choose), "each class is one group"


def interrupt(monkeypatch, name: str) -> None:
    """Let a step of the run be cut off once, before it does anything."""
    real, calls = getattr(steps, name), []

    def once(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(steps, name, once)


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory):
    """Some images, and what a run on them that nothing interrupts reports."""
    folder = tmp_path_factory.mktemp("whole")
    catalog = read_catalog(draw_stripes(folder / "stripes", each=15))
    return catalog, run(catalog, weights, folder / "out", recipe="small-different")


@pytest.mark.parametrize(
    "step", ["near_pairs", "write_division", "advise", "fit_linear", "evaluate", "make_report", ""]
)
def test_a_run_cut_off_at_a_step_goes_on_to_the_same_model(
    step, whole, weights, tmp_path, monkeypatch
) -> None:
    catalog, report = whole

    def cut(what: str, done: float, total: int, word: str) -> None:
        if not step and what.startswith("extracting") and done < total:
            raise KeyboardInterrupt

    if step:
        interrupt(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        run(catalog, weights, tmp_path, recipe="small-different", progress=cut)
    again = run(catalog, weights, tmp_path, recipe="small-different")
    assert_same_model(report, again)
    assert again.evaluation == report.evaluation and again.split == report.split


def test_a_training_that_is_terminated_goes_on_to_the_same_weights(stripes, weights, tmp_path) -> None:
    catalog = read_catalog(stripes)
    options = {"recipe": "large-different", "assignments": TRAINED}
    whole = run(catalog, weights, tmp_path / "whole", **options)
    assert whole.method == "finetune" and whole.reasons[0].values["epochs"] == 3

    def terminate(step: str, done: float, total: int, word: str) -> None:
        if step == "epoch 2 of 3":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError, match="Repeat the same command"):
        run(catalog, weights, tmp_path / "cut", progress=terminate, **options)
    assert_same_model(whole, run(catalog, weights, tmp_path / "cut", **options))


def test_a_finished_run_is_shown_and_not_done_again(stripes, weights, tmp_path, monkeypatch) -> None:
    first = run(read_catalog(stripes), weights, tmp_path / "out")
    for name in ("advise", "fit_linear", "evaluate"):
        monkeypatch.setattr(steps, name, None)
    assert run(read_catalog(stripes), weights, tmp_path / "out") == first
    assert finished_on(tmp_path / "out") == first.finished and finished_on(tmp_path) is None
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = run(read_catalog(stripes), weights, tmp_path / "moved")
    assert Path(moved.model).exists() and str(tmp_path / "moved") in moved.command


def test_other_weights_seed_recipe_or_quite_other_images_are_refused_by_name(
    finished, weights, tmp_path
) -> None:
    stripes, out = finished
    catalog = read_catalog(stripes)
    with pytest.raises(ResumeError, match="weights"):
        run(catalog, replace(weights, tensors={k: v + 1 for k, v in weights.tensors.items()}), out)
    with pytest.raises(ResumeError, match=r"seed \(0 then, 1 now\)"):
        run(catalog, weights, out, seed=1)
    with pytest.raises(ResumeError, match=r"head\.C = 'auto' then, 2"):
        run(catalog, weights, out, recipe="small-similar", assignments=["head.C=2"])
    write_png(stripes / "along/3.png", striped("along", 77))
    before = contents(out)
    with pytest.raises(ResumeError, match=r"head\.C = 'auto' then, 2"):
        run(read_catalog(stripes), weights, out, recipe="small-similar", assignments=["head.C=2"])
    with pytest.raises(ResumeError, match=r"other images: 0 of its 45"):
        run(read_catalog(draw_stripes(tmp_path / "b", each=9, seed=1)), weights, out, recipe="small-similar")
    with pytest.raises(ResumeError, match="would replace its result"):
        plan_run(read_catalog(stripes), weights, out, recipe="small-similar")
    assert contents(out) == before, "nothing is lost"


def sides(out: Path) -> dict[str, str]:
    """Split of each image of a run, by its class and name."""
    with (out / "split.csv").open() as file:
        return {"/".join(Path(row["filename"]).parts[-2:]): row["split"] for row in csv.DictReader(file)}


def test_a_finished_run_goes_on_with_new_images_and_keeps_its_test(
    stripes, weights, tmp_path, capsys
) -> None:
    save_weights(weights, tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    command = ["run", str(stripes), "-o", str(out), "--weights", str(tmp_path / "tiny.safetensors")]
    assert main(command) == 0
    before, first = sides(out), RunReport.from_json((out / "report.json").read_text())
    tested = [name for name, side in before.items() if side == "test"]
    for number in range(20, 26):
        write_png(stripes / f"across/{number}.png", striped("across", number))
    shutil.copy(stripes / tested[0], stripes / "along/copy.png")  # of an image that tests
    gone = next(name for name, side in before.items() if side == "train")
    (stripes / gone).unlink()
    (stripes / tested[1]).rename(stripes / tested[1].replace(".png", "-renamed.png"))
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    shown = capsys.readouterr()
    after, second = sides(out), RunReport.from_json((out / "report.json").read_text())
    renamed = tested[1].replace(".png", "-renamed.png")
    page = (out / "report.html").read_text()
    assert f"Before, with 45 images: {100 * first.evaluation.top1:.1f} %" in page
    assert gone not in after and after[renamed] == "test" and after["along/copy.png"] == "test"
    kept = {name: side for name, side in before.items() if name not in (gone, tested[1])}
    assert {name: side for name, side in after.items() if name in before} == kept
    new = {name: after[name] for name in (f"across/{number}.png" for number in range(20, 26))}
    assert "train" in new.values()
    (earlier,) = second.history
    assert (earlier.images, earlier.top1) == (45, first.evaluation.top1) and second.images == 51
    for part in ("7 images are new", "the 9 test images stay", "1 image is gone", "1 image is renamed"):
        assert part in second.split and part in shown.err
    assert "already finished" not in shown.err
    assert json.loads(shown.out)["history"][0]["images"] == 45
    assert not list(out.glob("before-*")) and (out / "report.html").stat().st_mtime > 0
    model = load_model(out / "model.safetensors")
    assert not model.has_seen(file_digests(read_catalog([stripes / name for name in tested[:1]]))).any()
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "already finished" in shown.err and "before: " in shown.out and "with 45 images" in shown.out


def test_codes_of_known_images_are_not_computed_again(finished, weights, monkeypatch) -> None:
    (stripes, out), options = finished, {"recipe": "small-similar"}
    for number in range(20, 24):
        write_png(stripes / f"across/{number}.png", striped("across", number))
    there = stripes / "along/3.png"
    os.utime(there, ns=(1, 1))
    again = run(read_catalog(stripes), weights, out, **options)
    with CodesFile(out / "codes.h5") as codes:
        assert codes.copied().sum() == 45
    os.utime(there, ns=(2, 2))
    monkeypatch.setattr(steps, "evaluate", None)
    assert run(read_catalog(stripes), weights, out, **options) == again, (
        "only the time of a file is another one"
    )


@pytest.mark.parametrize("step", ["near_pairs", "advise", "evaluate"])
def test_a_run_cut_off_goes_on_with_what_has_changed(step, stripes, weights, tmp_path, monkeypatch) -> None:
    """Before its split there is nothing to keep; after it the test images stay. Cut off again, it goes on, too."""
    interrupt(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        run(read_catalog(stripes), weights, tmp_path / "out")
    had = sides(tmp_path / "out") if step != "near_pairs" else {}
    for number in range(20, 24):
        write_png(stripes / f"across/{number}.png", striped("across", number))
    interrupt(monkeypatch, "fit_linear")
    with pytest.raises(KeyboardInterrupt):
        run(read_catalog(stripes), weights, tmp_path / "out")
    write_png(stripes / "along/30.png", striped("along", 30))
    report = run(read_catalog(stripes), weights, tmp_path / "out")
    now = sides(tmp_path / "out")
    assert {name: now[name] for name in had} == had and len(now) == 50
    assert report.history == () and report.evaluation is not None
    assert not list((tmp_path / "out").glob("before-*"))


def test_a_new_class_gets_test_images_and_another_label_is_learned(stripes, weights, tmp_path) -> None:
    out, options = tmp_path / "out", {"recipe": FINE, "assignments": SHORT}
    run(read_catalog(stripes), weights, out, **options)
    before = sides(out)
    (stripes / "noise").mkdir()
    for number in range(10):
        random = np.random.default_rng(number)
        write_png(stripes / f"noise/{number}.png", random.integers(0, 255, (36, 36, 3)).astype(np.uint8))
    (stripes / "along/0.png").rename(stripes / "across/moved.png")
    report = run(read_catalog(stripes), weights, out, **options)
    after = sides(out)
    assert report.classes == 4 and sum(side == "test" for name, side in after.items() if "noise" in name) == 2
    assert after["across/moved.png"] == before["along/0.png"] and "1 has another label" in report.split


def test_other_recipes_are_tried_on_the_split_of_the_run(stripes, weights, tmp_path, capsys) -> None:
    save_weights(weights, tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    command = ["run", str(stripes), "-o", str(out), "--weights", str(tmp_path / "tiny.safetensors")]
    command += ["--recipe", "small-similar"]
    for wrong in (["--try", "nothing"], ["--try", "all", "--dry-run"]):
        assert main([*command, *wrong]) == 2 and not out.exists()
    scratch = ["run", str(stripes), "-o", str(out), "--recipe", "scratch", "--try", "all"]
    assert main(scratch) == 2 and not out.exists(), "told before hours of training"
    tried = [*command, "--try", "small-similar,small-different,few-shot"]
    assert main([*tried, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tried"]
    assert found["n"] == 9 and not found["failed"]
    assert {model["recipe"] for model in found["models"]} == {"small-similar", "small-different", "few-shot"}
    assert {Path(model["folder"]) for model in found["models"]} >= {out}
    there = {Path(model["folder"]) for model in found["models"]} - {out}
    for folder in there:
        assert sides(folder) == sides(out)
    assert "Other recipes on the same split" in (out / "report.html").read_text()
    write_png(stripes / "across/20.png", striped("across", 20))
    assert main(command) == 0 and not (out / "try/compare.json").exists()
    assert "Other recipes" not in (out / "report.html").read_text(), "what is of other images is not shown"
    capsys.readouterr()
    assert main(tried) == 0
    shown = capsys.readouterr().out
    assert "the requested recipe, small-similar, is" in shown and "46 images" not in shown
    assert all(sides(folder) == sides(out) for folder in there)
    remove_run(out)
    assert not out.exists() or not list(out.iterdir())


def test_recipes_that_suit_the_images_are_tried(whole) -> None:
    report = whole[1]
    usual = {"small-similar", "small-different", "large-similar", "large-different"}
    assert {*suitable(report)} == usual
    assert {*suitable(replace(report, train=20))} == usual | {"few-shot"}


def test_where_images_have_a_split_of_their_own_new_ones_follow_it(weights, tmp_path) -> None:
    data = draw_stripes(tmp_path / "data", each=8, split="train")
    draw_stripes(data, each=3, split="test", seed=1)
    run(read_catalog(data), weights, tmp_path / "out", recipe="small-similar")
    draw_stripes(data, each=5, split="test", seed=1)
    report = run(read_catalog(data), weights, tmp_path / "out", recipe="small-similar")
    assert (report.train, report.test) == (24, 15) and "6 new since" in report.split


def test_copies_of_images_on_both_sides_are_left_out() -> None:
    labels = np.repeat([0, 1], [8, 6])
    catalog = made(labels)
    before = np.array([1, 1, 1, 3, 0, 0, 0, 0, 1, 1, 3, 0, 0, 0], np.uint8)
    groups = np.arange(len(labels))
    groups[[0, 3, 4]] = 0  # 4 is a copy of one that is fitted and one that tests
    groups[[10, 11]] = 10
    usable = np.ones(len(labels), bool)
    usable[13] = False
    division = grown_division(catalog, usable, groups, before, same=np.full(len(labels), -1))
    assert division.splits.tolist() == [1, 1, 1, 3, 0, 1, 1, 1, 1, 1, 3, 3, 1, 0]


def test_an_image_that_is_drawn_to_test_a_class_that_lost_its_test_is_not_called_new() -> None:
    labels = np.repeat([0, 1], 10)
    catalog = made(labels)
    before = np.array([1] * 10 + [3, 3] + [1] * 8, np.uint8)
    division = grown_division(
        catalog, np.ones(20, bool), np.arange(20), before, same=np.full(20, -1), share=0.2
    )
    assert (division.splits[:10] == 3).sum() == 2
    assert "no image is new" in division.how and "2 training images test now" in division.how


@pytest.mark.parametrize(
    ("first", "then", "error"), [("along", "across", HeadError), ("", "along", ResumeError)]
)
def test_a_result_stays_where_one_class_is_left_or_all_images_of_one_are_gone(
    first, then, error, stripes, weights, tmp_path
) -> None:
    """As with a list that was cut off."""
    out = tmp_path / "out"
    if first:
        (stripes / first).rename(tmp_path / first)
    run(read_catalog(stripes), weights, out, recipe="small-similar")
    before = contents(out)
    (stripes / then).rename(tmp_path / then)
    with pytest.raises(error, match=then if error is ResumeError else None):
        run(read_catalog(stripes), weights, out, recipe="small-similar")
    assert contents(out) == before


def test_codes_of_a_run_that_was_cut_off_are_not_taken_for_those_of_the_split_before(
    finished, weights, monkeypatch
) -> None:
    """As many images as before, others of them: the rows of its codes are not those of the split."""
    stripes, out = finished
    before = sides(out)
    gone = next(name for name, side in before.items() if side == "train")
    (stripes / gone).unlink()
    write_png(stripes / "checkered/90.png", striped("checkered", 90))
    interrupt(monkeypatch, "near_pairs")
    with pytest.raises(KeyboardInterrupt):
        run(read_catalog(stripes), weights, out, recipe="small-similar")
    write_png(stripes / "checkered/91.png", striped("checkered", 91))
    report = run(read_catalog(stripes), weights, out, recipe="small-similar")
    now = sides(out)
    assert before.pop(gone) and {name: now[name] for name in before} == before
    assert "2 images are new" in report.split and "renamed" not in report.split


def test_what_is_not_its_own_is_never_touched(stripes, weights, tmp_path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"'thesis\.txt' is in it"):
        run(read_catalog(stripes), weights, mine)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    (mine / "data.csv").write_text("a,b")
    with pytest.raises(OutputExistsError, match=r"'data\.csv' and 1 more is in it"):
        run(read_catalog(stripes), weights, mine)
    training = tmp_path / "training"
    training.mkdir()
    (training / "run.json").write_text('{"settings": {}}')
    with pytest.raises(OutputExistsError, match=r"run\.json"):
        run(read_catalog(stripes), weights, training)
    assert [path.name for path in training.iterdir()] == ["run.json"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_new_run_is_to_read_is_not_taken_away(stripes, weights, tmp_path, capsys, monkeypatch) -> None:
    out, catalog = tmp_path / "out", read_catalog(stripes)
    start = tmp_path / "start.safetensors"
    save_weights(weights, start)
    run(catalog, weights, out, recipe=FINE, assignments=SHORT)
    before = contents(out)
    (tmp_path / "link.safetensors").symlink_to(out / "model.safetensors")
    anew = ["run", str(stripes), "-o", str(out), "--overwrite"]
    for inputs in (
        ["--weights", str(start), "--recipe", str(out / "recipe.toml")],
        ["--weights", str(out / "model.safetensors")],
        ["--weights", str(out / "training" / "model.safetensors")],
        ["--weights", str(tmp_path / "link.safetensors"), "--recipe", "small-similar"],
    ):
        assert main([*anew, *inputs]) == 2, inputs
        assert "is of the run in" in capsys.readouterr().err and contents(out) == before, inputs
    assert main(["run", str(out / "split.csv"), *anew[2:], "--weights", str(start)]) == 2
    assert "the list of images" in capsys.readouterr().err and contents(out) == before
    monkeypatch.chdir(out)
    parts = (np.append(0, part) for part in (catalog.labels, catalog.splits))
    images = Catalog(out, ("depth.png", *catalog.names), *parts, catalog.classes)
    with pytest.raises(OptionError, match=r"the image '.*depth\.png'"):
        (out / "depth.png").touch()
        run(images, weights, ".", overwrite=True)


def test_starting_anew_takes_only_what_the_run_has_made(finished, weights) -> None:
    stripes, out = finished
    catalog = read_catalog(stripes)
    names = ("training/notes.txt", "training/run.json", "curves.png", "page.h5", "x.png")
    mine = dict.fromkeys(names, b"mine")
    (out / "training").mkdir()
    for name, content in mine.items():  # a linear run has none of these
        (out / name).write_bytes(content)
    remove_run(out)
    assert contents(out) == mine
    shutil.rmtree(out)
    run(catalog, weights, out, recipe=FINE, assignments=SHORT)
    mine = {"training/notes.txt": b"mine", "training/events/mine.txt": b"mine"}
    (out / "training/events").mkdir(exist_ok=True)
    for name, content in mine.items():
        (out / name).write_bytes(content)
    for left in (".model.safetensors.00000000-1.part", "training/.checkpoint-00000009.pt.00000000-1.part"):
        (out / left).write_bytes(b"half")  # of a run that was killed
    for name in ("curves.png", "page.h5", "report.html"):  # what the command adds
        (out / name).touch()
    shutil.copytree(out, out.with_name("whole"))
    remove_run(out)
    assert contents(out) == mine, "all of the training goes, and nothing else"
    for name in mine:
        (out.with_name("whole") / name).unlink()
    remove_run(out.with_name("whole"))
    assert not list(out.with_name("whole").iterdir()), "nothing of a person's: no folder stays"


def test_a_run_that_was_killed_as_it_began_can_be_repeated(stripes, weights, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.lock").touch()
    (out / ".run.json.00000000-1.part").write_text('{"kind": "cnnc')
    report = run(read_catalog(stripes), weights, out, recipe="small-similar")
    assert report.evaluation is not None


def test_a_folder_inside_the_images_is_refused(stripes, capsys) -> None:
    assert main(["run", str(stripes), "-o", str(stripes / "out"), "--weights", "random:0"]) == 2
    assert "inside the images" in capsys.readouterr().err and not (stripes / "out").exists()


@pytest.fixture
def scratch(tmp_path) -> Path:
    """A recipe that trains the tiny network from new numbers: nothing has looked at the images before."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'summary = "tiny"\nmethod = "train"\nsource = "a test"\n[network]\nname = "tiny"\n'
        "[images]\nresize = 36\ncrop = 32\n[train]\nepochs = 2\nbatch_size = 8\n"
    )
    return recipe


def test_a_network_is_trained_from_new_numbers_without_advice(stripes, scratch, tmp_path) -> None:
    report = run(read_catalog(stripes), None, tmp_path / "out", recipe=scratch)
    assert report.advice is None and report.method == "train" and report.evaluation.n == report.test == 9


@pytest.mark.parametrize("place", ["same_file", "evaluate"])
def test_killed_after_its_training_a_run_still_tells_what_it_could_not_read(
    stripes, scratch, tmp_path, monkeypatch, place
) -> None:
    for name in ("along/1.png", "across/2.png", "checkered/3.png"):
        (stripes / name).write_bytes(b"no picture")
    catalog = read_catalog(stripes)
    whole = run(catalog, None, tmp_path / "whole", recipe=scratch)

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(steps, place, kill)
        with pytest.raises(KeyboardInterrupt):
            run(catalog, None, tmp_path / "cut", recipe=scratch)
    again = run(catalog, None, tmp_path / "cut", recipe=scratch)
    assert len(whole.unreadable) == 3 and again.unreadable == whole.unreadable
    assert run(catalog, None, tmp_path / "cut", recipe=scratch).unreadable == whole.unreadable
    assert not list((tmp_path / "cut/training").glob("checkpoint-*"))


def test_with_two_images_a_class_few_shot_is_advised_and_a_requested_recipe_is_followed(
    weights, tmp_path
) -> None:
    catalog = read_catalog(draw_stripes(tmp_path / "data", each=2))
    advised = run(catalog, weights, tmp_path / "advised")
    assert (advised.recipe, advised.chosen_by, advised.train, advised.test) == ("few-shot", "advice", 3, 3)
    assert [fact.kind for fact in advised.reasons] == ["head", "few-shot", "noise"]
    report = run(
        catalog, weights, tmp_path / "out", recipe="small-similar", assignments=["head.C=1", "head.layer=fc7"]
    )
    assert report.advice.recipe == "few-shot" and (report.train, report.test) == (3, 3)


def test_a_mistake_in_the_recipe_is_told_before_any_work(stripes, weights, tmp_path) -> None:
    with pytest.raises(CnnCodesError, match="epoch"):
        run(read_catalog(stripes), weights, tmp_path / "out", recipe=FINE, assignments=["train.epoch=3"])
    assert not (tmp_path / "out").exists()


def test_images_without_labels_are_an_error(stripes, weights, tmp_path) -> None:
    with pytest.raises(CatalogError, match=r"(?s)no labels.*cnncodes explore"):
        run(read_catalog(sorted((stripes / "along").glob("*.png"))), weights, tmp_path / "out")


def test_a_run_that_trains_says_why_it_does_not_learn_and_draws_its_curves(
    stripes, weights, tmp_path, capsys
) -> None:
    save_weights(weights, tmp_path / "tiny.safetensors")
    start = f"--weights {tmp_path}/tiny.safetensors --recipe large-different"
    command = f"run {stripes} -o {tmp_path}/out {start}".split()
    for entry in (*TRAINED, "train.learning_rate=1e-30", "train.schedule=constant", "train.dropout=0"):
        command += ["--set", entry]
    assert main([*command, "--quiet"]) == 0
    assert "the training loss does not fall" in capsys.readouterr().err
    curves = tmp_path / "out/curves.png"
    assert curves.read_bytes().startswith(b"\x89PNG")
    curves.unlink()
    shutil.rmtree(tmp_path / "out/training")
    assert main([*command, "--quiet"]) == 0, "a finished run is shown without its training too"
    assert not curves.exists() and not capsys.readouterr().err


def test_the_command_tells_what_a_person_wants_to_know(
    stripes, weights, tmp_path, capsys, monkeypatch
) -> None:
    save_weights(weights, tmp_path / "tiny.safetensors")
    (stripes / "along/7.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["run", str(stripes), "-o", str(out), "--weights", str(tmp_path / "tiny.safetensors")]
    assert main([*command, "--dry-run"]) == 0 and not (out / "model.safetensors").exists()
    assert "recipe: small-" in capsys.readouterr().out
    assert main(command) == 3, "an image could not be read"
    shown = capsys.readouterr()
    assert shown.out.startswith("accuracy ") and "split: " in shown.err, "the result comes first"
    for part in ("accuracy ", "95 % interval", "always the largest class", "recipe: small-", "(advised)"):
        assert part in shown.out
    assert (
        "unreadable: 'along/7.png'" in shown.err
        and f"next: cnncodes predict {out}/model.safetensors" in shown.err
    )
    assert (out / "depth.png").stat().st_size > 1000 and (out / "confusion.png").stat().st_size > 1000
    (out / "thesis.txt").write_text("years of work")
    assert main([*command, "--overwrite"]) == 3
    assert "already finished" not in capsys.readouterr().err and (out / "thesis.txt").exists()
    names = ("depth.png", "confusion.png", "report.html")
    pictures = [(out / name).stat().st_mtime_ns for name in names]
    monkeypatch.setattr(
        "cnncodes.cli.run_command.load_weights", lambda *_: pytest.fail("the network is not needed")
    )
    assert main([*command]) == 3
    assert pictures == [(out / name).stat().st_mtime_ns for name in names]
    assert "already finished on " in capsys.readouterr().err, "nobody takes old times for new ones"
    assert main([*command, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["evaluation"]["top1"] > 0.3 and document["advice"]["recipe"] == document["recipe"]
    assert list(document["unreadable"]) == ["along/7.png"]
    assert main(["predict", str(out / "model.safetensors"), str(stripes / "across/0.png"), "--json"]) == 0
    assert main(["evaluate", str(out / "model.safetensors"), str(out / "split.csv"), "--json"]) == 0
    capsys.readouterr()
    with (out / "split.csv").open() as file:
        assert {row["split"] for row in csv.DictReader(file)} == {"train", "test", ""}


def test_a_finished_run_is_shown_without_importing_torch_and_other_inputs_are_not_overlooked(
    stripes, weights, tmp_path, capsys
) -> None:
    for number, name in enumerate(("tiny", "other")):
        changed = {key: values + number for key, values in weights.tensors.items()}
        save_weights(replace(weights, tensors=changed), tmp_path / f"{name}.safetensors")
    start = f"--weights {tmp_path}/tiny.safetensors"
    command = f"run {stripes} -o {tmp_path}/out {start} --recipe small-similar".split()
    assert main(command) == 0
    shown = [*command, "--quiet", "--json"]
    script = f"import sys\nfrom cnncodes.cli import main\nmain({shown!r})\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["n"] == 9
    capsys.readouterr()
    without = [word for word in command if word not in start.split()]
    assert main(without) == 0  # the weights are those of the run in the folder
    told = capsys.readouterr().err
    assert "tiny.safetensors'" in told and "already finished" in told
    for other in ("--seed 1", f"--weights {tmp_path}/other.safetensors", "--set head.C=2"):
        assert main([*command, *other.split()]) == 1, other
    write_png(stripes / "along/3.png", striped("along", 77))
    assert main(command) == 0
    assert "1 image is new" in capsys.readouterr().err
