"""On Ray: the bits of this machine; workers and drivers that are killed lose nothing; nothing of Ray is in the output."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from codes_tools import content
from fatal_image import FatalImage

from cnncodes.codes import extract
from cnncodes.codes.stream import settings_of, stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import DependencyError, OptionError, WorkerError
from cnncodes.heads import fit_linear
from cnncodes.images import read_catalog
from cnncodes.weights import load_weights

HELD = Path(__file__).parents[1] / "held.py"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs cnncodes[ray]")
# Ray opens files and sockets that it leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning",
                                        "ignore::pytest.PytestUnraisableExceptionWarning")  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers that only this machine can reach, and that tests go on with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for fatal_image
        import ray

        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**9)
        yield
        ray.shutdown()


@needs_ray
@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_is_killed_costs_its_block_another_try(
    cluster, photos, light_weights, tmp_path, monkeypatch, times
):
    monkeypatch.setattr("cnncodes.codes.on_ray.TRIES", 1)
    paths, deaths = list(read_catalog(photos).reader)[:10], tmp_path / "deaths"
    deaths.touch()
    settings = settings_of(light_weights, ("pool5",), 10)
    blocks = [range(start, start + 2) for start in range(0, 10, 2)]
    images = [*paths[:4], FatalImage(paths[4], deaths, times), *paths[5:]]
    expected = list(stream(paths, light_weights, settings, Compute("cpu"), blocks=blocks))
    found = stream(images, light_weights, settings, Compute("cpu", ray="auto"), blocks=blocks)
    if times > 1:
        with pytest.raises(WorkerError, match="row 4"):
            list(found)
    else:
        for here, there in zip(found, expected, strict=True):
            assert here.rows == there.rows
            assert (here.codes["pool5"] == there.codes["pool5"]).all()
            here.codes["pool5"][:] = 0  # a reader may write into what it got
    assert deaths.stat().st_size == times


@needs_ray
def test_an_extraction_on_ray_that_is_killed_goes_on_here(photo_folder, tmp_path):
    folder = photo_folder(12)
    words = [
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--model", "alexnet-tf", "--layers", "pool5",
        "--device", "cpu", "--batch-size", "2", "--json",
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, HELD, "2", *words, "--ray", "local"], stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if line == "held\n":
            break
    child.kill()
    child.communicate()
    assert said[-1] == "held\n"
    assert not any("ray" in line.lower() for line in said), "Ray's own messages"
    weights = load_weights("random:0", network="alexnet-tf")
    result, _ = (
        extract(read_catalog(folder), tmp_path / name, weights, layers="pool5", batch_size=2, device="cpu")
        for name in ("codes.h5", "whole.h5")
    )
    assert result.resumed == 4
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")


@needs_ray
def test_layers_are_fitted_on_a_cluster_as_here(cluster, photo_folder, light_weights, tmp_path):
    codes = tmp_path / "codes.h5"
    extract(
        read_catalog(photo_folder(12, classes=("ant", "bee"))),
        codes,
        light_weights,
        layers="pool1,pool2",
        device="cpu",
    )
    here, there = (fit_linear(codes, layer="auto", C=[0.1, 1.0], ray=ray) for ray in (None, "auto"))
    assert set(here.compared) == {"pool1", "pool2"} and here.compared == there.compared
    assert here.model.stage == there.model.stage
    np.testing.assert_allclose(there.result.head.weight, here.result.head.weight, rtol=1e-3, atol=1e-5)
    with pytest.raises(OptionError):  # found by the worker
        fit_linear(codes, C=-1.0, layer="pool1", ray="auto")


@needs_ray
def test_a_cluster_that_is_not_there(photos, light_weights, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    settings = settings_of(light_weights, ("pool1",), 4)
    with pytest.raises(OptionError, match=r"127\.0\.0\.1:9"):
        list(stream(read_catalog(photos), light_weights, settings, Compute("cpu", ray="127.0.0.1:9")))


def test_ray_is_not_installed(photos, light_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = settings_of(light_weights, ("pool1",), 4)
    with pytest.raises(DependencyError, match="ray"):
        list(stream(read_catalog(photos), light_weights, settings, Compute("cpu", ray="local")))
