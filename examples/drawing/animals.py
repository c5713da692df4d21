"""Butterflies, beetles, dragonflies and spiders from above or from the side, in any colour and pose.

Each function paints one creature on a layer. Its own coordinates have the head at -y and a length of about 2.
Colours are drawn from the same range for all four, so that colour does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from butterflies import butterfly
from canvas import Layer, Pose, blur, colour, ellipse, noise, ribbon, through
from parts import LIGHT, Palette, Points, Random, both, leg, own_coordinates


def beetle(random: Random, layer: Layer, pose: Pose) -> None:
    """Ladybirds, chafers, longhorns and stag beetles: hard wing cases with a seam, six legs."""
    colours = Palette(random)
    kind = random.choice(["round", "oval", "long", "stag"], p=[0.3, 0.35, 0.2, 0.15])
    wide = {"round": 0.62, "oval": 0.46, "long": 0.29, "stag": 0.38}[str(kind)] * random.uniform(0.92, 1.08)
    legs = random.uniform(0.8, 1.2)
    for y, forward in ((-0.35, -0.5), (-0.02, 0.05), (0.28, 0.5)):
        for points in both(
            [
                (wide * 0.7, y),
                (wide + 0.22 * legs, y + 0.4 * forward),
                (wide + 0.3 * legs, y + 0.85 * forward),
                (wide + 0.4 * legs, y + 1.15 * forward),
            ]
        ):
            moved = [(px + random.normal(0, 0.02), py + random.normal(0, 0.04)) for px, py in points]
            leg(layer, pose, moved, 0.085, colours.dark)
    reach = 1.3 if kind == "long" else random.uniform(0.25, 0.45)
    bend = random.uniform(0.5, 1)
    for feeler in both(
        [
            (0.1, -0.8),
            (0.35 * reach + 0.12, -0.85 - 0.35 * reach),
            (0.8 * reach + 0.1, -0.9 - 0.1 * reach * bend),
            (0.95 * reach + 0.12, -0.8 + (0.5 if kind == "long" else 0) * bend),
        ]
    ):
        layer.lay(layer.shape_of(pose(ribbon(feeler, 0.045, 0.02))), colours.dark)
    if kind == "stag":
        for jaw in both([(0.07, -0.85), (0.3, -1.0), (0.26, -1.25), (0.1, -1.38)]):
            layer.lay(layer.shape_of(pose(ribbon(jaw, 0.1, 0.03))), colours.dark)
        for jaw in both([(0.26, -1.12), (0.14, -1.14)]):
            layer.lay(layer.shape_of(pose(ribbon(jaw, 0.06, 0.02))), colours.dark)
    head = layer.shape_of(pose(ellipse(0, -0.78, wide * 0.42 + 0.03, 0.16)))
    layer.lay(head, colours.dark)
    layer.round_off(head, LIGHT, 0.05 * pose.scale, 0.3)
    collar = layer.shape_of(
        pose(
            through(
                [
                    (0, -0.76),
                    (wide * 0.55, -0.72),
                    (wide * 0.82, -0.46),
                    (0, -0.36),
                    (-wide * 0.82, -0.46),
                    (-wide * 0.55, -0.72),
                ]
            )
        )
    )
    layer.lay(collar, colours.any(random) if random.random() < 0.7 else colours.dark)
    layer.round_off(collar, LIGHT, 0.09 * pose.scale, random.uniform(0.2, 0.6))
    cases = layer.shape_of(
        pose(
            through(
                [
                    (0, -0.5),
                    (wide * 0.8, -0.42),
                    (wide, 0),
                    (wide * 0.8, 0.5),
                    (0, 0.86),
                    (-wide * 0.8, 0.5),
                    (-wide, 0),
                    (-wide * 0.8, -0.42),
                ]
            )
        )
    )
    layer.lay(cases, colours.main)
    x, y = own_coordinates(layer, pose)
    pattern = random.choice(["plain", "spots", "stripes", "bands"], p=[0.3, 0.35, 0.15, 0.2])
    mark = colours.dark if random.random() < 0.6 else colours.any(random)
    if pattern == "spots":
        for _ in range(random.integers(2, 6)):
            px, py, radius = (
                random.uniform(0.15, 0.8) * wide,
                random.uniform(-0.35, 0.6),
                random.uniform(0.06, 0.15),
            )
            for side in (-1, 1):
                layer.lay(cases * layer.shape_of(pose(ellipse(side * px, py, radius, radius))), mark)
    elif pattern == "stripes":
        layer.lay(cases * np.clip(np.sin(x / wide * random.uniform(9, 14)) * 6, 0, 1), mark, 0.85)
    elif pattern == "bands":
        layer.lay(cases * np.clip(np.sin(y * random.uniform(7, 12) + 0.4 * np.sin(8 * x)) * 8, 0, 1), mark)
    else:
        layer.lay(cases * np.clip(0.6 * np.sin(x / wide * 18), 0, 1), colours.dark, 0.4)
    layer.paint *= 1 + 0.07 * (noise(random, cases.shape, (30, 40), 3) * cases)[..., None]
    layer.lay(cases * np.clip(1 - np.abs(x) * 55, 0, 1), colours.dark, 0.9)
    layer.round_off(cases, LIGHT, 0.2 * pose.scale, random.uniform(0.3, 1))


def dragonfly(random: Random, layer: Layer, pose: Pose) -> None:
    """A long ringed tail, four glassy wings held out, large eyes."""
    colours = Palette(random)
    damsel = random.random() < 0.25
    thick = random.uniform(0.045, 0.065) if damsel else random.uniform(0.06, 0.11)
    sweep = random.uniform(-0.25, 0.3)
    bend = random.normal(0, 0.08)
    tint = colours.any(random) if random.random() < 0.4 else colour(random.uniform(0.08, 0.6), 0.1, 0.95)
    cover = random.uniform(0.25, 0.55)
    for y, swept, broad in ((-0.3, sweep + 0.35, 0.2), (-0.45, sweep, 0.16)):
        long = random.uniform(0.9, 1.12)
        state = random.bit_generator.state
        for side in (-1, 1):
            random.bit_generator.state = state
            if damsel:
                swept_back = 0.75 + 0.1 * y
                outline: Points = [
                    (0.03, y),
                    (0.25, y + 0.5 * swept_back),
                    (0.42, y + swept_back),
                    (0.34, y + 1.15),
                    (0.18, y + 0.8),
                    (0.06, y + 0.3),
                ]
            else:
                outline = [
                    (0.04, y),
                    (0.5 * long, y + 0.5 * swept - 0.04),
                    (0.95 * long, y + swept - 0.02),
                    (long, y + swept + 0.06),
                    (0.8 * long, y + swept * 0.8 + broad),
                    (0.3 * long, y + 0.3 * swept + 1.25 * broad),
                    (0.06, y + 0.08),
                ]
            points = [(side * px, py) for px, py in outline]
            wing = layer.shape_of(pose(through(points)))
            layer.lay(wing, tint, cover)
            tip = points[3]
            for share in np.linspace(0, 1, 6):
                far = (
                    points[2][0] * share + points[4][0] * (1 - share),
                    points[2][1] * share + points[4][1] * (1 - share),
                )
                layer.lay(
                    wing * layer.shape_of(pose(ribbon([points[0], far], 0.018, 0.008))), colours.dark, 0.7
                )
            x, _ = own_coordinates(layer, pose)
            layer.lay(wing * np.clip(np.sin(x * 55) * 4 - 3, 0, 1), colours.dark, 0.35)
            edge = wing * (blur(wing, 2.5) < 0.8)
            layer.lay(edge, colours.dark, 0.75)
            spot = ellipse(tip[0] * 0.88, tip[1] + (points[2][1] - tip[1]) * 0.9, 0.055, 0.025)
            layer.lay(wing * layer.shape_of(pose(spot)), colours.dark, 0.9)
    spine: Points = [(0, -0.25), (bend * 0.4, 0.25), (bend, 0.65), (bend * 1.6, 1.05)]
    tail = layer.shape_of(pose(ribbon(spine, thick * 1.2, thick * 0.9)))
    layer.lay(tail, colours.main)
    _, y = own_coordinates(layer, pose)
    rings = random.uniform(30, 48)
    layer.lay(tail * np.clip(np.sin(y * rings) * 6 - random.uniform(1, 5), 0, 1), colours.dark, 0.9)
    layer.round_off(tail, LIGHT, 0.04 * pose.scale, 0.4)
    for points in both([(0.05, -0.5), (0.2, -0.65), (0.16, -0.82)]):
        leg(layer, pose, points, 0.03, colours.dark)
    chest = layer.shape_of(pose(ellipse(0, -0.38, thick + 0.075, 0.22)))
    layer.lay(chest, colours.any(random) if random.random() < 0.7 else colours.main)
    x, _ = own_coordinates(layer, pose)
    layer.lay(chest * np.clip(np.sin(np.abs(x) * 42) * 6 - 2, 0, 1), colours.dark, 0.7)
    layer.round_off(chest, LIGHT, 0.08 * pose.scale, 0.4)
    apart = 0.1 if damsel else 0.065
    for side in (-1, 1):
        eye = layer.shape_of(pose(ellipse(side * apart, -0.66, 0.085, 0.095)))
        layer.lay(eye, colours.second)
        layer.round_off(eye, LIGHT, 0.05 * pose.scale, 0.8)


def spider(random: Random, layer: Layer, pose: Pose) -> None:
    """Eight jointed legs around two parts, the hind one large and patterned."""
    colours = Palette(random)
    width = random.uniform(0.04, 0.085)
    spread = random.uniform(0.85, 1.15)
    ringed = random.random() < 0.5
    leg_paint = colours.any(random) * 0.8 if random.random() < 0.5 else colours.dark
    for angle, reach in ((-1.15, 1.05), (-0.5, 0.85), (0.25, 0.75), (0.95, 1.05)):
        for side in (-1, 1):
            turn = angle + random.normal(0, 0.1)
            far = reach * spread * random.uniform(0.92, 1.08)
            knee = (side * (0.12 + 0.5 * far * np.cos(turn * 0.72)), -0.3 + 0.5 * far * np.sin(turn * 0.72))
            ankle = (side * (0.1 + 0.85 * far * np.cos(turn)), -0.3 + 0.95 * far * np.sin(turn * 1.05))
            toe = (side * (0.08 + 0.95 * far * np.cos(turn * 1.08)), -0.3 + 1.22 * far * np.sin(turn * 1.1))
            hip = (side * 0.12, -0.32 + 0.1 * np.sin(turn))
            leg(layer, pose, [hip, knee, ankle, toe], width, leg_paint)
            if ringed:
                for share in (0.3, 0.7):
                    place = (
                        knee[0] * (1 - share) + ankle[0] * share,
                        knee[1] * (1 - share) + ankle[1] * share,
                    )
                    layer.lay(
                        layer.shape_of(pose(ellipse(*place, width * 0.6, width * 0.6, 10))), colours.pale
                    )
    for side in (-1, 1):
        leg(
            layer,
            pose,
            [(side * 0.06, -0.5), (side * 0.14, -0.68), (side * 0.08, -0.78)],
            width * 0.8,
            leg_paint,
        )
    chest = layer.shape_of(
        pose(
            through(
                [
                    (0, -0.58),
                    (0.13, -0.5),
                    (0.17, -0.3),
                    (0.1, -0.12),
                    (-0.1, -0.12),
                    (-0.17, -0.3),
                    (-0.13, -0.5),
                ]
            )
        )
    )
    layer.lay(chest, colours.dark if random.random() < 0.5 else colours.second)
    layer.round_off(chest, LIGHT, 0.09 * pose.scale, 0.3)
    for x in (-0.07, -0.025, 0.025, 0.07):
        layer.lay(layer.shape_of(pose(ellipse(x, -0.53, 0.016, 0.016, 10))), colours.pale)
    fat, long = random.uniform(0.24, 0.42), random.uniform(0.32, 0.45)
    back = layer.shape_of(
        pose(
            through(
                [
                    (0, -0.14),
                    (fat * 0.7, 0.02),
                    (fat, 0.05 + long * 0.6),
                    (fat * 0.6, 0.05 + long * 1.3),
                    (0, 0.05 + long * 1.55),
                    (-fat * 0.6, 0.05 + long * 1.3),
                    (-fat, 0.05 + long * 0.6),
                    (-fat * 0.7, 0.02),
                ]
            )
        )
    )
    layer.lay(back, colours.main)
    x, y = own_coordinates(layer, pose)
    pattern = random.choice(["cross", "chevrons", "spots", "plain"])
    mark = colours.pale if random.random() < 0.5 else colours.dark
    if pattern == "cross":
        arms = np.maximum(
            (np.abs(x) < 0.035) * (np.abs(y - 0.3) < 0.28), (np.abs(y - 0.22) < 0.035) * (np.abs(x) < 0.2)
        )
        layer.lay(back * blur(arms.astype(np.float32), 2), mark)
    elif pattern == "chevrons":
        layer.lay(
            back * np.clip(np.sin((y - 1.1 * np.abs(x)) * random.uniform(24, 36)) * 5 - 1, 0, 1), mark, 0.8
        )
    elif pattern == "spots":
        for py in np.linspace(0.05, 0.05 + long * 1.2, random.integers(2, 5)):
            for side in (-1, 1):
                layer.lay(back * layer.shape_of(pose(ellipse(side * fat * 0.42, py, 0.055, 0.055))), mark)
    layer.paint *= 1 + 0.12 * (noise(random, back.shape, (30, 40), 3) * back)[..., None]
    layer.round_off(back, LIGHT, 0.16 * pose.scale, random.uniform(0.1, 0.5))


ANIMALS: dict[str, Callable[[Random, Layer, Pose], None]] = {
    "beetle": beetle,
    "butterfly": butterfly,
    "dragonfly": dragonfly,
    "spider": spider,
}
