"""What the augmentation of a training makes of one image: its views, step by step, and where they are cut."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.errors import ImageError, OptionError
from cnncodes.images import crops_of
from cnncodes.images.decode import decode
from cnncodes.pictures.subject import refuse_folder, share_seen
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes
from cnncodes.weights import load_weights
from cnncodes.weights.imagenet import PUBLISHED, find_published
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.images.decode import Source

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
VIEWS = 5
STEP = 4  # pixels between those that colour axes are measured on, as a training does
MOST = 1000
NEARLY_ALL = 0.98  # of a photograph: what is left out is not worth a word


@dataclass(frozen=True, eq=False)
class Augmented:
    """Views of one image.

    Parameters
    ----------
    image : str
        The file's name.
    square : uint8 array [resize, resize, 3]
        What the views are cut from, RGB.
    middle : uint8 array [side, side, 3]
        The crop in the middle, as the network sees the image when it is asked about it.
    cut : uint8 array [count, side, side, 3]
        The views as they are cut, and mirrored where they are; their colours are the image's.
    views : uint8 array [count, side, side, 3]
        With their colours changed: what is learned from. RGB, rounded and cut to 0..255.
    frames : float array [count, 4]
        Left, top, right and bottom of each view in the square, in pixels.
    mirrored : bool array [count]
    crop : int
        Side of a crop of whole pixels, before it is resized if the first epoch has an input of another size.
    settings : TrainingSettings
    photo : float
        Share of the photograph's area that the square shows: its centre, unless it is squashed.
    """

    image: str
    square: Bytes
    middle: Bytes
    cut: Bytes
    views: Bytes
    frames: Floats
    mirrored: npt.NDArray[np.bool_]
    crop: int
    settings: TrainingSettings
    photo: float = 1.0

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
        apart = np.abs(self.views.astype(np.float64) - self.middle)
        away: Floats = apart.mean(axis=(1, 2, 3))
        return away

    @property
    def shift(self) -> Floats:
        """Mean change of red, green and blue of each view, in levels of 255, ``[count, 3]``."""
        shift: Floats = (self.views.astype(np.float64) - self.cut).mean(axis=(1, 2))
        return shift

    @property
    def whole(self) -> str:
        """What views are cut from, in words."""
        return "centre square" if self.photo < NEARLY_ALL else "photo"

    @property
    def caution(self) -> str | None:
        """How much of the photograph no view ever shows, if it is worth a word."""
        if self.photo >= NEARLY_ALL:
            return None
        return f"only the centre square is ever seen, {100 * self.photo:.0f} % of the photo"

    def describe(self) -> str:
        """What is drawn at random, and how strong it is."""
        settings, side, resize = self.settings, self.views.shape[1], len(self.square)
        if not settings.random_crop:
            cut = "the crop in the middle"
        elif settings.crop_area < 1:
            cut = (
                f"crops of {100 * settings.crop_area:.0f} to 100 % of the {self.whole}, resized to {side} px"
            )
        else:
            crop = self.crop
            cut = f"crops of {crop} of {resize} px at random places ({100 * (crop / resize) ** 2:.0f} % of the {self.whole})"
            cut += f", resized to {side} px" if crop != side else ""
        parts = [cut, "half of them mirrored" if settings.mirror else "never mirrored"]
        if settings.jitter:
            parts.append(
                f"brightness, contrast and saturation up to {100 * settings.jitter:.0f} % up or down"
            )
        if settings.pca_noise:
            levels = settings.pca_noise * self.square[::STEP, ::STEP].reshape(-1, 3).std(axis=0).mean()
            parts.append(
                f"red, green and blue shifted (RGB noise of {settings.pca_noise:g} along the colour axes: here some "
                f"{levels:.0f} levels of 255)"
            )
        told = ", ".join(parts if self.recolours else [*parts, "colours as they are"])
        return f"{told}; {self.caution}" if self.caution else told

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels."""
        return {
            "image": self.image,
            "seed": self.settings.seed,
            "what": self.describe(),
            "resize": len(self.square),
            "square_of_photo": round(self.photo, 4),
            "side": self.views.shape[1],
            "frames": self.frames.round(2).tolist(),
            "area": self.area.round(4).tolist(),
            "mirrored": self.mirrored.tolist(),
            "difference_levels": self.away.round(2).tolist(),
            "colour_shift_levels": self.shift.round(2).tolist(),
        }


