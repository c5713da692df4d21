"""The exact solvers against scikit-learn's, and the properties that the choice of C stands on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from cnncodes.heads import fit_head
from cnncodes.heads import rotation as rotation_module
from cnncodes.heads.rotation import Rotation, rotate
from cnncodes.heads.softmax import solve_softmax
from cnncodes.heads.svm import solve_svm


def blobs(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, the first the rarest, in codes that are not negative (after a ReLU)."""
    random = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = np.concatenate([np.arange(classes), random.choice(classes, n - classes, p=share)])
    centres = random.normal(size=(classes, d)) * 0.5
    return np.maximum(0, centres[labels] + random.normal(size=(n, d))), labels


def names(labels: np.ndarray) -> list[str]:
    return [f"class {k}" for k in range(labels.max() + 1)]


def svc_objective(X, labels, weight, bias, C, positive) -> float:
    """LinearSVC's objective of one class against the rest, written out."""
    y = np.where(labels == positive, 1, -1)
    slack = np.maximum(0, 1 - y * (X @ weight + bias))
    return 0.5 * (weight @ weight + bias**2) + C * (slack**2).sum()


def fitted(X, labels, **options):
    return fit_head(X, labels, names(labels), normalisation="none", solver="newton", **options).head


SHAPES = [(60, 150, 2), (60, 150, 4), (300, 20, 2), (300, 20, 4)]
PENALTIES = [(None, 0.01), (None, 1.0), ("balanced", 1.0)]


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
@pytest.mark.parametrize(("class_weight", "C"), PENALTIES)
def test_svm_is_the_model_of_linear_svc(n, d, classes, class_weight, C):
    X, labels = blobs(n, d, classes)
    head = fitted(X, labels, C=C, class_weight=class_weight)
    reference = LinearSVC(C=C, class_weight=class_weight, tol=1e-8, max_iter=100_000, random_state=0)
    reference.fit(X, labels)
    rows = slice(1, 2) if classes == 2 else slice(None)
    size = np.abs(reference.coef_).max()
    np.testing.assert_allclose(head.weight[rows], reference.coef_, atol=5e-3 * size)
    np.testing.assert_allclose(head.bias[rows], reference.intercept_, atol=5e-3 * size)
    np.testing.assert_array_equal(head.predict(X), reference.predict(X))
    if classes == 2:
        np.testing.assert_array_equal(head.scores(X)[:, 0], -head.scores(X)[:, 1])


@pytest.mark.parametrize("C", [1e-4, 1.0, 100.0, 1e4])
def test_svm_objective_is_not_above_linear_svc(C):
    """Also where rows are solved for directly (large C), and where liblinear hardly converges."""
    X, labels = blobs(80, 200, 3)
    head = fitted(X, labels, C=C)
    reference = LinearSVC(C=C, tol=1e-6, max_iter=20_000, random_state=0).fit(X, labels)
    for k in range(3):
        ours = svc_objective(X, labels, head.weight[k], head.bias[k], C, k)
        theirs = svc_objective(X, labels, reference.coef_[k], reference.intercept_[k], C, k)
        assert ours <= theirs * (1 + 1e-6)
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
@pytest.mark.parametrize(("class_weight", "C"), PENALTIES)
def test_softmax_is_the_model_of_logistic_regression(n, d, classes, class_weight, C):
    X, labels = blobs(n, d, classes)
    head = fitted(X, labels, kind="softmax", C=C, class_weight=class_weight)
    reference = LogisticRegression(C=C, class_weight=class_weight, tol=1e-9, max_iter=10_000).fit(X, labels)
    np.testing.assert_allclose(head.probabilities(X), reference.predict_proba(X), atol=2e-3)
    np.testing.assert_array_equal(head.predict(X), reference.predict(X))
    weight = head.weight[1:] - head.weight[:1] if classes == 2 else head.weight
    np.testing.assert_allclose(weight, reference.coef_, atol=1e-2 * np.abs(reference.coef_).max())


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize(("n", "d"), [(40, 90), (120, 15)])
def test_a_path_over_C_ends_where_a_cold_start_does(kind, n, d):
    X, labels = blobs(n, d, 3)
    rotation = rotate(X, penalise_bias=kind == "svm")
    signs = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    start = None
    for C in 10.0 ** np.arange(-4, 4):
        if kind == "svm":
            costs = np.full(signs.shape, C)
            warm = solve_svm(rotation, signs, costs, start=start, tolerance=1e-10)
            cold = solve_svm(rotation, signs, costs, tolerance=1e-10)
            start = warm.U
        else:
            costs = np.full((n, 1), C)
            warm = solve_softmax(rotation, labels, costs, 3, start=start, tolerance=1e-10)
            cold = solve_softmax(rotation, labels, costs, 3, tolerance=1e-10)
            start = warm
        np.testing.assert_allclose(warm.objective, cold.objective, rtol=1e-8)
        np.testing.assert_allclose(warm.scores, cold.scores, atol=1e-3 * np.abs(cold.scores).max())


