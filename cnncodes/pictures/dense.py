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
from cnncodes.pictures.question import GUESS, as_text, ask, short
from cnncodes.pictures.subject import Bytes, refuse_folder, view_of

if TYPE_CHECKING:
    import os

    from cnncodes.pictures.question import Question
    from cnncodes.pictures.subject import Subject

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
NAMED = 5  # classes in the JSON
CROPS_AT_ONCE = 16
#: At most so many crops are compared, spread over the image; the time of all is that of these in proportion.
MOST_CROPS = 100
#: Where a smaller share of them agrees with the map, real crops are drawn in its place, if there are not more places than this.
RELIABLE, MOST_SLIDING = 0.5, 400
USUAL_STEP = 16  # pixels from one place to the next
#: The usual shorter side, in crops: things look at most half as large again as the network has learned them.
USUAL_SIZE = 1.5
#: From which share of alike answers on, and up to which enlargement, nobody has to be warned.
ALIKE, ENLARGED = 0.75, 1.15
LEAST_SHARE = 0.005  # of the places: fewer are 0 %
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
    whole : Question
        What the network says of the image's centre crop, as every other picture shows it.
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
    whole: Question

    @property
    def mean(self) -> Array:
        """Mean over the map ``[K]``."""
        mean: Array = self.values.mean((1, 2))
        return mean

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Place of the class with the largest value, ``[rows, columns]``; K where no class has 10 %, as that is a guess."""
        return _best(self.values, self.unit)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, and at last what :attr:`best` calls K."""
        return (*self.classes, f"unsure (under {100 * GUESS:.0f} %)")

    @property
    def enlarged(self) -> float:
        """How many times as large as in the file the image was looked at; less than 1 if it was made smaller."""
        height, width = self.rgb.shape[:2]
        return float(max(width / self.original[0], height / self.original[1]))

    @property
    def unreliable(self) -> bool:
        """Whether the map is of the fully convolutional form although most crops say something else."""
        return not self.sliding and self.crops.agree < RELIABLE

    @property
    def answer(self) -> str:
        """What the whole image is taken for: ``the image as a whole (its centre crop): 'ant', probability 67 %``."""
        said = as_text(self.whole.predicted_value, self.unit)
        doubt = f": {self.whole.doubt.partition(', so ')[0]}" if self.whole.doubt else ""
        if not doubt and self.whole.knows_only:
            doubt = f" (the model {self.whole.knows_only})"
        return f"the image as a whole (its centre crop): '{short(self.whole.predicted, 24)}', {said}{doubt}"

    @property
    def drawn(self) -> str:
        """What each square has been answered by, in a sentence."""
        if not self.sliding:
            return "Squares: the network over the whole image at once"
        alike = f"the network over the whole image at once agrees with {100 * self.crops.agree:.0f} % of them"
        return f"Squares: a real crop each; {alike}"

    def describe(self, most: int = 4) -> str:
        """The commonest classes with the share of places where each is the largest: ``bees 61 %, ants 39 %``.

        Where none is, comes last: ``bees 61 %; unsure (under 10 %) 39 %``.
        """
        every, shares = commonest(self.best, self.best.size)
        told = [(int(k), f"{short(self.names[k], 24)} {100 * share:.0f} %")
                for k, share in zip(every, shares, strict=True) if share >= LEAST_SHARE]  # fmt: skip
        classes = ", ".join([text for k, text in told if k < len(self.classes)][:most])
        return "; ".join(
            part for part in (classes, *(text for k, text in told if k == len(self.classes))) if part
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
        mirrored = f"mirrored, only {100 * self.crops.mirrored:.0f} % of the crops keep their class"
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
            "whole_image": self.whole.predicted,
            f"whole_image_{self.unit}": self.whole.predicted_value,
            "unreliable": self.unreliable,
            "unit": self.unit,
            "mean": {self.classes[k]: float(self.mean[k]) for k in top},
            "share_of_places": {self.names[k]: float(share) for k, share in zip(named, shares, strict=True)},
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
    sliding: bool | None = None,
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
        The class whose map is drawn; default the one that is the largest at most places, guesses left out.
    sliding : bool, optional
        Whether to compute a crop at each place instead: slow, and just what the network says of it. Default: only where fewer
        than half of the crops that are compared have the class of the map, and there are at most 400 places.
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
    crops, comparison = _compare(subject, pixels, corners, values, sliding, progress)
    if crops is not None:
        values = np.ascontiguousarray(crops.T).reshape(values.shape)
    place = _commonest_class(values, subject.unit) if asked is None else asked
    return DenseMap(
        subject.name, name, whole if record.channels == "RGB" else np.ascontiguousarray(whole[:, :, ::-1]),
        (picture.width, picture.height), subject.classes, place, values, subject.unit, crops is not None, record.crop,
        classifier.window, first, own // times, seconds, comparison, ask(subject, view_of(image, subject)),
    )  # fmt: skip


def _best(values: Array, unit: str) -> npt.NDArray[np.int64]:
    """The class with the largest of values ``[K, rows, columns]``; K where that is a guess."""
    best: npt.NDArray[np.int64] = values.argmax(0)
    return np.where(values.max(0) < GUESS, len(values), best) if unit == "probability" else best


def _commonest_class(values: Array, unit: str) -> int:
    """The class that is the largest at most places; places that are guesses count only if all are."""
    best = _best(values, unit)
    known = best[best < len(values)]
    return int(commonest(known if len(known) else values.argmax(0), 1)[0][0])


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
    values: Array,
    sliding: bool | None,
    progress: Progress,
) -> tuple[Array | None, CropComparison]:
    """Values ``[places, classes]`` of real crops, or None if they shall not be drawn, and how crops compare with the form.

    They shall if that is asked for, or ``sliding`` is None, few of some crops agree, and all are not too many.
    """
    form = values.reshape(len(values), -1).T  # [places, classes]
    chosen = every = np.arange(len(corners))
    if not sliding:
        chosen = evenly(every, MOST_CROPS)
    real, mirrored, seconds = _crops(subject, pixels, [corners[place] for place in chosen], progress)
    few = (real.argmax(1) == form[chosen].argmax(1)).mean() < RELIABLE
    drawn = sliding or (sliding is None and few and len(corners) <= MOST_SLIDING)
    if drawn and len(chosen) < len(corners):
        rest, done = np.setdiff1d(every, chosen), len(chosen)
        more = _crops(
            subject,
            pixels,
            [corners[place] for place in rest],
            lambda n, total: progress(done + n, done + total),
        )
        order = np.argsort(np.concatenate([chosen, rest]))
        real, mirrored = (
            np.concatenate(pair)[order] for pair in zip((real, mirrored), more[:2], strict=True)
        )
        chosen, seconds = every, seconds + more[2]
    best, rows = real.argmax(1), np.arange(len(real))
    agree = best == form[chosen].argmax(1)
    # of the largest class alone: the mean over a thousand would be near 0 whatever happens
    difference = float(np.abs(real[rows, best] - form[chosen][rows, best]).mean())
    return real if drawn else None, CropComparison(
        len(real), float(agree.mean()), float((best == mirrored).mean()), difference, seconds * len(corners) / len(real)
    )  # fmt: skip


def _crops(
    subject: Subject, pixels: torch.Tensor, corners: list[tuple[int, int]], progress: Progress
) -> tuple[Array, Array, float]:
    """Values ``[crops, classes]`` of crops with these corners, their classes when mirrored, and the seconds of the first."""
    side = subject.preprocessing.crop
    found, mirrored, seconds = [], [], 0.0
    with torch.inference_mode():
        for start in range(0, len(corners), CROPS_AT_ONCE):
            some = corners[start : start + CROPS_AT_ONCE]
            began = time.perf_counter()
            crops = torch.cat([pixels[:, :, y : y + side, x : x + side] for y, x in some])
            found.append(subject.values(subject.scores(crops)).cpu().numpy())
            seconds += time.perf_counter() - began
            mirrored.append(subject.scores(crops.flip(3)).argmax(1).cpu().numpy())
            progress(start + len(some), len(corners))
    return np.concatenate(found), np.concatenate(mirrored), seconds