def augment(
    image: Source,
    settings: TrainingSettings | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    count: int = VIEWS,
) -> Augmented:
    """Views of an image as a training makes them, by the training's own code.

    They are what the first epoch of a training on 1000 images with these settings makes of the first ``count``, if all are
    this one; more views are the same and others. The axes of the colour noise are this image's; a training measures
    those of its images.

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
    ImageError
        If the image cannot be read.
    OptionError
        If the count is not 1 to 1000.
    """
    if not 1 <= count <= MOST:
        raise OptionError(f"{count} views cannot be shown.", f"Use 1 to {MOST}.")
    refuse_folder(image)
    settings, record = settings or TrainingSettings(), preprocessing or Preprocessing()
    name = Path(image).name if isinstance(image, str | Path) else "the image"
    whole = dataclasses.replace(record, crop=record.resize)  # crops are views
    try:
        picture = decode(image, whole)
        square = crops_of(picture, whole)[0]
    except ImageError as error:
        raise ImageError(f"'{name}' cannot be read: {error.problem.rstrip('.')}.", error.remedy) from error
    axes = ColourAxes.of([square[::STEP, ::STEP]]) if settings.pca_noise else None
    plain = dataclasses.replace(settings, pca_noise=0.0, jitter=0.0)
    still = dataclasses.replace(plain, random_crop=False, mirror=False)
    # All three draw the same numbers in the same order, whatever they use of them.
    middle = _views(square, still, record, 1)[0]
    cut, views = (_views(square, part, record, count, axes) for part in (plain, settings))
    frames, mirrored = _places(plain, record, count)
    if record.channels == "BGR":
        square, middle, cut, views = (part[..., ::-1] for part in (square, middle, cut, views))
    square, middle, cut, views = map(np.ascontiguousarray, (square, middle, cut, views))
    return Augmented(name, square, middle, cut, views, frames, mirrored, record.crop, settings,
                     share_seen(picture.size, whole))  # fmt: skip


def augment_by(image: Source, recipe: Recipe, *, network: str | None = None, count: int = VIEWS) -> Augmented:
    """Views of an image as ``cnncodes finetune`` or ``train`` makes them by a recipe.

    A recipe of the method "finetune" cuts as the preprocessing of its weights says, one of "train" as its own [images]. What
    ``cnncodes finetune --weights W`` does without a recipe:
    ``augment_by(image, plain_recipe("finetune", ["network.weights=W"]))``.

    Parameters
    ----------
    image : path, Pillow image or array
    recipe : Recipe
        Of :func:`cnncodes.advice.load_recipe` or :func:`~cnncodes.advice.plain_recipe`.
    network : str, optional
        Where the weights do not say it.
    count : int, default 5

    Raises
    ------
    OptionError
        If the recipe trains no network.
    WeightsError, WeightsMissingError
        If its weights cannot be read.
    ImageError
        If the image cannot be read.
    """
    settings = recipe.training_settings()
    record = recipe.images if recipe.method == "train" else _preprocessing(recipe.weights, network)
    return augment(image, settings, record, count=count)


def _preprocessing(weights: str, network: str | None) -> Preprocessing:
    """That of weights by their name; of published ones it is known before anything is fetched."""
    if weights in {entry.name for entry in PUBLISHED}:
        return find_published(weights, network).preprocessing
    return load_weights(weights, network=network).preprocessing


def _views(
    square: Bytes,
    settings: TrainingSettings,
    record: Preprocessing,
    count: int,
    axes: ColourAxes | None = None,
) -> Bytes:
    """Views ``[count, side, side, 3]`` of the first images, which are all this one, in the first epoch."""
    draws = Augmentation(settings, MOST, record, 0, axes if settings.pca_noise else None)
    made = draws.views(_repeated(square, count), range(count))
    views: Bytes = made.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return views


def _repeated(square: npt.NDArray[Any], count: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(square)).expand(count, -1, -1, -1)


def _places(
    settings: TrainingSettings, record: Preprocessing, count: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Frames ``[count, 4]`` of the views in the square, and which are mirrored.

    Read off an image whose colours are its coordinates, cut by the same draws.
    """
    side = record.resize
    across = np.arange(side, dtype=np.float32)
    coordinates = np.zeros((side, side, 3), np.float32)
    coordinates[:, :, 0], coordinates[:, :, 1] = across[None, :], across[:, None]
    views = Augmentation(settings, MOST, record, 0).views(_repeated(coordinates, count), range(count))
    found = views.numpy().astype(np.float64)
    first, last = found[:, 0, 0, 0], found[:, 0, 0, -1]
    top, bottom = found[:, 1, 0, 0], found[:, 1, -1, 0]
    frames = np.stack([np.minimum(first, last), top, np.maximum(first, last) + 1, bottom + 1], axis=1)
    return frames, first > last
