"""The page of a run: nothing from a file becomes HTML, nothing is asked of the network, and what is lost is said."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from finished_runs import (
    EVIL_CLASS,
    EVIL_FILE,
    EVIL_TITLE,
    evil_photos,
    finished_run,
    tiny_network,  # noqa: F401
    tiny_weights,
)

from cnncodes.advice import Finding
from cnncodes.advice import run as follow
from cnncodes.advice.facts import rate_found, reason_of
from cnncodes.cli import main
from cnncodes.core.errors import CnnCodesError, ModelError, OptionError, OutputExistsError
from cnncodes.evaluation import Predictions, verdicts
from cnncodes.images import Catalog, loader, read_catalog
from cnncodes.images.decode import read_image
from cnncodes.page import PageFile, html, network_pictures, page_is_current, read_run, render, write_report
from cnncodes.page.gather import answers_of, choose_rows, choose_samples, shown_names
from cnncodes.page.images import sheet_of, tile_side
from cnncodes.page.network_pictures import smoothness
from cnncodes.page.record import NOISE, Answer, Answers, PageMap
from cnncodes.page.views import Line, line_chart, nice_ticks
from cnncodes.pictures.drawing import plain
from cnncodes.training import RangeTest

LIMIT = 10_000_000  # bytes


class Seen(HTMLParser):
    """What is on a page, or in one of its sections: elements with their attributes, scripts, and text; folded text apart."""

    def __init__(self, text: str, section: str = "") -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.folded: list[str] = []
        self._wanted, self._section, self._open, self._details = section, "", "", 0
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        self._section = dict(attrs)["id"] if tag == "section" else self._section
        self._details += tag == "details"
        self._open = tag
        if self._wanted in ("", self._section):
            self.elements.append((tag, dict(attrs)))
            if tag == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        self._details -= tag == "details"
        self._section = "" if tag == "section" else self._section

    def handle_data(self, data: str) -> None:
        if self._wanted not in ("", self._section) or self._open == "style":
            return
        if self._open == "script":
            self.scripts[-1] += data
        else:
            (self.folded if self._details else self.words).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def map(self) -> dict:  # type: ignore[type-arg]
        return json.loads(self.scripts[0])


def changed(page, **report):  # type: ignore[no-untyped-def]
    """A page whose report says something else."""
    return dataclasses.replace(page, report=dataclasses.replace(page.report, **report))


def written(template: str, **values: object) -> str:
    """What a template of the page makes of values."""
    return html._environment().from_string(template).render(**values)


def made(folder: Path, trained: bool) -> SimpleNamespace:
    """A finished run, and what its page shows."""
    report = finished_run(folder, trained=trained)
    return SimpleNamespace(folder=folder, run=folder / "run", report=report, page=read_run(folder / "run"))


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> SimpleNamespace:
    """Of a linear head."""
    return made(tmp_path_factory.mktemp("linear"), trained=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """Of a training."""
    return made(tmp_path_factory.mktemp("trained"), trained=True)


@pytest.mark.parametrize("kind", ["linear", "trained"])
def test_names_from_files_and_people_stay_text(kind, request) -> None:
    page = dataclasses.replace(request.getfixturevalue(kind).page, title=EVIL_TITLE)
    seen = Seen(render(page))
    assert len(seen.scripts) == 2, "the map's data and the page's own script"
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    assert EVIL_CLASS in seen.text and EVIL_TITLE in seen.text, "shown as it is"
    assert EVIL_CLASS in seen.map["classes"]
    assert any(entry[4].endswith(EVIL_FILE) for entry in seen.map["images"])


def test_a_page_asks_for_nothing(linear, trained) -> None:
    for page in (linear.page, trained.page):
        text = render(page)
        for tag, attributes in Seen(text).elements:
            assert tag not in ("link", "iframe", "object", "embed", "form", "base")
            for name in ("src", "href", "action", "srcset", "poster"):
                value = attributes.get(name)
                assert value is None or value.startswith(("data:image/", "#")), value
        assert "url(" not in text and "@import" not in text
        assert "default-src 'none'" in text, "the browser is told to refuse what should not be there anyway"


@pytest.mark.parametrize(
    "text", ["a\nb", "\x00", "\u202egpj.exe", os.fsdecode(b"\xff.jpg"), "\ud800", "<&>\"'"]
)
def test_every_name_can_be_written_into_a_page(text) -> None:
    shown = written("{{ name }}", name=text)
    assert shown.isprintable() and shown.encode("utf-8") and not set("<>\"'") & set(shown)
    block = written("{{ names | tojson }}", names=[plain(text), "</script><!--"])
    assert "<" not in block and json.loads(block) == [plain(text), "</script><!--"]


def test_the_answers_are_those_of_the_report_and_the_surest_mistake_comes_first(linear, trained) -> None:
    for run in (linear, trained):
        answers, found = run.page.answers, run.report.evaluation
        assert len(answers.answers) == found.n
        assert sum(answer.correct for answer in answers.answers) == round(found.n * found.top1)
        sure = [answer.sureness for answer in answers.mistakes]
        assert sure == sorted(sure, reverse=True)
        confusion = np.array(found.confusion)
        assert len(answers.mistakes) == confusion.sum() - np.trace(confusion)
        for answer in answers.answers:
            assert run.page.catalog.classes[run.page.catalog.labels[answer.row]] == answer.true
    assert linear.page.answers.unit == trained.page.answers.unit == "probability"


def test_a_mistake_names_its_image_both_classes_and_how_sure_the_model_was(trained) -> None:
    page = trained.page
    worst, seen = page.answers.mistakes[0], Seen(render(page), "mistakes")
    cards = [of["data-row"] for _, of in seen.elements if "data-row" in of]
    assert cards == [str(answer.row) for answer in page.answers.mistakes[: len(cards)]], "the surest first"
    for words in (
        worst.true,
        worst.predicted,
        f"{100 * worst.sureness:.0f} %",
        page.catalog.names[worst.row],
    ):
        assert words in seen.text


def test_without_probabilities_sureness_is_the_margin_in_medians() -> None:
    scores = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [5.0, 1.0, 0.0]])
    names, labels = ("x", "y", "z"), np.array([0, 0, 0])
    given = Predictions(np.array([12, 10, 11]), names, labels, scores, ("a", "b", "c"), None)
    answers = answers_of(given).answers
    assert [answer.row for answer in answers] == [11, 12, 10]
    np.testing.assert_allclose([answer.sureness for answer in answers], [4 / 2, 2 / 2, 0.5 / 2])
    assert [answer.predicted for answer in answers] == ["a", "a", "b"]


def test_the_page_says_what_happened(linear, trained) -> None:
    for run in (linear, trained):
        found, seen = run.report.evaluation, Seen(render(run.page))
        assert f"{100 * found.top1:.1f} % of the test images" in seen.text
        assert run.report.recipe in seen.text and run.report.command in seen.text
        assert "1 image could not be read" in seen.text and "not an image" in " ".join(seen.folded)
    sections = [
        {of["id"] for tag, of in Seen(render(run.page)).elements if tag == "section"}
        for run in (linear, trained)
    ]
    assert sections[1] - sections[0] == {"curves"} and sections[0] - sections[1] <= {"advice"}


def test_images_that_were_moved_cost_their_pictures_only(linear, tmp_path) -> None:
    shutil.copytree(linear.run, tmp_path / "a" / "b" / "run")
    page = read_run(tmp_path / "a" / "b" / "run")
    assert set(page.missing) == set(linear.page.missing), "the run alone was moved: its images are found"
    photos, away = linear.folder / "photos", linear.folder / "away"
    photos.rename(away)
    try:
        page = read_run(tmp_path / "a" / "b" / "run")
    finally:
        away.rename(photos)
    assert set(page.map.rows.tolist()) <= set(page.missing)
    assert any("can no longer be read" in note for note in page.notes)
    seen = Seen(render(page))
    assert page.notes[0] in seen.text
    assert ("section", "mistakes") in [(tag, of.get("id")) for tag, of in seen.elements]
    assert page.answers == linear.page.answers


@pytest.mark.parametrize("kind", ["linear", "trained"])
def test_a_run_of_before_predictions_were_saved_has_the_same_answers(kind, request, tmp_path) -> None:
    finished = request.getfixturevalue(kind)
    saved = Predictions.load(finished.run / "predictions.h5")
    assert len(saved.rows) == finished.report.evaluation.n
    wrong = [verdict for verdict in verdicts(saved) if not verdict.correct]
    assert len(wrong) == len(finished.page.answers.mistakes)
    (finished.run / "predictions.h5").rename(tmp_path / "predictions.h5")
    try:
        page = read_run(finished.run)
    finally:
        (tmp_path / "predictions.h5").rename(finished.run / "predictions.h5")
    for old, new in zip(page.answers.answers, finished.page.answers.answers, strict=True):
        assert (old.row, old.true, old.predicted) == (new.row, new.true, new.predicted)
        assert old.sureness == pytest.approx(new.sureness, rel=1e-4)


def test_a_run_decodes_an_image_once_and_its_page_once(tmp_path, monkeypatch) -> None:
    """For the codes of the last stages and of the advice together; then for the page's thumbnails."""
    decoded: Counter[str] = Counter()

    def counted(path: str) -> bytes | None:
        decoded[os.path.normpath(path)] += 1
        return read_image(path)

    monkeypatch.setattr(loader, "read_image", counted)
    finished_run(tmp_path)
    assert set(decoded.values()) == {1}
    decoded.clear()
    read_run(tmp_path / "run")
    assert set(decoded.values()) == {1}


