"""On Ray: the bits of this machine; workers and drivers that are killed lose nothing; nothing of Ray is in the output."""

import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from codes_tools import content
from fatal_image import FatalImage

from cnncodes.advice import advise
from cnncodes.codes import extract, plan_extraction, run_extraction
from cnncodes.codes.compute import Device
from cnncodes.codes.on_ray import OnRay, _Share
from cnncodes.codes.rows import RowWriter, in_place
from cnncodes.codes.stream import Task, settings_of, stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import CodesFileError, DependencyError, OptionError, WorkerError
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

        # The GPU is one in Ray's books alone.
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=10**9,
        )
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
@pytest.mark.parametrize(
    ("write", "where"),
    [("in-place", {"ray": "auto"}), ("in-place", {"processes": 2}), ("central", {"ray": "auto"})],
)
def test_a_file_is_that_of_one_process_where_one_of_several_is_killed(
    cluster, photo_folder, light_weights, tmp_path, monkeypatch, write, where
):
    folder = photo_folder(10)
    (folder / "photo4.jpg").write_bytes(b"no image")
    catalog, deaths = read_catalog(folder), tmp_path / "deaths"
    options = {"layers": "pool1,pool5", "device": "cpu", "batch_size": 2}
    extract(catalog, tmp_path / "here.h5", light_weights, **options)
    deaths.touch()
    part_of = Task.part

    def part(task, blocks):
        made = part_of(task, blocks)
        images = list(made.images.reader)
        images = [FatalImage(path, deaths, 1) if path.endswith("photo5.jpg") else path for path in images]
        return dataclasses.replace(made, images=images)

    monkeypatch.setattr(Task, "part", part)
    if write == "in-place":
        monkeypatch.setattr(RowWriter, "write", lambda *_: pytest.fail("this process must not write codes"))
    result = extract(catalog, tmp_path / "there.h5", light_weights, write=write, **options, **where)
    assert deaths.stat().st_size == 1
    assert (result.images, list(result.unreadable), result.batch_size) == (10, ["photo4.jpg"], 2)
    assert result.network_s > 0
    assert content(tmp_path / "there.h5") == content(tmp_path / "here.h5")
    assert not list(tmp_path.glob(".*")), "the mark of the file"


def test_a_worker_that_does_not_see_the_file_writes_nothing(photos, light_weights, tmp_path):
    catalog, path = read_catalog(photos).subset(range(4)), tmp_path / "codes.h5"
    extract(catalog, path, light_weights, layers="pool1", batch_size=4, device="cpu")
    settings = dataclasses.replace(settings_of(light_weights, ("pool1",)), batch_size=4)
    (block,) = stream(catalog, light_weights, settings, Compute("cpu"))
    before = path.read_bytes()
    with in_place(path, np.ones(4, bool)) as place:
        there = pickle.loads(pickle.dumps(place))
    with pytest.raises(CodesFileError, match="not there"):  # as where a machine has another file of this name
        there.write(block)
    assert path.read_bytes() == before
    plan = plan_extraction(catalog, path, light_weights, layers="pool1", write="in-place", overwrite=True)
    taken = []
    run_extraction(plan, take=taken.append)
    assert [set(block.codes) for block in taken] == [{"pool1"}]  # whoever looks at blocks gets their codes
    with pytest.raises(OptionError, match="'at-once'"):
        plan_extraction(catalog, path, light_weights, write="at-once")


