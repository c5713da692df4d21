"""A trained network knows the images that it learned from, so that nobody tests it on them by mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncodes.evaluation import evaluate
from cnncodes.heads.linear_model import network_model
from cnncodes.images import file_digests, read_catalog
from cnncodes.weights import load_weights


def test_an_evaluation_leaves_out_what_was_learned_from(learn, stripes, tmp_path):
    result = learn()
    weights = load_weights(result.model)
    model = network_model(weights)
    assert len(model.seen) == len(result.split.train)
    renamed = tmp_path / "renamed"  # other names, no splits: only the contents of the files are the same
    for row, path in enumerate(stripes.files):
        folder = renamed / stripes.classes[stripes.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(Path(path).read_bytes())
    evaluated = evaluate(model, renamed, weights=weights)
    assert evaluated.evaluation.n == len(result.split.test) and evaluated.seen == evaluated.watched == 0


def test_a_run_with_a_frozen_cache_knows_them_too(learn, stripes):
    result = learn(weights=learn.random, freeze="conv1-2", cached_views=1)
    expected = np.sort(file_digests(read_catalog(stripes.root).subset(result.split.train)))
    assert np.array_equal(np.array(load_weights(result.model).seen, np.uint64), expected)
