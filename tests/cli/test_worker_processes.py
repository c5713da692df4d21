"""The command as a process: terminals, pipes, signals, and readers that leave early."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drawn import draw_photos

from cnncodes.cli import main
from cnncodes.codes import CodesFile

COMMAND = (sys.executable, "-m", "cnncodes")
HELD = Path(__file__).parents[1] / "held.py"
COLOURS = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
PLAIN = {name: value for name, value in os.environ.items() if name not in COLOURS}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals and signals")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("many") / "photos", each=30)


def read_terminal(fd: int) -> str:
    """All that is written to a pseudo terminal until its other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:  # Linux's way of saying that it was closed
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_a_terminal_gets_a_bar_and_a_pipe_the_result(many, tmp_path) -> None:
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, "extract", many, "-o", tmp_path / "c.h5", "--weights", "random:0", "--batch-size", "8"],
        stdout=subprocess.PIPE, stderr=theirs, env=PLAIN | {"TERM": "xterm", "COLUMNS": "120"}, text=True,
    )  # fmt: skip
    os.close(theirs)
    screen = read_terminal(ours)
    os.close(ours)
    out, _ = child.communicate()
    assert child.returncode == 0
    assert "\x1b[" in screen and "extracting" in screen
    assert "/90" in screen and "images/s" in screen, "count and rate"
    assert re.search(r"\d:\d\d:\d\d", screen), "remaining time"
    assert out.startswith("90 images in ") and "\x1b" not in out


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(many, tmp_path) -> None:
    words = ["extract", many, "-o", tmp_path / "c.h5", "--weights", "random:0", "--batch-size", "4"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, HELD, "2", *words], env=PLAIN, **pipes)
    assert child.stderr is not None and "held\n" in child.stderr
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=600)
    assert child.returncode == 130, err
    assert "Traceback" not in err and "error: interrupted." in err
    assert out == ""
    on = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, text=True, env=PLAIN, check=True)
    assert "continuing" in on.stderr
    result = json.loads(on.stdout)
    assert (result["resumed"], result["images"]) == (8, 82), "what was done before Ctrl-C is kept"


@pytest.mark.parametrize(
    "arguments", [("info", "alexnet"), ("info", "alexnet", "--json"), ("--help",)], ids=" ".join
)
def test_a_reader_that_leaves_early_is_no_error(arguments) -> None:
    """`cnncodes info alexnet | head -1`"""
    child = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    child.wait()
    assert "Traceback" not in err and "BrokenPipe" not in err and "Exception" not in err


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_leaves_early_stops_no_work(tmp_path: Path, monkeypatch, photos, json) -> None:
    """`cnncodes extract photos 2>&1 | head -1`: nobody reads what is said, but everything is written."""
    codes, picture = str(tmp_path / "codes.h5"), tmp_path / "picture.png"
    for words in (
        ["extract", str(photos), "-o", codes, "--weights", "random:0", "--layers", "conv1", "--limit", "3"],
        ["show", "strongest", codes, "--layer", "conv1", "--count", "2", "-o", str(picture)],
    ):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as nobody, monkeypatch.context() as patch:
            patch.setattr("sys.stdout", nobody)
            patch.setattr("sys.stderr", nobody)
            assert main([*words, *json]) in (0, 3)
    with CodesFile(codes) as file:
        file.require_complete()
    assert picture.stat().st_size > 1000


def test_the_module_and_the_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("cnncodes")
    if not script.exists():
        pytest.skip("cnncodes is not installed in this environment")
    module = subprocess.run([*COMMAND, "info", "alexnet"], capture_output=True, check=True)
    installed = subprocess.run([script, "info", "alexnet"], capture_output=True, check=True)
    assert module.stdout == installed.stdout


def test_output_that_is_not_utf8_is_no_traceback() -> None:
    """A console that knows only ASCII still gets its table."""
    done = subprocess.run(
        [*COMMAND, "info", "alexnet"], capture_output=True, env=PLAIN | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
