"""The verdict on each image: the worst mistakes first, names as they are, a file that is whole or not there."""

import csv
import dataclasses
import os

import numpy as np
import pytest

from cnncodes.core.errors import CnnCodesError, OutputExistsError
from cnncodes.evaluation import (
    EvaluationResult,
    Predictions,
    Scores,
    evaluate_scores,
    verdicts,
    write_verdicts,
)
from cnncodes.evaluation.metrics import Calibration
from cnncodes.evaluation.predictions import HEADER
from cnncodes.heads import log_softmax
from cnncodes.images import Catalog

CLASSES = ("ant", "a,b", "two\nlines", '"so"')
NAMES = ("plain.jpg", "with, comma.jpg", "two\nlines.jpg", 'quo"te.jpg', "carriage\r.jpg", os.fsdecode(b"byte\xff.jpg"), "\u65e5\u672c.jpg")  # fmt: skip


def result(scores, labels, names, tmp_path, of="probabilities") -> EvaluationResult:
    """An evaluation of some images, of which the catalog has two more that were not evaluated."""
    scores, labels = np.asarray(scores, float), np.asarray(labels)
    rows = np.arange(1, len(labels) + 1)
    everything = ("before.jpg", *names, "after.jpg")
    catalog = Catalog(tmp_path, everything, np.zeros(len(everything)), np.zeros(len(everything)), CLASSES)
    values = np.full((len(everything), len(CLASSES)), np.nan)
    values[rows] = scores
    return EvaluationResult(
        evaluation=evaluate_scores(scores, labels, CLASSES),
        scores=Scores(catalog, values, {}, np.full(len(values), np.nan)),
        rows=rows,
        how="some images",
        seen=0,
        labels=labels,
        log_probabilities=log_softmax(scores),
        calibration=Calibration(0.0, (), 0.0, None, of),
    )


@pytest.fixture
def some(tmp_path):
    scores = np.random.default_rng(0).normal(size=(len(NAMES), 4)) * 3
    return result(scores, [0, 1, 2, 3, 0, 1, 2], NAMES, tmp_path)


def test_the_worst_mistake_comes_first(some):
    found = verdicts(some)
    losses = [verdict.loss for verdict in found]
    assert losses == sorted(losses, reverse=True)
    assert {verdict.name for verdict in found} == set(NAMES), "only what was evaluated, and all of it"
    right = sum(verdict.correct for verdict in found)
    assert right / len(NAMES) == pytest.approx(some.evaluation.top1)


def test_predictions_are_read_as_they_were_saved(some, tmp_path):
    path = tmp_path / "predictions.h5"
    given = Predictions.of(some)
    given = dataclasses.replace(given, problems={NAMES[5]: "no image"})
    given.save(path)
    found = Predictions.load(path)
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(given, field.name))
    assert verdicts(found) == verdicts(some)
    content = path.read_bytes()
    for bad in (b"", content[: len(content) // 2], b"no file at all"):
        path.write_bytes(bad)
        with pytest.raises(CnnCodesError, match=r"predictions\.h5' cannot be read"):
            Predictions.load(path)


def test_a_verdict_is_what_the_scores_say(some):
    for verdict in verdicts(some):
        place = NAMES.index(verdict.name)
        odds = np.exp(some.log_probabilities[place])
        label = some.labels[place]
        assert verdict.true == CLASSES[label]
        assert verdict.predicted == CLASSES[odds.argmax()]
        assert verdict.probability_predicted == pytest.approx(odds.max())
        assert verdict.probability_true == pytest.approx(odds[label])
        assert verdict.rank_true == 1 + sorted(odds, reverse=True).index(odds[label])
        assert verdict.correct == (verdict.true == verdict.predicted)
        assert verdict.loss == pytest.approx(-np.log(odds[label]))
        scores = some.scores.values[some.rows][place]
        assert verdict.margin == pytest.approx(scores[label] - np.delete(scores, label).max())
        assert (verdict.margin < 0) == (not verdict.correct)


def test_an_svm_without_probabilities_has_margins(tmp_path):
    """As `predict` and the page say it: a softmax of distances would look like odds and be none."""
    scores = [[0.5, 0.4, 0, 0], [0, 3, 0, 0], [9, 0, 0, 0]]
    given = result(scores, [0, 0, 0], "abc", tmp_path, of="softmax(score)")
    found = verdicts(given)
    assert [verdict.name for verdict in found] == ["b", "a", "c"]
    np.testing.assert_allclose([verdict.margin for verdict in found], [-3, 0.1, 9])
    assert {verdict.probability_true for verdict in found} == {None}
    path = write_verdicts(given, tmp_path / "answers.csv")
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["probability_predicted"] for line in lines] == [line["loss"] for line in lines] == [""] * 3
    assert [float(line["margin"]) for line in lines] == pytest.approx([-3, 0.1, 9])


def test_where_probabilities_vanish_the_order_is_still_right(tmp_path):
    """exp(-2000) is 0 in floating point, and exp(-3000) too; equal scores keep the catalog's order."""
    scores = [[2000, 0, 0, 0], [3000, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    found = verdicts(result(scores, [1, 1, 0, 0, 1], "abcde", tmp_path))
    assert [verdict.name for verdict in found] == ["b", "a", "d", "e", "c"]
    ranks = {verdict.name: verdict.rank_true for verdict in found}
    assert (ranks["d"], ranks["e"]) == (1, 2), "of equal scores the earlier class is the predicted one"
    assert all(verdict.correct == (verdict.true == verdict.predicted) for verdict in found)


def test_the_csv_is_read_back_whatever_the_names(some, tmp_path):
    path = write_verdicts(some, tmp_path / "answers.csv")
    with path.open(newline="", encoding="utf-8") as stream:
        header, *lines = csv.reader(stream)
    assert tuple(header) == HEADER
    expected = verdicts(some)
    assert len(lines) == len(expected)
    for line, verdict in zip(lines, expected, strict=True):
        assert line[0] == os.fsencode(verdict.name).decode("utf-8", "backslashreplace")
        assert (line[1], line[2]) == (verdict.true, verdict.predicted)
        assert (line[3], int(line[4])) == ("yes" if verdict.correct else "no", verdict.rank_true)
        assert float(line[HEADER.index("probability_true")]) == pytest.approx(
            verdict.probability_true, rel=1e-5
        )
    assert [line[0] for line in lines if "\\xff" in line[0]] == ["byte\\xff.jpg"]


def test_the_file_is_written_whole_or_not_at_all(some, tmp_path, monkeypatch):
    path = tmp_path / "answers.csv"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match=r"answers\.csv"):
        write_verdicts(some, path)

    def fail(verdict):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.evaluation.predictions._line", fail)
        with pytest.raises(CnnCodesError, match="disk full"):
            write_verdicts(some, path, overwrite=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"
    write_verdicts(some, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("filename,")
