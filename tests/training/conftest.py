"""A network so small that training it takes seconds, and drawn images that it can tell apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hooks import Learning

from cnncodes.heads.splits import Split
from cnncodes.images import Catalog, read_catalog
from cnncodes.images.decode import write_png
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.weights.preprocessing import Preprocessing

SIDE = 36


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


@pytest.fixture(scope="module")
def network():
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(NETWORKS, "tiny", tiny)
        yield tiny()


@pytest.fixture(scope="module")
def trained(network, pixels, stripes, tmp_path_factory):
    """Weights of the tiny network after some epochs, a file for reading only."""
    learning = Learning(network, pixels, stripes, tmp_path_factory.mktemp("trained"))
    return str(learning(epochs=10, learning_rate=0.01).model)


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
