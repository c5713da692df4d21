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
import multiprocessing, os, signal, sys
import numpy as np
import torch
torch.set_num_threads(2)  # also where there is one core: a pool that the child does not have
from cnncodes.heads import CNNCodes

images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)

def codes():
    return CNNCodes(layer="pool5", weights="random:0", network="alexnet-tf").fit_transform(images)

def fit_transform():
    expected = codes()
    return forked(lambda: np.array_equal(codes(), codes()) and np.array_equal(codes(), expected))

def torch_alone():
    torch.randn(999, 999) @ torch.randn(999, 999)
    return forked(lambda: np.array_equal(codes(), codes()))

def pool():
    expected = codes()
    return np.array_equal(multiprocessing.get_context("fork").Pool(1).apply(codes), expected)

def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(500)  # ends a child that hangs
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0

# Each in a child of a process that has torch and has not computed anything with it.
sys.exit(", ".join(case.__name__ for case in (fit_transform, torch_alone, pool) if not forked(case)) or 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_computes_the_same_codes() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600)
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
