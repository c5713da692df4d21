"""A network so small that training it takes seconds, and drawn images that it can tell apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cnncodes.heads.splits import Split
from cnncodes.images import Catalog, read_catalog
from cnncodes.images.decode import write_png
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.training import TrainingSettings, finetune, train
from cnncodes.weights import load_weights
from cnncodes.weights.preprocessing import Preprocessing

SIDE = 36
SETTINGS = TrainingSettings(
    epochs=1, batch_size=8, learning_rate=0.02, middle_rate=1.0, early_rate=1.0, dropout=0.1, mirror=False
)
OPTIONS = {"split", "resume", "keep_checkpoints", "progress", "callbacks", "notes", "head", "keep_head"}


class Learning:
    """Trains the tiny network: ``learn("run", epochs=2, resume=True)``, with ``weights`` fine-tunes; settings and options by name.

    Each training is in a folder of the test's own; ``settings`` are those without changes.
    """

    def __init__(self, network, pixels, data, folder, settings=SETTINGS):
        self.network, self.pixels, self.data = network, pixels, data
        self.folder, self.settings = folder, settings

    def __call__(self, name="run", data=None, weights=None, **more):
        options = {key: more.pop(key) for key in OPTIONS & more.keys()}
        settings = dataclasses.replace(self.settings, **more)
        data = self.data if data is None else data
        if weights is not None:
            return finetune(data, weights, self.folder / name, settings, **options)
        return train(data, self.network, self.pixels, self.folder / name, settings, **options)

    def tensors(self, *given, **more):
        """What such a training has learned."""
        return load_weights(self(*given, **more).model).tensors

    @property
    def random(self):
        """Untrained weights of the network."""
        return dataclasses.replace(load_weights("random:0", network="tiny"), preprocessing=self.pixels)


@pytest.fixture
def learn(network, pixels, stripes, tmp_path):
    return Learning(network, pixels, stripes, tmp_path)


def tiny() -> Network:
    return Network(
        "tiny",
        32,
        (
            Convolution("conv1", 6, kernel=5, stride=2, padding=2),
            MaxPool("pool1", kernel=3, stride=2),
            Convolution("conv2", 8, kernel=3, padding=1),
            Linear("fc6", 16, pool_to=4),
            Linear("fc7", 10, relu=False),
        ),
    )


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for one another cost far more than a network of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    return tiny()


@pytest.fixture(scope="session")
def watching_val():
    """A function that gives a catalog's split in which all of train learns, val is watched and nothing tests."""

    def split(catalog: Catalog) -> Split:
        train, val = (np.flatnonzero(catalog.splits == place) for place in (1, 2))
        return Split(train, val, train[:0], "val is watched")

    return split


@pytest.fixture(scope="session")
def pixels():
    return Preprocessing(resize=SIDE, crop=32)


@pytest.fixture(scope="session")
def stripes(tmp_path_factory):
    """Three classes of striped pictures: along, across, checkered; 16 in train and 6 in val of each."""
    folder = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    patterns = {
        "across": rows // 4 % 2,
        "along": columns // 4 % 2,
        "checkered": (rows // 4 + columns // 4) % 2,
    }
    for split, count in (("train", 16), ("val", 6)):
        for name, pattern in patterns.items():
            (folder / split / name).mkdir(parents=True)
            for place in range(count):
                noisy = 60 + 120 * pattern[..., None] + random.normal(0, 20, (SIDE, SIDE, 3))
                write_png(folder / split / name / f"{place}.png", noisy.clip(0, 255).astype(np.uint8))
    return read_catalog(folder)
