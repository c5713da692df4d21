"""The table of size against loss: what a person chooses the bits and the rank by."""

import json

import numpy as np
import pytest
import torch

from cnncodes.core.errors import CatalogError
from cnncodes.evaluation import compression_table
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.weights import Preprocessing, Weights, compress
from cnncodes.weights.compressed_file import to_bytes


def little() -> Network:
    return Network(
        "little",
        32,
        (
            Convolution("conv1", 8, kernel=5, stride=2, padding=2),
            MaxPool("pool1", kernel=3, stride=2),
            Linear("fc6", 300, pool_to=6),
            Linear("fc7", 250),
            Linear("fc8", 5, relu=False),
        ),
    )


@pytest.fixture
def weights(monkeypatch):
    """Of rank 16 in fc6 and fc7; 0.16 million numbers."""
    monkeypatch.setitem(NETWORKS, "little", little)
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for key, shape in little().tensor_shapes().items():
        tensors[key] = torch.randn(shape, generator=generator) / 8
        if len(shape) == 2 and shape[0] > 16:
            left = torch.randn(shape[0], 16, generator=generator)
            tensors[key] = left @ torch.randn(16, shape[1], generator=generator) / 60
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Weights("little", "mine", tensors, Preprocessing(resize=32, crop=32), None, "made for this test")
    torch.set_num_threads(before)


def test_the_sizes_and_losses_are_those_of_the_settings(weights):
    told = []
    table = compression_table(weights, bits=7, progress=lambda done, total: told.append((done, total)))
    original, *rows = table.rows
    assert original.bits == 32 and set(original.output_errors.values()) == {0.0} and original.accuracy is None
    assert [(row.rank, row.bits) for row in rows] == [
        *((16, bits) for bits in (8, 7, 6, 5, 4)),
        *((rank, 7) for rank in (8, 4, 2)),
    ]
    assert [row.bytes for row in rows[:2]] == [len(to_bytes(compress(weights, bits=bits))) for bits in (8, 7)]
    assert all(row.bytes < original.bytes / 4 for row in rows)
    for stage in ("fc7", "fc8"):
        errors = [row.output_errors[stage] for row in rows]
        assert 0 < errors[0] < errors[2] < errors[4]
        assert errors[1] < errors[5] < errors[7], "a smaller rank loses more"
    assert told == [(done, 8) for done in range(9)]
    assert json.loads(table.to_json())["rows"][1]["bits"] == 8


def test_a_rank_that_is_asked_for_is_the_only_one(weights):
    assert {row.rank for row in compression_table(weights, rank=6).rows[1:]} == {6}


def test_with_labelled_images_each_setting_is_judged_by_a_classifier(weights, photo_folder, monkeypatch):
    monkeypatch.setattr("cnncodes.evaluation.compression.ALL_BITS", (8,))
    photos = photo_folder(10, classes=("ant", "bee"), width=40, height=36)
    table = compression_table(weights, rank=1, data=photos)
    assert table.tested and str(photos) in table.images
    for row in table.rows:
        assert set(row.accuracy) == {"fc6", "fc7"}, "the stages that give codes"
        assert all(
            np.isclose(share * table.tested, round(share * table.tested)) for share in row.accuracy.values()
        )


def test_images_without_labels_are_refused_before_any_work(weights, photo_folder):
    with pytest.raises(CatalogError, match="two or more"):
        compression_table(weights, data=photo_folder(3))
