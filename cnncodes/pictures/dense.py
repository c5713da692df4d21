"""Class scores as a map over a large image: the fully convolutional form, beside what sliding crops would cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.errors import ImageError
from cnncodes.evaluation.dense import DenseClassifier
from cnncodes.images.decode import decode
from cnncodes.images.whole import whole_of
from cnncodes.networks.dense import window_places
from cnncodes.pictures.drawing import add_colour_bar, legend_name, new_panels, plain
from cnncodes.pictures.map_record import evenly
from cnncodes.pictures.overlay import pale, set_title
from cnncodes.pictures.question import short
from cnncodes.pictures.subject import Bytes

if TYPE_CHECKING:
    import os

    from cnncodes.pictures.drawing import Axes, Figure
    from cnncodes.pictures.subject import Subject

Array = npt.NDArray[Any]
NAMED = 5  # classes with a colour of their own
CROPS_AT_ONCE = 16
#: At most so many crops are computed, spread over the image; beyond, their time is that of these in proportion.
MOST_CROPS = 200
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0))
OTHERS = (120, 120, 120)


@dataclass(frozen=True, eq=False)
class DenseMap:
    """Classes of an image by place.

    Parameters
    ----------
    subject, image : str
        Names of the network (or model) and of the image.
    rgb : uint8 array [height, width, 3]
        The whole image, resized.
    classes : tuple of K str
    values : float array [K, rows, columns]
        Probabilities, or scores where the classifier has no probabilities.
    unit : str
        "probability" or "score".
    crop, window : int
        Sides of the network's crop in pixels, and of the window in places of the grid that enters the classifier.
    first : float
        Pixel in the middle of the first window; ``step`` pixels to the next.
    step : int
    seconds, crops_seconds : float
        Of the whole map at once, and of a crop at each of its places, one after the other in batches.
    difference : float
        Of the largest value of real crops, whose border is padded, to that of the map there: mean magnitude.
    agree : float
        Share of places where map and real crop have the same most probable class.
    """

    subject: str
    image: str
    rgb: Bytes
    classes: tuple[str, ...]
    values: Array
    unit: str
    crop: int
    window: int
    first: float
    step: int
    seconds: float
    crops_seconds: float
    difference: float
    agree: float

    @property
    def mean(self) -> Array:
        """Mean over the map ``[K]``: what ``evaluate --dense`` counts."""
        mean: Array = self.values.mean((1, 2))
        return mean

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Place of the class with the largest value, ``[rows, columns]``."""
        best: npt.NDArray[np.int64] = self.values.argmax(0)
        return best

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it; the five classes with the largest mean."""
        top = np.argsort(-self.mean, kind="stable")[:NAMED]
        return {
            "model": self.subject,
            "image": self.image,
            "size": [self.rgb.shape[1], self.rgb.shape[0]],
            "places": [*self.values.shape[1:]],
            "step_px": self.step,
            "unit": self.unit,
            "mean": {self.classes[k]: float(self.mean[k]) for k in top},
            "dense_s": self.seconds,
            "crops_s": self.crops_seconds,
            "difference_to_crops": self.difference,
            "same_class_as_crops": self.agree,
        }


def dense_map(
    subject: Subject,
    image: str | os.PathLike[str],
    size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DenseMap:
    """Class scores at every place of an image, and the same by sliding crops for comparison.

    Parameters
    ----------
    subject : Subject
    image : path
    size : int, optional
        Shorter side in pixels after resizing; default twice the network's crop.
    progress : callable(done, total), optional
        Of the sliding crops.

    Raises
    ------
    ImageError
        If it cannot be read, or is too large.
    OptionError
        If ``size`` is smaller than the crop.
    """
    record = subject.preprocessing
    name = str(image).rsplit("/", 1)[-1]
    classifier = DenseClassifier(subject.weights, subject.head, subject.device)
    try:
        # The picture as it is: decoded small it would be too coarse for a large size.
        whole = whole_of(decode(image), record, size or 2 * record.crop)
        pixels = classifier.pixels(whole)
    except ImageError as error:
        raise ImageError(f"'{name}' cannot be shown: {error.problem.rstrip('.')}.", error.remedy) from error
    classifier.scores(pixels)  # the first pass of a process is slower than those after it
    started = time.perf_counter()
    values = classifier.values(classifier.scores(pixels))[0].cpu().numpy()
    seconds = time.perf_counter() - started
    first, step = window_places(subject.weights.architecture, classifier.stage, record.crop)
    places = evenly(np.arange(values[0].size), MOST_CROPS)
    crops, crops_seconds = _sliding(subject, pixels, values.shape[1:], step, places, progress)
    compared = values.reshape(len(values), -1).T[places]  # [places, classes]
    return DenseMap(
        subject.name, name, whole if record.channels == "RGB" else np.ascontiguousarray(whole[:, :, ::-1]),
        subject.classes, values, subject.unit, record.crop, classifier.window, first, step, seconds, crops_seconds,
        _difference(crops, compared), float((crops.argmax(1) == compared.argmax(1)).mean()),
    )  # fmt: skip


def _sliding(
    subject: Subject,
    pixels: torch.Tensor,
    shape: tuple[int, ...],
    step: int,
    places: Array,
    progress: Callable[[int, int], None],
) -> tuple[Array, float]:
    """Values ``[places, classes]`` of a real crop over some windows, and the seconds that all windows would take."""
    side = subject.preprocessing.crop
    height, width = pixels.shape[2:]
    # A crop that starts a whole number of steps from the corner has its stages' grids on those of the whole image.
    corners = [
        (min(step * row, height - side), min(step * column, width - side))
        for row in range(shape[0])
        for column in range(shape[1])
    ]
    some = [corners[place] for place in places]
    found = []
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(some), CROPS_AT_ONCE):
            batch = some[start : start + CROPS_AT_ONCE]
            crops = torch.cat([pixels[:, :, y : y + side, x : x + side] for y, x in batch])
            found.append(subject.values(subject.scores(crops)).cpu().numpy())
            progress(start + len(batch), len(some))
    seconds = (time.perf_counter() - started) * len(corners) / len(some)
    return np.concatenate(found), seconds


def _difference(crops: Array, compared: Array) -> float:
    """Of each crop's most probable class; the mean over a thousand classes would be near 0 whatever happens."""
    places = np.arange(len(crops))
    best = crops.argmax(1)
    return float(np.abs(crops[places, best] - compared[places, best]).mean())