def test_images_that_never_could_be_read_have_not_been_moved(linear, tmp_path) -> None:
    listing = evil_photos(tmp_path / "photos")
    (tmp_path / "photos" / "bird" / "1.jpg").write_bytes(b"no image")  # the bytes of one of another class
    options = {"recipe": "small-similar", "device": "cpu", "workers": 1}
    report = follow(read_catalog(listing), tiny_weights(), tmp_path / "run", **options)
    assert len(report.unreadable) == 2
    assert not {"identical", "identical-labels"} & {finding.kind for finding in report.problems}
    page = read_run(tmp_path / "run")
    assert len(page.missing) <= 2 and not any("no longer be read" in note for note in page.notes)
    (tmp_path / "photos" / "bird" / "2.jpg").unlink()
    page = read_run(tmp_path / "run")
    assert any("1 of the" in note and "no longer be read" in note for note in page.notes)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("cnncodes run 'Käfer & Co' -o out", "cnncodes run 'Käfer & Co' -o out"),
        ("cnncodes run a -o b --labels one.csv --overwrite", "cnncodes run a -o b --labels one.csv"),
        ("cnncodes compare a -o b", "cnncodes run DATA -o FOLDER"),
    ],
)
def test_the_page_shows_how_the_run_goes_on_with_corrections(linear, command, shown) -> None:
    shown += " --labels corrections.csv"
    page = dataclasses.replace(linear.page, command=command, weights="imagenet")
    assert shown in Seen(render(page)).text
    page = dataclasses.replace(page, weights="starter")  # those of the run before, which was not told again
    assert shown.replace(" --labels corr", " --weights starter --labels corr") in Seen(render(page)).text


