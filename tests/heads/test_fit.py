"""Choosing C, fitting, few-shot draws, the records, and what is said about bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cnncodes.core.errors import HeadError, ModelError, OptionError
from cnncodes.heads import Head, Normalisation, choose_C, draw_few, few_shot, fit_head
from cnncodes.heads import scikit as scikit_module
from cnncodes.heads.choice import stratified_folds

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS, LABELS = DIGITS[:600] / 16, LABELS[:600]
CLASSES = [str(k) for k in range(10)]


def grid_search(X, labels, cs, model):
    fold, _ = stratified_folds(labels, 5, CLASSES[: labels.max() + 1])
    return GridSearchCV(model, {"C": cs}, cv=PredefinedSplit(fold)).fit(X, labels)


def test_accuracy_per_C_is_that_of_grid_search():
    cs = [1e-3, 1e-1, 1.0, 10.0]
    choice = choose_C(DIGITS, LABELS, CLASSES, Cs=cs)
    X = DIGITS / np.linalg.norm(DIGITS, axis=1, keepdims=True)
    search = grid_search(X, LABELS, cs, LinearSVC(max_iter=10_000))
    np.testing.assert_allclose(choice.accuracy, search.cv_results_["mean_test_score"], atol=0.003)
    np.testing.assert_allclose(choice.sd, search.cv_results_["std_test_score"], atol=0.004)
    assert choice.best == search.best_params_["C"]
    assert choice.how == "5 stratified folds"


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_accuracy_per_C_of_two_unequal_classes_is_that_of_grid_search(class_weight):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [150, 40])
    X = random.normal(size=(190, 60)) + 0.3 * labels[:, None]
    cs = [1e-3, 1e-2, 1e-1]
    choice = choose_C(X, labels, ["good", "bad"], Cs=cs, normalisation="none", class_weight=class_weight)
    search = grid_search(X, labels, cs, LinearSVC(max_iter=100_000, tol=1e-6, class_weight=class_weight))
    np.testing.assert_allclose(choice.accuracy, search.cv_results_["mean_test_score"], atol=0.006)  # one row


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_the_choice_does_not_depend_on_the_number_of_threads(kind):
    one = choose_C(DIGITS[:200], LABELS[:200], CLASSES, kind=kind, Cs=[0.1, 10], jobs=1)
    two = choose_C(DIGITS[:200], LABELS[:200], CLASSES, kind=kind, Cs=[0.1, 10], jobs=2)
    assert (one.accuracy, one.sd, one.best) == (two.accuracy, two.sd, two.best)


def test_the_smallest_of_equally_good_C_is_taken():
    X = np.array([[0.0, 1.0], [1.0, 0.0]] * 10)
    choice = choose_C(X, np.array([0, 1] * 10), ["left", "right"], Cs=[100, 1, 10])
    assert choice.accuracy == (1.0, 1.0, 1.0)
    assert choice.best == 1


def test_a_val_split_is_judged_by_and_then_fitted_too():
    validation = (DIGITS[400:], LABELS[400:])
    result = fit_head(DIGITS[:400], LABELS[:400], CLASSES, C=[0.01, 1, 100], validation=validation)
    assert result.rows == 600
    assert result.choice is not None and result.choice.how == "val split of 200 images"
    for C, accuracy in zip(result.choice.C, result.choice.accuracy, strict=True):
        alone = fit_head(DIGITS[:400], LABELS[:400], CLASSES, C=C, solver="newton").head
        assert (alone.predict(DIGITS[400:]) == LABELS[400:]).mean() == pytest.approx(accuracy, abs=0.0051)


def test_class_weights_help_the_rare_class():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [380, 20])
    X = random.normal(size=(400, 5)) + 0.8 * labels[:, None]
    plain, balanced = (
        fit_head(X, labels, ["good", "bad"], C=1.0, normalisation="none", class_weight=weight).head
        for weight in (None, "balanced")
    )
    recall = [(head.predict(X)[labels == 1] == 1).mean() for head in (plain, balanced)]
    assert recall[1] > recall[0] + 0.2


def test_float16_codes_give_the_model_of_their_values():
    half = DIGITS.astype(np.float16)
    got = fit_head(half, LABELS, CLASSES, C=1.0, solver="newton").head
    wanted = fit_head(half.astype(np.float64), LABELS, CLASSES, C=1.0, solver="newton").head
    np.testing.assert_allclose(got.scores(half), wanted.scores(half.astype(np.float64)), atol=2e-3)


def test_scikit_learn_fits_small_problems_and_newton_takes_over_silently(monkeypatch):
    assert fit_head(DIGITS, LABELS, CLASSES, C=1.0).solver == "scikit-learn's LinearSVC"
    random = np.random.default_rng(0)
    X = np.repeat(random.normal(size=(30, 100)), 2, axis=0) + 1e-3 * random.normal(size=(60, 100))
    # warnings are errors here
    hard = fit_head(X, np.arange(60) % 3, CLASSES[:3], C=1e5, solver="scikit-learn")
    assert hard.solver == "newton (scikit-learn's LinearSVC did not converge)"
    monkeypatch.setattr(scikit_module, "fit_linear_svc", None)
    assert fit_head(DIGITS, LABELS, CLASSES, C=1e5).solver == "newton"  # not even tried where it is slow


@pytest.mark.parametrize(
    ("counts", "how"),
    [
        ([20, 20, 20], "5 stratified folds"),
        ([20, 3, 20], "3 stratified folds (class 'bee' has only 3 images)"),
        ([20, 20, 1], "5 stratified folds ('cat': one image, never held out)"),
    ],
)
def test_small_classes_reduce_the_folds_and_it_is_said(counts, how):
    labels = np.repeat([0, 1, 2], counts)
    assert stratified_folds(labels, 5, ["ant", "bee", "cat"])[1] == how
    X = np.random.default_rng(0).normal(size=(len(labels), 4)) + labels[:, None]
    result = fit_head(X, labels, ["ant", "bee", "cat"], normalisation="standard")
    assert result.choice is not None and result.choice.how == how


@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.integers(2, 8), st.integers(0, 99))
def test_folds_are_even_and_stratified(counts, folds, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    fold, _ = stratified_folds(labels, folds, [str(k) for k in range(len(counts))], seed=seed)
    folds = min(folds, min(counts))
    sizes = np.bincount(fold, minlength=folds)
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1
    for k, count in enumerate(counts):
        per_fold = np.bincount(fold[labels == k], minlength=folds)
        assert set(per_fold) <= {count // folds, -(-count // folds)}


def test_few_shot_draws_are_reproducible_and_balanced_and_more_images_are_better():
    rows = draw_few(LABELS, 5, seed=1, repeat=2)
    np.testing.assert_array_equal(rows, draw_few(LABELS, 5, seed=1, repeat=2))
    assert set(rows) != set(draw_few(LABELS, 5, seed=1, repeat=3))
    np.testing.assert_array_equal(np.bincount(LABELS[rows]), np.full(10, 5))
    arguments = (DIGITS[:400], LABELS[:400], DIGITS[400:], LABELS[400:], CLASSES)
    one, ten = few_shot(*arguments, shots=(1, 10), repeats=3)
    assert ten.mean > one.mean + 0.1
    assert one.sd == pytest.approx(np.std(one.accuracy, ddof=1))
    assert json.loads(ten.to_json())["mean"] == ten.mean


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("normalisation", ["none", "l2", "standard"])
def test_a_head_survives_its_arrays_and_json(kind, normalisation):
    result = fit_head(DIGITS[:100], LABELS[:100], CLASSES, kind=kind, C=1.0, normalisation=normalisation)
    head = result.head
    again = Head.from_arrays(head.arrays(), json.loads(json.dumps(head.record())))
    np.testing.assert_array_equal(again.scores(DIGITS), head.scores(DIGITS))
    assert (again.kind, again.C, again.classes) == (kind, 1.0, tuple(CLASSES))
    assert json.loads(json.dumps(result.record()))["head"] == head.record()


def test_probabilities_only_where_they_mean_something():
    softmax = fit_head(DIGITS, LABELS, CLASSES, kind="softmax", C=1.0).head
    np.testing.assert_allclose(softmax.probabilities(DIGITS).sum(axis=1), 1, rtol=1e-6)
    assert fit_head(DIGITS, LABELS, CLASSES, C=1.0).head.probabilities(DIGITS) is None, "nothing was held out"


def test_standard_is_scikit_learns_scaler_and_l2_leaves_zeros():
    X = np.random.default_rng(0).normal(3, 2, size=(5000, 4)).astype(np.float32)
    X[:, 2] = 0.1  # never varies
    record = Normalisation.of(X, "standard")
    np.testing.assert_allclose(record(X), StandardScaler().fit_transform(X.astype(float)), atol=1e-4)
    np.testing.assert_array_equal(Normalisation("l2")(np.zeros((1, 3))), np.zeros((1, 3)))


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1000))
def test_l2_forgets_the_length_of_a_row_and_leaves_the_codes_alone(seed, factor):
    X = np.random.default_rng(seed).normal(size=(3, 7))
    before = X.copy()
    unit = Normalisation("l2")(X)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1)
    np.testing.assert_allclose(Normalisation("l2")(factor * X), unit)
    np.testing.assert_array_equal(X, before)


NAN = np.where(np.arange(600)[:, None] == 7, np.nan, DIGITS)


@pytest.mark.parametrize(
    ("X", "labels", "classes", "problem"),
    [
        (NAN, LABELS, CLASSES, "row 7 of the codes has values that are not finite"),
        (DIGITS, np.zeros(600, int), ["ant"], "all 600 images are of one class, 'ant'"),
        (DIGITS, LABELS, [*CLASSES, "eleven"], "class 'eleven' has no image to train on"),
        (DIGITS, LABELS - 1, CLASSES, "labels run from -1 to 8"),
        (DIGITS, LABELS, CLASSES[:5], "labels run from 0 to 9, and there are 5 classes"),
        (DIGITS[:10], LABELS, CLASSES, "do not fit together"),
        (DIGITS[:10], np.arange(10), CLASSES, "no class has more than one image"),
        (DIGITS, LABELS.astype(float), CLASSES, "cannot be used"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_two_sentences(X, labels, classes, problem):
    with pytest.raises(HeadError, match=problem) as caught:
        fit_head(X, labels, classes)
    assert caught.value.problem.endswith(".") and caught.value.remedy.endswith(".")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("C", (0.0, [1.0, -1.0], "best", [])),
        ("kind", ("forest",)),
        ("normalisation", ("L3",)),
        ("solver", ("sgd",)),
        ("class_weight", ("even",)),
    ],
)
def test_a_wrong_option_is_named(name, values):
    for value in values:
        with pytest.raises(OptionError, match=name) as caught:
            fit_head(DIGITS, LABELS, CLASSES, **{name: value})
        assert caught.value.remedy


def test_codes_of_another_layer_and_a_damaged_head_are_refused():
    head = fit_head(DIGITS, LABELS, CLASSES, C=1.0).head
    arrays = head.arrays()
    with pytest.raises(ModelError, match="bias"):
        Head.from_arrays({"weight": arrays["weight"]}, head.record())
    with pytest.raises(ModelError, match="do not fit 10 classes"):
        Head.from_arrays({**arrays, "bias": arrays["bias"][:3]}, head.record())
    with pytest.raises(HeadError, match="64"):
        head.predict(DIGITS[:, :60])
    with pytest.raises(HeadError, match="held-out codes have 60 columns"):
        fit_head(DIGITS, LABELS, CLASSES, validation=(DIGITS[:, :60], LABELS))
    with pytest.raises(HeadError, match="fewer than 99 shots"):
        few_shot(DIGITS, LABELS, DIGITS, LABELS, CLASSES, shots=(99,))


def test_importing_heads_loads_no_heavy_library():
    program = "import sys, cnncodes.heads; print([m for m in ('sklearn', 'scipy', 'joblib', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("columns", [8, 80], ids=["fewer columns than rows", "more"])
@pytest.mark.parametrize(("value", "C"), [(0.0, "auto"), (0.0, 1e5), (65504.0, "auto"), (65504.0, 1.0)])
@pytest.mark.filterwarnings("error")
def test_codes_that_are_all_the_same_give_the_shares_of_the_classes(columns, value, C):
    X, labels = np.full((30, columns), value, np.float16), np.repeat([0, 1, 2], [5, 10, 15])
    head = fit_head(X, labels, ["a", "b", "c"], kind="softmax", C=C, jobs=1).head
    odds = np.exp(head.scores(X[:1]))
    np.testing.assert_allclose(odds / odds.sum(), [[1 / 6, 1 / 3, 1 / 2]], atol=0.005)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("columns", [8, 80])
@pytest.mark.filterwarnings("error")
def test_the_length_of_a_row_may_overflow_where_it_is_divided_by(kind, columns):
    X = np.random.default_rng(0).uniform(-1, 1, (30, columns)).astype(np.float32)
    labels = np.arange(30) % 3
    far = X * np.float32(3e38)
    usual, large = (fit_head(codes, labels, "abc", kind=kind, jobs=1).head for codes in (X, far))
    assert large.C == usual.C
    np.testing.assert_allclose(large.scores(far), usual.scores(X), atol=1e-4)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("normalisation", ["standard", "none"])
@pytest.mark.parametrize("columns", [8, 80])
@pytest.mark.filterwarnings("error")
def test_codes_whose_squares_overflow_are_an_error(kind, normalisation, columns):
    X = np.random.default_rng(0).uniform(1e299, 1e300, (30, columns))
    with pytest.raises(HeadError, match="squares overflow"):
        fit_head(X, np.arange(30) % 3, "abc", kind=kind, normalisation=normalisation, jobs=1)
