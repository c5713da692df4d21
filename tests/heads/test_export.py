"""An exported head gives the same classes and scores on raw codes, in scikit-learn and in ONNX Runtime."""

import warnings

import numpy as np
import pytest

from cnncodes.core.errors import DependencyError, OptionError, OutputExistsError
from cnncodes.heads import export_head, fit_head

CASES = [
    (kind, normalisation, classes)
    for kind in ("svm", "softmax")
    for normalisation in ("l2", "standard", "none")
    for classes in (2, 4)
]
NAMES = ("ant's", "Biene \u00fc", "cat", "dog")


def fitted(kind, normalisation, classes):
    """A head, and codes it has not seen: ReLU-like, one row of zeros, one column that never varies."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % classes
    centres = rng.normal(size=(classes, 30))
    X = np.abs(centres[labels] + rng.normal(0, 0.8, (80, 30))).astype(np.float32) * 5
    X[:, 7] = 3.0
    head = fit_head(X, labels, NAMES[:classes], kind=kind, normalisation=normalisation, C=0.5, jobs=1).head
    new = np.abs(rng.normal(0, 5, (50, 30))).astype(np.float32)
    new[:, 7] = 3.0
    new[3] = 0.0
    return head, new


def assert_named(names, head, X):
    """Where the best score is clear, the classes are those of the head."""
    best = np.sort(head.scores(X), axis=1)
    sure = best[:, -1] - best[:, -2] > 1e-3
    assert sure.sum() > 40
    assert np.asarray(names)[sure].tolist() == [NAMES[place] for place in head.predict(X)[sure]]


@pytest.mark.parametrize(("kind", "normalisation", "classes"), CASES)
def test_scikit_learn_reads_the_same_classifier(tmp_path, kind, normalisation, classes):
    skops = pytest.importorskip("skops.io")
    head, X = fitted(kind, normalisation, classes)
    path = export_head(head, tmp_path / "head.skops", to="sklearn")
    assert skops.get_untrusted_types(file=path) == [], "loading it must not need trust"
    pipeline = skops.load(path)
    scores = head.scores(X)
    expected = scores if classes > 2 else scores[:, 1] if kind == "svm" else scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(pipeline.decision_function(X), expected, rtol=1e-4, atol=1e-4)
    assert_named(pipeline.predict(X), head, X)
    if kind == "softmax":
        np.testing.assert_allclose(pipeline.predict_proba(X), head.probabilities(X), atol=1e-4)


@pytest.mark.parametrize(("kind", "normalisation", "classes"), CASES)
def test_onnx_runtime_reads_the_same_classifier(tmp_path, kind, normalisation, classes):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    head, X = fitted(kind, normalisation, classes)
    path = export_head(head, tmp_path / "head.onnx", to="onnx")
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.shape[1]) == ("codes", 30)
    names, values = session.run(None, {"codes": X})
    assert_named(names.astype(str), head, X)
    expected = head.scores(X) if kind == "svm" else head.probabilities(X)
    if kind == "svm" and classes == 2:
        expected = expected[:, 1:]  # scikit-learn's way: one score, that of the second class
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)


def test_nothing_is_overwritten_unasked_and_mistakes_are_named(tmp_path, monkeypatch):
    head, _ = fitted("svm", "l2", 2)
    (tmp_path / "head.skops").write_text("mine")
    with pytest.raises(OutputExistsError):
        export_head(head, tmp_path / "head.skops", to="sklearn")
    assert (tmp_path / "head.skops").read_text() == "mine"
    with pytest.raises(OptionError, match="Did you mean 'onnx'"):
        export_head(head, tmp_path / "head.onnx", to="onx")
    modules = __import__("sys").modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for to, module in (("onnx", "skl2onnx"), ("sklearn", "skops")):
            monkeypatch.setitem(modules, module, None)
            with pytest.raises(DependencyError, match=module):
                export_head(head, tmp_path / "other", to=to)
    assert not (tmp_path / "other").exists()
