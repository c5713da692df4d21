"""What the augmentation of a training makes of one image: the views themselves, and where they are cut."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.errors import OptionError
from cnncodes.images import crops_of
from cnncodes.images.decode import decode
from cnncodes.pictures.drawing import COLOURS, new_panels, plain
from cnncodes.pictures.mosaic import mosaic, tile_corners
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnncodes.images.decode import Source
    from cnncodes.pictures.drawing import Figure

Bytes = npt.NDArray[np.uint8]
VIEWS = 24
FRAMED = 6  # views whose frames are drawn in the image
STEP = 4  # pixels between those that colour axes are measured on, as a training does
MOST = 1000


@dataclass(frozen=True, eq=False)
class Augmented:
    """Views of one image.

    Parameters
    ----------
    image : str
        The file's name.
    square : uint8 array [resize, resize, 3]
        What the views are cut from, RGB.
    views : uint8 array [count, side, side, 3]
        RGB, cut to 0..255.
    frames : float array [count, 4]
        Left, top, right and bottom of each view in the square, in pixels.
    mirrored : bool array [count]
    settings : TrainingSettings
    """

    image: str
    square: Bytes
    views: Bytes
    frames: npt.NDArray[np.float64]
    mirrored: npt.NDArray[np.bool_]
    settings: TrainingSettings

    def describe(self) -> str:
        """What is drawn at random, for a title."""
        settings = self.settings
        cut = f"crops of {len(self.views[0])} px at random places"
        if settings.crop_area < 1:
            cut = f"crops of {100 * settings.crop_area:.0f} to 100 % of the area"
        parts = [cut if settings.random_crop else "the centre crop"]
        parts += ["about half of them mirrored"] if settings.mirror else []
        parts += [f"colours jittered by {100 * settings.jitter:.0f} %"] if settings.jitter else []
        if settings.pca_noise:
            parts.append(
                f"RGB noise of {settings.pca_noise:g} along the colour axes (here: of this image alone)"
            )
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels."""
        return {
            "image": self.image,
            "seed": self.settings.seed,
            "what": self.describe(),
            "resize": len(self.square),
            "side": self.views.shape[1],
            "frames": self.frames.round(2).tolist(),
            "mirrored": self.mirrored.tolist(),
        }


def augment(
    image: Source,
    settings: TrainingSettings | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    count: int = VIEWS,
) -> Augmented:
    """Views of an image as a training makes them, by the training's own code.

    They are what the first epoch of a training with these settings makes of its first ``count`` images, if all are
    this one. The axes of the colour noise are this image's; a training measures those of its images.

    Parameters
    ----------
    image : path, Pillow image or array
    settings : TrainingSettings, optional
        Such as a recipe's; its seed decides everything.
    preprocessing : Preprocessing, optional
        Sizes of the square and of the crop.
    count : int, default 24

    Raises
    ------
    ImageError
        If the image cannot be read.
    OptionError
        If the count is not 1 to 1000.
    """
    if not 1 <= count <= MOST:
        raise OptionError(f"{count} views cannot be shown.", f"Use 1 to {MOST}.")
    settings, record = settings or TrainingSettings(), preprocessing or Preprocessing()
    whole = dataclasses.replace(record, crop=record.resize)  # crops are views
    square = crops_of(decode(image, whole), whole)[0]
    axes = ColourAxes.of([square[::STEP, ::STEP]]) if settings.pca_noise else None
    rows = range(count)
    draws = Augmentation(settings, count, record, 0, axes)
    made = draws.views(_repeated(square, count), rows)
    views = made.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    frames, mirrored = _places(settings, record, count)
    if record.channels == "BGR":
        square, views = square[..., ::-1], views[..., ::-1]
    name = Path(image).name if isinstance(image, str | Path) else "the image"
    return Augmented(
        name, np.ascontiguousarray(square), np.ascontiguousarray(views), frames, mirrored, settings
    )


def _repeated(square: Bytes, count: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(square)).expand(count, -1, -1, -1)


def _places(
    settings: TrainingSettings, record: Preprocessing, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Frames ``[count, 4]`` of the views in the square, and which are mirrored.

    Read off an image whose colours are its coordinates, cut by the same draws: colours change nothing about those.
    """
    side = record.resize
    across = np.round(np.linspace(0, 255, side)).astype(np.uint8)
    coordinates = np.zeros((side, side, 3), np.uint8)
    coordinates[:, :, 0], coordinates[:, :, 1] = across[None, :], across[:, None]
    plain_colours = dataclasses.replace(settings, pca_noise=0.0, jitter=0.0)
    views = Augmentation(plain_colours, count, record, 0).views(_repeated(coordinates, count), range(count))
    found = views.numpy().astype(np.float64) * (side - 1) / 255
    first, last = found[:, 0, 0, 0], found[:, 0, 0, -1]
    top, bottom = found[:, 1, 0, 0], found[:, 1, -1, 0]
    frames = np.stack([np.minimum(first, last), top, np.maximum(first, last) + 1, bottom + 1], axis=1)
    return frames, first > last


def draw_augment(found: Augmented, recipe: str = "") -> Figure:
    """A contact sheet of the views, beside the image with the frames of the first six.

    Parameters
    ----------
    found : Augmented
    recipe : str, optional
        Its name, for the title.
    """
    whose = f" by recipe '{plain(recipe)}'" if recipe else ""
    title = f"{plain(found.image)} augmented{whose}, seed {found.settings.seed}: {found.describe()}"
    if found.settings.mixup:
        title += "; mixup, which needs other images, is not shown"
    count, side = found.views.shape[:2]
    columns = math.ceil(math.sqrt(count))
    figure, (left, right) = new_panels(1, 2, cell=max(6.4, 0.9 * columns), title=title)
    for axes in (left, right):
        axes.set_anchor("N")
    framed = min(FRAMED, count)
    left.imshow(found.square)
    left.set_title(
        f"the image at {len(found.square)} px, and where views 1 to {framed} are cut", fontsize=10, loc="left"
    )
    strip, gap = max(4, round(0.16 * side)), max(2, side // 20)
    tiles = np.pad(found.views, ((0, 0), (strip, 0), (0, 0), (0, 0)), constant_values=255)
    picture = mosaic(tiles, columns, gap)
    right.imshow(picture)
    right.set_title(f"{count} views, as the network gets them", fontsize=10, loc="left")
    right.set_xlim(-gap, picture.shape[1] + gap)
    right.set_ylim(picture.shape[0] + gap, -gap)
    corners = tile_corners(count, side + strip, side, columns, gap)
    for place, (x, y) in enumerate(corners):
        colour = COLOURS[place] if place < framed else "black"
        text = f"{place + 1}{' mirrored' if found.mirrored[place] else ''}"
        right.text(x, y + 0.8 * strip, text, fontsize=8, color=colour)
        if place < framed:
            box = np.array([x - 0.5, y + strip - 0.5, x + side - 0.5, y + strip + side - 0.5])
            right.plot(*_outline(box), color=colour, linewidth=2.5)
            frame = found.frames[place] - 0.5
            left.plot(*_outline(frame), color=colour, linewidth=2.5)
            # along the top edge, each a little further right, so that they stay apart
            where = frame[0] + (0.04 + 0.13 * place) * (frame[2] - frame[0])
            left.text(where, frame[1], f"{place + 1}", fontsize=9, color="white", ha="center", va="top",
                      bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.8})  # fmt: skip
    return figure


def _outline(box: npt.NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """The corners of a box (left, top, right, bottom), back to the first one."""
    left, top, right, bottom = box.tolist()
    return [left, right, right, left, left], [top, top, bottom, bottom, top]
