"""What a classifier says while a grey patch slides over the image (Zeiler and Fergus 2014, section 4.2)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnncodes.codes.compute import exact_and_side_by_side
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import OptionError
from cnncodes.core.records import to_value
from cnncodes.pictures.attribution import occlusion
from cnncodes.pictures.classifier import Question, ask, crop_words, number, to_rgb
from cnncodes.pictures.drawing import add_colour_bar, new_panels, pale, set_title, short, show_image
from cnncodes.pictures.sheets import draw_classes

if TYPE_CHECKING:
    from cnncodes.pictures.classifier import Classifier, SeenImage
    from cnncodes.pictures.drawing import Array, Axes, Figure


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Answers for an image with a patch at every place of a grid."""

    question: Question
    patch: int  # its side in pixels
    stride: int  # pixels from one place to the next
    starts: Array  # int [n]: first row (or column) of the patch at each place; clipped at the far edge
    values: Array  # [n, n, classes], in `question.unit`; the first axis goes down
    per_pixel: Array  # [side, side]: mean loss of the class over the patches that cover a pixel (captum)
    classes: tuple[str, ...]
    grey: Array  # colour of the patch, red, green and blue

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it: the question, the grid, and the class's value at each place."""
        best = [[self.classes[k] for k in row] for row in self.best]
        grid = to_value(self, "patch", "stride", "starts", "changed")
        return {**self.question.to_json(), **grid, "values": self.asked.tolist(), "best": best}

    @property
    def asked(self) -> Array:
        """Value of the class that is asked about with the patch at each place, ``[n, n]``."""
        found: Array = self.values[:, :, self.question.place]
        return found

    @property
    def best(self) -> Array:
        """Place of the largest class at each place, int ``[n, n]``."""
        return np.asarray(self.values.argmax(axis=2))

    @property
    def changed(self) -> float:
        """Share of the places where the largest class is another than without a patch."""
        return float((self.best != self.question.predicted_place).mean())