@pytest.mark.parametrize("C", [1e-7, 1e-5])
def test_predictions_of_a_small_C_are_exact(C):
    """All rows count, so the solution is that of a linear system; classes differ by 1e-4 of the scores."""
    random = np.random.default_rng(0)
    X = 1 + 0.01 * random.normal(size=(90, 200))
    labels = np.arange(90) % 3
    y = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    gram = X @ X.T + 1
    wanted = gram @ np.linalg.solve(gram + np.eye(90) / (2 * C), y)
    rotation = rotate(X, penalise_bias=True)
    got = solve_svm(rotation, y, np.full(y.shape, C)).scores
    spread = (wanted - wanted.mean(axis=0)).std()
    np.testing.assert_allclose(got - wanted, 0, atol=1e-3 * spread)


@pytest.mark.parametrize("C", [1e-5, 1e-3, 1e-1])
def test_softmax_predictions_of_a_small_C_are_settled(C):
    """The objective is almost constant there, and must not be what decides when to stop."""
    random = np.random.default_rng(0)
    X = 0.1 * random.normal(size=(200, 50))
    labels = np.arange(200) % 4
    rotation = rotate(X, penalise_bias=False)
    got, wanted = (
        solve_softmax(rotation, labels, np.full((200, 1), C), 4, tolerance=tolerance).scores
        for tolerance in (1e-4, 1e-13)
    )
    np.testing.assert_allclose(got - wanted, 0, atol=5e-3 * wanted.std())


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1), st.integers(6, 40), st.integers(2, 40), st.sampled_from([0.01, 1.0, 1000.0])
)
def test_the_gap_is_what_it_says(seed, n, d, C):
    """The objective is at most ``gap`` above its minimum, and the gap is at most what was asked for."""
    X, labels = blobs(n, d, 2, seed)
    rotation = rotate(X, penalise_bias=True)
    signs, costs = np.where(labels[:, None] == 1, 1.0, -1.0), np.full((n, 1), C)
    rough = solve_svm(rotation, signs, costs, tolerance=1e-2)
    fine = solve_svm(rotation, signs, costs, tolerance=1e-10)
    assert rough.gap[0] <= 1e-2 * rough.objective[0]
    assert fine.gap[0] <= 1e-10 * fine.objective[0]
    assert rough.objective[0] >= fine.objective[0] * (1 - 1e-9)
    assert rough.objective[0] - fine.objective[0] <= rough.gap[0] + 1e-9 * fine.objective[0]


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("d", [12, 70])
def test_heads_do_not_change_under_a_rotation_of_the_codes(kind, d):
    X, labels = blobs(50, d, 3)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]
    heads = [fitted(codes, labels, kind=kind, C=1.0) for codes in (X, X @ turn)]
    np.testing.assert_allclose(heads[0].scores(X), heads[1].scores(X @ turn), atol=1e-3)


@pytest.mark.parametrize("penalise_bias", [True, False])
@pytest.mark.parametrize(("n", "d"), [(20, 50), (20, 19), (20, 20), (50, 20)])
def test_rotated_codes_have_the_same_products(n, d, penalise_bias):
    X = np.random.default_rng(0).normal(size=(n, d))
    rotation = rotate(X, penalise_bias=penalise_bias)
    A = np.c_[X, np.ones(n)] if penalise_bias else X - X.mean(axis=0)
    np.testing.assert_allclose(rotation.Z @ rotation.Z.T, A @ A.T, atol=1e-10)
    np.testing.assert_allclose(rotation.Z.T @ rotation.Z, np.diag(rotation.eigenvalues), atol=1e-9)
    weight, bias = rotation.weights(rotation.Z.T, None if penalise_bias else np.zeros(n))  # u = z_i
    np.testing.assert_allclose(weight, A[:, :d], atol=1e-9)
    np.testing.assert_allclose(bias, A[:, d] if penalise_bias else -A @ X.mean(axis=0), atol=1e-9)
    if n <= 2 * d:
        np.testing.assert_allclose(rotation.gram, A @ A.T, atol=1e-10)
    else:
        assert rotation.gram is None


def test_many_rows_need_no_gram_matrix_and_float32_is_enough(monkeypatch):
    """What happens with 50,000 rows of 4,096, at a size for a test: the same model within float32."""
    X, labels = blobs(400, 30, 3)
    wanted = fit_head(X, labels, names(labels), C=10.0, solver="newton").head
    monkeypatch.setattr(rotation_module, "FLOAT64_LIMIT", 1000)
    monkeypatch.setattr(rotation_module, "GRAM_LIMIT", 100)
    rotation = rotate(wanted.normalisation(X), penalise_bias=True)
    assert rotation.gram is None and rotation.Z.dtype == np.float32
    got = fit_head(X.astype(np.float32), labels, names(labels), C=10.0, solver="newton").head
    np.testing.assert_allclose(got.scores(X), wanted.scores(X), atol=5e-3)


def test_linearly_dependent_rows_are_no_obstacle():
    """Copies of the same image: the Gram matrix is singular."""
    X, labels = blobs(30, 80, 3)
    X, labels = np.repeat(X, 2, axis=0), np.repeat(labels, 2)
    rotation = rotate(X, penalise_bias=True)
    assert isinstance(rotation, Rotation) and rotation.Z.shape == (60, 30)
    for C in (1e-3, 1e5, 1e16):
        head = fitted(X, labels, C=C)
        assert np.isfinite(head.weight).all()
    np.testing.assert_array_equal(head.predict(X), labels)
