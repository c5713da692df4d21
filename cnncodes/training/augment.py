"""Augmentation as in Krizhevsky et al. 2012, section 4.1: random crops, mirrors, noise along the colour axes.

What happens to an image depends on the seed, the epoch and its place in the data alone: not on the batch it is in,
on the number of processes, or on where an interrupted training was continued.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnncodes.training.settings import TrainingSettings

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColourAxes:
    """Principal axes of the training pixels in 0..255: ``vectors`` [3, 3] by column, ``values`` [3] variances."""

    values: Array
    vectors: Array

    @classmethod
    def of(cls, batches: Iterable[npt.NDArray[np.uint8]]) -> ColourAxes:
        """Measured by one streaming pass over pixels ``[..., 3]``."""
        count, total, square = 0, np.zeros(3), np.zeros((3, 3))
        for batch in batches:
            pixels = batch.reshape(-1, 3).astype(np.float64)
            count += len(pixels)
            total += pixels.sum(axis=0)
            square += pixels.T @ pixels
        mean = total / max(count, 1)
        values, vectors = np.linalg.eigh(square / max(count, 1) - np.outer(mean, mean))
        return cls(np.maximum(values, 0), vectors)

    def to_json(self) -> str:
        """JSON object with both arrays as lists."""
        return json.dumps({"values": self.values.tolist(), "vectors": self.vectors.tolist()})

    @classmethod
    def from_json(cls, text: str) -> ColourAxes:
        """Inverse of :meth:`to_json`."""
        record = json.loads(text)
        return cls(np.array(record["values"]), np.array(record["vectors"]))


class Augmentation:
    """The draws of one epoch, for every row of the data.

    Parameters
    ----------
    settings : TrainingSettings
    rows : int
        Images in the catalog.
    room : int
        Pixels that a crop can move: side of the resized square minus side of the crop.
    epoch : int
    axes : ColourAxes, optional
        Needed for ``pca_noise``.
    """

    def __init__(
        self, settings: TrainingSettings, rows: int, room: int, epoch: int, axes: ColourAxes | None = None
    ) -> None:
        random = np.random.default_rng([settings.seed, epoch])
        corners = random.integers(0, room + 1, (rows, 2))
        mirrored = random.random(rows) < 0.5
        noise = random.normal(0.0, 1.0, (rows, 3)) * settings.pca_noise
        self.order = random.permutation(rows)
        self._corners = corners if settings.random_crop else np.full((rows, 2), room // 2)
        self._mirrored = mirrored if settings.mirror else np.zeros(rows, np.bool_)
        if axes is None:
            self._shift = np.zeros((rows, 3))
        else:  # [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T of the paper, with l the standard deviation of each axis
            self._shift = (noise * np.sqrt(axes.values)) @ axes.vectors.T

    def crops(self, squares: npt.NDArray[np.uint8], rows: Sequence[int], side: int) -> npt.NDArray[np.uint8]:
        """Crops ``[batch, side, side, 3]`` of resized squares ``[batch, resize, resize, 3]`` of these rows."""
        out = np.empty((len(squares), side, side, 3), np.uint8)
        for place, row in enumerate(rows):
            top, left = self._corners[row]
            crop = squares[place, top : top + side, left : left + side]
            out[place] = crop[:, ::-1] if self._mirrored[row] else crop
        return out

    def shifts(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        """What is added to all pixels of each image: ``[batch, 3]`` in units of 0..255."""
        return self._shift[list(rows)].astype(np.float32)
