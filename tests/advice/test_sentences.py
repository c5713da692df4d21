"""Every kind of finding, reason and note has its sentence, and one of another version costs nobody their report."""

from __future__ import annotations

import pytest

from cnncodes.advice.facts import (
    FINDINGS,
    NOTES,
    REASONS,
    Case,
    Fact,
    Finding,
    case_text,
    finding_text,
    note_text,
    reason_of,
    upgraded,
)
from cnncodes.core.records import from_value

VALUES = {
    "chosen": "pad", "crop": 0.8, "gain": 0.1, "gain_se": 0.02, "pad": 0.9,
    "C": 0.1, "accuracy": 0.9, "advised": "small-similar", "amount": "small", "behind": 0.1, "behind_se": 0.05, "compare": "x",
    "copies": 1, "count": 1, "dark": 1, "earlier": "pool5", "earlier_right": 0.9, "epoch": 2, "epochs": 3, "errors": 1.2,
    "factor": 1.5, "few": 10.0, "folds": 5, "further": False, "highest": 4080, "how": "5 stratified folds", "images": 3, "judged": 20,
    "large_images": 2000.0, "large_per_class": 100.0, "largest": "a", "last": ["fc6", "fc7"], "late": "fc7", "late_right": 0.8, "late_se": 0.1,
    "least": 2, "listed": 2, "looked": 20, "majority": 0.5, "median": 12, "most": 30, "names": ["a"],
    "neighbours": {"best": "pool5", "best_right": 0.9, "late": "fc7", "late_right": 0.8, "recipe": "x"}, "other": "large",
    "seen": 2, "similarity": {"errors": 1.0, "recipe": "x"}, "size": {"change": 0.1, "recipe": "x"}, "smallest": "b",
    "stage": "fc7", "tested": 9, "tie_errors": 0.5, "top1": 0.9, "train": 24, "val_accuracy": 0.8,
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_has_a_whole_sentence(count: int) -> None:
    values = VALUES | {"count": count, "copies": count}
    said = [finding_text(Finding(kind, values)) for kind in FINDINGS]
    said += [str(reason_of(Fact(kind, values))) for kind in REASONS]
    said += [note_text(Fact(kind, values)) for kind in NOTES]
    for text in said:
        assert text[0].isupper() or text[0].isdigit(), text
        assert text.endswith((".", "save(new)")) and "None" not in text, text
        assert count == 1 or not text.startswith("1 "), text


@pytest.mark.parametrize("values", [{}, {"count": "many"}, {"last": 3}])
def test_a_kind_of_another_version_is_named(values: dict[str, object]) -> None:
    for kind in ("new-kind", "near", "size", "seen", "damaged-end"):
        assert finding_text(Finding(kind, values)) and reason_of(Fact(kind, values)).short
        assert note_text(Fact(kind, values)) and case_text(kind, Case(("a.jpg",), values=values)) == "a.jpg"


def test_a_sentence_of_an_earlier_version_stays_as_it_was() -> None:
    old = {"kind": "near", "text": "1 pair is alike", "names": ["a ~ b"], "files": [], "rows": [3, 4]}
    finding = from_value(upgraded(old), Finding)
    assert (finding_text(finding), finding.rows) == ("1 pair is alike.", (3, 4))
    assert case_text("near", finding.cases[0]) == "a ~ b"
    for reason in ("It is so.", {"conclusion": "It is so.", "figures": "", "compare": ""}):
        assert str(reason_of(from_value(upgraded(reason), Fact))) == "It is so."
