"""Calibration: the error is what its definition says, the temperature is the best one, and both say when there is none."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cnncodes.core.errors import OptionError
from cnncodes.evaluation.calibration import calibration_error, fit_temperature, log_softmax


def drawn(n=4000, K=5, seed=0):
    """Logits, and labels drawn from their softmax: perfectly calibrated at temperature 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, K))
    labels = (np.exp(log_softmax(logits)).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits, labels


def likelihood(scores, labels, temperature):
    return -log_softmax(scores, temperature)[np.arange(len(labels)), labels].mean()


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


def test_what_cannot_be_compared_is_refused():
    for probabilities, labels in ((np.zeros((0, 3)), []), (np.ones((2, 2)), [0]), (np.ones(2), [0, 1])):
        with pytest.raises(OptionError, match="no calibration error"):
            calibration_error(probabilities, np.array(labels))


@pytest.mark.parametrize("temperature", [0.02, 0.5, 1.0, 3.0, 700.0])
def test_a_known_temperature_is_found_again(temperature):
    logits, labels = drawn(n=20_000)
    found = fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    before, _ = calibration_error(np.exp(log_softmax(logits * temperature)), labels)
    after, _ = calibration_error(np.exp(log_softmax(logits * temperature, found)), labels)
    assert after < 0.02
    assert before > 5 * after or temperature == 1.0


@pytest.mark.parametrize("n", [3, 10, 200])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_no_other_temperature_is_more_likely(n, scale):
    for seed in range(5):
        logits, labels = drawn(n=n, seed=seed)
        found = fit_temperature(logits * scale, labels)
        if found is None:
            continue
        reference = minimize_scalar(
            lambda logarithm: likelihood(logits * scale, labels, np.exp(logarithm)), bounds=(-12, 12), method="bounded"  # noqa: B023
        )  # fmt: skip
        assert likelihood(logits * scale, labels, found) <= reference.fun + 1e-9


def test_it_is_in_the_unit_of_the_scores_and_blind_to_a_constant():
    logits, labels = drawn(n=500)
    found = fit_temperature(logits, labels)
    assert fit_temperature(17.0 * logits, labels) == pytest.approx(17.0 * found, rel=1e-6)
    shift = np.random.default_rng(1).normal(size=(500, 1)) * 100
    assert fit_temperature(logits + shift, labels) == pytest.approx(found, rel=1e-6)


def test_where_no_finite_temperature_is_best_there_is_none():
    logits, labels = drawn(n=50)
    assert fit_temperature(logits, logits.argmax(axis=1)) is None, "all right: T would go to 0"
    assert fit_temperature(logits, logits.argmin(axis=1)) is None, "worse than guessing: T would be infinite"
    assert fit_temperature(logits[:0], labels[:0]) is None
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) is None, "scores that say nothing"


def test_huge_scores_overflow_nothing():
    with np.errstate(all="raise", under="ignore"):
        found = fit_temperature(np.array([[0.0, 1e4], [1e4, 0.0], [0.0, 2e4]]), np.array([1, 1, 1]))
        assert found is not None and np.isfinite(found)
        assert np.isfinite(log_softmax(np.array([[0.0, 1e6]]))).all()
