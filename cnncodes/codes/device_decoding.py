"""JPEGs that are decoded, turned, resized and cut on the network's device (``decoding="gpu"``), in batches.

torchvision decodes (nvJPEG on CUDA) and torch resizes, in float32 and rounded once; Pillow rounds after each of two passes. So pixels differ a little from
:mod:`cnncodes.images.decode`'s (docs/scale.md has by how much). What torchvision cannot read is decoded by Pillow, and noted.
The device may be any: on a CPU the same code gives nearly the same pixels, for tests and for models whose codes came from a GPU.
"""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from cnncodes.images.preprocess import cut_crops, resized_size
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.images.decode import Jpeg
    from cnncodes.images.loader import Batch

MOST_PIXELS = 2**25  # that are decoded at a time: 100 MB as bytes, 400 MB as float32


@dataclass(frozen=True)
class DeviceDecoder:
    """Fills the crops of a batch's JPEGs that the loader has kept encoded. Several threads may call it."""

    preprocessing: Preprocessing
    crops: str
    device: str  # torch's name

    def __call__(self, batch: Batch) -> None:
        """Decode them into ``batch.pixels``; one that cannot be decoded here is decoded by Pillow."""
        for places in self._portions(batch):
            groups: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)  # by size
            decoded = self._decoded([batch.encoded[place] for place in places])
            for place, picture in zip(places, decoded, strict=True):
                if picture is None:
                    batch.decode_here(place, self.preprocessing, self.crops)
                else:
                    groups[tuple(picture.shape)].append((place, picture))
            for same in groups.values():
                inside = [place for place, _ in same]
                try:
                    self._cut(batch, inside, torch.stack([picture for _, picture in same]))
                except torch.OutOfMemoryError:
                    for place in inside:
                        batch.decode_here(place, self.preprocessing, self.crops)
        batch.encoded.clear()

    def _portions(self, batch: Batch) -> Iterator[list[int]]:
        """Places of the JPEGs, so many together as there is memory for."""
        portion: list[int] = []
        pixels = 0
        for place, jpeg in sorted(batch.encoded.items()):
            size = jpeg.stored[0] * jpeg.stored[1]
            if portion and pixels + size > MOST_PIXELS:
                yield portion
                portion, pixels = [], 0
            portion.append(place)
            pixels += size
        if portion:
            yield portion

    def _decoded(self, jpegs: list[Jpeg]) -> list[Tensor | None]:
        """Upright pictures ``uint8 [3, height, width]`` on the device; None for one that torchvision refuses."""
        from torchvision.io import ImageReadMode, decode_jpeg

        encoded = [torch.frombuffer(bytearray(jpeg.data), dtype=torch.uint8) for jpeg in jpegs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision recommends TorchCodec
            try:
                pictures = decode_jpeg(encoded, ImageReadMode.RGB, self.device)
            except RuntimeError:  # too little memory for all is one, too
                if len(jpegs) == 1:
                    return [None]
                return [
                    picture for jpeg in jpegs for picture in self._decoded([jpeg])
                ]  # which of them is it?
        return [
            upright(picture, jpeg.orientation) if picture.shape[1:] == jpeg.stored[::-1] else None
            for picture, jpeg in zip(pictures, jpegs, strict=True)
        ]

    def _cut(self, batch: Batch, places: list[int], pictures: Tensor) -> None:
        """Resize pictures of one size ``[n, 3, height, width]``, and take their crops."""
        width, height = resized_size(pictures.shape[3], pictures.shape[2], self.preprocessing)
        smooth = self.preprocessing.interpolation != "bilinear-point"
        mode = "bicubic" if self.preprocessing.interpolation == "bicubic" else "bilinear"
        resized = interpolate(
            pictures.float(), (height, width), mode=mode, antialias=smooth, align_corners=False
        )
        resized = resized.round_().clamp_(0, 255).byte()

        @functools.cache  # all pictures of a size are cut alike
        def part(x: int, y: int, end_x: int, end_y: int) -> np.ndarray:
            return np.asarray(resized[:, :, y:end_y, x:end_x].permute(0, 2, 3, 1).cpu().numpy())

        for number, place in enumerate(places):
            cut_crops(
                lambda *box, number=number: part(*box)[number],
                (width, height), self.preprocessing, self.crops, batch.pixels[place],
            )  # fmt: skip


def upright(picture: Tensor, orientation: int) -> Tensor:
    """A picture ``[..., height, width]`` turned as its EXIF orientation says; unknown numbers mean upright."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(-1, -2)
    flipped = {2: [-1], 3: [-1, -2], 4: [-2], 6: [-1], 7: [-1, -2], 8: [-2]}.get(orientation)
    return picture if flipped is None else picture.flip(flipped)