def draw_dense(found: DenseMap) -> Figure:
    """The image with one window, the class with the largest mean over it, and the largest class at each place."""
    height, width = found.rgb.shape[:2]
    top = int(found.mean.argmax())
    rows, columns = found.values.shape[1:]
    title = (
        f"{found.image} at {width} x {height} px by {found.subject}: {rows} x {columns} places, {found.step} px apart, "
        f"in {found.seconds:.2f} s; as single crops {found.crops_seconds:.1f} s, "
        f"{found.crops_seconds / found.seconds:.0f} times as long"
    )
    figure, axes = new_panels(columns=3, cell=4.2, title=title, aspect=max(height / width, 0.55) + 0.12)
    axes[0].imshow(found.rgb, interpolation="nearest")
    box = np.array([-0.5, found.crop - 0.5])
    axes[0].plot(box[[0, 1, 1, 0, 0]], box[[0, 0, 1, 1, 0]], color="white", linewidth=2.5)
    axes[0].plot(box[[0, 1, 1, 0, 0]], box[[0, 0, 1, 1, 0]], color="black", linewidth=1)
    centres = found.first + found.step * np.arange(max(rows, columns))
    for row in range(rows):
        axes[0].plot(centres[:columns], np.full(columns, centres[row]), ".", color="white", markersize=2.5)
    set_title(axes[0], f"the first window ({found.crop} px), and the middles of all")

    name = short(plain(found.classes[top]))
    _pale(axes[1], found.rgb)
    heat = axes[1].imshow(
        found.values[top], cmap="inferno", alpha=0.75, extent=_extent(found), interpolation="nearest"
    )
    _whole(axes[1], found.rgb)
    set_title(axes[1], f"'{name}': largest mean\n{found.unit} over the map, {_text(found, top)}")
    add_colour_bar(figure, heat, axes[1], f"{found.unit} of '{name}'")
    _draw_best(figure, axes[2], found)
    return figure


def _draw_best(figure: Figure, axes: Axes, found: DenseMap) -> None:
    """The class with the largest value at each place, in colours, with a legend below."""
    best = found.best
    names, counts = np.unique(best, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named = names[order][:NAMED]
    colours = np.full((*best.shape, 3), OTHERS, np.uint8)
    entries = []
    for place, colour in zip(named, COLOURS, strict=False):
        colours[best == place] = colour
        share = (best == place).mean()
        name = legend_name(short(plain(found.classes[place]), 24))
        entries.append((f"{name} {100 * share:.0f} %", colour))
    if len(names) > len(named):
        entries.append((f"{len(names) - len(named)} others", OTHERS))
    _pale(axes, found.rgb)
    axes.imshow(colours, alpha=0.6, extent=_extent(found), interpolation="nearest")
    _whole(axes, found.rgb)
    set_title(axes, f"class with the largest {found.unit} at each place\n(legend: share of the places)")
    for name, colour in entries:
        axes.plot([], [], marker="s", markersize=8, linestyle="", color=np.array(colour) / 255, label=name)
    legend = figure.legend(loc="outside lower right", ncols=min(len(entries), 3), fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _extent(found: DenseMap) -> tuple[float, float, float, float]:
    """Where the map lies in the image, each place a square of ``step`` pixels around its window's middle."""
    rows, columns = found.values.shape[1:]
    start = found.first - found.step / 2
    return start, start + found.step * columns, start + found.step * rows, start


def _pale(axes: Axes, rgb: Bytes) -> None:
    axes.imshow(pale(rgb), interpolation="nearest")


def _whole(axes: Axes, rgb: Bytes) -> None:
    axes.set_xlim(-0.5, rgb.shape[1] - 0.5)
    axes.set_ylim(rgb.shape[0] - 0.5, -0.5)


def _text(found: DenseMap, place: int) -> str:
    value = float(found.mean[place])
    return f"{100 * value:.1f} %" if found.unit == "probability" else f"{value:+.3g}"
