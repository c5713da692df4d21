"""What the animals sit on: leaves, grass, sand, bark, petals, stone, water. Any animal may sit on any of them."""

from __future__ import annotations

import numpy as np
from canvas import Array, Layer, Pose, blur, colour, ellipse, noise, ribbon, through

Random = np.random.Generator


def mixed(first: Array, second: Array, share: Array) -> Array:
    """From one colour to the other [h, w, 3] as a share [h, w] goes from 0 to 1."""
    part = np.clip(share, 0, 1)[..., None]
    return first * (1 - part) + second * part


def foliage_hue(random: Random) -> float:
    """Mostly greens, some of autumn."""
    return float(random.choice([random.normal(0.28, 0.04), random.normal(0.1, 0.04)], p=[0.75, 0.25]))


def blurred_leaves(random: Random, shape: tuple[int, int]) -> Array:
    """Foliage out of focus, with discs of light."""
    hue, (height, width) = foliage_hue(random), shape
    dark, bright = colour(hue, 0.7, 0.18), colour(hue + random.normal(0, 0.04), 0.55, 0.65)
    picture = mixed(dark, bright, 0.45 + 0.55 * noise(random, shape, (3, 4), 3))
    layer = Layer(height, width)
    for _ in range(random.integers(8, 24)):
        radius = random.uniform(0.03, 0.12) * width
        disc = layer.shape_of(ellipse(random.uniform(0, width), random.uniform(0, height), radius, radius))
        layer.lay(disc, colour(hue + random.normal(0, 0.05), 0.4, 0.9), random.uniform(0.1, 0.4))
    return blur(layer.over(picture), random.uniform(8, 16))


def leaf(random: Random, shape: tuple[int, int]) -> Array:
    """A leaf close by, with its ribs."""
    hue, (height, width) = foliage_hue(random), shape
    value = random.uniform(0.35, 0.7)
    mottled = 0.5 + 0.35 * noise(random, shape, (5, 6), 5)
    picture = mixed(colour(hue, 0.75, value * 0.6), colour(hue - 0.02, 0.6, value), mottled)
    layer = Layer(height, width)
    turn, size = random.uniform(0, 2 * np.pi), 1.2 * max(shape)
    pose = Pose(width * random.uniform(0.2, 0.8), height * random.uniform(0.2, 0.8), size, turn)
    ribs = [ribbon([(0, -1), (0.02, 0), (0, 1)], 0.022, 0.012)]
    for y in np.arange(-1, 1, random.uniform(0.14, 0.24)):
        ribs += [
            ribbon([(0, y), (side * 0.35, y - 0.12), (side * 0.8, y - 0.4)], 0.012, 0.003) for side in (-1, 1)
        ]
    light = colour(hue - 0.03, 0.4, min(value + 0.22, 1))
    for rib in ribs:
        layer.lay(layer.shape_of(pose(rib)), light, 0.75)
    soft = Layer(height, width)
    soft.paint, soft.alpha = blur(layer.paint, 2), blur(layer.alpha, 2)
    return soft.over(layer.shadow_on(picture, 4, 4, 4, 0.35))


def grass(random: Random, shape: tuple[int, int]) -> Array:
    """Blades, dark ones behind bright ones."""
    height, width = shape
    hue = foliage_hue(random)
    picture = mixed(
        colour(hue, 0.7, 0.08), colour(hue, 0.6, 0.25), 0.5 + 0.5 * noise(random, shape, (4, 5), 3)
    )
    lean = random.normal(0, 0.5)
    layer, count = Layer(height, width), int(random.integers(60, 110))
    for place in range(count):
        depth = place / count
        x, y, tall = (
            random.uniform(-0.2, 1.2) * width,
            height * random.uniform(0.4, 1.3),
            random.uniform(0.4, 1.0) * height,
        )
        bend = (lean + random.normal(0, 0.35)) * tall
        blade = [(x, y), (x + 0.3 * bend, y - 0.5 * tall), (x + bend, y - tall)]
        shape_of = layer.shape_of(ribbon(blade, random.uniform(6, 20), 1))
        green = colour(
            hue + random.normal(0, 0.025),
            random.uniform(0.4, 0.8),
            0.15 + 0.6 * depth * random.uniform(0.6, 1),
        )
        layer.lay(shape_of, green)
    return blur(layer.over(picture), random.uniform(0, 3))


def sand(random: Random, shape: tuple[int, int]) -> Array:
    """Sand or soil, grains and some pebbles."""
    height, width = shape
    hue, value = random.uniform(0.05, 0.12), random.uniform(0.3, 0.8)
    picture = mixed(
        colour(hue, 0.5, value * 0.7), colour(hue, 0.3, value), 0.5 + 0.5 * noise(random, shape, (4, 5), 5)
    )
    picture = picture * (1 + 0.14 * noise(random, shape, (110, 140), 2))[..., None]
    for _ in range(random.integers(0, 26)):
        layer = Layer(height, width)
        radius = width * random.uniform(0.01, 0.05)
        angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
        edge = np.stack([np.cos(angles), np.sin(angles) * random.uniform(0.6, 1)], axis=1) * radius
        edge = edge * random.uniform(0.8, 1.2, (9, 1)) + (random.uniform(0, width), random.uniform(0, height))
        stone = layer.shape_of(through(edge))
        layer.lay(
            stone, colour(hue + random.normal(0, 0.03), random.uniform(0, 0.35), random.uniform(0.3, 0.85))
        )
        layer.round_off(stone, (0.5, 0.7), radius / 2.5)
        picture = layer.over(layer.shadow_on(picture, 4, 5, 4, 0.5))
    return picture