def test_a_lost_model_costs_nothing_that_was_saved(linear, tmp_path) -> None:
    shutil.copytree(linear.run, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"damaged")
    page = read_run(tmp_path / "run")
    assert page.answers == linear.page.answers and page.map is not None
    (tmp_path / "run" / "predictions.h5").write_bytes(b"damaged")
    page = read_run(tmp_path / "run")
    assert page.answers is None and page.map is None and len(page.notes) >= 2
    assert f"{100 * page.report.evaluation.top1:.1f} %" in render(page)


def test_what_is_no_finished_run_is_refused(linear, tmp_path, capsys) -> None:
    with pytest.raises(ModelError, match="no folder of 'cnncodes run'"):
        read_run(tmp_path)
    shutil.copytree(linear.run, tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(ModelError, match=r"not finished: report\.json"):
        read_run(tmp_path / "run")
    (tmp_path / "file.h5").write_bytes(b"codes")
    training = tmp_path / "training"
    training.mkdir()
    (training / "run.json").write_text('{"settings": {}}')
    for given, said, remedy in (
        (tmp_path / "nothing", "there is no folder", "cnncodes run photos/"),
        (tmp_path / "file.h5", "is a file", "cnncodes run photos/"),
        (linear.run / "model.safetensors", "is a file", f"cnncodes report {linear.run}"),
        (training, "a training by itself", "'cnncodes run', which trains, tests"),
    ):
        assert main(["report", str(given)]) == 1
        told = capsys.readouterr().err
        assert said in told and remedy in told and "Traceback" not in told


def test_an_output_that_cannot_be_is_refused_before_the_work(linear, tmp_path) -> None:
    with pytest.raises(OptionError, match=r"ends in \.html"):
        write_report(linear.run, tmp_path / "page.pdf")
    with pytest.raises(OutputExistsError, match="does not exist"):
        write_report(linear.run, tmp_path / "no" / "page.html")
    assert not list(tmp_path.iterdir())
    precious = tmp_path / "precious.html"
    precious.write_text("years of work")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_report(linear.run, precious)
    with pytest.raises(ModelError):  # what holds no run costs no file, even if asked to
        write_report(tmp_path / "run", precious, overwrite=True)
    assert precious.read_text() == "years of work"


def test_report_on_the_command_line(linear, tmp_path, capsys) -> None:
    output = tmp_path / "bees.html"
    assert main(["report", str(linear.run), "-o", str(output), "--title", "Bees?", "--json", "-q"]) == 0
    page = PageFile.from_json(capsys.readouterr().out)
    assert page.path == str(output) and page.bytes == output.stat().st_size < LIMIT
    assert page.images == len(linear.page.catalog) and page.mistakes == len(linear.page.answers.mistakes)
    assert PageFile.from_json(page.to_json()) == page
    assert "Bees?" in output.read_text(encoding="utf-8")
    assert not page_is_current(linear.run)
    assert main(["report", str(linear.run)]) == 0
    assert page_is_current(linear.run)
    assert "report.html" in capsys.readouterr().out


def test_run_ends_with_its_page_and_survives_one_that_fails(tmp_path, capsys, monkeypatch) -> None:
    report = finished_run(tmp_path)
    monkeypatch.setattr("cnncodes.advice.steps.follow_order", lambda *_, **__: report)

    def fails(*_, **__):  # type: ignore[no-untyped-def]
        raise RuntimeError("no ink")

    with monkeypatch.context() as broken:
        broken.setattr("cnncodes.page.write_report", fails)
        arguments = ["run", str(tmp_path / "photos" / "images.csv"), "-o", str(tmp_path / "run")]
        assert main([*arguments, "--weights", "random:0", "--model", "tiny"]) == 3, "one image is broken"
    told = capsys.readouterr()
    assert "no ink" in told.err and "cnncodes report" in told.err and "accuracy" in told.out
    assert main([*arguments, "--weights", "random:0", "--model", "tiny"]) == 3
    assert "report.html" in capsys.readouterr().err
    assert page_is_current(tmp_path / "run")


def test_a_page_that_cannot_be_written_leaves_nothing_behind(linear, tmp_path, monkeypatch) -> None:
    def full(self, text):  # type: ignore[no-untyped-def]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CnnCodesError, match=r"cannot be written: No space left") as caught:
        write_report(linear.run, tmp_path / "page.html")
    assert caught.value.remedy and not list(tmp_path.iterdir())


def test_of_too_many_images_each_class_keeps_its_place_and_tests_come_first() -> None:
    labels = np.repeat([0, 1, 2], [9000, 900, 40])
    splits = np.tile([1, 1, 3], 3314)[: len(labels)]
    catalog = Catalog(Path("/"), tuple(map(str, range(len(labels)))), labels, splits, ("a", "b", "c"))
    tested = np.flatnonzero(splits == 3)
    rows = choose_rows(catalog, tested, 2000, seed=0)
    assert len(rows) == len(set(rows.tolist())) == 2000 and (np.diff(rows) > 0).all()
    test = rows[splits[rows] == 3]
    assert len(test) == 1500
    assert (labels[rows] == 2).sum() == 40, "a small class is there as a whole"
    assert np.array_equal(rows, choose_rows(catalog, tested, 2000, seed=0))


def test_every_class_has_samples_and_many_classes_fewer_each() -> None:
    for classes, each in ((2, 6), (30, 4), (120, 1)):
        labels = np.repeat(np.arange(classes), 10)
        names = tuple(map(str, range(len(labels))))
        ones, known = np.ones(len(labels), np.uint8), tuple(f"k{k}" for k in range(classes))
        samples = choose_samples(Catalog(Path("/"), names, labels, ones, known))
        assert len(samples) == classes and all(len(set(rows)) == each for rows in samples.values())


def test_two_thousand_images_stay_below_ten_megabytes(linear) -> None:
    """Photographs compress far better than this noise does."""
    n, side = 2000, tile_side(2000)
    random = np.random.default_rng(0)
    tiles = np.repeat(
        np.repeat(random.integers(0, 256, (n, side // 4 + 1, side // 4 + 1, 3), dtype=np.uint8), 4, 1), 4, 2
    )
    names = tuple(f"a/rather/long/name/for/an/image/{place}.jpg" for place in range(n))
    catalog = Catalog(Path("/"), names, random.integers(0, 3, n), np.full(n, 3), linear.page.catalog.classes)
    near = random.integers(0, n, (n, 5))
    drawn = PageMap(np.arange(n), random.random((n, 2)), near, "fc7", 4096, tiles[:, :side, :side])
    page = dataclasses.replace(linear.page, catalog=catalog, map=drawn, answers=None, samples={})
    assert 1_000_000 < len(render(page).encode()) < LIMIT


def test_a_tile_stands_where_the_script_looks_for_it() -> None:
    tiles = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    sheet, columns = sheet_of(tiles)
    for place in range(7):
        y, x = place // columns * 4, place % columns * 4
        assert (sheet[y : y + 4, x : x + 4] == place).all()


def test_findings_show_their_images_and_those_of_older_runs_are_found_by_name(linear, tmp_path) -> None:
    shutil.copytree(linear.run, tmp_path / "run")
    path, name = tmp_path / "run" / "report.json", linear.page.catalog.names[2]
    said = f"{name}: 3 times as far"
    for found in ({"rows": [2]}, {"files": [name]}):
        report = json.loads(path.read_text())
        finding = {"kind": "far", "text": "1 image unlike all the others", "names": [said], **found}
        report["problems"] = [finding]
        path.write_text(json.dumps(report))
        page = read_run(tmp_path / "run")
        (problem,) = page.report.problems
        assert isinstance(problem, Finding) and (problem.kind, problem.rows) == ("far", (2,))
        seen = Seen(render(page), "data")
        first = next(of["alt"] for tag, of in seen.elements if tag == "img")
        assert first == plain(name), "before the samples"
        assert said in "".join(seen.folded)


def test_reports_of_older_runs_are_read(linear, tmp_path) -> None:
    """Before reasons had their figures apart, findings their rows, and the note a record of the split."""
    shutil.copytree(linear.run, tmp_path / "run")
    path, note = tmp_path / "run" / "report.json", tmp_path / "run" / "run.json"
    report, started = json.loads(path.read_text()), json.loads(note.read_text())
    report["reasons"] = ["The head reads fc7. Chosen with C = 1."]
    del report["untrained"], started["split_record"]
    path.write_text(json.dumps(report))
    note.write_text(json.dumps(started))
    text = Seen(render(read_run(tmp_path / "run"))).text
    assert report["reasons"][0] in text and report["split"] in text


def test_how_a_rate_was_chosen_is_on_the_page_of_its_training(trained) -> None:
    def charts(page) -> int:  # type: ignore[no-untyped-def]
        return sum(tag == "svg" for tag, _ in Seen(render(page), "curves").elements)

    test = RangeTest((1e-4, 1e-3, 1e-2), (2.0, 1.0, 9.0), (2.0, 1.2, 4.0), 1e-3, 1e-3, None, 1e-2, True)
    page = dataclasses.replace(trained.page, range_test=test)
    assert charts(page) == charts(trained.page) + 1
    assert rate_found(test)[1:] in Seen(render(page), "curves").text


def test_top_five_is_told_where_blind_guesses_would_not_do_as_well(linear) -> None:
    found = linear.report.evaluation
    for classes, told in ((6, False), (11, True)):
        nothing = ((0,) * classes,) * classes
        many = {"per_class": found.per_class[:1] * classes, "confusion": nothing}
        page = changed(linear.page, evaluation=dataclasses.replace(found, top5=0.975, **many))
        assert ("97.5 %" in Seen(render(page), "results").text) == told


def test_names_begin_where_the_files_differ() -> None:
    assert shown_names(["/a/b/train/x/1.jpg", "/a/b/val/y/2.jpg"]) == ("train/x/1.jpg", "val/y/2.jpg")
    assert shown_names(["/a/b/1.jpg", "/a/b/2.jpg"]) == ("b/1.jpg", "b/2.jpg")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.613, 0.7), (45.2, 91.7), (3, 3), (1e-5, 2e-5)])
def test_ticks_are_few_even_and_around_the_range(low, high) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low * 1.000001 and ticks[-1] >= high / 1.000001 and 2 <= len(ticks) <= 8
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_a_chart_leaves_out_what_cannot_be_drawn() -> None:
    lines = [Line("train", [1.0, None, float("nan")])]
    chart = line_chart("loss", ["1", "2", "3"], lines, level=(2.0, "chance"))
    assert chart and len(chart.curves[0].points) == 1 and float(chart.ticks[-1][1]) >= 2
    assert line_chart("rate", ["1"], [Line("rate", [0.0])], logarithmic=True) is None


def test_weights_are_told_by_what_they_were_trained_on(linear) -> None:
    def said(weights: str, untrained: bool = False) -> str:
        page = dataclasses.replace(changed(linear.page, untrained=untrained), weights=weights)
        return Seen(render(page), "asked").text

    assert "by imitation" in said("starter") and "of ImageNet" not in said("starter")
    assert "trained on nothing" in said("random:3", True) and "photographs" not in said("random:3", True)
    assert "of ImageNet" in said("imagenet") and "ImageNet" not in said("mine.safetensors")


def test_how_much_of_a_photograph_is_seen_is_on_the_page(linear) -> None:
    def said(seen: float | None, fit: str = "") -> str:
        advice = dataclasses.replace(linear.report.advice, seen=seen)
        return Seen(render(dataclasses.replace(changed(linear.page, advice=advice), fit=fit)), "data").text

    assert "a median of 57 % of its area" in said(0.571)
    assert "all of each photograph" in said(0.571, "pad") and "median of" not in said(0.571, "pad")
    for nothing in (said(None), said(0.95)):
        assert "of each photograph" not in nothing


def test_figures_of_the_reasons_are_folded(linear) -> None:
    seen = Seen(render(linear.page))
    reasons = (linear.report.reasons[0], *linear.report.advice.reasons)
    for reason in map(reason_of, reasons):
        assert reason.conclusion in seen.text and reason.figures not in seen.text
        assert reason.figures in " ".join(seen.folded)


def test_what_a_run_leaves_is_listed(linear) -> None:
    text = Seen(render(linear.page), "repeat").text
    names = {path.name for path in linear.run.iterdir()} - {"run.lock"}
    assert {"model.safetensors", "run.json", "codes.h5"} < names
    assert [name for name in (*names, "report.html") if name not in text] == []


def test_a_long_name_is_short_in_sentences_and_whole_at_the_pointer() -> None:
    long, template = "Hymenoptera " * 8 + "<end>", '{% from "macros.html" import named %}{{ named(name) }}'
    seen = Seen(written(template, name=long))
    (tag, of), *_ = seen.elements
    assert tag == "span" and of["title"] == long and len(seen.text) <= html.LONGEST_NAME
    assert written(template, name="a & b") == "a &amp; b"


def test_filters_of_random_numbers_are_called_noise_and_smooth_ones_are_not() -> None:
    random = np.random.default_rng(0)
    ramps = random.normal(size=(16, 3, 1, 1)) * np.linspace(-1, 1, 11)[:, None] * np.ones(11)
    assert abs(smoothness(random.normal(size=(64, 3, 11, 11)))) < NOISE < 0.9 < smoothness(ramps)
    assert np.isnan(smoothness(np.ones((4, 3, 1, 1))))


def test_the_picture_shows_an_image_in_which_covering_matters(linear, monkeypatch) -> None:
    """Among the surest, not the surest, in which nothing may matter; where nothing does in any, the title says so."""
    scores = {0: 0.9, 1: 0.2, 2: 0.8}  # row -> the least score with a patch, of 1 without

    def occlude(subject, view, **options):  # type: ignore[no-untyped-def]
        return SimpleNamespace(
            asked=np.array([[1.0, scores[view.row]]]), best=np.zeros((1, 2), int),
            question=SimpleNamespace(value=1.0, unit="score"), row=view.row,
        )  # fmt: skip

    drawn: list[int] = []
    view = SimpleNamespace(rgb=np.zeros((30, 30, 3), np.uint8))
    monkeypatch.setattr(
        "cnncodes.pictures.classifier.see_image", lambda row, _: SimpleNamespace(rgb=view.rgb, row=row)
    )
    monkeypatch.setattr("cnncodes.pictures.occlusion.occlude", occlude)
    monkeypatch.setattr("cnncodes.pictures.occlusion.draw_occlusion", lambda found: drawn.append(found.row))
    monkeypatch.setattr(network_pictures, "webp_of_figure", lambda figure: (b"", 1, 1))
    answers = Answers(tuple(Answer(row, "a", "a", 1.0) for row in scores), "margin")
    sitter = network_pictures.Sitter(None, answers, list(scores))  # type: ignore[arg-type]
    picture = network_pictures.where_right(sitter)
    assert picture and (picture.kind, picture.among, picture.decides) == ("right", 3, True) and drawn == [1]
    scores[1] = 0.95
    picture = network_pictures.where_right(sitter)
    assert picture and not picture.decides and drawn == [1, 2]
    assert network_pictures.where_wrong(sitter) is None
