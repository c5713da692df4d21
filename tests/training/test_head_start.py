"""Starts and ends of the last layer: a fitted head as its start, a head for each of several data sets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hooks import AtBegin

import cnncodes
from cnncodes.core.errors import ModelError, WeightsMismatchError
from cnncodes.training import InterruptedTrainingError, TrainingSettings, finetune, train
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(epochs=1, batch_size=16, learning_rate=0.01, middle_rate=1.0, early_rate=1.0)


@pytest.fixture
def weights(network, pixels, stripes, tmp_path):
    return load_weights(str(train(stripes, network, pixels, tmp_path / "start", SETTINGS).model))


@pytest.fixture
def codes(weights, stripes, tmp_path):
    cnncodes.extract(stripes, tmp_path / "codes.h5", weights, layers="conv2,fc6")
    return tmp_path / "codes.h5"


def first_logits(stripes, weights, folder, head):
    """Watched images, and their logits before the first step."""
    kept = {}

    def look(training):
        kept["training"] = training
        training.stop()

    with pytest.raises(InterruptedTrainingError):
        finetune(
            stripes,
            weights,
            folder,
            dataclasses.replace(SETTINGS, learning_rate=0.0),
            head=head,
            callbacks=[AtBegin(look)],
        )
    training = kept["training"]
    training.learner.eval()
    with torch.no_grad():
        batch = next(training.inputs.to_watch([training.val_rows.tolist()]))
        return training.val_rows, training.learner(batch.values).numpy()


@pytest.mark.parametrize("normalisation", ["none", "standard"])
def test_the_last_layer_begins_as_the_head(weights, codes, stripes, tmp_path, normalisation):
    head = cnncodes.fit_linear(codes, layer="fc6", normalisation=normalisation).model
    expected = head.head.scores(cnncodes.CodesFile(codes).read("fc6"))
    rows, logits = first_logits(stripes, weights, tmp_path / "run", head)
    np.testing.assert_allclose(logits, expected[rows], rtol=1e-3, atol=1e-3)


def test_a_head_on_rows_of_length_one_keeps_its_answers(weights, codes, stripes, tmp_path):
    head = cnncodes.fit_linear(codes, layer="fc6", normalisation="l2").model
    rows, logits = first_logits(stripes, weights, tmp_path / "run", head)
    expected = head.head.scores(cnncodes.CodesFile(codes).read("fc6"))[rows]
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.8
    assert 0.5 < np.abs(logits).mean() / np.abs(expected).mean() < 2


def test_heads_that_do_not_fit_are_refused(weights, codes, stripes, tmp_path, pixels, network):
    head = cnncodes.fit_linear(codes, layer="fc6").model
    with pytest.raises(ModelError, match="conv2"):
        finetune(
            stripes, weights, tmp_path / "a", SETTINGS, head=cnncodes.fit_linear(codes, layer="conv2").model
        )
    other = train(stripes, network, pixels, tmp_path / "other", dataclasses.replace(SETTINGS, seed=1))
    with pytest.raises(WeightsMismatchError, match="fitted on codes of"):
        finetune(stripes, load_weights(str(other.model)), tmp_path / "b", SETTINGS, head=head)
    renamed = dataclasses.replace(stripes, classes=("x", *stripes.classes[1:]))
    with pytest.raises(ModelError, match="2 classes"):
        finetune(renamed, weights, tmp_path / "c", SETTINGS, head=head)


def test_what_the_head_was_fitted_on_counts_as_seen(weights, codes, stripes, tmp_path):
    head = cnncodes.fit_linear(codes, layer="fc6", split="none").model
    result = finetune(stripes, weights, tmp_path / "run", SETTINGS, head=head)
    assert set(head.seen.tolist()) <= set(load_weights(str(result.model)).seen)
