"""scikit-learn's own solvers, the reference for ours, and a head as its pipeline or an ONNX graph.

Nothing is imported before a solver is called, so that fitting with ours stays cheap.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import DependencyError, OptionError, OutputExistsError, nearest
from cnncodes.core.outputs import replacing

if TYPE_CHECKING:
    from cnncodes.heads.head import Head

Array = npt.NDArray[Any]

FORMATS = ("sklearn", "onnx")


def fit_linear_svc(
    X: Array, labels: Array, *, C: float, class_weight: str | None = None, seed: int = 0, tol: float = 1e-4
) -> tuple[Array, Array] | None:
    """Weights [K, d] and bias [K] of ``LinearSVC`` on normalised codes, or None if it did not converge."""
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
    """Fit and take the arrays out; one row if there are only two classes."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(X, labels)
        except ConvergenceWarning:
            return None
    return model.coef_, model.intercept_


def export_head(head: Head, path: str | Path, *, to: str, overwrite: bool = False) -> Path:
    """Write a head, its normalisation included: raw codes in, classes out.

    Parameters
    ----------
    head : Head
    path : path of the file
    to : {"sklearn", "onnx"}
        "sklearn" writes a ``Pipeline`` of a normaliser and ``LinearSVC`` or ``LogisticRegression`` as a skops
        file (``skops.io.load``), "onnx" a graph with input ``codes`` ``[n, d]`` float32, which gives the
        classes' names and ``[n, K]`` scores (SVM; a single column, that of the second class, for two classes)
        or probabilities (softmax).
    overwrite : bool, default False

    Raises
    ------
    OptionError
        For another format.
    DependencyError
        If skops or skl2onnx is not installed.
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    """
    path = Path(path)
    if to not in FORMATS:
        raise OptionError(f"format '{to}' is not known.", nearest(to, FORMATS))
    if path.exists() and not overwrite:
        raise OutputExistsError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")
    check_exportable(to)
    pipeline = _pipeline_of(head)
    if to == "onnx":
        content = _onnx(pipeline, head)
    else:
        import skops.io

        content = bytes(skops.io.dumps(pipeline))
    with replacing(path, overwrite=overwrite) as whole:
        whole.write_bytes(content)
    return path


def check_exportable(to: str) -> None:
    """Raise DependencyError now if a format of :func:`export_head` needs a library that is not installed."""
    library = {"sklearn": "skops", "onnx": "skl2onnx"}.get(to, "sklearn")
    if importlib.util.find_spec(library) is None:
        raise DependencyError(
            f"this export needs {library}, which is not installed.", f"Run: pip install 'cnncodes[{to}]'."
        )


def _pipeline_of(head: Head) -> Any:
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
    row, bias = head.weight, head.bias
    if len(head.classes) == 2:  # scikit-learn keeps one row: its decision is for the second class
        row, bias = (
            array[1:] if head.kind == "svm" else array[1:] - array[:1] for array in (head.weight, head.bias)
        )
    scale = (head.scale or 1.0) if head.kind == "softmax" else 1.0  # LinearSVC has scores, no probabilities
    model.coef_, model.intercept_ = np.asarray(row, np.float64) / scale, np.asarray(bias, np.float64) / scale
    return make_pipeline(step, model)


def _onnx(pipeline: Any, head: Head) -> bytes:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [("codes", FloatTensorType([None, head.weight.shape[1]]))]
    # Probabilities as an array, not as a map; an SVM's scores never are one, and the option is an error there.
    # Named by type, since skl2onnx adds the option itself to a classifier that is not named.
    options = {type(pipeline[-1]): {"zipmap": False} if head.kind == "softmax" else {}}
    graph = skl2onnx.convert_sklearn(pipeline, initial_types=inputs, options=options)
    return bytes(graph.SerializeToString())
