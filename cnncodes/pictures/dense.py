"""Classes by place over an image larger than the network's crop: the fully convolutional form, or a crop at each place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.errors import ImageError, OptionError
from cnncodes.evaluation.dense import DenseClassifier
from cnncodes.images.decode import decode
from cnncodes.images.whole import whole_of
from cnncodes.networks.dense import window_places
from cnncodes.pictures.class_map import commonest
from cnncodes.pictures.map_record import evenly
from cnncodes.pictures.question import short
from cnncodes.pictures.subject import Bytes, refuse_folder

if TYPE_CHECKING:
    import os

    from cnncodes.pictures.subject import Subject

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
NAMED = 5  # classes in the JSON
CROPS_AT_ONCE = 16
#: At most so many crops are compared, spread over the image; the time of all is that of these in proportion.
MOST_CROPS = 100
USUAL_STEP = 16  # pixels from one place to the next
#: The usual shorter side, in crops: things look at most half as large again as the network has learned them.
USUAL_SIZE = 1.5
#: From which share of alike answers on, and up to which enlargement, nobody has to be warned.
ALIKE, ENLARGED = 0.75, 1.15
SURE = 0.3  # a probability: if none is as large at any place, nothing was recognised


@dataclass(frozen=True)
class CropComparison:
    """What real crops say, cut out at some of the places.

    Parameters
    ----------
    crops : int
        How many.
    agree : float
        Share of them whose most probable class is the one of the fully convolutional form there.
    mirrored : float
        Share of them that have the same most probable class when they are mirrored: how sure the network is at all.
    difference : float
        Mean magnitude of the difference of the crop's largest value to that of the form there.
    seconds : float
        That a crop at each place would take, one after the other in batches.
    """

    crops: int
    agree: float
    mirrored: float
    difference: float
    seconds: float


@dataclass(frozen=True, eq=False)
class DenseMap:
    """Classes of an image by place.

    Parameters
    ----------
    subject, image : str
        Names of the network (or model) and of the image.
    rgb : uint8 array [height, width, 3]
        The whole image, resized.
    original : tuple of 2 int
        Its width and height in the file.
    classes : tuple of K str
    place : int
        The class that is asked about.
    values : float array [K, rows, columns]
        Probabilities, or scores where the classifier has no probabilities.
    unit : str
        "probability" or "score".
    sliding : bool
        Whether each value is that of a crop; else of the fully convolutional form.
    crop, window : int
        Sides of the network's crop in pixels, and of the window in places of the grid that enters the classifier.
    first : float
        Pixel in the middle of the first window; ``step`` pixels to the next.
    step : int
    seconds : float
        Of all places by the fully convolutional form.
    crops : CropComparison
    """

    subject: str
    image: str
    rgb: Bytes
    original: tuple[int, int]
    classes: tuple[str, ...]
    place: int
    values: Array
    unit: str
    sliding: bool
    crop: int
    window: int
    first: float
    step: int
    seconds: float
    crops: CropComparison

    @property
    def mean(self) -> Array:
        """Mean over the map ``[K]``."""
        mean: Array = self.values.mean((1, 2))
        return mean

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Place of the class with the largest value, ``[rows, columns]``."""
        best: npt.NDArray[np.int64] = self.values.argmax(0)
        return best

    @property
    def enlarged(self) -> float:
        """How many times as large as in the file the image was looked at; less than 1 if it was made smaller."""
        height, width = self.rgb.shape[:2]
        return float(max(width / self.original[0], height / self.original[1]))

    def describe(self, most: int = 4) -> str:
        """The commonest classes with the share of places where each is the largest: ``bees 61 %, ants 39 %``."""
        named, shares = commonest(self.best, most)
        return ", ".join(
            f"{short(self.classes[k], 20)} {100 * share:.0f} %"
            for k, share in zip(named, shares, strict=True)
        )

    def cautions(self) -> tuple[str, ...]:
        """What somebody should know before believing the map; nothing, if all is well."""
        found = []
        width, height = self.original
        if self.enlarged > ENLARGED:
            found.append(
                f"the image has {width} x {height} px and was enlarged {self.enlarged:.1f} times: it is blurred"
            )
        highest = float(self.values.max())
        if self.unit == "probability" and highest < SURE:
            found.append(
                f"nothing is surely recognised: no class has more than {100 * highest:.0f} % at any place"
            )
        mirrored = f"mirrored, {100 * self.crops.mirrored:.0f} % of the crops keep their class"
        if self.sliding and self.crops.mirrored < ALIKE:
            found.append(f"the network is unsure here: {mirrored}")
        if not self.sliding and self.crops.agree < ALIKE:
            found.append(
                f"only {100 * self.crops.agree:.0f} % of the crops cut out at these places have the class of the map "
                f"({mirrored})"
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it; the five classes with the largest mean."""
        top = np.argsort(-self.mean, kind="stable")[:NAMED]
        named, shares = commonest(self.best, NAMED)
        return {
            "model": self.subject,
            "image": self.image,
            "original": list(self.original),
            "size": [self.rgb.shape[1], self.rgb.shape[0]],
            "places": [*self.values.shape[1:]],
            "window_px": self.crop,
            "step_px": self.step,
            "sliding": self.sliding,
            "class": self.classes[self.place],
            "unit": self.unit,
            "mean": {self.classes[k]: float(self.mean[k]) for k in top},
            "share_of_places": {
                self.classes[k]: float(share) for k, share in zip(named, shares, strict=True)
            },
            "cautions": list(self.cautions()),
            "dense_s": self.seconds,
            "crops_s": self.crops.seconds,
            "difference_to_crops": self.crops.difference,
            "same_class_as_crops": self.crops.agree,
            "same_class_mirrored": self.crops.mirrored,
        }


def dense_map(
    subject: Subject,
    image: str | os.PathLike[str],
    size: int | None = None,
    *,
    step: int | None = None,
    class_name: str | int | None = None,
    sliding: bool = False,
    progress: Progress = lambda done, total: None,
) -> DenseMap:
    """Class scores at every place of an image, and real crops at some of them for comparison.

    By the fully convolutional form each value is that of the classifier on its window of the last grid, exactly. A crop cut
    out there differs: at its border the network sees zeros, as in all that it has learned from, and in the window it sees
    the neighbours.

    Parameters
    ----------
    subject : Subject
    image : path
    size : int, optional
        Shorter side in pixels after resizing; default one and a half times the network's crop. In a larger image things
        look larger than those that the network has learned.
    step : int, optional
        Pixels from one place to the next, a part of the grid's own; default 16, or the grid's own if that is less.
    class_name : str or int, optional
        The class whose map is drawn; default that with the largest mean.
    sliding : bool, default False
        Compute a crop at each place instead: slow, and just what the network says of it.
    progress : callable(done, total), optional
        Of the crops.

    Raises
    ------
    ImageError
        If it cannot be read, or is too large.
    OptionError
        If ``size`` is smaller than the crop, ``step`` does not divide the grid's, or the class is not there.
    """
    refuse_folder(image)
    record = subject.preprocessing
    name = str(image).rsplit("/", 1)[-1]
    asked = None if class_name is None else subject.class_place(class_name)
    classifier = DenseClassifier(subject.weights, subject.head, subject.device)
    times = _times(classifier.step, step)
    try:
        # The picture as it is: decoded small it would be too coarse for a large size.
        picture = decode(image)
        whole = whole_of(picture, record, size or min(round(USUAL_SIZE * record.crop), 4096))
        pixels = classifier.pixels(whole)
    except ImageError as error:
        raise ImageError(f"'{name}' cannot be shown: {error.problem.rstrip('.')}.", error.remedy) from error
    classifier.scores(pixels)  # the first pass of a process is slower than those after it
    started = time.perf_counter()
    values = subject.values(classifier.finer_scores(pixels, times))[0].cpu().numpy()
    seconds = time.perf_counter() - started
    first, own = window_places(subject.weights.architecture, classifier.stage, record.crop)
    # A last window can need less than the whole crop: where the crop would stick out, there is no place.
    rows, columns = (range(0, length - record.crop + 1, own // times) for length in pixels.shape[2:])
    values = np.ascontiguousarray(values[:, : len(rows), : len(columns)])
    corners = [(row, column) for row in rows for column in columns]
    every = np.arange(len(corners))
    chosen = every if sliding else evenly(every, MOST_CROPS)
    crops, comparison = _compare(subject, pixels, corners, chosen, values, progress)
    if sliding:
        values = np.ascontiguousarray(crops.T).reshape(values.shape)
    place = int(values.mean((1, 2)).argmax()) if asked is None else asked
    return DenseMap(
        subject.name, name, whole if record.channels == "RGB" else np.ascontiguousarray(whole[:, :, ::-1]),
        (picture.width, picture.height), subject.classes, place, values, subject.unit, sliding, record.crop,
        classifier.window, first, own // times, seconds, comparison,
    )  # fmt: skip


def _times(own: int, step: int | None) -> int:
    """How many places come from one of the grid's own step, for steps of so many pixels."""
    if step is None:
        parts = max(1, own // USUAL_STEP)
        return parts if own % parts == 0 else 1
    if step < 1 or own % step:
        allowed = ", ".join(str(part) for part in range(1, own + 1) if own % part == 0)
        raise OptionError(
            f"a step of {step} px does not divide the grid's own of {own} px.", f"Use one of {allowed}."
        )
    return own // step


def _compare(
    subject: Subject,
    pixels: torch.Tensor,
    corners: list[tuple[int, int]],
    chosen: Array,
    values: Array,
    progress: Progress,
) -> tuple[Array, CropComparison]:
    """Values ``[crops, classes]`` of real crops over the chosen windows, and how they compare with those of the form."""
    side = subject.preprocessing.crop
    found, mirrored, seconds = [], [], 0.0
    with torch.inference_mode():
        for start in range(0, len(chosen), CROPS_AT_ONCE):
            some = [corners[place] for place in chosen[start : start + CROPS_AT_ONCE]]
            began = time.perf_counter()
            crops = torch.cat([pixels[:, :, y : y + side, x : x + side] for y, x in some])
            found.append(subject.values(subject.scores(crops)).cpu().numpy())
            seconds += time.perf_counter() - began
            mirrored.append(subject.scores(crops.flip(3)).argmax(1).cpu().numpy())
            progress(start + len(some), len(chosen))
    real = np.concatenate(found)
    form = values.reshape(len(values), -1).T[chosen]  # [crops, classes]
    best = real.argmax(1)
    rows = np.arange(len(real))
    # of the largest class alone: the mean over a thousand would be near 0 whatever happens
    difference = float(np.abs(real[rows, best] - form[rows, best]).mean())
    return real, CropComparison(
        len(real), float((best == form.argmax(1)).mean()), float((best == np.concatenate(mirrored)).mean()),
        difference, seconds * len(corners) / len(real),
    )  # fmt: skip
