"""All photographs in memory once, and random views of them."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

SIDE = 227  # the teacher's input; the student sees the 224 px inside, so that their windows lie on the same pixels
INSIDE = slice(
    2, 226
)  # the student's first convolution pads by 2: its window k begins where the teacher's does


class Photographs:
    """Decoded photographs in one memory-mapped file, made at first use.

    Parameters
    ----------
    folders : list of Path
        Images in any depth; names are relative to their folder.
    work : Path
        Folder for ``pixels.u8`` (all pixels, one image after another) and ``pixels.json`` (names, sizes, places).
    shorter : int, default 256
        Images with a longer shorter side are reduced to it.
    """

    def __init__(self, folders: list[Path], work: Path, shorter: int = 256) -> None:
        index = work / "pixels.json"
        if not index.exists():
            _decode_all(folders, work, shorter)
        record = json.loads(index.read_text())
        self.names: list[str] = record["names"]
        self._sizes: list[list[int]] = record["sizes"]
        self._starts = np.concatenate([[0], np.cumsum([h * w * 3 for h, w in self._sizes])])
        self._blob = np.memmap(work / "pixels.u8", np.uint8, "r")
        held = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % 30 == 0 for name in self.names]
        self.watched = np.flatnonzero(held)
        self.learned = np.flatnonzero(~np.array(held))

    def __len__(self) -> int:
        return len(self.names)

    def leave_out(self, others: Photographs, alike: float = 0.95) -> int:
        """Learn from no image that looks like a watched one of another set (it may be the same at another size).

        Returns the number of images left out. Likeness is the correlation of centre squares at 16 x 16 pixels.
        """
        own, watched = self._small(self.learned), others._small(others.watched)
        same = (own @ watched.T).amax(1).numpy() > alike
        self.learned = self.learned[~same]
        return int(same.sum())

    def _small(self, rows: np.ndarray) -> Tensor:
        values = torch.stack([centre_view(self[row], 16).float().flatten() for row in rows])
        return F.normalize(values - values.mean(1, keepdim=True))

    def __getitem__(self, row: int) -> Tensor:
        """uint8 Tensor [3, H, W] of an image (a view; channels last in memory)."""
        height, width = self._sizes[row]
        pixels = np.array(self._blob[self._starts[row] : self._starts[row + 1]])
        return torch.from_numpy(pixels).view(height, width, 3).permute(2, 0, 1)


def _decode_all(folders: list[Path], work: Path, shorter: int) -> None:
    suffixes = {".webp", ".jpg", ".jpeg", ".png"}
    paths = [
        (folder, path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes
    ]

    def decode(place: tuple[Path, Path]) -> np.ndarray | None:
        path = place[1]
        try:
            with Image.open(path) as image:
                image = image.convert("RGB")
                scale = shorter / min(image.size)
                if scale < 1:
                    image = image.resize(
                        [round(side * scale) for side in image.size], Image.Resampling.BICUBIC
                    )
                return np.asarray(image)
        except OSError:
            return None

    names, sizes = [], []
    with ThreadPoolExecutor(2) as pool, (work / "pixels.part").open("wb") as blob:
        for (folder, path), pixels in zip(paths, pool.map(decode, paths), strict=True):
            if pixels is not None:
                blob.write(pixels.tobytes())
                names.append(path.relative_to(folder).as_posix())
                sizes.append(pixels.shape[:2])
    (work / "pixels.part").replace(work / "pixels.u8")
    (work / "pixels.json").write_text(json.dumps({"names": names, "sizes": sizes}))


def random_view(pixels: Tensor, random: np.random.Generator, area: float, ratio: float = 4 / 3) -> Tensor:
    """A random crop of ``area`` to 1 of the square that fits, mirrored or not: uint8 [3, SIDE, SIDE]."""
    _, height, width = pixels.shape
    short = min(height, width)
    stretch = np.exp(random.uniform(-0.5, 0.5) * np.log(ratio))
    side = short * np.sqrt(random.uniform(area, 1))
    h = min(height, max(32, round(side / np.sqrt(stretch))))
    w = min(width, max(32, round(side * np.sqrt(stretch))))
    top, left = random.integers(height - h + 1), random.integers(width - w + 1)
    crop = pixels[None, :, top : top + h, left : left + w]
    if random.random() < 0.5:
        crop = crop.flip(3)
    return F.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True)[0]


def centre_view(pixels: Tensor, size: int = SIDE) -> Tensor:
    """The centre square: uint8 [3, size, size]."""
    _, height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = pixels[None, :, top : top + side, left : left + side]
    return F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]


def change_colours(views: Tensor, random: np.random.Generator, strength: float = 0.2) -> Tensor:
    """Contrast, brightness and the balance of the channels, each image by numbers of its own: float in 0..1."""
    values = views.float() / 255
    count = len(values)
    gain = torch.from_numpy(1 + random.uniform(-strength, strength, (count, 1, 1, 1))).float()
    tint = torch.from_numpy(1 + random.uniform(-strength / 4, strength / 4, (count, 3, 1, 1))).float()
    shift = torch.from_numpy(random.uniform(-strength / 2, strength / 2, (count, 1, 1, 1))).float()
    return ((values - 0.5) * gain * tint + 0.5 + shift).clamp_(0, 1)


def batches(
    photographs: Photographs, rows: np.ndarray, size: int, seed: int, first: int, area: float
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Endless batches of views from step ``first`` on; equal for equal seed and step, made ahead in one thread."""
    waiting: queue.Queue[tuple[np.ndarray, Tensor]] = queue.Queue(4)
    per_epoch = len(rows) // size

    def produce() -> None:
        step = first
        while True:
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng([seed, epoch]).permutation(rows)
            random = np.random.default_rng([seed, epoch, place])
            chosen = order[place * size : (place + 1) * size]
            views = torch.stack([random_view(photographs[row], random, area) for row in chosen])
            waiting.put((chosen, change_colours(views, random).contiguous(memory_format=torch.channels_last)))
            step += 1

    threading.Thread(target=produce, daemon=True).start()
    while True:
        yield waiting.get()
