"""The gallery shows every picture once, stays small, and its script makes what the page shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import markdown
import pytest
from PIL import Image

from cnncodes.cli.show import COMMANDS

MOST_BYTES = 2_500_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_gallery", markdown.REPOSITORY / "docs" / "make_gallery.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_is_shown_and_every_picture_is_there(script: ModuleType) -> None:
    shown = [words for words in script.commands() if words[0] == "show"]
    others = {name for name, _ in COMMANDS if name != "all"}  # which is the others on one image
    assert {words[1] for words in shown} >= others
    written = {words[words.index("-o") + 1] for words in shown}
    assert set(script.linked()) == {Path(name).stem for name in written}
    assert {path.name for path in script.PICTURES.iterdir()} == set(script.linked().values())


def test_the_gallery_is_small(script: ModuleType) -> None:
    assert sum(path.stat().st_size for path in script.PICTURES.iterdir()) < MOST_BYTES


def test_the_script_makes_pictures_of_the_page(script: ModuleType, tmp_path: Path) -> None:
    written = script.make(tmp_path / "work", tmp_path / "pictures", {"filters", "gradcam"})
    assert [path.name for path in written] == ["filters.png", "gradcam.jpg"]
    for path in written:
        with Image.open(path) as made, Image.open(script.PICTURES / path.name) as shown:
            assert (made.format, made.size) == (shown.format, shown.size)


def test_a_command_comes_with_those_whose_files_it_reads(script: ModuleType) -> None:
    assert [words[1] for words in script.needed({"filters"})] == ["filters"]
    assert [words[0] for words in script.needed({"dense"})] == ["extract", "fit-linear", "show"]
