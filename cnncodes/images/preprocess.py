"""From an RGB picture to the crops that a network sees, as its preprocessing record says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import ImageError, OptionError, nearest
from cnncodes.images.decode import AFFINE, BICUBIC, BILINEAR, LARGEST_PIXELS, Picture
from cnncodes.weights.preprocessing import Preprocessing

#: Pixels [height, width, 3] of a part of a resized picture: left, top, right, bottom.
Part: TypeAlias = Callable[[int, int, int, int], npt.NDArray[np.uint8]]

#: Names of the ways to crop -> how many crops are taken of each image.
CROPS = {"center": 1, "mirror": 2, "mirror-mean": 2, "ten": 10, "ten-mean": 10}

#: With fit="shorter", longer pictures are refused: 1 x 5000 would be resized to 256 x 1,280,000.
LARGEST_ASPECT = 200
LARGEST_SIZE = 4096  # of a preprocessing record
NEARLY_ALL = 0.9  # of a photograph's area: where the network sees more, nothing is said of its crop


def kept_crops(crops: str) -> int:
    """How many rows of codes each image keeps: 1 where the codes of its crops are averaged; raises OptionError.

    >>> kept_crops("ten"), kept_crops("ten-mean"), kept_crops("center")
    (10, 1, 1)
    """
    check_crops(crops)
    return 1 if crops.endswith("-mean") else CROPS[crops]


def check_crops(crops: str) -> None:
    """Raise :class:`OptionError` if ``crops`` is not one of :data:`CROPS`."""
    if crops not in CROPS:
        raise OptionError(f"crops={crops!r} is not known.", nearest(crops, CROPS))


def crops_of(
    image: Picture,
    preprocessing: Preprocessing,
    crops: str = "center",
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Resize a picture and take its crops; scale, mean and std come later, on the device.

    - ``center``: the pixels are those of torchvision's preset (``Resize``, ``CenterCrop``), bit for bit.
    - ``mirror``: the centre crop, then its mirror image.
    - ``ten``: of the central square of ``resize`` x ``resize`` pixels, top left, top right, bottom left,
      bottom right and centre, then the mirror images of these in the same order (Krizhevsky et al. 2012,
      section 4.1). Crop 4 is the crop of ``center``.
    - With ``fit="pad"`` a crop beyond the picture has the mean colour there, as near as 8 bits are to it.
    - ``mirror-mean``, ``ten-mean``: the same pixels; the name says that their codes are averaged.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, as :func:`~cnncodes.images.decode.decode` gives it.
    preprocessing : Preprocessing
    crops : str, default "center"
        One of :data:`CROPS`.
    out : array of uint8 [n_crops, crop, crop, 3], optional
        Where the crops are written, instead of into a new array.

    Returns
    -------
    array of uint8 [n_crops, crop, crop, 3]
        Values 0..255, channels in the order that ``preprocessing`` names.

    Raises
    ------
    ImageError
        If the picture is too long and thin to take a square out of it.
    OptionError
        If ``crops`` is not known.
    """
    check_crops(crops)
    shape = (CROPS[crops], preprocessing.crop, preprocessing.crop, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8:
        raise OptionError(
            f"out has shape {out.shape} of {out.dtype}, and the crops have {shape} of uint8.",
            "Give an array of that shape, or none.",
        )
    size = resized_size(image.width, image.height, preprocessing)
    cut_crops(partial(_resized_part, image, preprocessing, size), size, preprocessing, crops, out)
    return out


def cut_crops(
    part: Part, size: tuple[int, int], preprocessing: Preprocessing, crops: str, out: npt.NDArray[np.uint8]
) -> None:
    """Take the crops of a picture resized to ``size``, of which ``part(left, top, right, bottom)`` gives the pixels in RGB."""
    width, height = size
    side = preprocessing.crop
    # The same rounding as torchvision's CenterCrop (halves to the even number).
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    if CROPS[crops] < 10:
        out[0] = _window(part, preprocessing, size, (left, top, side, side))
        if len(out) == 2:
            out[1] = _mirrored(out[0])
        return
    # The central square is placed around the centre crop, so that crop 4 is that of "center".
    inner = preprocessing.resize - side
    middle = round(inner / 2.0)
    around = (left - middle, top - middle, preprocessing.resize, preprocessing.resize)
    square = _window(part, preprocessing, size, around)
    mirrored = _mirrored(square)
    for i, (x, y) in enumerate(((0, 0), (inner, 0), (0, inner), (inner, inner), (middle, middle))):
        out[i] = square[y : y + side, x : x + side]
        out[i + 5] = mirrored[y : y + side, inner - x : inner - x + side]


def resized_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height in pixels after resizing, rounded as torchvision's ``Resize`` and Pillow's ``ImageOps.pad`` do.

    With ``fit="shorter"``, pictures that are too long and thin, or would become too large, are an ImageError.
    """
    size = preprocessing.resize
    if preprocessing.fit == "squash":
        return size, size
    short, long = min(width, height), max(width, height)
    if preprocessing.fit == "pad":
        new_short = max(1, round(short / long * size))
        return (new_short, size) if width <= height else (size, new_short)
    new_long = int(size * long / short)
    if long > LARGEST_ASPECT * short or size * new_long > LARGEST_PIXELS:
        raise ImageError(
            f"{width:,} x {height:,} pixels, too long and thin for a square crop of {size} pixels",
            f"Cut it into pieces at most {LARGEST_ASPECT} times as long as wide, or use --fit pad.",
        )
    return (size, new_long) if width <= height else (new_long, size)


def share_seen(size: tuple[int, int], preprocessing: Preprocessing, crops: str = "center") -> float:
    """Share of a picture's area that its crops show together; ``size`` is the picture's width and height."""
    side = preprocessing.crop / preprocessing.resize if CROPS[crops] < 10 else 1.0
    aspect = min(size) / max(size)
    if preprocessing.fit == "pad":
        return side * min(1.0, side / aspect)
    return side**2 * (aspect if preprocessing.fit == "shorter" else 1.0)


def _window(
    part: Part, preprocessing: Preprocessing, size: tuple[int, int], window: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    """A window (left, top, width, height) of a resized picture: [height, width, 3], mean colour beyond the picture."""
    left, top, width, height = window
    x, y, end_x, end_y = max(0, left), max(0, top), min(size[0], left + width), min(size[1], top + height)
    pixels = part(x, y, end_x, end_y)
    pixels = pixels if preprocessing.channels == "RGB" else pixels[:, :, ::-1]
    if (end_x - x, end_y - y) == (width, height):
        return pixels
    mean = np.multiply(preprocessing.mean, preprocessing.scale).round().clip(0, 255)
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = mean.astype(np.uint8)
    padded[y - top : end_y - top, x - left : end_x - left] = pixels
    return padded


def _resized_part(
    image: Picture,
    preprocessing: Preprocessing,
    size: tuple[int, int],
    x: int,
    y: int,
    end_x: int,
    end_y: int,
) -> npt.NDArray[np.uint8]:
    """A part of the picture resized to ``size``, by Pillow: [height, width, 3]."""
    step_x, step_y = image.width / size[0], image.height / size[1]  # source pixels per resized pixel
    if preprocessing.interpolation == "bilinear-point":
        # Four source pixels around the centre of each resized pixel; only the window is computed.
        seen = image.transform(
            (end_x - x, end_y - y), AFFINE, (step_x, 0, step_x * x, 0, step_y, step_y * y), resample=BILINEAR
        )
    else:
        resample = BICUBIC if preprocessing.interpolation == "bicubic" else BILINEAR
        if preprocessing.decoding in ("exact", "gpu"):  # what a GPU cannot decode is computed exactly here
            seen = image.resize(size, resample).crop((x, y, end_x, end_y))
        else:
            box = (step_x * x, step_y * y, step_x * end_x, step_y * end_y)
            box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
            seen = image.resize((end_x - x, end_y - y), resample, box=box)
    return np.asarray(seen)


def _mirrored(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    # numpy reverses single items of three bytes four times as fast as rows of three.
    items = np.ascontiguousarray(pixels).view("V3")
    return np.ascontiguousarray(items[:, ::-1]).view(np.uint8)


def normalise(batch: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Scale, subtract the mean, divide by the standard deviation: the reference for what devices compute.

    The arithmetic is that of torchvision's presets, in float32 and in their order: the results are equal bit for bit.

    Parameters
    ----------
    batch : array of uint8 [B, H, W, 3]
        Channels in the order of ``preprocessing``.

    Returns
    -------
    array of float32 [B, 3, H, W]
    """
    pixels = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).astype(np.float32)
    pixels /= np.float32(preprocessing.scale)
    pixels -= np.array(preprocessing.mean, np.float32)[:, None, None]
    pixels /= np.array(preprocessing.std, np.float32)[:, None, None]
    return pixels


def whole_of(image: Picture, preprocessing: Preprocessing, size: int | None = None) -> npt.NDArray[np.uint8]:
    """Resize a picture as the preprocessing record says (or to ``size``), and take all of it: uint8 ``[height, width, 3]``.

    With ``fit="pad"`` it is the filled square. At ``preprocessing.resize`` the centre crop of the result is what ``crops_of``
    gives with exact decoding.
    """
    if size is not None and not preprocessing.crop <= size <= LARGEST_SIZE:
        raise OptionError(
            f"a size of {size:,} px is not possible: the network's crop has {preprocessing.crop} px.",
            f"Use {preprocessing.crop} to {LARGEST_SIZE}.",
        )
    record = preprocessing if size is None else replace(preprocessing, resize=size)
    width, height = resized_size(image.width, image.height, record)
    window = (0, 0, width, height)
    if record.fit == "pad":
        side = record.resize
        window = (round((width - side) / 2.0), round((height - side) / 2.0), side, side)
    part = partial(_resized_part, image, replace(record, decoding="exact"), (width, height))
    return np.array(_window(part, record, (width, height), window))
