"""What a page shows: a run's report with the images, answers and pictures around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cnncodes.advice.run_record import RunReport
    from cnncodes.images.catalog import Catalog
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.state import Epoch

Bytes = npt.NDArray[np.uint8]


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
    layer, method : str
        What was drawn and how, in words.
    tiles : uint8 array [n, side, side, 3]
        A thumbnail of each image.
    numbers : int
        In the code of an image.
    """

    rows: npt.NDArray[np.int64]
    points: npt.NDArray[np.float64]
    neighbours: npt.NDArray[np.int64]
    layer: str
    method: str
    tiles: Bytes
    numbers: int = 0


@dataclass(frozen=True)
class NetworkPicture:
    """A picture of the network: an image file's bytes (PNG or WebP) with a title and what there is to see."""

    title: str
    text: str
    image: bytes
    width: int
    height: int


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
    named : dict of str to tuple of int
        What a finding about the data names -> rows of the images meant.
    cards : dict of int to bytes
        Row -> a WebP thumbnail.
    missing : dict of int to str
        Rows whose image cannot be shown, with the reason.
    map : PageMap or None
    pictures : tuple of NetworkPicture
    notes : tuple of str
        What the page could not have, and why.
    in_folder : tuple of str
        Names of what lies in the run's folder.
    """

    title: str
    report: RunReport
    command: str
    created: str
    catalog: Catalog
    epochs: tuple[Epoch, ...] = ()
    range_test: RangeTest | None = None
    answers: Answers | None = None
    samples: dict[str, tuple[int, ...]] | None = None
    named: dict[str, tuple[int, ...]] | None = None
    cards: dict[int, bytes] | None = None
    missing: dict[int, str] | None = None
    map: PageMap | None = None
    pictures: tuple[NetworkPicture, ...] = ()
    notes: tuple[str, ...] = ()
    in_folder: tuple[str, ...] = ()

    def name(self, row: int) -> str:
        """An image's name."""
        return self.catalog.names[row]

    def counts(self) -> dict[str, Any]:
        """For machines: what is on the page."""
        return {
            "images": len(self.catalog),
            "tested": len(self.answers.answers) if self.answers else 0,
            "mistakes": len(self.answers.mistakes) if self.answers else 0,
            "on_map": len(self.map.rows) if self.map else 0,
            "pictures": len(self.pictures),
            "missing_images": len(self.missing or {}),
            "notes": list(self.notes),
        }
