"""One thread, and a network that computes in a moment in the table of networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from advice_tools import tiny

from cnncodes.networks import NETWORKS


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", tiny)
        yield
    torch.set_num_threads(before)
