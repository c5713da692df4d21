"""What a classifier says while a grey patch slides over the image (Zeiler and Fergus 2014, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.compute import exact_and_side_by_side
from cnncodes.errors import OptionError
from cnncodes.pictures.class_map import draw_classes
from cnncodes.pictures.drawing import add_change_bar, new_panels, plain
from cnncodes.pictures.overlay import pale, set_title
from cnncodes.pictures.question import Question, as_text, ask, short
from cnncodes.pictures.subject import crop_words, to_rgb
from cnncodes.pictures.windows import PatchedScores, Span

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure
    from cnncodes.pictures.subject import Subject, View

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
COLOURS = "RdBu"  # red where the patch costs, blue where it helps


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Answers for an image with a patch at every place of a grid.

    Parameters
    ----------
    question : Question
    patch, stride : int
        Side of the patch, and distance between neighbouring places, in pixels.
    starts : int array [n]
        First row (or column) of the patch at each place: 0, stride, 2 stride, ... until the patch touches the far edge.
        There it is clipped, if the stride does not end at the edge.
    values : float32 array [n, n, classes]
        Probabilities (or scores, see ``question.unit``) with the patch there; the first axis goes down.
    classes : tuple of str
    grey : tuple of 3 int
        Colour of the patch, red, green and blue.
    """

    question: Question
    patch: int
    stride: int
    starts: Array
    values: Array
    classes: tuple[str, ...]
    grey: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it: the question, the grid, and the class's value at each place."""
        return {
            **self.question.to_json(),
            "patch": self.patch,
            "stride": self.stride,
            "starts": self.starts.tolist(),
            "values": self.asked.tolist(),
            "changed": self.changed,
            "best": [[self.classes[k] for k in row] for row in self.best],
        }

    @property
    def side(self) -> int:
        """Side of the image in pixels."""
        return len(self.question.rgb)

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

    @property
    def per_pixel(self) -> Array:
        """How much the class loses where a pixel is covered: the mean over all patches that cover it, ``[side, side]``.

        captum calls this its attribution by occlusion. Negative where covering helps the class.
        """
        total = np.zeros((self.side, self.side))
        count = np.zeros((self.side, self.side))
        for i, row in enumerate(self.starts):
            for j, column in enumerate(self.starts):
                covered = np.s_[row : row + self.patch, column : column + self.patch]
                total[covered] += self.question.value - self.asked[i, j]
                count[covered] += 1
        mean: Array = total / count
        return mean


