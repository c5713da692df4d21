"""The judges that read a kernel say exactly what fitting again and again would say."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.advice.evidence import (
    calibrated,
    centred,
    kernel_of,
    log_me,
    neighbour_hits,
    ridge_left_out,
    spectrum_of,
)
from cnncodes.advice.sample import unit_rows


def labelled(n: int, d: int, K: int = 3, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n + d)
    labels = np.arange(n) % K
    codes = random.normal(size=(n, d))
    codes[:, :K] += strength * np.eye(K)[labels]
    return codes + 2.0, labels


def left_out_by_force(codes: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Fit without each row, on its own mean, and predict it."""
    targets, scores = np.eye(labels.max() + 1)[labels], []
    for row in range(len(codes)):
        rest = np.arange(len(codes)) != row
        mean, middle = codes[rest].mean(0), targets[rest].mean(0)
        X = codes[rest] - mean
        W = np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ (targets[rest] - middle))
        scores.append((codes[row] - mean) @ W + middle)
    return np.array(scores)


@pytest.mark.parametrize(("n", "d"), [(40, 8), (24, 70)], ids=["n > d", "n < d"])
def test_leaving_one_out_by_the_hat_matrix_equals_fitting_without_it(n: int, d: int) -> None:
    codes, labels = labelled(n, d)
    spectrum = spectrum_of(centred(codes @ codes.T))
    scores = ridge_left_out(spectrum, labels, (0.3,))
    expected = left_out_by_force(codes, labels, 0.3 * spectrum.values.mean())
    np.testing.assert_allclose(scores, expected, atol=1e-10)


def test_the_penalty_with_the_least_error_is_taken() -> None:
    codes, labels = labelled(60, 30, strength=2.0)
    spectrum = spectrum_of(centred(codes @ codes.T))
    errors = {
        penalty: np.sum(
            (left_out_by_force(codes, labels, penalty * spectrum.values.mean()) - np.eye(3)[labels]) ** 2
        )
        for penalty in (1e-4, 0.1, 10.0)
    }
    best = min(errors, key=errors.__getitem__)
    both = (ridge_left_out(spectrum, labels, penalties) for penalties in (tuple(errors), (best,)))
    np.testing.assert_array_equal(*both)


def dense_log_me(F: np.ndarray, labels: np.ndarray) -> float:
    """The paper's formula with d x d matrices, term by term."""
    (n, d), values = F.shape, []
    for target in np.eye(labels.max() + 1)[labels].T:
        alpha = beta = 1.0
        for _ in range(3000):
            A = alpha * np.eye(d) + beta * F.T @ F
            m = beta * np.linalg.solve(A, F.T @ target)
            freedom = np.trace(np.linalg.solve(A, beta * F.T @ F))
            alpha, beta = freedom / (m @ m), (n - freedom) / np.sum((F @ m - target) ** 2)
        A = alpha * np.eye(d) + beta * F.T @ F
        m = beta * np.linalg.solve(A, F.T @ target)
        values.append(
            n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
            - beta / 2 * np.sum((F @ m - target) ** 2) - alpha / 2 * m @ m - np.linalg.slogdet(A)[1] / 2
        )  # fmt: skip
    return float(np.mean(values)) / n


@pytest.mark.parametrize(("n", "d"), [(40, 6), (15, 25)], ids=["n > d", "n < d"])
def test_log_me_by_the_spectrum_equals_the_dense_formula(n: int, d: int) -> None:
    codes, labels = labelled(n, d, strength=2.0)
    dense = dense_log_me(codes, labels)
    assert log_me(spectrum_of(codes @ codes.T), labels) == pytest.approx(dense, abs=1e-4)


def test_log_me_prefers_codes_that_know_the_labels() -> None:
    knowing, labels = labelled(50, 10, strength=3.0)
    guessing = np.random.default_rng(0).normal(size=(50, 10))
    known, guessed = (log_me(spectrum_of(codes @ codes.T), labels) for codes in (knowing, guessing))
    assert known > guessed


def test_neighbours_vote_by_force_and_never_for_themselves() -> None:
    codes, labels = labelled(30, 5, strength=0.5)
    unit = unit_rows(codes)
    hits = neighbour_hits(kernel_of(unit), labels, k=1)
    for row, hit in enumerate(hits):
        similarity = unit @ unit[row]
        similarity[row] = -1
        assert hit == (labels[similarity.argmax()] == labels[row])
    alone = np.array([[1.0, 0], [1, 0.01], [0, 1]])
    hits = neighbour_hits(kernel_of(unit_rows(alone)), np.array([0, 0, 1]), k=1)
    assert hits.tolist() == [True, True, False]


def test_probabilities_are_steep_only_where_the_scores_earn_it() -> None:
    labels = np.arange(40) % 2
    good = np.eye(2)[labels] * 0.8 + 0.1
    doubtful = np.random.default_rng(0).normal(0.5, 0.05, (40, 2))
    assert calibrated(good, labels).max(axis=1).min() > 0.99
    assert calibrated(doubtful, labels).max() < 0.9
