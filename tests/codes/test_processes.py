"""Worker processes give the bits of one process; a worker that is killed costs its block a second try, not the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from codes_tools import content
from fatal_image import FatalImage

from cnncodes.codes import extract
from cnncodes.codes.compute import device_names
from cnncodes.codes.processes import InProcesses
from cnncodes.codes.stream import settings_of, stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import OptionError, WorkerError
from cnncodes.images import read_catalog
from cnncodes.weights import load_weights

HELD = Path(__file__).parents[1] / "held.py"
TWO = Compute(device="cpu", processes=2)


def fatal(photos, tmp_path, times):
    """Ten images, of which the third kills so many workers, and where the deaths are counted."""
    deaths = tmp_path / "deaths"
    deaths.touch()
    images = list(read_catalog(photos).reader)[:10]
    return [*images[:2], FatalImage(images[2], deaths, times), *images[3:]], images, deaths


def test_a_worker_that_is_killed_costs_a_second_try(photos, tmp_path):
    weights = load_weights("random:0", network="torchvision/resnet18")  # the other tests have an AlexNet
    settings = settings_of(weights, ("penultimate",), 10)
    images, paths, deaths = fatal(photos, tmp_path, 1)
    blocks = [range(start, start + 2) for start in range(0, 10, 2)]
    expected = list(stream(paths, weights, settings, Compute("cpu"), blocks=blocks))
    found = list(stream(images, weights, settings, TWO, blocks=blocks))
    assert deaths.stat().st_size == 1
    assert [block.rows for block in found] == blocks
    for here, there in zip(found, expected, strict=True):
        assert (here.codes["penultimate"] == there.codes["penultimate"]).all()
        assert (here.digests == there.digests).all()


def test_images_that_kill_every_worker_are_named(photos, light_weights, tmp_path):
    images, _, deaths = fatal(photos, tmp_path, 99)
    settings = settings_of(light_weights, ("pool1",), 10)
    found = []
    with pytest.raises(WorkerError, match="row 2") as error:
        found.extend(
            stream(images, light_weights, settings, TWO, blocks=[range(2), range(2, 4), range(4, 9)])
        )
    assert "--processes" in error.value.remedy
    assert deaths.stat().st_size == 2, "twice, and no innocent block is blamed"


def test_a_script_that_cannot_be_imported_is_named_as_the_reason(photos, light_weights, monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", "/gone.py", raising=False)
    settings = settings_of(light_weights, ("pool1",), 4)
    with pytest.raises(WorkerError, match="before they could begin"):
        list(stream(read_catalog(photos), light_weights, settings, TWO))


@pytest.mark.skipif(not hasattr(os, "pread"), reason="needs SIGKILL")
@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_command_and_nothing_is_lost(photo_folder, tmp_path, ends):
    folder = photo_folder(12)
    words = [
        "extract", folder, "-o", tmp_path / "codes.h5", "--weights", "random:0", "--model", "alexnet-tf", "--layers", "pool5",
        "--device", "cpu", "--batch-size", "2", "--processes", "2", "--json",
    ]  # fmt: skip
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, HELD, "2", *words]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=place, start_new_session=True)
    assert child.stderr is not None
    assert "held\n" in child.stderr
    os.killpg(child.pid, ends) if ends == signal.SIGINT else child.kill()  # Ctrl-C reaches the workers, too
    _, left = child.communicate()  # the workers have the pipe, too: it ends with the last of them
    assert child.returncode == (130 if ends == signal.SIGINT else -ends)
    assert "Traceback" not in left
    assert not list(tmp_path.glob("cnncodes-*")), "the weights that the workers shared"
    weights = load_weights("random:0", network="alexnet-tf")
    result, _ = (
        extract(read_catalog(folder), tmp_path / name, weights, layers="pool5", batch_size=2, device="cpu")
        for name in ("codes.h5", "whole.h5")
    )
    assert result.resumed == 4
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")


def test_names_of_several_devices(monkeypatch, photos, light_weights):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device_names("cuda:all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert device_names("cuda:0,2") == ["cuda:0", "cuda:2"]
    assert device_names("cpu") == ["cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    settings = settings_of(light_weights, ("pool1",), 4)
    for name in ("cuda:all", "cuda:0,1", "cuda:x"):
        with pytest.raises(OptionError):
            stream(read_catalog(photos), light_weights, settings, Compute(name))


def test_workers_take_their_devices_in_turn(photos, light_weights):
    """As with several GPUs; the second one is not there, which is an error here and not an end there."""
    settings = settings_of(light_weights, ("pool1",), 4)
    executor = InProcesses(2, ("cpu", "cuda:99"))
    with pytest.raises(OptionError, match="cuda:99"):
        list(stream(read_catalog(photos), light_weights, settings, Compute("cpu"), executor=executor,
                    blocks=[range(2), range(2, 4)]))  # fmt: skip
