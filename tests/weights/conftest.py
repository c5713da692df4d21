"""A network so small that its files are written in no time."""

from __future__ import annotations

import pytest

from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network


@pytest.fixture(scope="module")
def little():
    """A name that is known to all commands while a module's tests run: two fully connected stages, three classes."""
    network = Network(
        "little",
        32,
        (
            Convolution("conv1", 8, kernel=5, stride=2),
            MaxPool("pool1"),
            Linear("fc6", 20, pool_to=4),
            Linear("fc7", 3, relu=False),
        ),
    )
    NETWORKS["little"] = lambda: network
    yield "little"
    del NETWORKS["little"]
