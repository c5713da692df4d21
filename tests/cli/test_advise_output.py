"""`cnncodes advise -o FOLDER`: what cannot be written is told before the images are looked at, not after."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from cnncodes.cli import main
from cnncodes.cli.arguments import check_folder
from cnncodes.core.errors import OutputExistsError


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    monkeypatch.setattr("cnncodes.images.read_catalog", lambda *_: pytest.fail("the work came first"))


@pytest.mark.parametrize(
    ("output", "named"),
    [("taken", "is a file"), ("taken/inside", "is a file"), ("folder", "advice.json' is a folder")],
)
def test_what_is_in_the_way_is_told_before_the_work(tmp_path, capsys, output, named):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "folder" / "advice.json").mkdir(parents=True)
    assert main(["advise", str(tmp_path), "-o", str(tmp_path / output), "--weights", "random:0"]) == 1
    assert named in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("inside", [".", "new", "new/deeper"])
def test_a_folder_that_may_not_be_written_is_told_before_the_work(inside):
    root = os.geteuid() == 0  # who may write anywhere
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755 if root else 0o555)
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(OutputExistsError, match="may not be written"):
                check_folder(Path(name) / inside, ("advice.json",))
        finally:
            if root:
                os.seteuid(0)
            os.chmod(name, 0o755)


def test_a_new_folder_and_one_that_holds_older_advice_are_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advice.json").write_text("{}")
    for output in (tmp_path, tmp_path / "new" / "deeper", "new", ".", "new/deeper"):
        check_folder(output, ("advice.json", "depth.png"))
