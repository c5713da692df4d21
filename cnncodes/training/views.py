"""Augmented views of images, made on the device that learns from them.

Random crops, mirrors and colour noise are those of Krizhevsky et al. 2012, section 4.1; crops of random size, colour jitter and
mixup are added. What happens to an image depends on the seed, the epoch and its row alone: not on its batch, on the number of
processes, or on where a training was resumed. Only mixup's partner is the neighbour in a process's share of the batch, since
equal pairs would need two processes to decode each image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Preprocessing, with_margin

Array = npt.NDArray[np.float64]
RATIO = 4 / 3  # crops of random size have sides from 3:4 to 4:3
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow's and torchvision's


def square_of(preprocessing: Preprocessing) -> Preprocessing:
    """The record that makes the square views are cut from, ``resize`` pixels wide.

    Where a crop shows all of a padded or squashed picture, there would be no room for crops at random places: the square is
    larger then, in torchvision's ratio, 256 : 224.
    """
    resize = preprocessing.resize
    if preprocessing.fit != "shorter" and resize == preprocessing.crop:
        resize = with_margin(preprocessing.crop)
    return replace(preprocessing, crop=resize, resize=resize)


@dataclass(frozen=True, eq=False)
class ColourAxes:
    """Principal axes of the training pixels in 0..255: ``vectors`` [3, 3] by column, ``values`` [3] variances."""

    values: Array
    vectors: Array

    @classmethod
    def of(cls, batches: Iterable[npt.NDArray[np.uint8]]) -> ColourAxes:
        """One streaming pass over pixels ``[..., 3]``."""
        count, total, square = 0, np.zeros(3), np.zeros((3, 3))
        for batch in batches:
            pixels = batch.reshape(-1, 3).astype(np.float64)
            count += len(pixels)
            total += pixels.sum(axis=0)
            square += pixels.T @ pixels
        mean = total / max(count, 1)
        values, vectors = np.linalg.eigh(square / max(count, 1) - np.outer(mean, mean))
        return cls(np.maximum(values, 0), vectors)


class Augmentation:
    """The draws of one epoch, for every row of the data.

    Views are cut from the square of :func:`square_of` and have ``crop`` pixels, or the epoch's ``input_sizes``.
    ``order`` is a permutation of all rows. ``axes`` are needed for ``pca_noise``.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        rows: int,
        preprocessing: Preprocessing,
        epoch: int,
        axes: ColourAxes | None = None,
    ) -> None:
        random = np.random.default_rng([settings.seed, epoch])
        self._settings, self._preprocessing, self.epoch = settings, preprocessing, epoch
        self.side = settings.input_size_at(epoch) or preprocessing.crop
        room = square_of(preprocessing).crop - preprocessing.crop
        corners = random.integers(0, room + 1, (rows, 2))
        mirrored = random.random(rows) < 0.5
        noise = random.normal(0.0, 1.0, (rows, 3)) * settings.pca_noise
        self.order = random.permutation(rows)
        self._corners = corners if settings.random_crop else np.full((rows, 2), room // 2)
        self._mirrored = mirrored if settings.mirror else np.zeros(rows, np.bool_)
        self._boxes = random.random((rows, 4))
        self._factors = 1 + settings.jitter * random.uniform(-1, 1, (rows, 3))
        self._mix = random.beta(settings.mixup, settings.mixup, rows) if settings.mixup else None
        if axes is None:
            self._shift = np.zeros((rows, 3))
        else:  # [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T of the paper, with l the standard deviation of each axis
            self._shift = (noise * np.sqrt(axes.values)) @ axes.vectors.T

    def views(self, squares: Tensor, rows: Sequence[int]) -> Tensor:
        """Views of some rows, from ``uint8 [batch, square, square, 3]`` as :func:`square_of` makes them, on any device.

        Returns float32 ``[batch, 3, side, side]`` in 0..255 (colour noise may lead outside), channels last in memory.
        """
        places = np.asarray(rows, dtype=np.int64)
        if self._settings.crop_area < 1 and self._settings.random_crop:
            views = self._sized_crops(squares, places)
        else:
            views = self._plain_crops(squares, places)
        if views.shape[2] != self.side:
            views = F.interpolate(views, (self.side, self.side), mode="bilinear", antialias=True)
        if self._settings.jitter:
            views = self._jittered(views, places)
        if self._shift.any():
            shift = torch.from_numpy(self._shift[places].astype(np.float32)).to(views.device)
            views = views + shift[:, :, None, None]
        return views

    def mix(self, rows: Sequence[int]) -> npt.NDArray[np.float32] | None:
        """Part of each mixed view that is the image itself (the rest is the one before it in the batch); None: no mixing."""
        return None if self._mix is None else self._mix[np.asarray(rows, dtype=np.int64)].astype(np.float32)

    def _plain_crops(self, squares: Tensor, places: npt.NDArray[np.int64]) -> Tensor:
        """Crops without resizing: exactly the pixels of the square."""
        side = np.arange(self._preprocessing.crop)
        down = self._corners[places, 0, None] + side  # [batch, side]
        right = self._corners[places, 1, None] + side
        right = np.where(self._mirrored[places, None], right[:, ::-1], right)
        batch = torch.arange(len(places), device=squares.device)[:, None, None]
        below = torch.from_numpy(down).to(squares.device)[:, :, None]
        beside = torch.from_numpy(np.ascontiguousarray(right)).to(squares.device)[:, None, :]
        return squares[batch, below, beside].permute(0, 3, 1, 2).float()

    def _sized_crops(self, squares: Tensor, places: npt.NDArray[np.int64]) -> Tensor:
        """Crops of random area and ratio, resized bilinearly straight to the epoch's side."""
        draws = self._boxes[places]
        area = self._settings.crop_area + (1 - self._settings.crop_area) * draws[:, 0]
        ratio = np.exp((2 * draws[:, 1] - 1) * math.log(RATIO))
        width = np.minimum(np.sqrt(area * ratio), 1)  # parts of the square's side
        height = np.minimum(np.sqrt(area / ratio), 1)
        centre_x = (2 * draws[:, 2] - 1) * (1 - width)  # in -1..1 over the square
        centre_y = (2 * draws[:, 3] - 1) * (1 - height)
        zero = np.zeros_like(width)
        signed = np.where(self._mirrored[places], -width, width)
        theta = np.stack([signed, zero, centre_x, zero, height, centre_y], axis=1).reshape(-1, 2, 3)
        grid = F.affine_grid(
            torch.from_numpy(theta.astype(np.float32)).to(squares.device),
            [len(places), 3, self.side, self.side],
            align_corners=False,
        )
        values = squares.permute(0, 3, 1, 2).float()
        return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _jittered(self, views: Tensor, places: npt.NDArray[np.int64]) -> Tensor:
        """Brightness, contrast about the mean grey, and saturation, each multiplied; kept in 0..255."""
        factors = torch.from_numpy(self._factors[places].astype(np.float32)).to(views.device)
        brightness, contrast, saturation = factors.T[:, :, None, None, None]
        luma = GREY if self._preprocessing.channels == "RGB" else GREY[::-1]
        weights = torch.tensor(luma, device=views.device).view(1, 3, 1, 1)
        views = (views * brightness).clamp_(0, 255)
        grey = (views * weights).sum(1, keepdim=True)
        views = torch.lerp(grey.mean((2, 3), keepdim=True), views, contrast)
        views = torch.lerp((views * weights).sum(1, keepdim=True), views, saturation)
        return views.clamp_(0, 255)
