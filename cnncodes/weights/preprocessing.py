"""The preprocessing record: how an image becomes the numbers that a network's weights expect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cnncodes.core.errors import OptionError, nearest
from cnncodes.core.files import parse_json, reading
from cnncodes.core.records import from_value, mistakes, to_json

Fit = Literal["shorter", "pad", "squash"]
Interpolation = Literal["bilinear", "bilinear-point", "bicubic"]
ChannelOrder = Literal["RGB", "BGR"]
Decoding = Literal["exact", "box", "reduced", "gpu"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise: a record, not code. Every file that depends on it contains it.

    An image (RGB, 8 bits) is resized, its crops of ``crop`` x ``crop`` pixels are taken, and each value
    ``p`` in 0..255 becomes ``(p / scale - mean[c]) / std[c]``, channels in the order ``channels``.

    - ``fit``, how a picture that is no square is resized. "shorter": its shorter side to ``resize``, so the crop loses the ends
      of the longer one. "pad": its longer side, and the mean colour fills the square. "squash": both sides, whatever its aspect
      (Caffe's ``convert_imageset``). Of "pad" and "squash" the crop shows all of a picture if ``resize`` equals ``crop``.
    - ``interpolation``: "bilinear" and "bicubic" are Pillow's, which average over the source pixels when they shrink, as
      torchvision's presets do; "bilinear-point" samples four source pixels, as OpenCV's ``cv2.resize`` and Caffe do.
    - ``decoding``: "box" resizes only the part of the image that the crops need (at most one grey level away from exact);
      "reduced" also decodes JPEG at 1/2, 1/4 or 1/8 scale where the image stays at least twice as large as ``resize``. Both
      are faster. "gpu": what becomes codes is decoded and resized by the GPU of the network
      (:mod:`cnncodes.codes.device_decoding`).
    """

    resize: int = 256  # length in pixels after resizing of the side that fit names
    crop: int = 224  # side of the square crop in pixels, at most resize; cut from the middle
    fit: Fit = "shorter"
    interpolation: Interpolation = "bilinear"
    channels: ChannelOrder = "RGB"  # as the network sees them; mean and std are in this order
    scale: float = 255.0  # divisor of the 0..255 values: 255 for torchvision, 1 for Caffe
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # after division by scale
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    decoding: Decoding = "exact"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise OptionError(
                    f"preprocessing {name}={value!r} is not known.", f"Use one of {', '.join(allowed)}."
                )
        if not 1 <= self.crop <= self.resize <= 4096:
            raise OptionError(
                f"preprocessing crop={self.crop} and resize={self.resize} do not fit together.",
                "Use 1 <= crop <= resize <= 4096.",
            )
        positive = all(0 < value < math.inf for value in (self.scale, *self.std))
        if not (len(self.mean) == len(self.std) == 3 and positive and all(map(math.isfinite, self.mean))):
            raise OptionError(
                f"preprocessing scale={self.scale}, mean={self.mean}, std={self.std} cannot be used.",
                "Give three means, three positive standard deviations and a positive scale, none of them infinite.",
            )

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return to_json(self)

    @classmethod
    @reading("the preprocessing record", OptionError)
    def from_json(cls, text: str) -> Preprocessing:
        """Inverse of :meth:`to_json`; raises :class:`OptionError` for anything else, also for unknown entries."""
        values = parse_json(text)
        if unknown := [mistake.path[0] for mistake in mistakes(values, cls) if mistake.kind == "unknown"]:
            raise ValueError(f"unknown entries {unknown}")
        return from_value(values, cls)


_CHOICES = {
    "fit": get_args(Fit),
    "interpolation": get_args(Interpolation),
    "channels": get_args(ChannelOrder),
    "decoding": get_args(Decoding),
}

TORCHVISION_PREPROCESSING = Preprocessing()


def usual_for(crop: int) -> Preprocessing:
    """torchvision's for another input size: resized to 256 pixels, or in the ratio 256 / 224 where that is too small."""
    resize = 256 if crop <= 256 else with_margin(crop)
    return replace(TORCHVISION_PREPROCESSING, crop=crop, resize=resize)


def with_margin(crop: int) -> int:
    """Side of the square around a crop in torchvision's ratio, 256 : 224."""
    return round(crop * 256 / 224)


def fit_word(fit: str) -> str:
    """The word for a fit in a command: "crop" for "shorter"."""
    return "crop" if fit == "shorter" else fit


def fitted(record: Preprocessing, fit: str) -> Preprocessing:
    """The same with another way to make a picture a square: "crop" (or "shorter"), the usual centre crop, "pad" or "squash".

    "pad" and "squash" resize to the crop's side, so that all of a picture is seen.
    """
    name = "shorter" if fit == "crop" else fit
    if name not in _CHOICES["fit"]:
        raise OptionError(f"fit '{fit}' is not known.", nearest(fit, ("crop", "pad", "squash")))
    if name != "shorter":
        return replace(record, fit=name, resize=record.crop)  # type: ignore[arg-type]
    if record.fit == "shorter":
        return record
    resize = record.resize if record.resize > record.crop else with_margin(record.crop)
    return replace(record, fit="shorter", resize=resize)


#: Caffe's reference models: 256 x 256 without keeping the aspect, BGR, mean of the ILSVRC2012 training set.
CAFFE_PREPROCESSING = Preprocessing(
    resize=256,
    crop=227,
    fit="squash",
    interpolation="bilinear-point",
    channels="BGR",
    scale=1.0,
    mean=(104.00698793, 116.66876762, 122.67891434),
    std=(1.0, 1.0, 1.0),
)
