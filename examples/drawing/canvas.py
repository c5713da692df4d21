"""What drawing needs: smooth curves, soft noise, poses, and layers of paint on float32 arrays [height, width]."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray


def blur(image: Array, radius: float) -> Array:
    """Blur an array [h, w] or [h, w, 3], nearly as a Gaussian: three running means (Wells 1986)."""
    half = round(radius)
    if half < 1:
        return image
    for axis in (0, 1, 0, 1, 0, 1):
        width = [(0, 0)] * image.ndim
        width[axis] = (half + 1, half)
        total = np.cumsum(np.pad(image, width, mode="edge"), axis=axis, dtype=np.float64)
        count = image.shape[axis]
        upper = np.take(total, range(2 * half + 1, 2 * half + 1 + count), axis=axis)
        image = ((upper - np.take(total, range(count), axis=axis)) / (2 * half + 1)).astype(np.float32)
    return image


def noise(random: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int) -> Array:
    """Clouds [h, w] in about -1..1: octaves of smooth random grids, each twice as fine and half as strong."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        grid = random.uniform(-1, 1, (cells[0] * 2**octave + 1, cells[1] * 2**octave + 1)).astype(np.float32)
        fine = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(fine, np.float32) / 2**octave
    return total


def colour(hue: float, saturation: float, value: float) -> Array:
    """Red, green and blue in 0..1."""
    clipped = (hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return np.array(colorsys.hsv_to_rgb(*clipped), np.float32)


def through(points: list[tuple[float, float]] | Array, steps: int = 10, closed: bool = True) -> Array:
    """A smooth curve [n, 2] through the points (Catmull and Rom 1974)."""
    given = np.asarray(points, np.float64)
    ends = (given[-1], given[0], given[1]) if closed else (given[0], given[-1], given[-1])
    padded = np.vstack([ends[0], given, ends[1], ends[2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        cubic = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        pieces.append(cubic / 2)
    return np.vstack(pieces if closed else [*pieces[:-1], given[-1:]])


def ellipse(x: float, y: float, a: float, b: float, steps: int = 40) -> Array:
    """Outline [steps, 2] of an ellipse with half axes ``a`` (along x) and ``b``."""
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([x + a * np.cos(angles), y + b * np.sin(angles)], axis=1)


def ribbon(points: list[tuple[float, float]] | Array, start: float, end: float) -> Array:
    """Outline of a smooth stroke through the points, whose width goes from ``start`` to ``end``."""
    line = through(points, closed=False)
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    half = np.linspace(start, end, len(line))[:, None] / 2
    return np.vstack([line + across * half, (line - across * half)[::-1]])


def box_of(mask: Array, margin: int = 0) -> tuple[slice, slice]:
    """The smallest box of rows and columns with all of the mask in it, and a margin: what must be computed."""
    box = []
    for axis in (1, 0):
        there = np.flatnonzero(mask.any(axis=axis))
        first, last = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0)
        box.append(slice(max(first - margin, 0), last + margin))
    return box[0], box[1]


@dataclass(frozen=True)
class Pose:
    """Where a creature is: from its own coordinates (head to -y, length about 2) to pixels.

    ``shorten`` squeezes it along its length as a camera that looks from the front does.
    """

    x: float
    y: float
    scale: float
    turn: float
    shorten: float = 1.0
    mirrored: bool = False

    def __call__(self, points: Array) -> Array:
        points = np.asarray(points, np.float64) * (-1 if self.mirrored else 1, self.shorten) * self.scale
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return points @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)


@dataclass
class Layer:
    """Paint with holes: colour [h, w, 3] (already multiplied by alpha) and alpha [h, w]."""

    height: int
    width: int
    paint: Array = field(init=False)
    alpha: Array = field(init=False)

    def __post_init__(self) -> None:
        self.paint = np.zeros((self.height, self.width, 3), np.float32)
        self.alpha = np.zeros((self.height, self.width), np.float32)

    def shape_of(self, outline: Array) -> Array:
        """1 inside a polygon of pixels [n, 2], else 0."""
        image = Image.new("L", (self.width, self.height), 0)
        ImageDraw.Draw(image).polygon([tuple(point) for point in outline.tolist()], fill=1)
        return np.asarray(image, np.float32)

    def lay(self, mask: Array, with_colour: Array, strength: float = 1.0) -> None:
        """Paint a colour [3] or an image [h, w, 3] where the mask is."""
        box = box_of(mask)
        cover = (mask[box] * strength)[..., None]
        wanted = with_colour[box] if with_colour.ndim == 3 else with_colour
        self.paint[box] = self.paint[box] * (1 - cover) + np.clip(wanted, 0, 1) * cover
        self.alpha[box] = self.alpha[box] * (1 - cover[..., 0]) + cover[..., 0]

    def round_off(self, mask: Array, light: tuple[float, float], radius: float, shine: float = 0.0) -> None:
        """Light a shape as if it were a cushion: its blurred mask is a height, and slopes to the light are bright."""
        box = box_of(mask, 2 + round(3 * radius))
        inside = mask[box]
        height = blur(inside, radius) * inside
        down, right = np.gradient(height)
        slope = (right * light[0] + down * light[1]) * radius
        glow = np.clip(height - 0.35, 0, 1) * np.clip(slope * 2.2 + 0.1, 0, 1)
        rim = np.clip((0.75 - height) * 1.1, 0, 0.55)
        lit = self.paint[box] * (1 - rim + 0.9 * slope)[..., None] + shine * (glow**2)[..., None] * 3
        shaped = self.paint[box] * (1 - inside[..., None]) + lit * inside[..., None]
        self.paint[box] = np.clip(shaped, 0, self.alpha[box][..., None])

    def over(self, background: Array) -> Array:
        """The picture [h, w, 3] with this layer in front."""
        return background * (1 - self.alpha[..., None]) + self.paint

    def shadow_on(self, background: Array, dx: int, dy: int, softness: float, depth: float) -> Array:
        """The background darkened where this layer keeps the light away."""
        moved = np.roll(self.alpha, (dy, dx), axis=(0, 1))
        box = box_of(moved, 2 + round(3 * softness))
        shaded = background.copy()
        shaded[box] *= 1 - depth * blur(moved[box], softness)[..., None]
        return shaded
