"""A colour for each class, and a mark for each, so that no picture depends on colours alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnncodes.pictures.drawing import COLOURS

Bytes = npt.NDArray[np.uint8]

NO_CLASS = (150, 150, 150)
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def class_colours(count: int) -> Bytes:
    """Colours of ``count`` classes, uint8 ``[count, 3]``: the house's for up to seven, else evenly spaced hues.

    Neighbouring hues differ in lightness, too. Hues are spaced in OKLCH (Ottosson 2020), where equal steps look equal.
    """
    if count <= len(COLOURS):
        house = [tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5)) for colour in COLOURS]
        return np.array(house[:count], np.uint8).reshape(count, 3)
    hue = 2 * np.pi * np.arange(count) / count + 0.5
    lightness = np.array([0.5, 0.82, 0.66])[np.arange(count) % 3]
    lab = np.stack([lightness, 0.15 * np.cos(hue), 0.15 * np.sin(hue)], axis=1)
    to_cones = [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.clip((lab @ np.array(to_cones).T) ** 3 @ np.array(to_rgb).T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * curved), np.uint8)


def class_mark(place: int, count: int) -> str:
    """The mark of a class in a scatter plot: all discs for up to seven classes, else they take turns."""
    return MARKS[0] if count <= len(COLOURS) else MARKS[place % len(MARKS)]
