"""What the augmentation of a training makes of one image: its views, step by step, and where they are cut."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.core.errors import OptionError
from cnncodes.core.records import to_value
from cnncodes.images.preprocess import share_seen
from cnncodes.pictures.classifier import read_crop
from cnncodes.pictures.drawing import COLOURS, new_panels, pale, show_image
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes, square_of
from cnncodes.weights import load_weights
from cnncodes.weights.preprocessing import Preprocessing, fitted
from cnncodes.weights.published import PUBLISHED, find_published

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.images.decode import Source
    from cnncodes.pictures.drawing import Axes, Bytes, Figure

Floats = npt.NDArray[np.float64]
VIEWS, MOST = 5, 1000
STEP = 4  # pixels between those that colour axes are measured on, as a training does
NEARLY_ALL = 0.98  # of a photograph: what is left out is not worth a word
IN_STEPS = 8  # views that have a column each; more are a sheet
WIDE = 13.2  # inches
TITLE = 12  # points
STRONGEST, MOST_AMPLIFIED = 90, 10  # levels that the strongest change is amplified to, and times at most
PALE = 0.35  # what is left of the grey outside a frame: of a few pixels, a pale rim would not be seen
STRIP = 0.35  # part of a view's height that the change of colour is shown for


@dataclass(frozen=True, eq=False)
class Augmented:
    """Views of one image; all pictures are RGB, 0..255."""

    image: str  # the file's name
    square: Bytes  # [resize, resize, 3], what the views are cut from
    middle: Bytes  # [side, side, 3], the crop in the middle, which a network is asked about
    cut: Bytes  # [count, side, side, 3], the views cut and mirrored, in the image's colours
    views: Bytes  # [count, side, side, 3], with their colours changed: what is learned from
    frames: Floats  # [count, 4]: left, top, right and bottom of each view in the square, in pixels
    mirrored: npt.NDArray[np.bool_]  # [count]
    crop: int  # side of a crop, before it is resized if the first epoch has an input of another size
    settings: TrainingSettings
    photo: float = 1.0  # share of the photograph's area that the square shows

    @property
    def recolours(self) -> bool:
        """Whether the training changes colours."""
        return self.settings.pca_noise > 0 or self.settings.jitter > 0

    @property
    def area(self) -> Floats:
        """Share of the square's area that each view shows, ``[count]``."""
        left, top, right, bottom = self.frames.T
        area: Floats = (right - left) * (bottom - top) / len(self.square) ** 2
        return area

    @property
    def away(self) -> Floats:
        """Mean magnitude of the difference of each view to the crop in the middle, in levels of 255, ``[count]``."""
        return np.asarray(np.abs(self.views.astype(np.float64) - self.middle).mean(axis=(1, 2, 3)))

    @property
    def shift(self) -> Floats:
        """Mean change of red, green and blue of each view, in levels of 255, ``[count, 3]``."""
        return np.asarray((self.views.astype(np.float64) - self.cut).mean(axis=(1, 2)))

    def describe(self) -> str:
        """What is drawn at random, and how strong it is."""
        settings, side, resize, crop = self.settings, self.views.shape[1], len(self.square), self.crop
        some = self.photo < NEARLY_ALL
        whole = "centre square" if some else "photo"
        if not settings.random_crop:
            cut = "the crop in the middle"
        elif settings.crop_area < 1:
            cut = f"crops of {100 * settings.crop_area:.0f} to 100 % of the {whole}, resized to {side} px"
        else:
            share = f"{100 * (crop / resize) ** 2:.0f} % of the {whole}"
            cut = f"crops of {crop} of {resize} px at random places ({share})"
            cut += f", resized to {side} px" if crop != side else ""
        parts = [cut, "half of them mirrored" if settings.mirror else "never mirrored"]
        if settings.jitter:
            parts.append(
                f"brightness, contrast and saturation up to {100 * settings.jitter:.0f} % up or down"
            )
        if settings.pca_noise:
            levels = settings.pca_noise * self.square[::STEP, ::STEP].reshape(-1, 3).std(axis=0).mean()
            noise = f"RGB noise of {settings.pca_noise:g}, about {levels:.0f} levels of 255"
            parts.append(f"red, green and blue shifted ({noise})")
        told = ", ".join(parts if self.recolours else [*parts, "colours as they are"])
        if not some:
            return told
        return f"{told}; only the centre square is ever seen, {100 * self.photo:.0f} % of the photo"

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels."""
        said = {"seed": self.settings.seed, "what": self.describe(), "resize": len(self.square)}
        cut = {
            "square_of_photo": round(self.photo, 4),
            "side": self.views.shape[1],
            "frames": self.frames.round(2),
        }
        numbers = {"difference_levels": self.away.round(2), "colour_shift_levels": self.shift.round(2)}
        found: dict[str, Any] = to_value({**said, **cut, "area": self.area.round(4), **numbers})
        return {**to_value(self, "image", "mirrored"), **found}


def augment(
    image: Source,
    settings: TrainingSettings | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    count: int = VIEWS,
) -> Augmented:
    """Views of an image as a training makes them, by the training's own code.

    They are what the first epoch of a training on 1000 images with these settings makes of the first ``count``, if all
    are this one. The axes of the colour noise are this image's; a training measures those of its images.

    Parameters
    ----------
    image : path, Pillow image or array
    settings : TrainingSettings, optional
        Such as a recipe's; its seed decides everything.
    preprocessing : Preprocessing, optional
        Sizes of the square and of the crop.
    count : int, default 5

    Raises
    ------
    ImageError, OptionError
        If the image cannot be read, or the count is not 1 to 1000.
    """
    if not 1 <= count <= MOST:
        raise OptionError(f"{count} views cannot be shown.", f"Use 1 to {MOST}.")
    settings, record = settings or TrainingSettings(), preprocessing or Preprocessing()
    whole = square_of(record)  # crops are views
    name, size, square = read_crop(image, whole)
    axes = ColourAxes.of([square[::STEP, ::STEP]]) if settings.pca_noise else None
    uncoloured = dataclasses.replace(settings, pca_noise=0.0, jitter=0.0)
    still = dataclasses.replace(uncoloured, random_crop=False, mirror=False)

    def made(pixels: npt.NDArray[Any], part: TrainingSettings, count: int = count) -> npt.NDArray[Any]:
        # Whatever is used of them, the same numbers are drawn in the same order.
        draws = Augmentation(part, MOST, record, 0, axes if part.pca_noise else None)
        repeated = torch.from_numpy(np.ascontiguousarray(pixels)).expand(count, -1, -1, -1)
        return np.asarray(draws.views(repeated, range(count)).permute(0, 2, 3, 1))

    pictures = [square, made(square, still, 1)[0], made(square, uncoloured), made(square, settings)]
    order = slice(None, None, -1 if record.channels == "BGR" else 1)
    square, middle, cut, views = (
        np.ascontiguousarray(np.clip(np.round(part), 0, 255)[..., order], np.uint8) for part in pictures
    )
    # An image whose colours are its coordinates says where the views are cut.
    x, y = np.meshgrid(*2 * [np.arange(whole.crop, dtype=np.float32)])
    places = made(np.dstack([x, y, y]), uncoloured)
    first, last = places[:, 0, 0].astype(np.float64), places[:, -1, -1].astype(np.float64)
    frames = np.hstack([np.minimum(first, last)[:, :2], np.maximum(first, last)[:, :2] + 1])
    return Augmented(
        name, square, middle, cut, views, frames, first[:, 0] > last[:, 0], record.crop, settings, share_seen(size, whole)
    )  # fmt: skip


def augment_by(image: Source, recipe: Recipe, *, network: str | None = None, count: int = VIEWS) -> Augmented:
    """Views of an image as ``cnncodes finetune`` or ``train`` makes them by a recipe (see :func:`augment`).

    A recipe of the method "finetune" cuts as the preprocessing of its weights says, one of "train" as its own [images].
    Raises OptionError if the recipe trains no network, and what :func:`augment` and :func:`cnncodes.weights.load_weights` raise.
    """
    settings, weights = recipe.training_settings(), recipe.weights
    if recipe.method == "train":
        record = recipe.images
    elif weights in {entry.name for entry in PUBLISHED}:  # known before anything is fetched
        record = find_published(weights, network).preprocessing
    else:
        record = load_weights(weights, network=network).preprocessing
    if recipe.fit is not None:
        record = fitted(record, recipe.fit)
    return augment(image, settings, record, count=count)


def draw_augment(found: Augmented, whose: str = "") -> Figure:
    """Up to eight views step by step: cut, mirrored, and, if that is asked for, recoloured and by how much; more as a sheet.

    ``whose`` says which training makes them, for the title: ``finetune --weights starter``.
    """
    title = f"What {whose or 'training'} makes of an image"
    note = f"{found.image}: {found.describe()}"
    if found.settings.mixup:
        note += "; mixup, which needs other images, is not shown"
    count = len(found.views)
    if count <= IN_STEPS:
        return _steps(found, title, note)
    columns = math.ceil(math.sqrt(1.6 * count))
    cell = WIDE / columns
    figure, axes = new_panels(math.ceil(count / columns), columns, cell, title, note)
    for place, panel in enumerate(axes[:count]):
        text = f"{place + 1}{' mirrored' if found.mirrored[place] else ''}"
        show_image(panel, found.views[place], text, max(4.0, min(TITLE, 5 * cell)))
    for panel in axes[count:]:
        panel.set_visible(False)
    return figure


def _steps(found: Augmented, title: str, note: str) -> Figure:
    """A column for each view, a row for each step."""
    count = len(found.views)
    rows = 4 if found.recolours else 2
    columns = max(count, 4)  # a single view would be too large
    size = min(TITLE - 1, 4.2 * WIDE / columns)  # points
    figure, axes = new_panels(rows, columns, WIDE / columns, title, note, (1.0, 1.0, 1.0, STRIP)[:rows])
    grid = np.array(axes, dtype=object).reshape(rows, columns)
    strips, factor = _amplified(found)
    for place in range(count):
        column = list(grid[:, place])
        _show_frame(column[0], found, place, size)
        show_image(column[1], found.cut[place], "mirrored" if found.mirrored[place] else "not mirrored", size)
        if found.recolours:
            shift = zip(("red", "green", "blue"), found.shift[place], strict=True)
            levels = ", ".join(f"{name} {round(float(value)):+d}" for name, value in shift)
            show_image(column[2], found.views[place], levels, size)
            show_image(column[3], strips[place])
    names = ["where it is cut", "cut, mirrored" if found.settings.mirror else "cut"]
    names += ["recoloured", f"change\nx {factor:g}"] if found.recolours else []
    for row, name in enumerate(names):
        grid[row, 0].set_ylabel(name, fontsize=TITLE)
    for panel in grid[:, count:].flat:
        panel.set_visible(False)
    return figure


def _show_frame(axes: Axes, found: Augmented, place: int, size: float) -> None:
    """The square, nearly white outside the frame of one view."""
    left, top, right, bottom = found.frames[place]
    outside = (255 - PALE * (255 - pale(found.square).astype(float))).astype(np.uint8)
    rows, columns = slice(round(top), round(bottom)), slice(round(left), round(right))
    outside[rows, columns] = found.square[rows, columns]
    show_image(axes, outside, f"{place + 1}: {_where(found, place)}", size)
    box = np.array([left, right, right, left, left]) - 0.5, np.array([top, top, bottom, bottom, top]) - 0.5
    axes.plot(*box, color="white", linewidth=4)
    axes.plot(*box, color=COLOURS[place % 6], linewidth=2.5)  # the seventh is black
    axes.set_xlim(-2, len(outside) + 1)
    axes.set_ylim(len(outside) + 1, -2)


def _where(found: Augmented, place: int) -> str:
    """How far a crop lies from the middle, or what part of the area it has."""
    if found.settings.crop_area < 1 and found.settings.random_crop:
        return f"{100 * found.area[place]:.0f} % of the square"
    left, top, right, bottom = found.frames[place]
    across, down = (round((a + b - len(found.square)) / 2) for a, b in ((left, right), (top, bottom)))
    parts = [f"{abs(across)} px {'right' if across > 0 else 'left'}"] if across else []
    parts += [f"{abs(down)} px {'down' if down > 0 else 'up'}"] if down else []
    return ", ".join(parts) or "in the middle"


def _amplified(found: Augmented) -> tuple[Bytes, float]:
    """What colours changed by, around grey, of a strip in the middle of each view, and how many times as strong."""
    side = len(found.middle)
    top, height = round((1 - STRIP) / 2 * side), max(1, round(STRIP * side))
    change = (found.views.astype(np.float64) - found.cut)[:, top : top + height]
    strongest = float(np.abs(change).mean(axis=(1, 2)).max())
    factor = float(np.clip(np.floor(STRONGEST / max(strongest, 0.1)), 1, MOST_AMPLIFIED))
    return (128 + factor * change).round().clip(0, 255).astype(np.uint8), factor
