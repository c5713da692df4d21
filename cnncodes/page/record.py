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
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.state import Epoch

Bytes = npt.NDArray[np.uint8]

CORRECTED = ("--labels", "corrections.csv")  # the table that a page saves; earlier ones stay in force
NOISE = 0.15  # correlation of neighbouring numbers below which filters are called noise


@dataclass(frozen=True)
class Answer:
    """What the model said of one test image.

    Parameters
    ----------
    row : int
        Of the catalog.
    true, predicted : str
        Classes.
    sureness : float
        See :attr:`Answers.unit`.
    """

    row: int
    true: str
    predicted: str
    sureness: float

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Answers:
    """Answers on test images, the surest first.

    Parameters
    ----------
    answers : tuple of Answer
    unit : {"probability", "margin"}
        What the sureness of an answer is: a softmax's probability, 0..1; or of an SVM, which has none, the distance
        between its two highest scores, in medians over these images.
    """

    answers: tuple[Answer, ...]
    unit: str

    @property
    def mistakes(self) -> tuple[Answer, ...]:
        """The wrong ones, the surest first."""
        return tuple(answer for answer in self.answers if not answer.correct)


@dataclass(frozen=True, eq=False)
class PageMap:
    """The map of the codes, as the page needs it.

    Parameters
    ----------
    rows : int array [n]
        Of the catalog.
    points : float array [n, 2]
        In 0..1, y downwards.
    neighbours : int array [n, k]
        Places in ``rows`` of the nearest others by the cosine of their codes, the nearest first.
    layer : str
        Whose codes are drawn.
    numbers : int
        In the code of an image.
    tiles : uint8 array [n, side, side, 3]
        A thumbnail of each image.
    """

    rows: npt.NDArray[np.int64]
    points: npt.NDArray[np.float64]
    neighbours: npt.NDArray[np.int64]
    layer: str
    numbers: int
    tiles: Bytes


@dataclass(frozen=True)
class NetworkPicture:
    """A picture of the network; its title and text are made of the other fields.

    Parameters
    ----------
    kind : {"filters", "right", "wrong"}
        The filters of the first stage, or where the model looks in an image that it is right or wrong about.
    image : bytes
        WebP.
    width, height : int
        Pixels.
    smoothness : float or None
        Of filters: see :func:`cnncodes.page.network_pictures.smoothness`; None where it is not known.
    among : int
        Of how many images the one that is shown changes most.
    decides : bool
        Whether covering a single place matters in it.
    """

    kind: str
    image: bytes
    width: int
    height: int
    smoothness: float | None = None
    among: int = 0
    decides: bool = True

    @property
    def is_noise(self) -> bool:
        """Whether filters are hardly smoother than random numbers."""
        return self.smoothness is not None and self.smoothness < NOISE


@dataclass(frozen=True, eq=False)
class RunPage:
    """Everything on the page of one run.

    Parameters
    ----------
    title : str
    report : RunReport
    command, created : str
        How the run was started, and when.
    catalog : Catalog
        Its images, with the names that the page shows.
    epochs : tuple of Epoch
        Of a training; empty for a head on codes.
    range_test : RangeTest or None
        Where one chose the learning rate.
    answers : Answers or None
        None where nothing was tested, or the model could not be asked again.
    samples : dict of str to tuple of int
        Class -> rows of the images that stand for it.
    split : dict
        How the images were divided (:meth:`cnncodes.heads.Split.record`); empty for older runs.
    weights : str
        Name of the weights that the run began with; empty for a network trained from random numbers.
    fit : str
        How the recipe makes a photograph a square; empty where the weights say it.
    head : str
        Kind of the head that the recipe asks for; empty for a training.
    cards : dict of int to bytes
        Row -> a WebP thumbnail.
    missing : dict of int to str
        Rows whose image cannot be shown, with the reason.
    map : PageMap or None
    pictures : tuple of NetworkPicture
    notes : tuple of str
        What the page could not have, and why.
    files : sequence of str
        Path of each image.
    in_folder : tuple of str
        Names of what lies in the run's folder.
    tried : ModelComparison or None
        Other recipes that were followed on the same split.
    """

    title: str
    report: RunReport
    command: str
    created: str
    catalog: Catalog
    epochs: tuple[Epoch, ...] = ()
    range_test: RangeTest | None = None
    answers: Answers | None = None
    samples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    fit: str = ""
    head: str = ""
    cards: dict[int, bytes] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    map: PageMap | None = None
    pictures: tuple[NetworkPicture, ...] = ()
    notes: tuple[str, ...] = ()
    files: Sequence[str] = ()
    in_folder: tuple[str, ...] = ()
    tried: ModelComparison | None = None

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
