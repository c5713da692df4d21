"""A child that was forked after the network had been used: torch's threads have stayed in the parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from cnncodes.codes.compute import choose_device
from cnncodes.core.errors import OptionError

SCRIPT = """
import os, signal, sys
import numpy as np
import torch
torch.set_num_threads(2)  # also where there is one core: a pool that the child does not have
from cnncodes.heads import CNNCodes

def codes():
    return CNNCodes(layer="pool5", weights="random:0", network="alexnet-tf").fit_transform(images)

images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
{before}
child = os.fork()
if child == 0:
    signal.alarm(500)  # ends a child that hangs
    os._exit(0 if np.array_equal(codes(), codes()) and {same} else 1)
sys.exit(os.waitpid(child, 0)[1] != 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize(
    ("before", "same"),
    [
        ("expected = codes()", "np.array_equal(codes(), expected)"),
        ("torch.randn(999, 999) @ torch.randn(999, 999)", "True"),
        ("import multiprocessing; expected = codes(); pool = multiprocessing.get_context('fork').Pool(1); "
         "signal.alarm(500); assert np.array_equal(pool.apply(codes), expected)", "True"),
    ],
    ids=["fit_transform", "torch alone", "multiprocessing"],
)  # fmt: skip
def test_a_forked_child_computes_the_same_codes(before: str, same: str) -> None:
    script = SCRIPT.format(before=before, same=same)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_cuda_that_the_parent_has_used_is_an_error_that_says_spawn(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    with pytest.raises(OptionError, match="forked") as caught:
        choose_device(name)
    assert "spawn" in caught.value.remedy
    assert choose_device("cpu").is_cpu
