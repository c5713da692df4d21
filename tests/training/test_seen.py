"""A trained network knows which images it learned from, so that nobody tests it on them unawares."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from cnncodes.evaluation import evaluate
from cnncodes.heads.linear_model import network_model
from cnncodes.images import file_digests, read_catalog
from cnncodes.training import TrainingSettings, finetune, train
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(epochs=1, batch_size=16, learning_rate=0.01, middle_rate=1.0, early_rate=1.0)


def test_an_evaluation_leaves_out_what_was_learned_from(network, pixels, stripes, tmp_path):
    result = train(stripes, network, pixels, tmp_path / "run", SETTINGS)
    model = network_model(load_weights(str(result.model)))
    assert len(model.seen) == len(result.split.train)
    renamed = tmp_path / "renamed"  # other names, no splits: only what is in the files can tell
    for row, path in enumerate(stripes.files):
        folder = renamed / stripes.classes[stripes.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(Path(path).read_bytes())
    evaluated = evaluate(model, renamed, weights=load_weights(str(result.model)))
    assert evaluated.evaluation.n == len(result.split.test) and evaluated.seen == evaluated.watched == 0


def test_a_run_with_a_frozen_cache_knows_them_too(network, pixels, stripes, tmp_path):
    first = train(stripes, network, pixels, tmp_path / "first", SETTINGS)
    settings = dataclasses.replace(SETTINGS, freeze="conv1-2", cached_views=1)
    result = finetune(stripes, load_weights(str(first.model)), tmp_path / "run", settings)
    expected = np.sort(file_digests(read_catalog(stripes.root).subset(result.split.train)))
    assert np.array_equal(np.array(load_weights(str(result.model)).seen, np.uint64), expected)
