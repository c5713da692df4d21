"""Draw the small set of pictures that `cnncodes demo` learns from: python examples/drawing/draw_meadow.py FOLDER

Everything is computed here from random numbers: no photograph, no other person's picture is in it. The same numbers
give the same pictures; another version of Pillow may compress them to other bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from animals import ANIMALS
from canvas import Array, Layer, Pose, blur, colour, ribbon
from grounds import draw_ground
from PIL import Image

EACH = {"train": 18, "test": 15}  # pictures of each class
SHORTER = 160  # pixels
ENLARGED = 3  # drawn so many times larger, and reduced: smooth edges
ASPECTS = ((1.0, 1.0), (4 / 3, 1.0), (1.0, 4 / 3), (1.25, 1.0))  # width, height; the shorter is 1
QUALITY = 70


def draw(name: str, number: int) -> Image.Image:
    """The picture of that class and number: always the same."""
    random = np.random.default_rng([2012, list(ANIMALS).index(name), number])
    across, down = ASPECTS[random.integers(len(ASPECTS))]
    width, height = (round(side * SHORTER) * ENLARGED for side in (across, down))
    picture = blur(draw_ground(random, (height, width)), random.uniform(1, 7))  # the animal is in focus
    layer = Layer(height, width)
    scale = random.uniform(0.36, 0.5) * min(height, width)
    pose = Pose(
        x=width / 2 + random.uniform(-1, 1) * (width / 2 - 0.9 * scale),
        y=height / 2 + random.uniform(-1, 1) * (height / 2 - 0.9 * scale),
        scale=scale,
        turn=random.normal(0, 0.4),
        shorten=random.uniform(0.72, 1.0),
        mirrored=bool(random.random() < 0.5),
    )
    ANIMALS[name](random, layer, pose)
    lift = int(scale * random.uniform(0.04, 0.16))
    picture = layer.shadow_on(picture, lift, lift, 3 + 0.5 * lift, random.uniform(0.35, 0.65))
    picture = in_front(random, layer.over(picture))
    return finished(random, picture)


def in_front(random: np.random.Generator, picture: Array) -> Array:
    """A blade or stem out of focus before it all, now and then."""
    height, width = picture.shape[:2]
    for _ in range(random.integers(0, 2)):
        layer = Layer(height, width)
        x, bend = random.uniform(0, width), random.normal(0, 0.3) * width
        stem = ribbon(
            [(x, height * 1.1), (x + bend * 0.3, height * 0.5), (x + bend, -0.1 * height)],
            random.uniform(8, 22),
            6,
        )
        layer.lay(layer.shape_of(stem), colour(random.uniform(0.1, 0.35), 0.5, random.uniform(0.2, 0.8)))
        layer.paint, layer.alpha = blur(layer.paint, 6), blur(layer.alpha, 6)
        picture = layer.over(picture)
    return picture


def finished(random: np.random.Generator, picture: Array) -> Image.Image:
    """As a camera would give it: the colour of the light, exposure, a little blur and grain, reduced."""
    light = 1 + random.normal(0, 0.06, 3).astype(np.float32)
    picture = np.clip(picture * light * random.uniform(0.85, 1.2), 0, 1) ** random.uniform(0.85, 1.15)
    picture = blur(picture, random.choice([0, 1, 2]))
    height, width = picture.shape[:2]
    large = Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    small = large.resize((width // ENLARGED, height // ENLARGED), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, np.float32)
    grain = random.normal(0, random.uniform(0.5, 4), pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    """Write FOLDER/train|test/CLASS/NN.jpg."""
    total = 0
    for name in ANIMALS:
        number = 0
        for split, count in EACH.items():
            for _ in range(count):
                path = folder / split / name / f"{number:02d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(name, number).save(path, quality=QUALITY, optimize=True)
                total += path.stat().st_size
                number += 1
    print(f"{sum(EACH.values()) * len(ANIMALS)} pictures, {total / 1e3:.0f} kB, in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
