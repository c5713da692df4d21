"""Standard output is the result and standard error the rest; machines read one JSON document; names stay as they are."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from drawn import draw_photos
from rich.console import Console

from cnncodes.cli.app import COMMANDS, GROUPS
from cnncodes.cli.console import Reporter
from cnncodes.core.words import duration, printable, size

R0 = ("--weights", "random:0")
FUNCTIONS = dict(COMMANDS) | {f"{group} {name}": f for group, _, commands in GROUPS for name, f in commands}
# Arguments of every command that has --json; {broken} is a folder with an unreadable image.
WITH_JSON = {
    "run": ("{broken}", "-o", "{tmp}/run", *R0),
    "explore": ("{broken}", "-o", "{tmp}/explore", *R0),
    "advise": ("{broken}", *R0),
    "extract": ("{broken}", "-o", "{tmp}/c.h5", *R0),
    "fit-linear": ("{codes}", "-o", "{tmp}/m.safetensors", "--C", "1,10", "--folds", "2", "--shots", "1", "--repeats", "2"),
    "predict": ("{svm}", "{broken}"),
    "evaluate": ("{svm}", "{broken}", "--split", "all"),
    "compare": ("{broken}", "--models", "alexnet=random:0", "-o", "{tmp}/compare"),
    "probe": ("{codes}", "--shots", "2", "--repeats", "2"),
    "info": ("{codes}",),
    "check": ("{codes}", "--sample", "2"),
    "export": ("{codes}", "--to", "csv", "-o", "{tmp}/c.csv"),
    "pack": ("{codes}", "-o", "{tmp}/p.h5"),
    "benchmark": ("--batch-size", "1", "--until", "pool1", "--steps", "1", "--burn-in", "0", "--stages"),
    "weights list": (),
    "networks list": ("alexnet",),
    "weights fetch": ("imagenet",),
    "weights check": ("random:0",),
    "weights convert": ("random:0", "-o", "{tmp}/w.safetensors"),
    "recipes list": (),
    "recipes check": ("scratch",),
    "show filters": ("--weights", "random:0", "-o", "{tmp}/filters.png"),
    "show activations": ("{broken}/cat/0.jpg", *R0, "--layer", "conv2", "-o", "{tmp}/activations.png"),
    "show strongest": ("{broken}", *R0, "--layer", "conv1", "--count", "2", "-k", "2", "-o", "{tmp}/strongest.png"),
    "show dead": ("{broken}", *R0, "--layer", "conv1,fc6", "-o", "{tmp}/dead.png"),
    "show augment": ("{broken}/cat/0.jpg", "--views", "4", "-o", "{tmp}/augment.png"),
    "show map": ("{codes}", "-o", "{tmp}/map.png"),
    "show neighbours": ("{codes}", "--image", "bird/0.jpg", "-o", "{tmp}/neighbours.png"),
    "show occlude": ("{broken}/cat/0.jpg", "--weights", "{svm}", "--patch", "100", "--stride", "100", "-o", "{tmp}/occlude.png"),
    "show saliency": ("{broken}/cat/0.jpg", "--weights", "{svm}", "-o", "{tmp}/saliency.png"),
    "show guided": ("{broken}/cat/0.jpg", *R0, "-o", "{tmp}/guided.png"),
    "show deconv": ("{broken}/cat/0.jpg", *R0, "-o", "{tmp}/deconv.png"),
    "show dense": ("{broken}/cat/0.jpg", "--weights", "{svm}", "--size", "260", "-o", "{tmp}/dense.png"),
    "show invert": ("{broken}/cat/0.jpg", *R0, "--layer", "conv1", "--iterations", "2", "-o", "{tmp}/invert.png"),
    "show fool": ("{broken}/cat/0.jpg", *R0, "-o", "{tmp}/fool.png"),
    "show gradcam": ("{broken}/cat/0.jpg", *R0, "--layer", "conv4", "-o", "{tmp}/gradcam.png"),
}  # fmt: skip
#: Tested where their inputs are: tests/training/test_commands.py, tests/cli/test_join.py, tests/cli/test_show.py.
WITH_JSON_THERE = {"train", "finetune", "report", "card", "join", "show all"}  # of a run: tests/page
#: Those of them that meet the unreadable image.
UNREADABLE = {
    "run", "explore", "compare", "advise", "extract", "predict", "evaluate", "show dead", "show strongest",
}  # fmt: skip
ESC = "\x1b"


def strict_json(text: str) -> object:
    """One document and nothing else, without NaN, which other languages refuse."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def filled(shared, partly_broken, tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    """Arguments with their places filled in; nothing is downloaded."""
    downloaded = tmp_path / "alexnet.pth"
    monkeypatch.setattr("cnncodes.weights.published.fetch", lambda *_, **__: downloaded)
    names = {"codes": shared.codes, "svm": shared.svm, "broken": partly_broken, "tmp": tmp_path}
    return lambda command: [*command.split(), *(part.format(**names) for part in WITH_JSON[command])]


def test_every_command_that_has_json_is_tested_here() -> None:
    assert set(WITH_JSON) | WITH_JSON_THERE == {
        name for name, f in FUNCTIONS.items() if "json" in inspect.signature(f).parameters
    }


@pytest.mark.parametrize("command", WITH_JSON)
def test_json_is_one_document_and_quiet_leaves_only_warnings(run, filled, command) -> None:
    ran = run(*filled(command), "--json", "--quiet")
    assert ran.code == (3 if command in UNREADABLE else 0)
    assert isinstance(strict_json(ran.out), dict | list)
    warnings = ("unreadable: ", "beware: ", "the model was fitted on")
    assert all(line.startswith(warnings) for line in ran.err.splitlines())
    assert ("unreadable: " in ran.err) == (command in UNREADABLE), "a warning is never suppressed"
    assert ESC not in ran.out + ran.err


def test_json_names_unreadable_images_with_their_reason(run, filled) -> None:
    extracted = strict_json(run(*filled("extract"), "--json").out)
    assert list(extracted["unreadable"]) == ["cat/2.jpg"] and extracted["unreadable"]["cat/2.jpg"]
    predicted = strict_json(run(*filled("predict"), "--json").out)
    assert [entry["name"][-9:] for entry in predicted if entry["problem"]] == ["cat/2.jpg"]
    assert list(strict_json(run(*filled("evaluate"), "--json").out)["unreadable"]) == ["cat/2.jpg"]


def test_other_kinds_of_file_and_a_plan_have_json_too(run, shared, tmp_path) -> None:
    assert strict_json(run("info", shared.svm, "--json").out)["images_fitted"] == 15
    assert strict_json(run("info", "alexnet", "--json").out)["network"] == "alexnet"
    planned = run("extract", shared.photos, "-o", tmp_path / "c.h5", *R0, "--dry-run", "--json")
    assert strict_json(planned.out)["images"] == 18


@pytest.mark.parametrize("command", ["info", "predict", "fit-linear"])
def test_quiet_leaves_the_result(run, filled, command) -> None:
    loud = run(*filled(command))
    quiet = run(*filled(command), "--quiet", *(["--overwrite"] if command == "fit-linear" else []))
    assert quiet.out == loud.out and quiet.code == loud.code


def test_progress_and_advice_are_not_in_the_result(run, filled) -> None:
    ran = run(*filled("extract"))
    assert "next: " in ran.err and "next: " not in ran.out
    assert ran.out.count("\n") == 1
    assert ESC not in ran.out + ran.err, "no colours where there is no terminal"


# Folder names that a terminal, rich's markup, HTML, CSV or UTF-8 would take for something else.
NAMES = ["[red]", "[bold", "<script>", ":bee:", "a,b", "it's \"so\"", "back\\", "\x1b[31mred", "two\nlines", os.fsdecode(b"byte\xff"), "{0}", "日本"]  # fmt: skip


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strange") / "photos"
    try:
        return draw_photos(folder, tuple(NAMES), each=3)
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")


def test_strange_names_are_shown_as_they_are(run, strange, tmp_path, monkeypatch) -> None:
    shutil.copytree(strange, tmp_path / "photos")
    (tmp_path / "photos" / "[red]" / os.fsdecode(b"cut\xff\n[bold].jpg")).write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    made = run("extract", "photos", "-o", "c.h5", *R0)
    fitted = run("fit-linear", "c.h5", "-o", "m.safetensors", "--C", "1", "--folds", "2")
    judged = run("evaluate", "m.safetensors", "photos", "--split", "all")
    named = run("predict", "m.safetensors", "photos", "--top", "1")
    shown = run("info", "m.safetensors")
    assert [made.code, fitted.code, judged.code, named.code, shown.code] == [3, 0, 3, 3, 0]
    assert r"unreadable: '[red]/cut\xff\n[bold].jpg': " in made.err
    for ran in (made, fitted, judged, named, shown):
        assert ESC not in ran.out + ran.err, "a name must not move the cursor"
        ran.out.encode()
    visible = [printable(name).replace("\n", "\\n") for name in NAMES]
    for name in visible:
        assert name in judged.out and f"'photos/{name}/0.jpg'  " in named.out
    assert named.out.count("\n") == 3 * len(NAMES), "one line for one image"

    table = run("predict", "m.safetensors", "photos", "--csv", "--top", "1").out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 3 * len(NAMES) + 1
    assert {row["label"] for row in rows} - {""} <= {printable(name) for name in NAMES}
    document = strict_json(run("predict", "m.safetensors", "photos", "--json", "--top", "1").out)
    assert all(Path(entry["name"]).is_file() for entry in document), "JSON keeps every name exactly"


def test_an_error_shows_a_strange_name_harmlessly(run) -> None:
    ran = run("info", "\x1b[2J[red]\n:bee:.h5")
    assert ran.code == 1
    assert ESC not in ran.err and "[red]" in ran.err and ":bee:" in ran.err


@pytest.mark.parametrize(
    ("quiet", "terminal", "draws"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_on_a_terminal_a_bar_shows_rate_and_remaining_time(monkeypatch, quiet, terminal, draws) -> None:
    """A command in a process of its own, on a pseudo terminal, is in test_worker_processes.py."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    monkeypatch.setattr("cnncodes.cli.console._stderr", console)
    with Reporter(quiet=quiet).progress("extracting [red] {0}", 100, "images") as update:
        for done in range(0, 100, 10):
            update(done, "2 unreadable")
    drawn = screen.getvalue()
    assert (drawn != "") == draws
    for part in (ESC, "extracting [red] {0}", "90/100", "images/s", "2 unreadable", "0:00:"):
        assert (part in drawn) == draws


def test_a_table_has_no_blanks_at_the_ends_of_its_lines(run) -> None:
    """Output is pasted into notes and compared by diff."""
    table = run("info", "alexnet").out
    assert [line for line in table.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("words", "number", "text"),
    [
        *((duration, *case) for case in ((0.21, "0.2 s"), (9.94, "9.9 s"), (48, "48 s"), (719, "12 min"), (12_000, "3 h 20 min"))),
        *((size, *case) for case in ((999, "999 bytes"), (1000, "1.0 kB"), (26_100_000, "26.1 MB"), (5e12, "5000.0 GB"))),
    ],
)  # fmt: skip
def test_durations_and_sizes(words, number, text) -> None:
    assert words(number) == text


def test_info_knows_weights_by_their_name(run) -> None:
    shown = run("info", "starter")
    assert shown.code == 0 and "alexnet" in shown.out
