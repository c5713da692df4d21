"""Numbers per pixel, drawn over the image that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, ScalarMappable

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

HEAT = "inferno"  # from black (nothing) to light yellow; even in grey print, and for colour-blind readers
#: Beyond this share of the numbers, the scale is cut: a few pixels would make all others dark.
CUT = 0.995


def pale(rgb: Bytes) -> Bytes:
    """The image in light grey, so that colours over it stay what they are; still RGB ``[height, width, 3]``.

    The grey that an eye sees (ITU-R BT.601), black raised to a third.
    """
    grey = 85 + rgb @ np.array([0.299, 0.587, 0.114]) * (170 / 255)
    return np.repeat(grey.round().astype(np.uint8)[:, :, None], 3, axis=2)


def limit(values: Array) -> float:
    """Where the scale of magnitudes ends: the largest but for half a percent, and never 0."""
    magnitude = np.abs(values)
    return float(np.quantile(magnitude, CUT)) or float(magnitude.max()) or 1.0


def opacity(parts: Array) -> Array:
    """How much of the image below colours hide, by parts of their scale."""
    return np.clip(1.3 * parts, 0, 0.85)


def show_image(axes: Axes, rgb: Bytes, title: str) -> None:
    """The image itself."""
    axes.imshow(rgb, interpolation="nearest")
    set_title(axes, title)


def show_heat(axes: Axes, values: Array, title: str) -> ScalarMappable:
    """Numbers ``[side, side]`` from 0 on, alone."""
    image = axes.imshow(values, cmap=HEAT, vmin=0, vmax=limit(values), interpolation="nearest")
    set_title(axes, title)
    return image


def show_heat_over(axes: Axes, rgb: Bytes, values: Array, title: str, cut: bool = True) -> ScalarMappable:
    """Numbers ``[side, side]`` from 0 on, over the image in grey, which shows through where they are small."""
    top = limit(values) if cut else float(values.max()) or 1.0
    axes.imshow(pale(rgb), interpolation="nearest")
    heat = axes.imshow(values, cmap=HEAT, vmin=0, vmax=top, interpolation="nearest")
    heat.set_alpha(opacity(values / top))
    set_title(axes, title)
    return heat


def show_around_grey(axes: Axes, values: Array, title: str) -> None:
    """Signed numbers ``[side, side, 3]`` as colours around grey, which means 0."""
    scaled = 128 + 127 * np.clip(values / limit(values), -1, 1)
    axes.imshow(scaled.round().astype(np.uint8), interpolation="nearest")
    set_title(axes, title)


def set_title(axes: Axes, title: str, size: float = 11.0) -> None:
    """What a panel shows, above it; names keep their dollar signs."""
    axes.set_title(title, fontsize=size, loc="left", parse_math=False)
