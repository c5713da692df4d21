"""Two models on the same images: the margin is that of the accuracies, and noise is called noise."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from made_codes import write_codes

from cnncodes.codes import CodesFile
from cnncodes.core.errors import OptionError
from cnncodes.core.records import from_value
from cnncodes.evaluation import Comparison, compare_models, evaluate
from cnncodes.evaluation.evaluating import paired_interval
from cnncodes.heads import fit_linear

TRAIN, TEST = 1, 3
LABELS = [0, 1, 2, 3] * 30


@pytest.fixture(scope="module")
def codes(small_weights, tmp_path_factory):
    """120 rows of 4 classes: 48 to learn from, 72 to test."""
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    write_codes(path, small_weights, LABELS, splits=[TRAIN] * 48 + [TEST] * 72, noise={"pool5": 1.5})
    return path


@pytest.fixture(scope="module")
def models(codes):
    """One that learned from the train split, and the same with each class half taken for the next."""
    good = fit_linear(codes, layer="pool5", kind="svm", C=1.0, jobs=1).model
    turned = np.roll(good.head.weight, 1, axis=0)
    mixed = dataclasses.replace(good.head, weight=0.5 * good.head.weight + 0.5 * turned)
    return good, dataclasses.replace(good, head=mixed)


def test_the_margin_is_that_of_two_evaluations(models, codes):
    found = compare_models(*models, codes, names=("good", "mixed"))
    alone = [evaluate(model, codes).evaluation for model in models]
    assert found.n == 72
    assert found.accuracy == pytest.approx([each.top1 for each in alone])
    assert found.difference == pytest.approx(alone[0].top1 - alone[1].top1)
    for shares, each in zip(found.per_class, alone, strict=True):
        assert list(shares) == pytest.approx([figures.recall for figures in each.per_class])
    assert found.low < found.difference < found.high
    assert f"good {100 * alone[0].top1:.1f} %, mixed {100 * alone[1].top1:.1f} %" in found.text
    assert "points on 72 images that neither has learned from" in found.text


def test_a_margin_within_the_noise_is_told_as_such(models, codes):
    same = compare_models(models[0], models[0], codes)
    assert same.difference == 0 and not same.is_clear
    assert same.low < 0 < same.high, "equal answers on 72 images do not prove equal models"
    assert "so few images cannot tell which is better" in same.text
    far = dataclasses.replace(same, only_first=40, low=0.3, high=0.7)
    assert far.is_clear and "cannot tell" not in far.text


def test_images_that_were_learned_from_are_told(models, codes):
    with CodesFile(codes) as file:
        digests = np.sort(file.digests())
    knows_all = dataclasses.replace(models[1], seen=digests)
    found = compare_models(models[0], knows_all, codes)
    assert found.seen == found.n
    assert "were learned from" in found.text and "neither" not in found.text


def test_a_comparison_survives_json(models, codes):
    found = compare_models(*models, codes)
    values = json.loads(found.to_json())
    assert from_value(values, Comparison) == found
    assert all(values[name] == getattr(found, name) for name in ("difference", "is_clear", "text"))
    with pytest.raises(OptionError, match="3 names"):
        compare_models(*models, codes, names=("a", "b", "c"))


@pytest.mark.parametrize("cells", [(0.3, 0.05), (0.1, 0.1), (0.02, 0.01)])
def test_the_interval_holds_the_true_margin_in_95_of_100_samples(cells):
    """Of 60 images; each drawn to be named rightly by the first alone, by the second alone, or by both or none."""
    random = np.random.default_rng(0)
    samples = random.multinomial(60, [*cells, 1 - sum(cells)], 2000)
    intervals = [paired_interval(int(first), int(second), 60) for first, second, _ in samples]
    held = np.mean([low <= cells[0] - cells[1] <= high for low, high in intervals])
    assert held >= 0.93


def test_the_interval_never_leaves_what_is_possible():
    for only_first, only_second in ((5, 0), (0, 5), (0, 0), (2, 3)):
        low, high = paired_interval(only_first, only_second, 5)
        assert -1 <= low <= (only_first - only_second) / 5 <= high <= 1
