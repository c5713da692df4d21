"""What the images that weights were trained on look like to them: mean and spread of the codes of one stage."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
MOST_NUMBERS = 2**20  # of a stage; AlexNet's largest has 193,600
MOST = 1e38  # in float32


@dataclass(frozen=True, eq=False)
class SourceStatistics:
    """Mean and standard deviation of each number of a stage's codes, over images that the weights were trained on.

    They hold for the weights' own preprocessing, and tell nothing about any single image.

    Parameters
    ----------
    stage : str
        The last before the classifier: ``fc7`` of an AlexNet.
    images : int
        How many were looked at.
    mean, deviation : float32 array [numbers]
        Of the codes as they are, after the ReLU, not normalised.
    """

    stage: str
    images: int
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """Square of the deviation, float64 [numbers]."""
        return np.square(self.deviation, dtype=np.float64)

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON: float16 as parts of the largest, in base64, 22 kB for 4,096 numbers."""
        return {
            "format": FORMAT,
            "stage": self.stage,
            "images": self.images,
            "mean": _packed(self.mean),
            "deviation": _packed(self.deviation),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> SourceStatistics | None:
        """Inverse of :meth:`to_values`, None for a newer format, which nothing depends on; raises ValueError."""
        if values["format"] != FORMAT:
            return None
        stage, images = values["stage"], values["images"]
        if not isinstance(stage, str) or not isinstance(images, int) or images < 2:
            raise ValueError("its source statistics name no stage or no images")
        mean, deviation = _unpacked(values["mean"]), _unpacked(values["deviation"])
        if mean.shape != deviation.shape or not (deviation >= 0).all():
            raise ValueError("its source statistics are no mean and deviation")
        return cls(stage, images, mean, deviation)


def _packed(values: npt.NDArray[Any]) -> list[Any]:
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    parts = (np.asarray(values, np.float64) / largest).astype("<f2")
    return [largest, b64encode(parts.tobytes()).decode()]


def _unpacked(value: Any) -> npt.NDArray[np.float32]:
    largest, text = value
    if not isinstance(largest, int | float) or not 0 < largest <= MOST:
        raise ValueError("its source statistics have no scale")
    numbers = np.frombuffer(b64decode(text, validate=True), "<f2").astype(np.float64) * largest
    # Written so that NaN fails too.
    if not 1 <= len(numbers) <= MOST_NUMBERS or not (np.abs(numbers) <= MOST).all():
        raise ValueError("its source statistics are no finite numbers")
    return numbers.astype(np.float32)
