"""The only door to scikit-learn in this room: its own solvers, the reference for ours.

Nothing is imported before a solver is called, so that ``import cnncodes.heads`` stays cheap.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted

    from cnncodes.heads.head import Head

__all__ = [
    "BaseEstimator",
    "TransformerMixin",
    "check_is_fitted",
    "fit_linear_svc",
    "fit_logistic_regression",
    "pipeline_of",
]

Array = npt.NDArray[Any]


def __getattr__(name: str) -> Any:
    if name in ("BaseEstimator", "TransformerMixin"):
        import sklearn.base

        return getattr(sklearn.base, name)
    if name == "check_is_fitted":
        from sklearn.utils.validation import check_is_fitted

        return check_is_fitted
    raise AttributeError(name)


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


def pipeline_of(head: Head) -> Any:
    """The head as a fitted scikit-learn ``Pipeline``: raw codes [n, d] in, class names out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
    from sklearn.svm import LinearSVC

    record = head.normalisation
    if record.mean is not None and record.scale is not None:
        step = StandardScaler()
        step.mean_, step.scale_ = np.asarray(record.mean), np.asarray(record.scale)
        step.var_, step.n_samples_seen_ = step.scale_**2, 1
        step.n_features_in_ = len(step.mean_)
    else:
        step = Normalizer("l2") if record.kind == "l2" else FunctionTransformer()
    model = LinearSVC(C=head.C) if head.kind == "svm" else LogisticRegression(C=head.C)
    model.classes_ = np.array(head.classes)
    model.n_features_in_ = head.weight.shape[1]
    if len(head.classes) == 2:  # scikit-learn keeps one row: its decision is for the second class
        row = head.weight[1:] if head.kind == "svm" else head.weight[1:] - head.weight[:1]
        bias = head.bias[1:] if head.kind == "svm" else head.bias[1:] - head.bias[:1]
    else:
        row, bias = head.weight, head.bias
    scale = (head.scale or 1.0) if head.kind == "softmax" else 1.0  # LinearSVC has scores, no probabilities
    model.coef_, model.intercept_ = np.asarray(row, np.float64) / scale, np.asarray(bias, np.float64) / scale
    return make_pipeline(step, model)
