"""What all rooms' tests share: random weights, small photograph-like images, and the slow tests' switch."""

from __future__ import annotations

import os

# Tests run side by side, a process a core: threads of linear algebra would wait for each other. Read when torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from cnncodes.weights import Preprocessing, Weights, load_weights

PhotoFolder = Callable[..., Path]

# No test measures time: on a busy machine an example takes as long as it takes. No example changes a fixture.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def random_weights() -> Weights:
    """AlexNet with the weights random:0."""
    return load_weights("random:0")


@pytest.fixture(scope="session")
def small_weights(random_weights: Weights) -> Weights:
    """The same numbers for pictures of 64 px, the smallest that AlexNet takes: a tenth of the work."""
    return replace(random_weights, preprocessing=Preprocessing(resize=64, crop=64))


@pytest.fixture(scope="session")
def light_weights() -> Weights:
    """Random weights of a network without fully connected layers, for what is done in other processes: 10 MB, not 244."""
    found = load_weights("random:0", network="alexnet-tf")
    return replace(found, preprocessing=Preprocessing(resize=64, crop=64))


def photograph(seed: int, width: int, height: int) -> np.ndarray:
    """Something like a photograph: coarse colours, an edge and noise; uint8 ``[height, width, 3]``."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    picture = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    picture[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    noisy = picture + rng.normal(0, 10, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def write_photos(
    folder: Path,
    count: int,
    *,
    classes: Iterable[str] = (),
    width: int = 100,
    height: int = 80,
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    """``count`` images in a folder, or so many in each of its class folders. Sizes vary a little."""
    start = seed
    for part in [folder / name for name in classes] or [folder]:
        part.mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            pixels = photograph(number, width + number % 7, height + number % 5)
            Image.fromarray(pixels).save(part / f"photo{number}{suffix}")
        start += count
    return folder


@pytest.fixture
def photo_folder(tmp_path: Path) -> PhotoFolder:
    """``photo_folder(count, classes=("ant", "bee"), width=100, height=80, suffix=".jpg")``: a new folder of images."""
    made = 0

    def make(count: int, **options: object) -> Path:
        nonlocal made
        made += 1
        return write_photos(tmp_path / f"photos{made}", count, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 unlabelled JPEG files, for reading only."""
    return write_photos(tmp_path_factory.mktemp("photos"), 40)
