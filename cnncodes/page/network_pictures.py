"""Pictures of the network on the page.

To add one, write a function, name it in :data:`PICTURES`, and say in ``templates/network.html`` what its kind shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError
from cnncodes.page.images import webp_of_figure
from cnncodes.page.record import Answers, NetworkPicture
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnncodes.pictures.classifier import Classifier, SeenImage
    from cnncodes.pictures.occlusion import Occlusion

LOOKED_AT = 3  # images of which the most telling one is shown
#: Of the class's probability or score (of at least 1, a margin): lost where a place is covered that decides.
DECIDES = 1 / 3


@dataclass(frozen=True, eq=False)
class Sitter:
    """What a picture is made of."""

    classifier: Classifier  # the run's network with its head
    answers: Answers | None
    files: Sequence[str]  # path of each row of the run's catalog


def filters(sitter: Sitter) -> NetworkPicture | None:
    """The first layer's filters."""
    from cnncodes.pictures.units import draw_filters, read_filters

    found = read_filters(sitter.classifier.weights)
    smooth = smoothness(found.values)
    drawn = webp_of_figure(draw_filters(found))
    return NetworkPicture("filters", *drawn, smoothness=smooth if math.isfinite(smooth) else None)


def smoothness(values: npt.NDArray[np.floating]) -> float:
    """Correlation of neighbouring numbers in filters ``[units, channels, rows, columns]``, the mean of the units.

    Random numbers have 0, a pattern without any grain nearly 1; NaN for filters of one pixel.
    """
    if min(values.shape[2:]) < 2:
        return float("nan")
    centred = values - values.mean(axis=(2, 3), keepdims=True)
    pairs = [(centred[..., 1:], centred[..., :-1]), (centred[..., 1:, :], centred[..., :-1, :])]
    sums = [((a * b).sum(axis=(1, 2, 3)), (a**2 + b**2).sum(axis=(1, 2, 3)) / 2) for a, b in pairs]
    return float(np.mean(sum(product for product, _ in sums) / (sum(power for _, power in sums) + 1e-12)))


@dataclass(frozen=True, eq=False)
class _Look:
    """An image, and what the model says while parts of it are covered."""

    image: SeenImage
    found: Occlusion

    @property
    def change(self) -> tuple[bool, float]:
        """How much covering matters: whether it changes the answer, and how far it lowers the class at most."""
        question = self.found.question
        return len(np.unique(self.found.best)) > 1, float(question.value - self.found.asked.min())

    @property
    def decides(self) -> bool:
        """Whether any place does: covered, it changes the answer or costs a large part of it."""
        changed, most = self.change
        value, unit = self.found.question.value, self.found.question.unit
        return changed or most >= DECIDES * (value if unit == "probability" else max(value, 1.0))


def where_right(sitter: Sitter) -> NetworkPicture | None:
    """Where the model looks, in one of the images that it is right about most surely."""
    answers = sitter.answers.answers if sitter.answers else ()
    return _covered(sitter, "right", [answer.row for answer in answers if answer.correct])


def where_wrong(sitter: Sitter) -> NetworkPicture | None:
    """Where the model looks, in one of the images that it is wrong about most surely."""
    answers = sitter.answers.mistakes if sitter.answers else ()
    return _covered(sitter, "wrong", [answer.row for answer in answers])


PICTURES: tuple[Callable[[Sitter], NetworkPicture | None], ...] = (filters, where_right, where_wrong)


def draw_pictures(sitter: Sitter, progress: Callable[[int], None]) -> tuple[list[NetworkPicture], list[str]]:
    """Every picture that can be made, and a note on each that cannot."""
    made, notes = [], []
    for place, draw in enumerate(PICTURES):
        try:
            picture = draw(sitter)
        except CnnCodesError as error:
            notes.append(
                f"the picture '{draw.__name__.replace('_', ' ')}' could not be drawn: {plain(error.problem)}"
            )
            continue
        finally:
            progress(place + 1)
        made += [picture] if picture else []
    return made, notes


def _covered(sitter: Sitter, kind: str, rows: list[int]) -> NetworkPicture | None:
    """Of the first images, with a coarse grid of patches, the one in which covering matters most; None of none."""
    from cnncodes.core.errors import ImageError
    from cnncodes.pictures.classifier import see_image
    from cnncodes.pictures.occlusion import draw_occlusion, occlude

    looks = []
    for row in rows[:LOOKED_AT]:
        try:
            image = see_image(sitter.files[row], sitter.classifier)
        except ImageError:
            continue
        patch = max(len(image.rgb) // 4, 2)
        looks.append(_Look(image, occlude(sitter.classifier, image, patch=patch, stride=patch)))
    if not looks:
        return None
    image = max(looks, key=lambda look: look.change).image
    side = len(image.rgb)
    fine = occlude(sitter.classifier, image, patch=max(side // 6, 2), stride=max(side // 8, 1))
    picture = webp_of_figure(draw_occlusion(fine))
    return NetworkPicture(kind, *picture, among=len(rows[:LOOKED_AT]), decides=_Look(image, fine).decides)
