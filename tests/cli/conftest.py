"""One data set, one codes file and one model for all tests of the command line; `run` calls a command in-process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from drawn import draw_photos

from cnncodes.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shared:
    """Files that tests read and never change: 3 classes of 6 images."""

    photos: Path
    codes: Path  # pool5, fc7 of random:0
    svm: Path
    softmax: Path


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run("info", "alexnet", "--json")``: as a person types it."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    made = Shared(
        draw_photos(folder / "photos"),
        folder / "codes.h5",
        folder / "svm.safetensors",
        folder / "softmax.safetensors",
    )
    for command in (
        ["extract", made.photos, "-o", made.codes, "--weights", "random:0", "--layers", "pool5,fc7"],
        ["fit-linear", made.codes, "-o", made.svm, "--C", "1", "--folds", "2"],
        ["fit-linear", made.codes, "-o", made.softmax, "--head", "softmax", "--C", "1", "--folds", "2"],
    ):
        assert main([str(argument) for argument in command]) == 0
    return made


@pytest.fixture
def partly_broken(shared: Shared, tmp_path: Path) -> Path:
    """The photos, one of them cut off in the middle."""
    folder = tmp_path / "partly_broken"
    shutil.copytree(shared.photos, folder)
    image = folder / "cat" / "2.jpg"
    image.write_bytes(image.read_bytes()[:300])
    return folder