def occlude(
    classifier: Classifier,
    image: SeenImage,
    *,
    class_name: str | int | None = None,
    patch: int = 32,
    stride: int = 8,
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> Occlusion:
    """Slide a grey patch over an image and ask for the classes at each place, by ``captum.attr.Occlusion``.

    Parameters
    ----------
    classifier : Classifier
    image : SeenImage
    class_name : str or int, optional
        The predicted class by default.
    patch, stride : int, default 32 and 8
        In pixels. Grey is the mean colour that the preprocessing subtracts.
    batch_size : int, default 64
        Patches computed together; on a CPU each core computes a batch of its own.
    progress : Progress, optional

    Raises
    ------
    OptionError
        If patch or stride do not fit the image, or the class is not there.
    """
    starts = places(len(image.rgb), patch, stride)
    question = ask(classifier, image, class_name)
    values: list[torch.Tensor] = []  # first of the image without a patch

    def score(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():  # in each thread
            return classifier.values(classifier.scores(pixels))

    workers = classifier.device.cores if classifier.device.is_cpu else 1
    with exact_and_side_by_side(classifier.device), ThreadPoolExecutor(workers) as pool:

        def answer(pixels: torch.Tensor) -> torch.Tensor:
            before = len(values)
            parts = [pixels[start : start + batch_size] for start in range(0, len(pixels), batch_size)]
            for found in pool.map(score, parts):
                values.append(found)
                if len(values) > 1:
                    progress("sliding a patch", sum(map(len, values[1:])), len(starts) ** 2, "")
            return torch.cat(values[before:])[:, question.place]

        found = occlusion(answer, image.pixels, patch, stride, batch_size * workers)
    columns = torch.cat(values[1:]).reshape(len(starts), len(starts), -1)  # captum goes down first
    grid = columns.transpose(0, 1).cpu().numpy()
    grey = to_rgb(image.pixels.new_zeros(1, 3, 1, 1), classifier.preprocessing)[0, 0, 0]
    return Occlusion(
        question, patch, stride, np.array(starts), grid, found.cpu().numpy(), classifier.classes, grey
    )


def places(side: int, patch: int, stride: int) -> list[int]:
    """First rows (and columns) of a sliding patch; the last one may stick out and is clipped. Raises OptionError."""
    if not 1 <= patch < side:
        raise OptionError(
            f"a patch of {patch} px does not slide over an image of {side} px.",
            f"Use 1 to {side - 1} px, such as --patch {max(side // 7, 1)}.",
        )
    if not 1 <= stride <= patch:
        raise OptionError(
            f"a stride of {stride} px leaves gaps, or no way, for a patch of {patch} px.",
            f"Use 1 to {patch} px, such as --stride {max(patch // 4, 1)}.",
        )
    return [stride * place for place in range(-(-(side - patch) // stride) + 1)]


def draw_occlusion(found: Occlusion) -> Figure:
    """The image with the patch where it costs most; what the patch costs or gains, and the largest class, by its centre.

    Where one class is the largest wherever the patch is, that is said in place of a third panel of one colour.
    """
    question, classes = found.question, np.unique(found.best)
    title = question.title
    if len(classes) == 1:
        answer = f"the answer '{short(found.classes[int(classes[0])])}'"
        same = classes[0] == question.predicted_place
        title += f". No patch changes {answer}" if same else f". With any patch, {answer} is given"
    panels, aspect = (3, 1.1) if len(classes) > 1 else (2, 1.02)
    figure, axes = new_panels(columns=panels, cell=4.6, title=title, note=question.note, aspect=aspect)
    least = float(found.asked.min())
    row, column = (found.starts[place] for place in np.unravel_index(found.asked.argmin(), found.asked.shape))
    covered = question.rgb.copy()
    covered[row : row + found.patch, column : column + found.patch] = found.grey
    costs = least < question.value
    left = "left" if costs and question.unit == "probability" else "with it"
    where = f"{found.patch} px of grey where it {'costs most' if costs else 'helps least'};"
    value = f"{question.unit} {left}: {number(least, question.unit)}"
    show_image(axes[0], covered, f"{crop_words(question.seen)};\n{where}\n{value}")
    _draw_change(figure, axes[1], found)
    if len(classes) > 1:
        on_pixels = _on_pixels(found, found.best)
        draw_classes(figure, axes[2], question.rgb, found.best, on_pixels, found.classes)
        share = f"not '{short(question.predicted, 24)}' at {100 * found.changed:.0f} % of the places"
        set_title(axes[2], f"the network's answer, by the patch's centre:\n{share}")
    return figure


def _draw_change(figure: Figure, axes: Axes, found: Occlusion) -> None:
    """The class's value by the patch's centre: red below the value without a patch, blue above, clear where equal."""
    unit, value = found.question.unit, found.question.value
    probability = unit == "probability"
    values = _on_pixels(found, found.asked)
    # The colours reach at least ten points of a probability to both sides, or half of a small one: what changes less stays pale.
    least = min(0.1, max(value / 2, 0.005)) if probability else 0.5
    away = float(np.abs(found.asked - value).max())
    reach = max(away, least)
    ends = [number(float(end), unit) for end in (values.min(), values.max())]
    span = ("" if probability else "score ") + " to ".join(dict.fromkeys(ends))
    little = "little changes" if away < least / 2 else f"without a patch {number(value, unit)}"
    show_image(
        axes, pale(found.question.rgb), f"red: covering costs, blue: covering helps\n({span}; {little})"
    )
    heat = axes.imshow(values, cmap="RdBu", vmin=value - reach, vmax=value + reach)
    heat.set_alpha(np.clip(0.12 + 1.2 * np.abs(values.filled(value) - value) / reach, 0, 0.85))
    bar = add_colour_bar(
        figure, heat, axes, f"{unit} of '{short(found.question.name, 24)}' with the patch there"
    )
    low, high = bar.ax.get_ylim()
    if probability:
        low, high = max(low, 0.0), min(high, 1.0)
        bar.ax.set_ylim(low, high)
    near = 0.08 * (high - low)
    ticks = [tick for tick in bar.get_ticks() if low <= tick <= high and abs(tick - value) > near]
    words = [f"{100 * tick:.3g} %" if probability else f"{tick:.3g}" for tick in ticks]
    bar.set_ticks([*ticks, value], labels=[*words, "no\npatch"])
    bar.ax.yaxis.labelpad = 8


def _on_pixels(found: Occlusion, values: Array) -> np.ma.MaskedArray[Any, Any]:
    """Values by place as values by pixel: a square of ``stride`` pixels around the patch's centre; masked beyond."""
    side = len(found.question.rgb)
    centres = (found.starts + np.minimum(found.starts + found.patch, side)) / 2
    away = np.abs(np.arange(side)[:, None] + 0.5 - centres)
    nearest, outside = away.argmin(axis=1), away.min(axis=1) > found.stride / 2
    return np.ma.masked_array(values[nearest][:, nearest], outside[:, None] | outside)