def occlude(
    subject: Subject,
    view: View,
    *,
    class_name: str | int | None = None,
    patch: int = 32,
    stride: int = 8,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Occlusion:
    """Slide a grey patch over an image and ask for the classes at each place.

    Grey is the mean colour that the preprocessing subtracts, the same windows and the same baseline as
    ``captum.attr.Occlusion`` with ``baselines=0``. Only what the patch changes is computed again, see
    :mod:`cnncodes.pictures.windows`; results differ from computing everything by float32's rounding.

    Parameters
    ----------
    subject : Subject
    view : View
    class_name : str or int, optional
        The predicted class by default.
    patch, stride : int, default 32 and 8
        In pixels.
    batch_size : int, default 64
        Patches computed together; on a CPU each core computes a batch of its own.
    progress : callable, optional
        Called with places done and places in all.

    Raises
    ------
    OptionError
        If patch or stride do not fit the image, or the class is not there.
    """
    side = len(view.rgb)
    starts = places(side, patch, stride)
    question = ask(subject, view, class_name)
    spans = [Span(start, min(patch, side - start)) for start in starts]
    boxes = [(rows, columns) for rows in spans for columns in spans]
    values = np.empty((len(boxes), len(subject.classes)), np.float32)
    workers = subject.device.cores if subject.device.is_cpu else 1
    with exact_and_side_by_side(subject.device), ThreadPoolExecutor(workers) as pool:
        scores = PatchedScores(subject, view.pixels, boxes)

        def compute(begin: int) -> int:
            part = boxes[begin : begin + batch_size]
            values[begin : begin + len(part)] = subject.values(scores(part)).cpu().numpy()
            return begin + len(part)

        for done in pool.map(compute, range(0, len(boxes), batch_size)):
            if progress:
                progress(done, len(boxes))
    shape = (len(starts), len(starts), -1)
    grey = to_rgb(view.pixels.new_zeros(1, 3, 1, 1), subject.preprocessing)[0, 0, 0]
    return Occlusion(
        question,
        patch,
        stride,
        np.array(starts),
        values.reshape(shape),
        subject.classes,
        (int(grey[0]), int(grey[1]), int(grey[2])),
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


def least_reach(value: float, unit: str) -> float:
    """How far the colours reach at least to both sides of the value without a patch: what changes less stays pale.

    Ten points of a probability, or half of a small one: from 4 % to 2 % is much. Below half a point, all is noise.
    """
    return min(0.1, max(value / 2, 0.005)) if unit == "probability" else 0.5


def draw_occlusion(occlusion: Occlusion) -> Figure:
    """The image with the patch where it costs most; what the patch costs or gains, and the largest class, by its centre.

    Where one class is the largest wherever the patch is, that is said in place of a third panel of one colour.
    """
    question, unit = occlusion.question, occlusion.question.unit
    found = np.unique(occlusion.best)
    title = question.heading
    if len(found) == 1:
        answer = f"the answer '{short(plain(occlusion.classes[int(found[0])]))}'"
        same = found[0] == question.predicted_place
        title += f". No patch changes {answer}" if same else f". With any patch, {answer} is given"
    panels, aspect = (3, 1.06) if len(found) > 1 else (2, 0.98)
    figure, axes = new_panels(columns=panels, cell=4.3, title=title, aspect=aspect)
    lowest = np.unravel_index(occlusion.asked.argmin(), occlusion.asked.shape)
    _draw_patch(axes[0], occlusion, *(int(occlusion.starts[place]) for place in lowest))
    asked = as_text(float(occlusion.asked.min()), unit).removeprefix("probability ")
    costs = "costs most" if occlusion.asked.min() < question.value else "helps least"
    set_title(
        axes[0],
        f"{crop_words(question.seen)};\n{occlusion.patch} px of grey where it {costs}: {asked}",
    )
    _draw_change(figure, axes[1], occlusion)
    if len(found) > 1:
        places = _on_pixels(occlusion, occlusion.best)
        draw_classes(
            figure, axes[2], question.rgb, occlusion.best, places, occlusion.classes, size=11, shares=True
        )
        other = (
            f"not '{short(plain(question.predicted), 24)}' at {100 * occlusion.changed:.0f} % of the places"
        )
        set_title(axes[2], f"the network's answer, by the patch's centre:\n{other}")
    return figure


def _draw_change(figure: Figure, axes: Axes, occlusion: Occlusion) -> None:
    """The class's value by the patch's centre: red below the value without a patch, blue above, clear where equal."""
    question, unit = occlusion.question, occlusion.question.unit
    values, plain_value = _on_pixels(occlusion, occlusion.asked), question.value
    away = float(np.abs(occlusion.asked - plain_value).max())
    least = least_reach(plain_value, unit)
    reach = max(away, least)
    axes.imshow(pale(question.rgb), interpolation="nearest")
    heat = axes.imshow(values, cmap=COLOURS, vmin=plain_value - reach, vmax=plain_value + reach)
    heat.set_alpha(np.clip(0.12 + 1.2 * np.abs(values.filled(plain_value) - plain_value) / reach, 0, 0.85))
    ends = [as_text(float(end), unit).removeprefix(f"{unit} ") for end in (values.min(), values.max())]
    span = " to ".join(dict.fromkeys(ends))
    without = as_text(plain_value, unit).removeprefix(f"{unit} ")
    little = "little changes" if away < least / 2 else f"without a patch {without}"
    set_title(
        axes,
        f"red: covering costs, blue: covering helps\n({'' if unit == 'probability' else 'score '}{span}; {little})",
    )
    name = short(plain(question.name), 24)
    # A probability ends at 0 and at 1: colours beyond are not in the bar.
    add_change_bar(figure, heat, axes, f"{unit} of '{name}' with the patch there", plain_value, unit)


def _draw_patch(axes: Axes, occlusion: Occlusion, row: int, column: int) -> None:
    """The image with the patch at one place."""
    covered = occlusion.question.rgb.copy()
    covered[row : row + occlusion.patch, column : column + occlusion.patch] = occlusion.grey
    axes.imshow(covered, interpolation="nearest")


def _on_pixels(occlusion: Occlusion, values: Array) -> np.ma.MaskedArray[Any, Any]:
    """Values by place as values by pixel: a square of ``stride`` pixels around the patch's centre; masked beyond."""
    stops = np.minimum(occlusion.starts + occlusion.patch, occlusion.side)
    centres = (occlusion.starts + stops) / 2
    away = np.abs(np.arange(occlusion.side)[:, None] + 0.5 - centres)
    nearest, outside = away.argmin(axis=1), away.min(axis=1) > occlusion.stride / 2
    return np.ma.masked_array(values[nearest][:, nearest], outside[:, None] | outside)
