"""Classes by place in an image larger than the network's crop: the fully convolutional form, one heat map per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cnncodes.core.errors import ImageError, NetworkError, OptionError
from cnncodes.core.records import to_value
from cnncodes.images import normalise
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import whole_of
from cnncodes.networks.dense import DenseNetwork, dense_bytes, window_places
from cnncodes.pictures.classifier import as_text, little_of, note_of, refuse_folder
from cnncodes.pictures.drawing import COLOURS, HEAT, add_colour_bar, new_panels, pale, short, show_image

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from cnncodes.pictures.classifier import Classifier
    from cnncodes.pictures.drawing import Array, Bytes, Figure

LARGEST = 2 * 10**9  # bytes of activations
USUAL_STEP = 16  # pixels from one place to the next
USUAL_SIZE = 1.5  # the shorter side, in crops: in a larger image things look larger than those learned
MAPS = 5  # heat maps, unless a class is named
LEAST_SHARE = 0.005  # of the places: fewer are 0 %


@dataclass(frozen=True, eq=False)
class DenseMap:
    """Classes of an image by place."""

    model: str  # name of the network or model
    image: str
    rgb: Bytes  # [height, width, 3], the whole image, resized
    classes: tuple[str, ...]
    shown: tuple[int, ...]  # places of the classes that have a heat map
    values: Array  # [classes, rows, columns], in `unit`
    unit: str  # "probability" or "score"
    crop: int  # side of a window in pixels
    first: float  # pixel in the middle of the first window
    step: int  # pixels to the next window
    named: bool = False  # the class that is shown, by a person

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Place of the class with the largest value, ``[rows, columns]``."""
        best: npt.NDArray[np.int64] = self.values.argmax(0)
        return best

    @property
    def shares(self) -> dict[int, float]:
        """Place of each class that is the largest somewhere -> share of the windows, the commonest first."""
        found, counts = np.unique(self.best, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {int(found[place]): float(counts[place] / self.best.size) for place in order}

    @property
    def doubt(self) -> str | None:
        """That a class which a person named is hardly seen in any window; else None."""
        best = float(self.values[self.shown[0]].max())
        return little_of(self.classes[self.shown[0]], best, self.unit, "at most") if self.named else None

    def describe(self, most: int = 4) -> str:
        """The commonest classes with the share of places where each is the largest: ``bees 61 %, ants 39 %``."""
        told = [(k, share) for k, share in self.shares.items() if share >= LEAST_SHARE][:most]
        return ", ".join(f"{short(self.classes[k], 24)} {100 * share:.0f} %" for k, share in told)

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it; of the classes those with a map."""
        size, places = [self.rgb.shape[1], self.rgb.shape[0]], list(self.values.shape[1:])
        sizes = {"size": size, "places": places, "window_px": self.crop, "step_px": self.step}
        mean = {self.classes[k]: float(self.values[k].mean()) for k in self.shown}
        shares = {self.classes[k]: share for k, share in self.shares.items()}
        return {**to_value(self, "model", "image", "unit"), **sizes, "mean": mean, "share_of_places": shares}


def dense_map(
    classifier: Classifier,
    image: str | os.PathLike[str],
    size: int | None = None,
    *,
    step: int | None = None,
    class_name: str | int | None = None,
) -> DenseMap:
    """Class scores at every place of an image, all computed together.

    Each value is exactly that of the classifier on its window of the last grid. A crop cut out there would differ a
    little: it has padding at its border where the window has neighbours.

    Parameters
    ----------
    classifier : Classifier
    image : path
    size : int, optional
        Shorter side in pixels after resizing; default one and a half times the network's crop.
    step : int, optional
        Pixels from one place to the next, a divisor of the grid's own step; default 16, or the grid's own if that is less.
    class_name : str or int, optional
        The class whose map is drawn; default the five that are the largest at most places.

    Raises
    ------
    ImageError
        If it cannot be read, or is too large.
    OptionError
        If ``size`` is smaller than the crop, ``step`` does not divide the grid's, or the class is not there.
    """
    refuse_folder(image)
    record, network = classifier.preprocessing, classifier.weights.architecture
    asked = None if class_name is None else (classifier.class_place(class_name),)
    classes = classifier.classes
    if not network.stages:
        raise NetworkError(
            f"the fully convolutional form of '{network.name}' is not known here.",
            "Use a network that is written stage by stage, such as alexnet; 'show occlude' works with any.",
        )
    dense = DenseNetwork(classifier.network, record.crop)
    first, own = window_places(network, classifier.stage, record.crop)
    times = _times(own, step)
    try:
        # Decoded in full: the reduced ways to decode serve crops.
        whole = whole_of(decode(image), record, size or min(round(USUAL_SIZE * record.crop), 4096))
        height, width = whole.shape[:2]
        need = dense_bytes(network, height, width, dense.grid)
        if need > LARGEST:
            raise ImageError(
                f"{width:,} x {height:,} px need {need / 1e9:.1f} GB at once, more than {LARGEST / 1e9:.0f} GB.",
                "Use a smaller --size, or cut the image.",
            )
    except ImageError as error:
        name = Path(image).name
        raise ImageError(f"'{name}' cannot be shown: {error.problem.rstrip('.')}.", error.remedy) from error
    pixels = torch.from_numpy(normalise(whole[None], record)).to(classifier.device.torch_name)
    with torch.inference_mode():
        scores = finer_scores(classifier, dense, pixels, own // times, times)
        values = classifier.values(scores[None])[0].cpu().numpy()
    # A last window can need less than the whole crop: where the crop would stick out, there is no place.
    rows, columns = ((length - record.crop) // (own // times) + 1 for length in (height, width))
    rgb = whole if record.channels == "RGB" else np.ascontiguousarray(whole[:, :, ::-1])
    found = DenseMap(
        classifier.name, Path(image).name, rgb, classes, (), np.ascontiguousarray(values[:, :rows, :columns]),
        classifier.unit, record.crop, first, own // times, asked is not None,
    )  # fmt: skip
    return DenseMap(**{**vars(found), "shown": asked or tuple(found.shares)[:MAPS]})


def dense_scores(classifier: Classifier, dense: DenseNetwork, pixels: Tensor) -> Tensor:
    """Scores ``[classes, rows, columns]`` of the classifier on each window of pixels ``[1, 3, height, width]``."""
    codes = dense.activations(pixels, classifier.stage)
    side = dense.side(classifier.stage)
    rows, columns = (length - side + 1 for length in codes.shape[2:])
    windows = F.unfold(codes, side)[0].T  # one row per window, ordered as flatten(1) does
    return classifier.classify(windows).T.reshape(-1, rows, columns)


def finer_scores(
    classifier: Classifier, dense: DenseNetwork, pixels: Tensor, shift: int, times: int
) -> Tensor:
    """Scores as :func:`dense_scores`, at ``times`` as many places in each direction, ``shift`` pixels apart.

    The image is moved by parts of a step, and the maps are put together (Long, Shelhamer and Darrell 2015, section 3.2).
    """
    maps = {}
    for down in range(times):
        for across in range(times):
            part = pixels[:, :, shift * down :, shift * across :]
            if min(part.shape[2:]) >= dense.input_size:
                maps[down, across] = dense_scores(classifier, dense, part)
    rows = sum(scores.shape[1] for (_, across), scores in maps.items() if across == 0)
    columns = sum(scores.shape[2] for (down, _), scores in maps.items() if down == 0)
    stitched = pixels.new_empty(len(maps[0, 0]), rows, columns)
    for (down, across), scores in maps.items():
        stitched[:, down::times, across::times] = scores
    return stitched


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


def draw_dense(found: DenseMap) -> Figure:
    """The image with one window, and for each class a heat map of its value in the window around each square."""
    height, width = found.rgb.shape[:2]
    count = 1 + len(found.shown)
    columns = 1 if width > 3 * height else min(count, 3)
    note = note_of(found.image, found.model, found.classes, [found.doubt] if found.doubt else [], found.named)
    cell = min(12.5 / columns, 6 * width / height)
    title = f"{found.describe()} of the windows"
    figure, axes = new_panels(-(-count // columns), columns, cell, title, note, height / width)
    shown = found.values[list(found.shown)]
    low = 0.0 if found.unit == "probability" else float(shown.min())
    high = max(float(shown.max()), low + 0.01)
    show_image(axes[0], found.rgb, f"{width} x {height} px; the frame is one window")
    _draw_window(axes[0], found)
    for panel, place, values in zip(axes[1:], found.shown, shown, strict=False):
        name, most = short(found.classes[place], 24), as_text(float(values.max()), found.unit)
        show_image(panel, pale(found.rgb), f"'{name}': up to {most}")
        squares = on_pixels(found, values)
        heat = panel.imshow(squares, HEAT, vmin=low, vmax=high, interpolation="nearest")
        heat.set_alpha(0.25 + 0.6 * (squares.filled(low) - low) / (high - low))
    for panel in axes[count:]:
        panel.set_visible(False)
    add_colour_bar(figure, heat, axes, found.unit)
    return figure


def on_pixels(found: DenseMap, values: Array) -> np.ma.MaskedArray[Any, Any]:
    """Values by place as values by pixel: a square of ``step`` pixels around each window's middle; masked beyond."""
    start = round(found.first - found.step / 2 + 0.5)
    rows, columns = ((np.arange(length) - start) // found.step for length in found.rgb.shape[:2])
    inside = np.outer((rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1]))
    spread = values[rows.clip(0, values.shape[0] - 1)][:, columns.clip(0, values.shape[1] - 1)]
    return np.ma.masked_array(spread, ~inside)


def _draw_window(axes: Any, found: DenseMap) -> None:
    """Where the first class is the surest: the window, and the square in its middle that has its value."""
    row, column = np.unravel_index(found.values[found.shown[0]].argmax(), found.best.shape)
    for side, colour in ((found.crop, COLOURS[0]), (found.step, COLOURS[1])):
        left, top = np.array([column, row]) * found.step + found.first - side / 2
        across, down = left + side * np.array([0, 1, 1, 0, 0]), top + side * np.array([0, 0, 1, 1, 0])
        axes.plot(across, down, color="white", linewidth=5)
        axes.plot(across, down, color=colour, linewidth=2.5)
    axes.set_xlim(-0.5, found.rgb.shape[1] - 0.5)
    axes.set_ylim(found.rgb.shape[0] - 0.5, -0.5)
