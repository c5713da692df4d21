"""What the tests of codes files share: a file's content as arrays, and encoders that only pretend."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from cnncodes.codes import ExtractionSettings, Plan
from cnncodes.codes.compute import Device
from cnncodes.codes.stream import _KEPT

ONE_CORE = Device("cpu", "CPU, 1 core", 1)


def content(path: Path) -> dict[str, bytes]:
    """Everything that an extraction computes or copies, as bytes: equal content is equal bits."""
    with h5py.File(path, "r") as file:
        names = [f"layers/{stage}" for stage in file["layers"]]
        names += [
            "images/digest",
            "images/state",
            "images/problem",
            "images/label",
            "images/split",
            "images/size",
            "images/mtime",
        ]
        found = {name: file[name][:].tobytes() for name in names}
        found["names"] = b"\0".join(file["images/name"][:].tolist())
        found["classes"] = b"\0".join(file["classes"][:].tolist())
        return found


class FakeEncoder:
    """Codes that are a fixed function of the pixels and cost nothing.

    ``largest`` is how many images its "memory" holds: more raise what a GPU raises.
    """

    def __init__(
        self,
        settings: ExtractionSettings,
        device: Device = ONE_CORE,
        *,
        largest: int | None = None,
        before: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        self.settings, self.device = settings, device
        self.largest, self.before = largest, before
        self.allocate = None
        self.sizes: list[int] = []

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if self.before is not None:
            self.before(pixels)
        if self.largest is not None and len(pixels) > self.largest:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.sizes.append(len(pixels))
        found = {}
        for stage, shape in self.settings.stage_shapes().items():
            length = int(np.prod(shape))
            rows = np.empty((len(pixels), length), dtype=self.settings.dtype)
            for row, image in zip(rows, pixels, strict=True):
                digest = hashlib.sha256(stage.encode() + image.tobytes()).digest()
                row[:] = np.resize(np.frombuffer(digest, dtype=np.uint8), length)
            found[stage] = rows
        return found


def pretend(plan: Plan, **options: object) -> FakeEncoder:
    """Give a plan an encoder that only pretends."""
    encoder = FakeEncoder(plan.settings, plan.device, **options)  # type: ignore[arg-type]
    _KEPT[plan.weights] = encoder  # type: ignore[assignment]
    return encoder
