"""Evaluations: figures against scikit-learn and by hand, a record survives its file, a calibration error is what its definition says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cnncodes.core.errors import ModelError, OptionError
from cnncodes.evaluation.metrics import (
    Evaluation,
    calibration_error,
    chance_error,
    evaluate_scores,
    wilson_interval,
)

ANIMALS = ["ant", "bee", "cat"]
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, -1])
PREDICTED = np.array([0, 1, 1, 1, 1, 2, 2, 0, 1, 0])


def one_hot(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[predicted]


def test_figures_by_hand():
    result = evaluate_scores(one_hot(PREDICTED, 3), LABELS, ANIMALS)
    assert result.n == 9  # the row of label -1 does not count
    assert result.top1 == pytest.approx(5 / 9)
    assert result.mean_per_class == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert result.majority == pytest.approx(4 / 9)
    assert result.top5 is None
    assert result.confusion == ((1, 2, 0), (0, 2, 0), (1, 1, 2))
    bee = result.per_class[1]
    assert (bee.name, bee.support, bee.precision, bee.recall) == ("bee", 2, 2 / 5, 1.0)
    assert bee.f1 == pytest.approx(2 * 2 / (2 * 2 + 3))


def test_worst_confusions_come_first_and_name_the_share():
    worst = evaluate_scores(one_hot(PREDICTED, 3), LABELS, ANIMALS).worst_confusions(2)
    found = [(pair.true, pair.predicted, pair.count) for pair in worst]
    assert found == [("ant", "bee", 2), ("cat", "ant", 1)]
    assert worst[0].share == pytest.approx(2 / 3)


def test_absent_classes_do_not_drag_the_mean_down():
    result = evaluate_scores(one_hot(np.array([0, 0, 1]), 4), np.array([0, 0, 1]), [*ANIMALS, "dog"])
    assert result.mean_per_class == 1.0
    dog = result.per_class[3]
    assert (dog.support, dog.precision, dog.recall, dog.f1) == (0, None, None, None)


def test_top5_agrees_with_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(200, 8)), random.integers(0, 8, 200)
    result = evaluate_scores(scores, labels, list("abcdefgh"))
    assert result.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5))
    assert result.mean_per_class == pytest.approx(balanced_accuracy_score(labels, scores.argmax(axis=1)))


def test_equal_scores_count_as_argmax_does():
    """All scores equal: the first class is the prediction, and the first five are the top five."""
    result = evaluate_scores(np.zeros((7, 7)), np.arange(7), list("abcdefg"))
    assert result.top1 == pytest.approx(1 / 7)
    assert result.top5 == pytest.approx(5 / 7)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, 'Two-sided confidence intervals for the single proportion', table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(right, n, low, high):
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)


def test_an_evaluation_survives_json_without_nan():
    result = evaluate_scores(one_hot(np.array([0, 2]), 4), np.array([0, 1]), [*ANIMALS, "dog"])
    text = result.to_json()
    assert "NaN" not in text
    assert Evaluation.from_json(text) == result
    with pytest.raises(ModelError, match="cannot be read"):
        Evaluation.from_json(json.dumps({"n": 3}))


@pytest.mark.parametrize(
    ("scores", "labels", "problem"),
    [
        (np.zeros((2, 3)), [0, 3], "labels run from 0 to 3"),
        (np.zeros((2, 2)), [0, 1], "do not fit 3 classes"),
        (np.zeros((2, 3)), [-1, -1], "no image has a label"),
        (np.full((2, 3), np.nan), [0, 1], "2 images have scores"),
    ],
)
def test_what_cannot_be_evaluated_is_said(scores, labels, problem):
    with pytest.raises(OptionError, match=problem) as caught:
        evaluate_scores(scores, np.array(labels), ANIMALS)
    assert caught.value.remedy


def test_the_error_is_the_weighted_gap_between_probability_and_accuracy():
    probabilities = np.array([[0.9, 0.1], [0.88, 0.12], [0.2, 0.8], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 0])
    # Bins of 1/15: 0.9 and 0.88 are both in (13/15, 14/15], one of them right; the others are alone.
    by_hand = 2 / 4 * abs(0.89 - 0.5) + 1 / 4 * abs(0.8 - 1) + 1 / 4 * abs(0.55 - 0)
    error, bins = calibration_error(probabilities, labels)
    assert error == pytest.approx(by_hand)
    assert {place: found.count for place, found in enumerate(bins) if found.count} == {13: 2, 11: 1, 8: 1}
    assert (bins[13].confidence, bins[13].accuracy) == (pytest.approx(0.89), 0.5)
    assert bins[0].confidence is None
    assert sum(found.count for found in bins) == 4


def test_a_bin_holds_its_upper_end_and_not_its_lower_one():
    """Equation 2 of Guo et al.: ((m-1)/M, m/M]."""
    _, bins = calibration_error(np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]), np.array([0, 0, 0]), bins=4)
    assert [found.count for found in bins] == [0, 1, 1, 1]


def test_what_gives_no_calibration_error_is_refused():
    for probabilities, labels in ((np.zeros((0, 3)), []), (np.ones((2, 2)), [0]), (np.ones(2), [0, 1])):
        with pytest.raises(OptionError, match="no calibration error"):
            calibration_error(probabilities, np.array(labels))


def test_few_images_have_an_error_by_chance_alone():
    rng = np.random.default_rng(0)
    for n in (50, 5000):
        probabilities = rng.dirichlet([1, 1, 1], n)
        labels = [(row.cumsum() > rng.random(200)[:, None]).argmax(axis=1) for row in probabilities]
        errors = [calibration_error(probabilities, drawn)[0] for drawn in np.array(labels).T]
        assert chance_error(probabilities) == pytest.approx(np.mean(errors), rel=0.1)
    assert chance_error(probabilities) < 0.02
