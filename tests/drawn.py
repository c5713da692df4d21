"""Drawn images in class folders, for tests that need a data set and not its content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("ellipse", "rectangle")


def draw_photos(
    folder: Path,
    classes: tuple[str, ...] = ("bird", "cat", "dog"),
    each: int = 6,
    size: tuple[int, int] = (96, 80),
) -> Path:
    """``each`` JPEG files per class: noise behind, in front a shape whose colour and form tell the class."""
    colours = np.random.default_rng(1).integers(0, 255, (len(classes), 3))
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            rng = np.random.default_rng((label, number))
            image = Image.fromarray(rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8))
            x, y = rng.integers(0, 30, 2).tolist()
            draw = getattr(ImageDraw.Draw(image), SHAPES[label % 2])
            draw((x, y, x + 50, y + 45), fill=tuple(colours[label].tolist()))
            image.save(folder / name / f"{number}.jpg")
    return folder
