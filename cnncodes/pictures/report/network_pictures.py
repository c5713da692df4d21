"""Pictures of the network on the page. To add one, write a function and name it in :data:`PICTURES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncodes.errors import CnnCodesError
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.images import webp_of_figure
from cnncodes.pictures.report.record import Answers, NetworkPicture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnncodes.pictures.drawing import Figure
    from cnncodes.pictures.subject import Subject


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

    figure = draw_filters(read_filters(sitter.subject.weights))
    return _picture(
        "What the first stage looks for",
        "Each square is a filter of conv1: the pattern that it answers to wherever it is in the picture, such as edges in all "
        "directions, and colours. Smooth "
        "patterns are a sign of a network that was trained well; noise is one of too little training.",
        figure,
    )


def surest_right(sitter: Sitter) -> NetworkPicture | None:
    """Where the model looks in the image that it is right about most surely."""
    right = [answer.row for answer in sitter.answers.answers if answer.correct] if sitter.answers else []
    return _occlusion(
        sitter, right, "Where it looks, when right", "The test image that it is surest of, and right."
    )


def surest_mistake(sitter: Sitter) -> NetworkPicture | None:
    """Where the model looks in the image that it is wrong about most surely."""
    wrong = [answer.row for answer in sitter.answers.mistakes] if sitter.answers else []
    return _occlusion(
        sitter, wrong, "Where it looks, when wrong", "Its surest mistake among the test images."
    )


PICTURES: tuple[Callable[[Sitter], NetworkPicture | None], ...] = (filters, surest_right, surest_mistake)


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


def _occlusion(sitter: Sitter, rows: list[int], title: str, first: str) -> NetworkPicture | None:
    """The first of the images that can be read, with a grey patch slid over it."""
    from cnncodes.errors import ImageError
    from cnncodes.pictures.occlusion import draw_occlusion, occlude
    from cnncodes.pictures.subject import view_of

    for row in rows[:5]:
        try:
            view = view_of(sitter.files[row], sitter.subject)
        except ImageError:
            continue
        side = len(view.rgb)
        found = occlude(sitter.subject, view, patch=max(side // 6, 2), stride=max(side // 10, 1))
        text = (
            f"{first} A grey patch slides over it, and the model answers each time: red is where covering the image costs "
            "the answer most, so what is there speaks for it; blue is where covering it helps. If what counts is the background, "
            "more varied images help."
        )
        return _picture(title, text, draw_occlusion(found))
    return None


def _picture(title: str, text: str, figure: Figure) -> NetworkPicture:
    image, width, height = webp_of_figure(figure)
    return NetworkPicture(title, text, image, width, height)
