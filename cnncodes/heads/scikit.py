"""The only door to scikit-learn in this room: its own solvers, the reference for ours.

Nothing is imported before a solver is called, so that ``import cnncodes.heads`` stays cheap.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def fit_linear_svc(
    X: Array, labels: Array, *, C: float, class_weight: str | None = None, seed: int = 0, tol: float = 1e-4
) -> tuple[Array, Array] | None:
    """Weights [K, d] and bias [K] of scikit-learn's ``LinearSVC``, or None if it did not converge.

    Parameters
    ----------
    X : float array [n, d]
        Normalised codes.
    labels : int array [n], 0..K-1, each class present
    """
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=C, dual="auto", class_weight=class_weight, random_state=seed, tol=tol)
    return _fit(model, X, labels)


def fit_logistic_regression(
    X: Array, labels: Array, *, C: float, class_weight: str | None = None, tol: float = 1e-4
) -> tuple[Array, Array] | None:
    """Weights [K, d] and bias [K] of ``LogisticRegression`` (lbfgs), or None if it did not converge."""
    from sklearn.linear_model import LogisticRegression

    return _fit(LogisticRegression(C=C, class_weight=class_weight, tol=tol, max_iter=1000), X, labels)


def _fit(model: Any, X: Array, labels: Array) -> tuple[Array, Array] | None:
    """Fit and take the arrays out; a row for each class if there are only two."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(X, labels)
        except ConvergenceWarning:
            return None
    return model.coef_, model.intercept_
