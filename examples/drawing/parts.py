"""What all the creatures have: colours, coordinates of their own, legs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from canvas import Array, Layer, Pose, colour, ellipse, ribbon

Random = np.random.Generator
LIGHT = (0.5, 0.7)  # where shadows fall: right and down
Points = list[tuple[float, float]]


class Palette:
    """The colours of one creature: two that go together, a dark and a pale one."""

    def __init__(self, random: Random) -> None:
        hue = random.uniform(0, 1)
        other = hue + random.choice([0.08, -0.08, 0.33, 0.5]) + random.normal(0, 0.02)
        saturation, value = random.uniform(0.15, 0.95), random.uniform(0.3, 0.95)
        self.main = colour(hue, saturation, value)
        self.second = colour(other, random.uniform(0.3, 0.9), random.uniform(0.3, 1))
        self.dark = colour(hue, random.uniform(0.1, 0.6), random.uniform(0.06, 0.22))
        self.pale = colour(other, random.uniform(0, 0.35), random.uniform(0.8, 1))

    def any(self, random: Random) -> Array:
        """One of the four."""
        return (self.main, self.second, self.dark, self.pale)[random.integers(4)]


def both(points: Points) -> tuple[Points, Points]:
    """The points, and their mirror image on the other side of the body."""
    return points, [(-x, y) for x, y in points]


def own_coordinates(layer: Layer, pose: Pose) -> tuple[Array, Array]:
    """For each pixel its place (x, y) in the creature's coordinates, each [h, w]."""
    down, right = np.mgrid[: layer.height, : layer.width].astype(np.float32)
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    x = (right - pose.x) * cos + (down - pose.y) * sin
    y = -(right - pose.x) * sin + (down - pose.y) * cos
    return x / pose.scale * (-1 if pose.mirrored else 1), y / pose.scale / pose.shorten


def leg(layer: Layer, pose: Pose, points: Points, width: float, paint: Array) -> None:
    """A thin stroke with joints: straight from point to point, thinner to its end."""
    widths = np.linspace(width, width * 0.45, len(points))
    for (a, b), first, last in zip(pairwise(points), widths, widths[1:], strict=False):
        layer.lay(layer.shape_of(pose(ribbon([a, b], first, last))), paint)
        layer.lay(layer.shape_of(pose(ellipse(*b, last * 0.55, last * 0.55, 12))), paint)
