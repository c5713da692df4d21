"""Probabilities: the temperature is the best one; likeness tells strangers."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cnncodes.evaluation import calibration_error
from cnncodes.heads import Likeness, fit_temperature, log_softmax


def drawn(n=4000, K=5, seed=0):
    """Logits, and labels drawn from their softmax: perfectly calibrated at temperature 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, K))
    labels = (np.exp(log_softmax(logits)).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits, labels


def loss(scores, labels, temperature):
    """Negative log-likelihood of labels of which each counts as (n + 1) / (n + 2) of an image."""
    n, K = scores.shape
    target = np.full((n, K), 1 / ((n + 2) * (K - 1)))
    target[np.arange(n), labels] = (n + 1) / (n + 2)
    return -(target * log_softmax(scores, temperature)).sum(axis=1).mean()


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
        objective = partial(loss, logits * scale, labels)
        reference = minimize_scalar(lambda log: objective(np.exp(log)), bounds=(-12, 9), method="bounded")  # noqa: B023
        assert loss(logits * scale, labels, found) <= reference.fun + 1e-6


def test_it_is_in_the_unit_of_the_scores_and_blind_to_a_constant():
    logits, labels = drawn(n=500)
    found = fit_temperature(logits, labels)
    assert fit_temperature(17.0 * logits, labels) == pytest.approx(17.0 * found, rel=1e-6)
    shift = np.random.default_rng(1).normal(size=(500, 1)) * 100
    assert fit_temperature(logits + shift, labels) == pytest.approx(found, rel=1e-6)


def test_all_right_is_not_certainty_and_all_wrong_is_a_guess():
    logits, labels = drawn(n=50)
    sure = fit_temperature(logits, logits.argmax(axis=1))
    mean = np.exp(log_softmax(logits, sure)).max(axis=1).mean()
    assert 0.8 < mean < 0.999
    guess = fit_temperature(logits, logits.argmin(axis=1))
    np.testing.assert_allclose(np.exp(log_softmax(logits, guess)), 1 / 5, atol=0.01)
    assert fit_temperature(logits[:0], labels[:0]) is None
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) is None, "scores that say nothing"


def test_huge_scores_overflow_nothing():
    with np.errstate(all="raise", under="ignore"):
        found = fit_temperature(np.array([[0.0, 1e4], [1e4, 0.0], [0.0, 2e4]]), np.array([1, 1, 1]))
        assert found is not None and np.isfinite(found)
        assert np.isfinite(log_softmax(np.array([[0.0, 1e6]]))).all()


def test_likeness_leaves_each_training_image_out_and_tells_strangers():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 20)) * 5
    labels = np.arange(90) % 3
    codes = means[labels] + rng.normal(size=(90, 20))
    found = Likeness.of(codes, labels, 3)
    by_hand = []
    for row in range(90):
        kept = np.arange(90) != row
        centres = [codes[kept & (labels == k)].mean(axis=0) for k in range(3)]
        by_hand.append(min(np.linalg.norm(codes[row] - centre) for centre in centres))
    np.testing.assert_allclose(found.quantiles, np.quantile(by_hand, np.linspace(0, 1, 101)), rtol=1e-5)
    new = means[labels] + rng.normal(size=(90, 20))
    assert (found.percentiles(new) >= 99).mean() < 0.15
    assert (found.percentiles(codes * -2) == 100).all()
    assert np.isnan(found.percentiles(np.full((1, 20), np.nan))).all()
    assert Likeness.of(codes[:20], labels[:20], 3) is None, "too few to know what is usual"
    assert Likeness.of(np.eye(40), np.arange(40), 40) is not None, "classes of one image each"
