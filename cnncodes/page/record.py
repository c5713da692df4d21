"""What a page shows, as records: a run's report with the images, answers and pictures around it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cnncodes.advice.comparing import ModelComparison
    from cnncodes.advice.run_record import RunReport
    from cnncodes.images.catalog import Catalog
    from cnncodes.training.folder import Epoch
    from cnncodes.training.range_test import RangeTest

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

CORRECTED = ("--labels", "corrections.csv")  # the table that a page saves; earlier ones stay in force
NOISE = 0.15  # correlation of neighbouring numbers below which filters are called noise


@dataclass(frozen=True)
class Answer:
    """What the model said of one test image."""

    row: int  # of the catalog
    true: str
    predicted: str
    sureness: float  # in Answers.unit

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Answers:
    """Answers on test images, the surest first."""

    answers: tuple[Answer, ...]
    unit: (
        str  # "probability" (0..1), or "margin" of an SVM without any: of its two highest scores, in medians
    )

    @property
    def mistakes(self) -> tuple[Answer, ...]:
        """The wrong ones, the surest first."""
        return tuple(answer for answer in self.answers if not answer.correct)


@dataclass(frozen=True, eq=False)
class PageMap:
    """The map of the codes, as the page needs it."""

    rows: Integers  # [n], of the catalog
    points: npt.NDArray[np.float64]  # [n, 2] in 0..1, y downwards
    neighbours: Integers  # [n, k], places in rows of the nearest others by cosine, the nearest first
    layer: str
    numbers: int  # in the code of an image
    tiles: Bytes  # [n, side, side, 3], a thumbnail of each image


@dataclass(frozen=True)
class NetworkPicture:
    """A picture of the network; its title and text are made of the other fields."""

    kind: str  # "filters" of the first stage, or where the model looks when it is "right" or "wrong"
    image: bytes  # WebP
    width: int
    height: int
    smoothness: float | None = None  # of filters; None where it is not known
    among: int = 0  # of how many images the one that is shown changes most
    decides: bool = True  # whether covering a single place matters in it

    @property
    def is_noise(self) -> bool:
        """Whether filters are hardly smoother than random numbers."""
        return self.smoothness is not None and self.smoothness < NOISE


@dataclass(frozen=True, eq=False)
class RunPage:
    """Everything on the page of one run."""

    title: str
    report: RunReport
    command: str  # that started the run
    created: str  # when
    catalog: Catalog  # with the names that the page shows
    epochs: tuple[Epoch, ...] = ()  # of a training; empty for a head on codes
    range_test: RangeTest | None = None  # where one chose the learning rate
    answers: Answers | None = None  # None: nothing was tested, or the model could not be asked again
    samples: dict[str, tuple[int, ...]] = field(default_factory=dict)  # class -> rows that stand for it
    split: dict[str, Any] = field(default_factory=dict)  # Split.record(); empty for older runs
    weights: str = ""  # that the run began with; empty for a network trained from random numbers
    fit: str = ""  # how the recipe makes a photograph a square; empty where the weights say it
    head: str = ""  # its kind; empty for a training
    cards: dict[int, bytes] = field(default_factory=dict)  # row -> a WebP thumbnail
    missing: dict[int, str] = field(default_factory=dict)  # rows that cannot be shown -> the reason
    map: PageMap | None = None
    pictures: tuple[NetworkPicture, ...] = ()
    notes: tuple[str, ...] = ()  # what the page could not have, and why
    files: Sequence[str] = ()  # path of each image
    in_folder: tuple[str, ...] = ()  # names of what lies in the run's folder
    tried: ModelComparison | None = None  # other recipes that were followed on the same split

    def path(self, row: int) -> str:
        """Where the image of a row is, for a table of corrections; empty where the name is no text."""
        return as_text(self.files[row])


def again(command: str, *more: str) -> str:
    """The command of a run with more words; without those that belong to one call. Placeholders where none is known."""
    words = command.split()
    with contextlib.suppress(ValueError):  # of older runs it is not quoted
        words = shlex.split(command)
    if words[:2] != ["cnncodes", "run"]:
        words = ["cnncodes", "run", "DATA", "-o", "FOLDER"]
    return shlex.join([*(word for word in words if word not in ("--overwrite", "--dry-run")), *more])


def as_text(path: str) -> str:
    """The full path of an image; empty where its name has bytes that are not UTF-8."""
    full = str(Path(path).absolute())
    return "" if any("\ud800" <= letter <= "\udfff" for letter in full) else full
