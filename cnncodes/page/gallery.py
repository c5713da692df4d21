"""Pages of pictures: the gallery of `predict`, the most doubtful image first, and the slides of `show all`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncodes.core.outputs import write_whole
from cnncodes.evaluation import Prediction
from cnncodes.images.catalog import Catalog
from cnncodes.images.decode import decode
from cnncodes.page.html import check_output, page_source
from cnncodes.page.images import CARD, webp
from cnncodes.page.record import CORRECTED, again, as_text
from cnncodes.pictures.sheets import read_thumbnails

MOST_SHOWN = 1000  # images on one page, some 8 MB


@dataclass(frozen=True, eq=False)
class Card:
    """One image of the gallery."""

    answer: Prediction
    path: str  # absolute, for the table of corrections
    image: bytes  # WebP; empty where the image cannot be read

    @property
    def group(self) -> str:
        """What the filter above the images calls it."""
        found = self.answer
        if found.problem is not None:
            return "unreadable"
        return "unlike" if found.unlike else "unsure" if found.unsure else "sure"


def write_gallery(
    predictions: Sequence[Prediction],
    catalog: Catalog,
    classes: Sequence[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    command: str = "",
) -> Path:
    """Write predictions as one HTML file that contains everything it shows, the most doubtful images first.

    A reader can choose another class for an image and save these corrections as a table (``filename,label``), which
    every command reads as DATA.

    Parameters
    ----------
    predictions : sequence of Prediction
        One per row of ``catalog``.
    catalog : Catalog
    classes : sequence of str
        To choose from.
    output : path of the HTML file
    overwrite : bool, default False
    command : str, optional
        Of the run that made the model: the page shows how it goes on with the corrections.

    Raises
    ------
    OptionError, OutputExistsError
        If it cannot be written there.
    """
    path = Path(output)
    check_output(path, overwrite)
    shown = sorted(range(len(predictions)), key=lambda row: _certainty(predictions[row]))[:MOST_SHOWN]
    small = read_thumbnails([catalog.reader[row] for row in shown], CARD)
    cards = [
        Card(
            predictions[row],
            as_text(catalog.reader[row]),
            b"" if place in small.problems else webp(small.rgb[place], 72),
        )
        for place, row in enumerate(shown)
    ]
    shared = {"total": len(predictions), "classes": list(classes), "command": again(command, *CORRECTED)}
    write_whole(path, page_source("gallery", cards=cards, **shared))
    return path


def _certainty(found: Prediction) -> tuple[bool, bool, float]:
    """Order of the gallery: unlike, then unsure, then by probability; what cannot be read is last."""
    if found.problem is not None:
        return True, True, 0.0
    best = found.probabilities[0] if found.probabilities else found.scores[0]
    return False, not found.unlike, best


@dataclass(frozen=True)
class Slide:
    """One picture."""

    name: str  # of the command that draws it
    subject: str  # what it shows
    look: str  # what to look for, in a sentence
    path: Path  # of the PNG
    lines: tuple[str, ...]  # what it found
    record: dict[str, Any]  # for machines

    @property
    def webp(self) -> bytes:
        """The picture for a page, smaller than the PNG."""
        return webp(decode(self.path).convert("RGB"), 85)


def write_slides(
    slides: Sequence[Slide], left_out: Mapping[str, str], output: Path, *, title: str, about: str
) -> None:
    """Write the page, which contains all that it shows, ``about`` small below its title; ``left_out`` are pictures that could not be drawn, and why."""
    write_whole(output, page_source("slides", title=title, about=about, slides=slides, left_out=left_out))
