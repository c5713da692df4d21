"""Units that never fire on a data set: counted for all stages in one pass, in constant memory.

A unit whose ReLU gives 0 on every image of the training passes no gradient on, so it does not learn any more: it is dead
(CS231n, "Neural Networks 1", on ReLUs that die at a learning rate that is too high). A few images cannot tell it from a
unit that answers to something else; :meth:`Firing.meaning` says what these can.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.pipeline import Pipeline
from cnncodes.codes.planning import batches_of
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.errors import CatalogError, OptionError, StageError, nearest
from cnncodes.evaluation.scores import is_codes, one_path
from cnncodes.images import SPLITS, Catalog, read_catalog
from cnncodes.pictures.map_record import evenly
from cnncodes.weights.random_numbers import PREFIX, RANDOM_SOURCE

if TYPE_CHECKING:
    from cnncodes.pictures.subject import Subject

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog
Progress = Callable[[int, int], None]
Counts = npt.NDArray[np.int64]

ROOM = 64e6  # bytes of codes in a batch: maps of first convolutions are large
MOST_IMAGES = 16  # in a batch
DOUBT = 0.05  # of a statement about images that were not looked at
RARE = 0.01  # a unit that fires on so small a share of the images is worth waiting for
TOO_RARE = 0.25  # where a silent unit may fire on more of the images than this, silence says nothing


@dataclass(frozen=True, eq=False)
class Firing:
    """On how many images each unit fires anywhere; a unit of a convolution is a channel.

    Parameters
    ----------
    weights : str
        For titles.
    data : str
        The folder or file that was looked at.
    images : int
        Images that were read.
    counts : dict of str to int64 array [units]
        Images with at least one place above 0, for each stage.
    problems : dict of str to str
        Name and reason of each unreadable image.
    left_out : tuple of str
        Stages that were not counted, since they have no ReLU: "fires" would mean nothing.
    spatial : tuple of str
        Stages whose units look at many places of each image.
    untrained : bool
        Whether the weights are random numbers.
    """

    weights: str
    data: str
    images: int
    counts: dict[str, Counts]
    problems: dict[str, str]
    left_out: tuple[str, ...] = ()
    spatial: tuple[str, ...] = ()
    untrained: bool = False

    def dead(self, stage: str) -> list[int]:
        """Numbers of the units of a stage that never fire."""
        return [int(unit) for unit in np.flatnonzero(self.counts[stage] == 0)]

    def share(self, stage: str) -> float:
        """Share of the units of a stage that never fire."""
        return float((self.counts[stage] == 0).mean())

    def rates(self, stage: str) -> npt.NDArray[np.float64]:
        """Share of the images on which each unit fires anywhere, ``[units]``."""
        return self.counts[stage] / self.images

    @property
    def worst(self) -> str:
        """The stage with the largest share of units that never fire."""
        return max(self.counts, key=self.share)

    @property
    def unseen(self) -> float:
        """Upper limit of the share of such images that a unit which fired on none of them fires on, at 95 %.

        One that fires on a share p is silent on n images with probability ``(1 - p) ** n``; at this p that is 5 %
        (Clopper and Pearson 1934; Hanley and Lippman-Hand 1983 round it to 3 / n).
        """
        return float(1 - DOUBT ** (1 / self.images))

    def summary(self) -> str:
        """``fc7: 448 of 4,096 units fired on none of the 100 images``: of the stage with the largest share."""
        if not self.share(self.worst):
            return f"every unit fired on at least one of the {self.images:,} images"
        silent, units = len(self.dead(self.worst)), len(self.counts[self.worst])
        return f"{self.worst}: {silent:,} of {units:,} units fired on none of the {self.images:,} images"

    def meaning(self) -> str:
        """What may be concluded from it, and what not, in a few sentences."""
        silent = [stage for stage in self.counts if self.share(stage)]
        if not silent:
            return "Every unit fires on some image, so none of them is dead."
        if self.untrained:
            return "These weights are untrained, so no unit can have died in training: which ones are silent is chance."
        enough = math.ceil(math.log(DOUBT) / math.log1p(-RARE))
        if self.unseen >= TOO_RARE:
            return f"So few images tell nothing: look at {enough} or more."
        said = []
        places = [stage for stage in silent if stage in self.spatial]
        if places:
            said.append(
                f"{', '.join(places)}: units of a convolution look at many places of each image, so those that fire "
                "nowhere are probably dead: they learn nothing any more, a sign of a learning rate that was too high."
            )
        if len(places) < len(silent):
            rest = ", ".join(stage for stage in silent if stage not in places)
            said.append(
                f"{rest}: not fired is not dead. Units of a fully connected layer answer to few things, which may be on "
                "none of these images."
            )
        more = "" if self.images >= enough else f"; {enough} images would bring that to {100 * RARE:.0f} %"
        said.append(
            f"A unit that fired on none of {self.images:,} images fires on fewer than {100 * self.unseen:.2g} % of such "
            f"images (95 % certain of each){more}."
        )
        return " ".join(said)

    def to_json(self) -> dict[str, Any]:
        """Everything, with the list of dead units of each stage."""
        return {
            "weights": self.weights,
            "data": self.data,
            "images": self.images,
            "untrained": self.untrained,
            "unseen_share": self.unseen,
            "stages": {
                stage: {
                    "units": len(counts),
                    "dead": self.dead(stage),
                    "share": self.share(stage),
                    "images_fired": counts.tolist(),
                }
                for stage, counts in self.counts.items()
            },
            "left_out": list(self.left_out),
            "meaning": self.meaning(),
            "unreadable": self.problems,
        }


def count_firing(
    data: Data,
    subject: Subject | None = None,
    *,
    stages: str | None = None,
    split: str = "all",
    limit: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Firing:
    """Count on how many images each unit fires.

    Parameters
    ----------
    data : images as for :func:`~cnncodes.images.read_catalog`, a Catalog, or one codes file (.h5)
    subject : Subject, optional
        The network; not needed for a codes file.
    stages : str, optional
        Names and ranges; by default all stages that end in a ReLU, or all that the codes file holds.
    split : {"all", "train", "val", "test", "none"}, default "all"
    limit : int, optional
        Only so many images, spread evenly.
    workers : int, optional
        Decoding threads.
    progress : callable(done, total), optional

    Raises
    ------
    StageError
        For a stage that is not there, or has no ReLU.
    OptionError
        If the split or the limit is not possible, or there is no network.
    CatalogError, CodesFileError
        If nothing is there to be read.
    """
    if split not in ("all", *SPLITS):
        raise OptionError(f"split '{split}' is not known.", nearest(split, ("all", *SPLITS)))
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")
    report = progress or (lambda done, total: None)
    if not isinstance(data, Catalog) and is_codes(data):
        return _in_codes(one_path(data), stages, split, limit, report)
    if subject is None:
        raise OptionError("images alone have no units.", "Give a network too, or a codes file.")
    catalog = data if isinstance(data, Catalog) else read_catalog(data)
    rows = _rows(catalog, np.ones(len(catalog), np.bool_), split, limit)
    return _in_images(catalog.subset(rows), subject, stages, workers, report)


def _in_images(
    catalog: Catalog, subject: Subject, stages: str | None, workers: int | None, report: Progress
) -> Firing:
    """One pass of all images through the network; what is kept is one number for each unit."""
    from cnncodes.codes.compute import Encoder

    weights = subject.weights
    network = weights.architecture
    names = network.select(stages) if stages else tuple(stage.name for stage in network.stages if stage.relu)
    settings = ExtractionSettings(
        weights.network, names, weights.name, weights.fingerprint, weights.preprocessing, classes=network.classes
    )  # fmt: skip
    names, left_out = _rectified(settings, names, asked=stages is not None)
    shapes = settings.stage_shapes()
    size = 4 * sum(int(np.prod(shapes[name])) for name in names)  # bytes for each image
    batch = int(np.clip(ROOM // size, 1, MOST_IMAGES))
    encoder = Encoder(weights, settings, subject.device)
    counts = {name: np.zeros(shapes[name][0], np.int64) for name in names}
    problems: dict[str, str] = {}
    pipeline = Pipeline(
        catalog, batches_of(len(catalog), batch), encoder, workers=workers or subject.device.cores
    )
    for loaded, codes in pipeline:
        good = [place for place, row in enumerate(loaded.rows) if row not in loaded.problems]
        for name in names:
            counts[name] += _fired(codes[name][good], len(counts[name]))
        problems |= {catalog.names[row]: reason for row, reason in loaded.problems.items()}
        report(int(loaded.rows[-1]) + 1, len(catalog))
    if len(problems) == len(catalog):
        name, reason = next(iter(problems.items()))
        raise CatalogError(
            f"none of the {len(catalog):,} images can be read; '{name}': {reason.rstrip('.')}.",
            "Give images that can be opened.",
        )
    return Firing(
        subject.name, catalog.root.name, len(catalog) - len(problems), counts, problems, left_out,
        _spatial(settings, names), weights.source.startswith(RANDOM_SOURCE),
    )  # fmt: skip


def _in_codes(path: Path, stages: str | None, split: str, limit: int | None, report: Progress) -> Firing:
    """The stored rows, block by block."""
    with CodesFile(path) as file:
        file.require_complete()
        settings = file.settings
        wanted = settings.architecture.select(stages) if stages else file.stages
        absent = [name for name in wanted if name not in file.stages]
        if absent:
            raise StageError(
                f"'{path}' holds no layer {', '.join(absent)}.", f"It has {', '.join(file.stages)}."
            )
        names, left_out = _rectified(settings, wanted, asked=stages is not None)
        rows = _rows(file.catalog, file.state == DONE, split, limit)
        counts = {name: np.zeros(file.stage_shape(name)[0], np.int64) for name in names}
        for start in range(0, len(rows), MOST_IMAGES * 16):
            part = rows[start : start + MOST_IMAGES * 16]
            for name in names:
                counts[name] += _fired(file.read(name, part), len(counts[name]))
            report(start + len(part), len(rows))
        wrong = file.problems() if split == "all" and limit is None else {}
        return Firing(
            settings.weights, path.name, len(rows), counts, wrong, left_out, _spatial(settings, names),
            settings.weights.startswith(PREFIX),
        )  # fmt: skip


def _spatial(settings: ExtractionSettings, names: tuple[str, ...]) -> tuple[str, ...]:
    """Stages of which a unit has more than one place."""
    shapes = settings.stage_shapes()
    return tuple(name for name in names if math.prod(shapes[name][1:]) > 1)


def _fired(codes: npt.NDArray[Any], units: int) -> Counts:
    """On how many images ``codes`` ``[images, (crops,) length]`` are above 0 at any place (of any crop), by unit."""
    crops = codes.shape[1] if codes.ndim == 3 else 1
    places = (codes > 0).reshape(len(codes), crops, units, codes.shape[-1] // units)
    return np.asarray(places.any(axis=(1, 3)).sum(axis=0), np.int64)


def _rectified(
    settings: ExtractionSettings, names: tuple[str, ...], asked: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stages that went through a ReLU, and the others; others that were asked for by name are refused."""
    kept = tuple(name for name in names if settings.relu(name))
    others = tuple(name for name in names if name not in kept)
    if others and (asked or not kept):
        known = [
            stage.name for stage in settings.architecture.stages if stage.relu and settings.relu(stage.name)
        ]
        if not known:
            raise StageError(
                f"network '{settings.network}' has no ReLU, so no unit of it can be dead.",
                "Name another network.",
            )
        raise StageError(
            f"{', '.join(others)}: without a ReLU no unit can be dead, negative values count as well.",
            f"Name stages that end in one: {', '.join(known)}.",
        )
    if not asked:
        logits = settings.architecture.stages[-1]
        others = tuple(dict.fromkeys([*others, *([] if logits.relu else [logits.name])]))
    return kept, others


def _rows(catalog: Catalog, usable: npt.NDArray[np.bool_], split: str, limit: int | None) -> Counts:
    """Rows of a split, at most ``limit`` of them."""
    if split != "all":
        usable = usable & (catalog.splits == SPLITS.index(split))
    rows = np.flatnonzero(usable)
    if not len(rows):
        where = f" in split '{split}'" if split != "all" else ""
        raise CatalogError(f"there is no readable image{where}.", "Name other data, or another split.")
    return evenly(rows, limit)
