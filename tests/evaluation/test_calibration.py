"""Calibration error: it is what its definition says."""

import numpy as np
import pytest

from cnncodes.core.errors import OptionError
from cnncodes.evaluation import calibration_error
from cnncodes.evaluation.metrics import chance_error


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


def test_few_images_have_an_error_by_chance_alone():
    rng = np.random.default_rng(0)
    for n in (50, 5000):
        probabilities = rng.dirichlet([1, 1, 1], n)
        labels = [(row.cumsum() > rng.random(200)[:, None]).argmax(axis=1) for row in probabilities]
        errors = [calibration_error(probabilities, drawn)[0] for drawn in np.array(labels).T]
        assert chance_error(probabilities) == pytest.approx(np.mean(errors), rel=0.1)
    assert chance_error(probabilities) < 0.02
