"""Pictures of the network on the page. To add one, write a function and name it in :data:`PICTURES`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.errors import CnnCodesError
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.images import webp_of_figure
from cnncodes.pictures.report.record import Answers, NetworkPicture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnncodes.pictures.drawing import Figure
    from cnncodes.pictures.occlusion import Occlusion
    from cnncodes.pictures.subject import Subject, View

LOOKED_AT = 5  # images of which the most telling one is shown
DECIDES = (
    1 / 3
)  # of the class's probability or score (of at least 1, a margin): lost where a spot is covered that decides
NOISE = 0.15  # correlation of neighbouring numbers below which filters are called noise


@dataclass(frozen=True, eq=False)
class Sitter:
    """What a picture is made of.

    Parameters
    ----------
    subject : Subject
        The run's network and classifier.
    answers : Answers or None
    files : sequence of str
        Path of each row of the run's catalog.
    """

    subject: Subject
    answers: Answers | None
    files: Sequence[str]


def filters(sitter: Sitter) -> NetworkPicture | None:
    """The first layer's filters."""
    from cnncodes.pictures.filters import draw_filters, read_filters

    found = read_filters(sitter.subject.weights)
    text = "Each square is a filter of conv1: the pattern that it answers to wherever it is in the picture"
    return _picture(
        "What the first stage looks for", f"{text}{_grain(smoothness(found.values))}", draw_filters(found)
    )


def smoothness(values: npt.NDArray[np.floating]) -> float:
    """Correlation of neighbouring numbers in filters ``[units, channels, rows, columns]``, the mean of the units.

    Random numbers have 0, a pattern without any grain nearly 1; NaN for filters of one pixel.
    """
    if min(values.shape[2:]) < 2:
        return float("nan")
    centred = values - values.mean(axis=(2, 3), keepdims=True)
    pairs = [
        (centred[..., 1:], centred[..., :-1]),
        (centred[..., 1:, :], centred[..., :-1, :]),
    ]
    sums = [((a * b).sum(axis=(1, 2, 3)), (a**2 + b**2).sum(axis=(1, 2, 3)) / 2) for a, b in pairs]
    return float(np.mean(sum(product for product, _ in sums) / (sum(power for _, power in sums) + 1e-12)))


def _grain(smooth: float) -> str:
    """The rest of a sentence on filters: what patterns they are, and how much noise is in them, by its measure."""
    known = ", such as edges in all directions, and colours."
    if not math.isfinite(smooth):
        return known
    measured = f"Neighbouring numbers of a filter agree by {max(smooth, 0.0):.2f} (correlation; random numbers: 0, no grain at all: nearly 1)"
    if smooth < NOISE:
        return f". {measured}: this is noise, so the stage has learned next to nothing."
    return f"{known} Grain over the patterns, where there is any, is what a training with few images leaves. {measured}."


@dataclass(frozen=True, eq=False)
class _Look:
    """An image, and what the model says while parts of it are covered."""

    view: View
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
    right = [answer.row for answer in sitter.answers.answers if answer.correct] if sitter.answers else []
    look = _telling(sitter, right)
    if look is None:
        return None
    which = _which(
        f"{min(len(right), LOOKED_AT)} surest right answers" if right[1:] else "", "Its only right answer."
    )
    text = (
        f"{which} A grey patch slides over the image, and the model answers each time: red "
        "is where covering costs the answer most, so what is there speaks for it; blue is where covering helps. If what counts "
        "is the background, more varied images help."
    )
    return _covered(look, "right", text)


def where_wrong(sitter: Sitter) -> NetworkPicture | None:
    """Where the model looks, in one of the images that it is wrong about most surely."""
    wrong = [answer.row for answer in sitter.answers.mistakes] if sitter.answers else []
    look = _telling(sitter, wrong)
    if look is None:
        return None
    which = _which(f"{min(len(wrong), LOOKED_AT)} surest mistakes" if wrong[1:] else "", "Its only mistake.")
    return _covered(look, "wrong", f"{which} Red speaks for the wrong answer, blue against it.")


def _which(among: str, only: str) -> str:
    return f"Of its {among}, the one in which covering a part matters most." if among else only


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


def _telling(sitter: Sitter, rows: list[int]) -> _Look | None:
    """Of the first images, with a coarse grid of patches, the one in which covering matters most; None of none."""
    from cnncodes.errors import ImageError
    from cnncodes.pictures.occlusion import occlude
    from cnncodes.pictures.subject import view_of

    looks = []
    for row in rows[:LOOKED_AT]:
        try:
            view = view_of(sitter.files[row], sitter.subject)
        except ImageError:
            continue
        patch = max(len(view.rgb) // 6, 2)
        looks.append(_Look(view, occlude(sitter.subject, view, patch=patch, stride=patch)))
    if not looks:
        return None
    view = max(looks, key=lambda look: look.change).view
    side = len(view.rgb)
    fine = occlude(sitter.subject, view, patch=max(side // 6, 2), stride=max(side // 10, 1))
    return _Look(view, fine)


def _covered(look: _Look, when: str, text: str) -> NetworkPicture:
    """The picture of an occlusion, under a title that it keeps."""
    from cnncodes.pictures.occlusion import draw_occlusion

    title = f"Where it looks, when {when}" if look.decides else f"When {when}, no single spot decides"
    return _picture(title, text, draw_occlusion(look.found))


def _picture(title: str, text: str, figure: Figure) -> NetworkPicture:
    image, width, height = webp_of_figure(figure)
    return NetworkPicture(title, text, image, width, height)
