"""Pictures made on the spot, and where the real ones are."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real image sets: $CNNCODES_DATA, or ../shared/data beside the repository."""
    repository = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("CNNCODES_DATA") or repository.parent / "shared" / "data")
    if not (folder / "ants_bees").is_dir():
        pytest.skip(f"no image sets at {folder}; set CNNCODES_DATA")
    return folder


@pytest.fixture
def visible_folder() -> Iterator[Path]:
    """Temporary folder that every user can open (pytest's own are for one user)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def without_privileges() -> Callable[[], AbstractContextManager[None]]:
    """``with without_privileges():`` as an ordinary user, for whom permissions count."""

    @contextmanager
    def drop() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)  # nobody
        try:
            yield
        finally:
            os.seteuid(0)

    return drop


@pytest.fixture(scope="session")
def picture() -> Picture:
    """``picture(width, height, mode="RGB", seed=0)``: smooth areas, edges and noise."""

    def make(width: int = 120, height: int = 90, mode: str = "RGB", seed: int = 0) -> Image.Image:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1)
        smooth[height // 4 : height // 2, width // 3 : width // 2] = (250, 10, 60)
        noisy = smooth + rng.normal(0, 12, smooth.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)

    return make


@pytest.fixture(scope="session")
def encode() -> Encode:
    """``encode(image, "JPEG", quality=90)``: the bytes of a file."""

    def save(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 - Pillow's name
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return save
