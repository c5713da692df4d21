"""A network that computes in a moment, with the stages that recipes name, its weights, and drawn pictures that it can tell apart, for tests of advice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cnncodes.images.decode import write_png
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.weights import Preprocessing, Weights, load_weights

SIDE = 36
PATTERNS = ("across", "along", "checkered")


def tiny() -> Network:
    return Network(
        "tiny",
        32,
        (
            Convolution("conv1", 6, kernel=5, stride=2, padding=2),
            MaxPool("pool1", kernel=3, stride=2),
            Convolution("conv2", 8, kernel=3, padding=1),
            Convolution("conv3", 8, kernel=3, padding=1),
            Convolution("conv4", 8, kernel=3, padding=1),
            Convolution("conv5", 8, kernel=3, padding=1),
            MaxPool("pool5", kernel=3, stride=2),
            Linear("fc6", 16, pool_to=3),
            Linear("fc7", 12),
            Linear("fc8", 10, relu=False),
        ),
    )


def tiny_weights(trained: bool = True) -> Weights:
    """Random numbers that pass for trained ones, for ``tiny`` in the table of networks."""
    weights = replace(
        load_weights("random:0", network="tiny"), preprocessing=Preprocessing(resize=SIDE, crop=32)
    )
    return replace(weights, origin="file") if trained else weights


def striped(pattern: str, seed: int, noise: float = 20) -> np.ndarray:
    """One noisy picture of stripes; uint8 ``[36, 36, 3]``."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    flat = {
        "across": rows // 4 % 2,
        "along": columns // 4 % 2,
        "checkered": (rows // 4 + columns // 4) % 2,
    }[pattern]
    random = np.random.default_rng(seed)
    picture = 60 + 120 * flat[..., None] + random.normal(0, noise, (SIDE, SIDE, 3))
    return picture.clip(0, 255).astype(np.uint8)


def draw_stripes(folder: Path, each: int = 12, split: str = "", seed: int = 0) -> Path:
    """``each`` pictures of every pattern, in ``folder/[split/]pattern/N.png``."""
    for kind, name in enumerate(PATTERNS):
        place = folder / split / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            write_png(place / f"{number}.png", striped(name, 1000 * seed + 100 * kind + number))
    return folder
