"""Pictures of one image on one HTML page, each with what it shows: for a lesson or a talk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.core.outputs import write_whole
from cnncodes.images.decode import decode
from cnncodes.page.html import page_source
from cnncodes.page.images import webp


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
        return webp(np.asarray(decode(self.path).convert("RGB")), 85)


def write_slides(
    slides: Sequence[Slide], left_out: Mapping[str, str], output: Path, *, title: str, about: str
) -> None:
    """Write the page, which contains all that it shows, ``about`` small below its title; ``left_out`` are pictures that could not be drawn, and why."""
    text = page_source("slides", title=title, about=about, slides=slides, left_out=left_out)
    write_whole(output, text)