NODES = [
    {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 4.0}},
    {"Alive": True, "Resources": {"CPU": 8.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.mark.parametrize(
    ("asked", "here", "expected"),
    [
        ({}, "cpu", (4, 1.0, "cuda:0", 4)),
        ({"gpus": 0.5}, "cpu", (2, 0.5, "cuda:0", 8)),
        ({"gpus": 2.0, "workers": 3}, "cuda:1", (3, 2.0, "cuda:0", 2)),
        ({"device": "cuda"}, "cuda:0", (4, 1.0, "cuda:0", 4)),
        ({"gpus": 0.0}, "cuda:0", (1, 0, "cpu", 24)),
        ({"device": "cpu"}, "cpu", (1, 0, "cpu", 24)),
    ],
)
def test_what_a_worker_takes_of_a_machine(asked, here, expected):
    share = _Share.of(OnRay(**asked), Device(here, here, 2), NODES)
    assert dataclasses.astuple(share) == expected
    assert _Share.of(OnRay(), Device("cpu", "", 2), NODES[1:]).gpus == 0


@pytest.mark.parametrize(
    "asked",
    [
        *({"gpus": gpus} for gpus in (-1.0, 1.5, float("inf"), float("nan"))),
        {"gpus": 1.0, "device": "cpu"},
        {"gpus": 0.0, "device": "cuda"},
    ],
)
def test_gpus_that_a_worker_cannot_have(asked):
    with pytest.raises(OptionError):
        OnRay(**asked)


def test_wrong_gpus_are_told_before_a_file_is_replaced(photos, light_weights, tmp_path):
    catalog, path = read_catalog(photos).subset(range(4)), tmp_path / "codes.h5"
    extract(catalog, path, light_weights, layers="pool1", device="cpu")
    before = path.read_bytes()
    for options in ({"ray": "auto", "gpus_per_worker": 1.5}, {"gpus_per_worker": 1.0}):
        with pytest.raises(OptionError, match="GPUs"):
            extract(catalog, path, light_weights, layers="pool1", overwrite=True, **options)
    assert path.read_bytes() == before


def test_gpus_that_this_machine_lacks_are_told_before_a_file_is_replaced(
    photos, light_weights, tmp_path, monkeypatch
):
    catalog, path = read_catalog(photos).subset(range(4)), tmp_path / "codes.h5"
    extract(catalog, path, light_weights, layers="pool1", device="cpu")
    before = path.read_bytes()
    ray = SimpleNamespace(nodes=lambda: NODES[1:2])
    monkeypatch.setattr("cnncodes.codes.on_ray._connected", lambda address: nullcontext(ray))
    options = {"overwrite": True, "ray": "local", "gpus_per_worker": 1.0}
    with pytest.raises(OptionError, match="no machine"):
        extract(catalog, path, light_weights, layers="pool1", **options)
    assert path.read_bytes() == before


@needs_ray
def test_a_worker_is_given_its_gpu(cluster, photos, light_weights):
    """The cluster says that it has one; in the worker it is seen that there is none."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(OptionError, match="cuda:0"):
        list(stream(read_catalog(photos), light_weights, settings_of(light_weights, ("pool1",), 4),
                    Compute(ray="auto", gpus_per_worker=0.5)))  # fmt: skip


@needs_ray
def test_advice_on_a_cluster_is_that_of_here(cluster, photo_folder, light_weights):
    catalog = read_catalog(photo_folder(12, classes=("ant", "bee")))
    here, there = (advise(catalog, light_weights, device="cpu", ray=ray) for ray in (None, "auto"))
    assert there.recipe == here.recipe and there.evidence.depths == here.evidence.depths


@needs_ray
def test_an_extraction_on_ray_that_is_killed_goes_on_here(photo_folder, tmp_path):
    folder = photo_folder(12)
    words = [
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--model", "alexnet-tf", "--layers", "pool5",
        "--device", "cpu", "--batch-size", "2", "--write", "in-place", "--json",
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
    assert not list(tmp_path.glob(".*.part")), "the mark of the one that was killed"
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
def test_a_cluster_that_is_not_there(photos, light_weights, tmp_path, monkeypatch):
    catalog, path = read_catalog(photos).subset(range(4)), tmp_path / "codes.h5"
    extract(catalog, path, light_weights, layers="pool1", device="cpu")
    before = path.read_bytes()
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for overwrite in (True, False):  # the file is whole: only to replace it a cluster is needed
        plan = plan_extraction(
            catalog, path, light_weights, layers="pool1", overwrite=overwrite, device="cpu", ray="127.0.0.1:9"
        )
        with pytest.raises(OptionError, match=r"127\.0\.0\.1:9") if overwrite else nullcontext():
            run_extraction(plan)
        assert path.read_bytes() == before
    settings = settings_of(light_weights, ("pool1",), 4)
    with pytest.raises(OptionError, match=r"127\.0\.0\.1:9"):
        list(stream(catalog, light_weights, settings, Compute("cpu", ray="127.0.0.1:9")))


def test_ray_is_not_installed(photos, light_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = settings_of(light_weights, ("pool1",), 4)
    with pytest.raises(DependencyError, match="ray"):
        list(stream(read_catalog(photos), light_weights, settings, Compute("cpu", ray="local")))