def bark(random: Random, shape: tuple[int, int]) -> Array:
    """Bark or weathered wood: noise drawn out in one direction."""
    grain = noise(random, shape, (2, 14), 5) if random.random() < 0.5 else noise(random, shape, (14, 2), 5)
    hue, value = random.normal(0.07, 0.02), random.uniform(0.35, 0.75)
    saturation = random.uniform(0.1, 0.5)
    picture = mixed(
        colour(hue, saturation + 0.15, value * 0.3), colour(hue, saturation, value), 0.55 + 0.6 * grain
    )
    moss = np.clip(noise(random, shape, (3, 4), 5) - random.uniform(0.1, 0.9), 0, 1)
    return mixed(picture, colour(0.24, 0.6, 0.5), moss)


def petals(random: Random, shape: tuple[int, int]) -> Array:
    """A flower from near by, in any colour."""
    height, width = shape
    picture = blurred_leaves(random, shape)
    x, y = width * random.uniform(0.15, 0.85), height * random.uniform(0.15, 0.85)
    hue, saturation, value = random.uniform(0, 1), random.uniform(0.05, 0.75), random.uniform(0.7, 1)
    count, size = int(random.integers(6, 15)), random.uniform(0.5, 0.9) * width
    for ring in (1.0, 0.72):
        for place in range(count):
            layer = Layer(height, width)
            pose = Pose(x, y, size * ring, 2 * np.pi * (place + random.uniform(0.3, 0.7)) / count)
            wide = 2.6 / count
            petal = layer.shape_of(
                pose(through([(0, 0), (wide, -0.6), (0.3 * wide, -1), (-0.3 * wide, -1), (-wide, -0.6)]))
            )
            layer.lay(petal, colour(hue + random.normal(0, 0.01), saturation, value * random.uniform(0.8, 1)))
            for vein in np.linspace(-0.6, 0.6, 5) * wide:
                line = layer.shape_of(
                    pose(ribbon([(0, 0), (vein, -0.55), (vein * 0.8, -0.95)], 0.012, 0.004))
                )
                layer.lay(line * petal, colour(hue, saturation + 0.2, value * 0.7), 0.4)
            layer.round_off(petal, (0.5, 0.7), 9)
            picture = layer.over(layer.shadow_on(picture, 3, 4, 6, 0.4))
    layer = Layer(height, width)
    middle = layer.shape_of(ellipse(x, y, size * 0.2, size * 0.2))
    speckled = 0.5 + 0.5 * noise(random, shape, (60, 80), 2)
    layer.lay(middle, mixed(colour(0.08, 0.9, 0.4), colour(0.13, 0.85, 0.95), speckled))
    layer.round_off(middle, (0.5, 0.7), size * 0.05)
    return blur(layer.over(layer.shadow_on(picture, 3, 4, 6, 0.4)), random.uniform(0, 4))


def stone(random: Random, shape: tuple[int, int]) -> Array:
    """Rock with lichen."""
    value = random.uniform(0.4, 0.75)
    clouds = 0.5 + 0.4 * noise(random, shape, (4, 5), 6)
    picture = mixed(colour(0.08, 0.12, value * 0.5), colour(0.6, 0.06, value), clouds)
    for _ in range(2):
        patch = np.clip(4 * (noise(random, shape, (4, 5), 6) - random.uniform(0.3, 0.9)), 0, 1)
        picture = picture * (1 - 0.7 * patch[..., None]) + 0.7 * patch[..., None] * colour(
            random.uniform(0.08, 0.3), random.uniform(0.2, 0.7), random.uniform(0.5, 0.8)
        )
    return picture


def water(random: Random, shape: tuple[int, int]) -> Array:
    """A pond with ripples and the sky in it, or the sky itself."""
    height, width = shape
    hue = random.uniform(0.45, 0.62)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    picture = mixed(
        colour(hue, 0.25, random.uniform(0.6, 0.95)), colour(hue, 0.65, random.uniform(0.25, 0.7)), down
    )
    ripples = noise(random, shape, (int(random.integers(6, 24)), 3), 4)
    return picture * (1 + 0.22 * ripples)[..., None]


GROUNDS = (blurred_leaves, leaf, grass, sand, bark, petals, stone, water)


def draw_ground(random: Random, shape: tuple[int, int]) -> Array:
    """One of the grounds [h, w, 3] under uneven light."""
    ground = GROUNDS[random.integers(len(GROUNDS))](random, shape)
    height, width = shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * random.normal(0, 0.18)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * random.normal(0, 0.18)
    dappled = 0.12 * noise(random, shape, (2, 3), 2)
    return np.clip(ground * (1 + across + down + dappled)[..., None], 0, 1)
