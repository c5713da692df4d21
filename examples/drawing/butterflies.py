"""Butterflies: wings spread, half open, or closed above the back."""

from __future__ import annotations

import numpy as np
from canvas import Array, Layer, Pose, blur, ellipse, noise, ribbon, through
from parts import LIGHT, Palette, Points, Random, both, leg, own_coordinates


def wing_paint(
    random: Random, layer: Layer, pose: Pose, wing: Array, root: tuple[float, float], colours: Palette
) -> None:
    """A butterfly's wing: rays from the root, a band, a dark rim with pale dots, perhaps an eye."""
    x, y = own_coordinates(layer, pose)
    x, y = np.abs(x) - root[0], y - root[1]
    away = np.sqrt(x**2 + y**2)
    angle = np.arctan2(y, x)
    layer.lay(wing, colours.main)
    size = max(float((away * wing).max()), 1e-6)
    away = away / size
    layer.lay(wing * np.clip(1 - 3.2 * away, 0, 1), colours.dark, 0.8)
    if random.random() < 0.6:
        place, width = random.uniform(0.4, 0.75), random.uniform(0.05, 0.14)
        band = np.clip((width - np.abs(away - place - 0.05 * np.sin(angle * 7))) * 30, 0, 1)
        layer.lay(wing * band, colours.second, 0.9)
    veins = np.clip(1 - np.abs(np.sin(angle * random.integers(4, 7))) * away * size * 28, 0, 1)
    layer.lay(wing * veins, colours.dark, random.uniform(0.3, 0.8))
    inner = blur(wing, 0.09 * pose.scale)
    rim = np.clip((random.uniform(0.62, 0.85) - inner) * 9, 0, 1)
    strength = random.uniform(0.5, 1)
    layer.lay(wing * rim, colours.dark, strength)
    if random.random() < 0.6:
        dots = np.clip(np.sin(angle * random.integers(16, 26)) - 0.55, 0, 1) * 3
        layer.lay(wing * np.clip(dots, 0, 1) * np.clip(1 - np.abs(inner - 0.6) * 14, 0, 1), colours.pale)
    if random.random() < 0.45:
        turn, far = random.uniform(-0.2, 0.5), random.uniform(0.5, 0.7)
        for radius, paint in ((0.16, colours.dark), (0.12, colours.second), (0.06, colours.pale)):
            eye = (away * np.cos(angle - turn) - far) ** 2 + (away * np.sin(angle - turn)) ** 2 < radius**2
            layer.lay(wing * eye, paint)
    cloudy = noise(random, wing.shape, (12, 16), 3)
    layer.paint *= 1 + 0.1 * (cloudy * wing)[..., None]
    layer.round_off(wing, LIGHT, 0.12 * pose.scale)


def butterfly(random: Random, layer: Layer, pose: Pose) -> None:
    """Wings spread, half open, or closed above the back."""
    colours = Palette(random)
    if random.random() < 0.3:
        return closed_butterfly(random, layer, pose, colours)
    spread = random.uniform(0.55, 1.05)
    tip, lift = random.uniform(0.75, 1.0), random.uniform(-0.25, 0.15)
    tail = random.uniform(0, 0.35) if random.random() < 0.4 else 0
    hind: Points = [
        (0.05, -0.05),
        (0.5, -0.05),
        (0.86, 0.2),
        (0.78, 0.62),
        (0.5, 0.8 + tail),
        (0.36, 0.76),
        (0.1, 0.42),
    ]
    fore: Points = [
        (0.05, -0.3),
        (0.45, -0.75 + lift),
        (tip, -0.85 + lift),
        (1.06 * tip, -0.62 + lift),
        (0.86, -0.1),
        (0.45, 0.1),
        (0.05, 0.02),
    ]
    for points, root in ((hind, (0.05, 0.0)), (fore, (0.05, -0.2))):
        wide = [(x * spread * random.uniform(0.97, 1.03), y) for x, y in points]
        state = random.bit_generator.state
        for side in both(wide):
            random.bit_generator.state = state  # both sides have the same pattern
            wing_paint(
                random, layer, pose, layer.shape_of(pose(through(side))), (root[0] * spread, root[1]), colours
            )
    body = layer.shape_of(
        pose(
            through(
                [
                    (0, -0.42),
                    (0.07, -0.25),
                    (0.055, 0),
                    (0.045, 0.35),
                    (0, 0.5),
                    (-0.045, 0.35),
                    (-0.055, 0),
                    (-0.07, -0.25),
                ]
            )
        )
    )
    layer.lay(body, colours.dark)
    head = layer.shape_of(pose(ellipse(0, -0.44, 0.06, 0.06)))
    layer.lay(head, colours.dark)
    layer.round_off(np.maximum(body, head), LIGHT, 0.03 * pose.scale, 0.2)
    reach = random.uniform(0.2, 0.4)
    for feeler in both([(0.02, -0.48), (0.6 * reach, -0.75), (reach, -0.98)]):
        layer.lay(layer.shape_of(pose(ribbon(feeler, 0.02, 0.016))), colours.dark)
        layer.lay(layer.shape_of(pose(ellipse(*feeler[-1], 0.028, 0.034, 12))), colours.dark)
    return None


def closed_butterfly(random: Random, layer: Layer, pose: Pose, colours: Palette) -> None:
    """From the side: one pair of wings is seen, upright on the back."""
    paint = colours.dark
    for x in (-0.12, 0.0, 0.12):
        leg(
            layer,
            pose,
            [(x, 0.55), (x * 2.2 + random.normal(0, 0.03), 0.68), (x * 2 + random.normal(0, 0.05), 0.85)],
            0.03,
            paint,
        )
    hind: Points = [(0.0, 0.48), (0.3, 0.6), (0.72, 0.55), (0.85, 0.2), (0.6, -0.1), (0.2, 0.05)]
    fore: Points = [
        (-0.05, 0.45),
        (-0.3, 0.0),
        (-0.42, -0.6),
        (-0.2, -0.85),
        (0.15, -0.7),
        (0.5, -0.1),
        (0.25, 0.35),
    ]
    for points in (fore, hind):
        jittered = [(x * random.uniform(0.93, 1.07), y * random.uniform(0.95, 1.05)) for x, y in points]
        wing_paint(random, layer, pose, layer.shape_of(pose(through(jittered))), (0.0, 0.45), colours)
    body = layer.shape_of(
        pose(
            through(
                [(-0.42, 0.5), (-0.2, 0.44), (0.15, 0.5), (0.5, 0.62), (0.48, 0.66), (0.1, 0.6), (-0.2, 0.6)]
            )
        )
    )
    layer.lay(body, paint)
    head = layer.shape_of(pose(ellipse(-0.42, 0.52, 0.08, 0.075)))
    layer.lay(head, paint)
    layer.round_off(np.maximum(body, head), LIGHT, 0.03 * pose.scale, 0.2)
    for feeler in ([(-0.46, 0.47), (-0.6, 0.25), (-0.8, 0.08)], [(-0.47, 0.48), (-0.66, 0.34), (-0.9, 0.24)]):
        layer.lay(layer.shape_of(pose(ribbon(feeler, 0.02, 0.014))), paint)
        layer.lay(layer.shape_of(pose(ellipse(*feeler[-1], 0.032, 0.028, 12))), paint)
