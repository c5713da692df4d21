"""A fitted head as the start of the last layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hooks import AtBegin

import cnncodes
from cnncodes.core.errors import ModelError, WeightsMismatchError
from cnncodes.training import InterruptedTrainingError
from cnncodes.weights import load_weights


@pytest.fixture(scope="module")
def weights(trained):
    return load_weights(trained)


@pytest.fixture(scope="module")
def codes(weights, stripes, tmp_path_factory):
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    cnncodes.extract(stripes, path, weights, layers="conv2,fc6")
    return path


def first_logits(learn, weights, head):
    """Watched images, and their logits before the first step."""
    kept = {}

    def look(training):
        kept["training"] = training
        training.stop()

    with pytest.raises(InterruptedTrainingError):
        learn(weights=weights, learning_rate=0.0, head=head, callbacks=[AtBegin(look)])
    training = kept["training"]
    training.learner.eval()
    with torch.no_grad():
        logits = [training.learner(batch.values).numpy() for batch in training.inputs.to_watch()]
        return training.val_rows, np.concatenate(logits)


@pytest.mark.parametrize("normalisation", ["none", "standard", "l2"])
def test_the_last_layer_begins_as_the_head(learn, weights, codes, normalisation):
    head = cnncodes.fit_linear(codes, layer="fc6", normalisation=normalisation).model
    rows, logits = first_logits(learn, weights, head)
    expected = head.head.scores(cnncodes.CodesFile(codes).read("fc6"))[rows]
    if normalisation != "l2":
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
        return
    # no layer divides by the length of its input: most answers stay, at about the same size
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.8
    assert 0.5 < np.abs(logits).mean() / np.abs(expected).mean() < 2


def test_heads_that_do_not_fit_are_refused(learn, weights, codes, stripes):
    head, wrong = (cnncodes.fit_linear(codes, layer=layer).model for layer in ("fc6", "conv2"))
    renamed = dataclasses.replace(stripes, classes=("x", *stripes.classes[1:]))
    for error, says, more in (
        (ModelError, "conv2", {"head": wrong}),
        (WeightsMismatchError, "fitted on codes of", {"head": head, "weights": learn.random}),
        (ModelError, "2 classes", {"head": head, "data": renamed}),
    ):
        with pytest.raises(error, match=says):
            learn(**({"weights": weights} | more))


def test_what_the_head_was_fitted_on_counts_as_seen(learn, weights, codes):
    head = cnncodes.fit_linear(codes, layer="fc6", split="none").model
    result = learn(weights=weights, head=head)
    assert set(head.seen.tolist()) <= set(load_weights(result.model).seen)
