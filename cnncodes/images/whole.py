"""A whole picture, resized and not cropped: what the fully convolutional form of a network reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import OptionError
from cnncodes.images.decode import AFFINE, BICUBIC, BILINEAR, Picture
from cnncodes.images.preprocess import resized_size
from cnncodes.weights.preprocessing import Preprocessing

LARGEST_SIZE = 4096  # of a preprocessing record


def whole_of(image: Picture, preprocessing: Preprocessing, size: int | None = None) -> npt.NDArray[np.uint8]:
    """Resize a picture as the preprocessing record says, and take all of it.

    At ``preprocessing.resize`` the centre crop of the result is what ``crops_of`` gives with exact decoding.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, as :func:`~cnncodes.images.decode.decode` gives it.
    preprocessing : Preprocessing
    size : int, optional
        Shorter side in pixels after resizing, or both sides with ``fit="squash"``; default ``preprocessing.resize``.

    Returns
    -------
    array of uint8 [height, width, 3]
        Values 0..255, channels in the order that ``preprocessing`` names.

    Raises
    ------
    OptionError
        If ``size`` is smaller than the crop, or more than 4,096.
    ImageError
        If the picture is too long and thin.
    """
    if size is not None and not preprocessing.crop <= size <= LARGEST_SIZE:
        raise OptionError(
            f"a size of {size:,} px is not possible: the network's crop has {preprocessing.crop} px.",
            f"Use {preprocessing.crop} to {LARGEST_SIZE}.",
        )
    record = preprocessing if size is None else replace(preprocessing, resize=size)
    shape = resized_size(image.width, image.height, record)
    if record.interpolation == "bilinear-point":
        steps = (image.width / shape[0], 0, 0, 0, image.height / shape[1], 0)
        resized = image.transform(shape, AFFINE, steps, resample=BILINEAR)
    else:
        resized = image.resize(shape, BICUBIC if record.interpolation == "bicubic" else BILINEAR)
    pixels = np.asarray(resized)
    return np.array(pixels if record.channels == "RGB" else pixels[:, :, ::-1])
