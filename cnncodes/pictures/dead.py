"""Units that never fire on a data set: counted for all stages in one pass, in constant memory.

A unit whose ReLU gives 0 on every image passes no gradient on, so it does not learn any more: it is dead as far as
these images can tell (CS231n, "Neural Networks 1", on ReLUs that die at a learning rate that is too high).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
from cnncodes.pictures.drawing import COLOURS, add_colour_bar, new_figure, plain
from cnncodes.pictures.map_record import evenly

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure
    from cnncodes.pictures.subject import Subject

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog
Progress = Callable[[int, int], None]
Counts = npt.NDArray[np.int64]

ROOM = 64e6  # bytes of codes in a batch: maps of first convolutions are large
MOST_IMAGES = 16  # in a batch
FEW_IMAGES = 100  # fewer say little: a unit may wait for something that is on none of them
NOTABLE = 0.1  # share of a stage's dead units that is worth a word
EDGES = tuple(range(10, 100, 10))  # per cent; between "never" and "always" of the second panel


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
    """

    weights: str
    data: str
    images: int
    counts: dict[str, Counts]
    problems: dict[str, str]
    left_out: tuple[str, ...] = ()

    def dead(self, stage: str) -> list[int]:
        """Numbers of the units of a stage that never fire."""
        return [int(unit) for unit in np.flatnonzero(self.counts[stage] == 0)]

    def share(self, stage: str) -> float:
        """Share of the units of a stage that never fire."""
        return float((self.counts[stage] == 0).mean())

    def rates(self, stage: str) -> npt.NDArray[np.float64]:
        """Share of the images on which each unit fires anywhere, ``[units]``."""
        return self.counts[stage] / self.images

    def meaning(self) -> str:
        """What the shares are a sign of, in a sentence or two."""
        worst = max(self.counts, key=self.share)
        share = self.share(worst)
        if not share:
            return "Every unit fires on some image."
        few = (
            f" {self.images:,} images are few: look at more of them first."
            if self.images < FEW_IMAGES
            else ""
        )
        if share < NOTABLE:
            return (
                f"At most {100 * share:.1f} % of a layer never fire ({worst}): nothing to worry about.{few}"
            )
        return (
            f"{100 * share:.0f} % of {worst} never fire: after training a sign of a learning rate that was too high "
            f"(such units learn nothing any more), or of too few or too similar images here.{few}"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, with the list of dead units of each stage."""
        return {
            "weights": self.weights,
            "data": self.data,
            "images": self.images,
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
    return Firing(subject.name, catalog.root.name, len(catalog) - len(problems), counts, problems, left_out)


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
        return Firing(settings.weights, path.name, len(rows), counts, wrong, left_out)


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


def draw_dead(firing: Firing) -> Figure:
    """Bars: the share of each layer that never fires. Beside them: how often the units of each layer fire."""
    stages = list(firing.counts)
    height = 1.9 + 0.42 * len(stages)
    figure, (left, right) = new_figure(13.0, max(4.2, height), 1, 2)
    figure.suptitle(
        f"{plain(firing.weights)} on {firing.images:,} images of {plain(firing.data)}: units that never fire",
        fontsize=12, x=0.01, ha="left", parse_math=False,
    )  # fmt: skip
    for axes in (left, right):
        axes.set_ylim(len(stages) - 0.5, -0.5)
        axes.grid(visible=False)
    _draw_shares(left, firing, stages)
    cells = right.imshow(_spread(firing), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _draw_spread(right, firing, stages)
    add_colour_bar(figure, cells, right, "share of the layer's units")
    return figure


def _draw_shares(axes: Axes, firing: Firing, stages: list[str]) -> None:
    shares = [100 * firing.share(stage) for stage in stages]
    places = range(len(stages))
    axes.barh(places, shares, color=COLOURS[1], height=0.62)
    top = max(10.0, 1.05 * max(shares))
    axes.set_xlim(0, top * 1.45)  # room for the numbers behind the bars
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(top, 100)])
    for place, stage, share in zip(places, stages, shares, strict=True):
        text = f"{len(firing.dead(stage)):,} of {len(firing.counts[stage]):,} ({share:.1f} %)"
        axes.text(share + 0.015 * top, place, text, va="center", fontsize=9)
    axes.set_yticks(places, stages)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x", alpha=0.3, linewidth=0.5)
    axes.set_xlabel("units that fire on no image, % of the layer")
    axes.set_title("never", fontsize=10, loc="left")


def _draw_spread(axes: Axes, firing: Firing, stages: list[str]) -> None:
    values = _spread(firing)
    for (row, column), value in np.ndenumerate(values):
        if value:
            text = f"{100 * value:.0f}" if value >= 0.005 else "<1"
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5,
                      color="white" if value > 0.55 else "black")  # fmt: skip
    edges = (0, *EDGES, 100)
    spans = [f"{low}-{high}" for low, high in pairwise(edges)]
    axes.set_xticks(range(values.shape[1]), ["never", *spans, "always"], rotation=45, fontsize=8.5)
    axes.set_yticks(range(len(stages)), stages)
    axes.set_xlabel("on how many of the images a unit fires anywhere, %")
    axes.set_title("how often (numbers: % of the layer's units)", fontsize=10, loc="left")


def _spread(firing: Firing) -> npt.NDArray[np.float64]:
    """Share of each layer's units that fire on none, on 0 to 10 %, ..., on all of the images: ``[stages, 12]``."""
    rows = []
    for counts in firing.counts.values():
        # whole numbers: no share falls on the wrong side of an edge
        places = 1 + sum((100 * counts > edge * firing.images).astype(np.int64) for edge in EDGES)
        places = np.where(counts == 0, 0, np.where(counts == firing.images, len(EDGES) + 2, places))
        rows.append(np.bincount(places, minlength=len(EDGES) + 3) / len(counts))
    return np.array(rows)
