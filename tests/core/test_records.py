"""Records go to JSON and back, and all mistakes of a file are found at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.records import Meta, Mistake, from_json, from_value, mistakes, to_json, to_value


@dataclass(frozen=True)
class Inner:
    kind: Literal["svm", "softmax"] = "svm"
    C: Annotated[float, Meta(gt=0)] | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    rows: tuple[int, ...] = ()
    inner: Inner = Inner()
    epochs: Annotated[int, Meta(ge=1)] = 1
    late: float = 0.0

    def __post_init__(self) -> None:
        if self.late > self.epochs:
            raise OptionError("late is after the last epoch.", "Give a smaller one.")


def test_a_record_comes_back_as_it_was() -> None:
    record = Outer("caf\udce9.jpg", (1, 2), Inner("softmax", 0.5), 3)
    assert from_json(to_json(record), Outer, "the test") == record


def test_numbers_of_numpy_and_paths_are_values() -> None:
    assert to_value({"a": np.float64(0.5), "b": np.arange(2), "c": Path("x")}) == {
        "a": 0.5,
        "b": [0, 1],
        "c": "x",
    }


def test_a_number_that_is_none_survives() -> None:
    found = from_value({"name": "a", "late": float("-inf")}, Outer)
    assert from_json(to_json(found), Outer, "the test") == found


def test_all_mistakes_are_found_at_once() -> None:
    value = {"nam": "a", "rows": [1, "x"], "inner": {"kind": "svn", "C": 0, "c": 1}, "epochs": 0}
    found = {(mistake.path, mistake.kind) for mistake in mistakes(value, Outer)}
    assert found == {
        (("nam",), "unknown"),
        (("rows",), "value"),
        (("inner", "kind"), "value"),
        (("inner", "C"), "value"),
        (("inner", "c"), "unknown"),
        (("epochs",), "value"),
        (("name",), "missing"),
    }


def test_what_fields_say_together_is_asked_last() -> None:
    value = {"name": "a", "epochs": 2, "late": 3}
    assert mistakes(value, Outer) == [
        Mistake(("late",), "value", "late is after the last epoch.", "Give a smaller one.")
    ]
    assert mistakes({"name": "a"}, Outer) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "[" * 100_000, '{"name": "a", "rows": 1}'])
def test_any_other_text_is_an_error_of_the_package(text: str) -> None:
    with pytest.raises(CnnCodesError, match="the test cannot be read"):
        from_json(text, Outer, "the test")
