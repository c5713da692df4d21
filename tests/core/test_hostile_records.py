"""Records that are cut, deep, or lack an entry are errors of this package, whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnncodes.advice import Advice, RunReport
from cnncodes.advice.division import Division, read_division, write_division
from cnncodes.advice.findings import Strays
from cnncodes.advice.probe_result import ProbeResult
from cnncodes.advice.run_folder import KIND, NOTE, RunNote, recipe_differences
from cnncodes.codes import ExtractionSettings
from cnncodes.core.errors import CatalogError, CnnCodesError, OutputExistsError, ResumeError
from cnncodes.core.records import from_json
from cnncodes.evaluation import Evaluation
from cnncodes.images import Catalog
from cnncodes.training.range_test import RangeTest
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights import Preprocessing

RECORDS: tuple[Any, ...] = (
    Advice, Evaluation, ExtractionSettings, Preprocessing, ProbeResult,
    RunReport, Strays,
)  # fmt: skip
DEEP = "[" * 100_000
WRONG = ("", "{", "[]", "7", "null", '"text"', '{"": 1}', DEEP, '{"a":' * 100_000, "[" * 900 + "]" * 900)


@pytest.mark.parametrize("record", [RangeTest, TrainingSettings], ids=lambda record: record.__name__)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:8])
def test_a_text_that_is_no_training_record_is_an_error(record: Any, text: str) -> None:
    with pytest.raises(CnnCodesError, match="the test cannot be read"):
        from_json("" if text == '{"": 1}' else text, record, "the test")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:8])
def test_a_text_that_is_no_record_is_an_error(record: Any, text: str) -> None:
    with pytest.raises(CnnCodesError) as caught:
        record.from_json(text)
    assert "\n" not in caught.value.problem


def catalog(folder: Path) -> Catalog:
    names = ("a.jpg", "b.jpg", "c.jpg")
    return Catalog(folder, names, np.array([0, 1, 0]), np.zeros(3, np.uint8), ("ant", "bee"))


@pytest.mark.parametrize("keep", [3, 30, 45, 60])
def test_a_split_that_was_cut_is_not_the_split_of_these_images(keep: int, tmp_path: Path) -> None:
    path, images = tmp_path / "split.csv", catalog(tmp_path)
    write_division(path, images, Division(np.array([1, 3, 1], np.uint8), np.arange(3), "drawn"))
    assert read_division(path, images, {"split": "drawn"}).splits.tolist() == [1, 3, 1]
    path.write_text(path.read_text()[:keep])
    with pytest.raises(CatalogError):
        read_division(path, images, {"split": "drawn"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.pop("inputs"),
        lambda values: values.pop("kind"),
        lambda values: values.update(inputs=[1]),
    ],
)
def test_a_note_without_what_makes_it_a_note_is_no_run(damage: Callable[[Any], Any], tmp_path: Path) -> None:
    RunNote(tmp_path, {})
    values = json.loads((tmp_path / NOTE).read_text())
    assert values["kind"] == KIND
    damage(values)
    (tmp_path / NOTE).write_text(json.dumps(values))
    with pytest.raises(OutputExistsError):
        RunNote(tmp_path, {})


def test_an_entry_that_a_note_lacks_is_named(tmp_path: Path) -> None:
    RunNote(tmp_path, {})
    values = json.loads((tmp_path / NOTE).read_text())
    del values["seconds"]
    (tmp_path / NOTE).write_text(json.dumps(values))
    with pytest.raises(ResumeError, match="seconds"):
        RunNote(tmp_path, {})["seconds"]


@pytest.mark.parametrize(
    "text", ["a = " + DEEP, "a." * 20_000 + "a = 1", "a = ", "\udcff"], ids=lambda text: text[:4]
)
def test_a_damaged_recipe_of_a_run_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(ResumeError):
        recipe_differences(tmp_path / "recipe.toml", "a = 1")
