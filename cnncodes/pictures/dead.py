"""Units that never fire on a data set: counted for all stages in one pass, in constant memory.

A unit whose ReLU gives 0 on every training image gets no gradient any more: it is dead (CS231n, "Neural Networks 1"). A few
images cannot tell it from a unit that answers to something else; :meth:`Firing.meaning` says what these can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.stream import settings_of
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import OptionError, StageError
from cnncodes.core.records import to_value
from cnncodes.images import Catalog, read_catalog
from cnncodes.pictures import codes_source
from cnncodes.pictures.codes_source import Blocks
from cnncodes.pictures.drawing import new_figure, plain, wrapped
from cnncodes.weights.resolve import PREFIX

if TYPE_CHECKING:
    from cnncodes.evaluation.scores import Data
    from cnncodes.pictures.classifier import Classifier
    from cnncodes.pictures.drawing import Axes, Figure

Counts = npt.NDArray[np.int64]

ROOM = 64e6  # bytes of codes in a batch: maps of first convolutions are large
MOST_IMAGES = 16  # in a batch
DOUBT = 0.05  # of a statement about images that were not looked at
RARE = 0.01  # a unit that fires on so small a share of the images is worth waiting for
TOO_RARE = 0.25  # where a silent unit may fire on more of the images than this, silence says nothing
#: Per cent of the images between "none" and "all", and what is said of the units in between.
EDGES = (10, 50)
LABELS = ("none", "up to 10 %", "10 to 50 %", "over 50 %", "all of them")
#: Dark grey for none, which is no alarm by itself; the more often, the darker the blue.
FILLS = ("#4d4d4d", "#d6e6f4", "#9dc5e3", "#4a90c4", "#0b4a86")
INKS = ("white", "black", "black", "white", "white")
SMALLEST = 0.045  # share of a layer from which on its number fits into the bar
WIDTH, LINE = 11.0, 118  # inches, and characters of a line of the foot in them


@dataclass(frozen=True, eq=False)
class Firing:
    """On how many images each unit fires anywhere; a unit of a convolution is a channel."""

    weights: str  # for titles
    data: str  # the folder or file that was looked at
    images: int  # that were read
    counts: dict[str, Counts]  # for each stage: images with at least one place above 0, int64 [units]
    problems: dict[str, str]  # name and reason of each unreadable image
    left_out: tuple[str, ...] = ()  # stages without a ReLU, where "fires" would mean nothing
    spatial: tuple[str, ...] = ()  # stages whose units look at many places of each image
    untrained: bool = False  # whether the weights are random numbers

    def dead(self, stage: str) -> list[int]:
        """Numbers of the units of a stage that never fire."""
        return [int(unit) for unit in np.flatnonzero(self.counts[stage] == 0)]

    def share(self, stage: str) -> float:
        """Share of the units of a stage that never fire."""
        return float((self.counts[stage] == 0).mean())

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
        """What may be concluded from it, and what not."""
        silent = [stage for stage in self.counts if self.share(stage)]
        if not silent:
            return "Every unit fires on some image, so none of them is dead."
        if self.untrained:
            return "These weights are untrained, so no unit can have died in training: which ones are silent is chance."
        enough = math.ceil(math.log(DOUBT) / math.log1p(-RARE))
        if self.unseen >= TOO_RARE:
            return f"So few images tell nothing: look at {enough} or more."
        said = ""
        if places := ", ".join(stage for stage in silent if stage in self.spatial):
            said += (
                f"{places}: convolution units that fire nowhere are probably dead (learning rate too high). "
            )
        if rest := ", ".join(stage for stage in silent if stage not in self.spatial):
            said += f"{rest}: not fired is not dead, as fully connected units answer to few things. "
        more = "" if self.images >= enough else f"; {enough} images would bring that to {100 * RARE:.0f} %"
        return (
            f"{said}A unit silent on {self.images:,} images fires on fewer than {100 * self.unseen:.2g} % of such images "
            f"(95 % certain of each){more}."
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, with the list of dead units of each stage."""
        stages = {
            stage: {
                "units": len(counts),
                "dead": self.dead(stage),
                "share": self.share(stage),
                "images_fired": counts,
            }
            for stage, counts in self.counts.items()
        }
        said = {"unseen_share": self.unseen, "stages": stages, "meaning": self.meaning()}
        more: dict[str, Any] = to_value({**said, "unreadable": self.problems, "left_out": self.left_out})
        return {**to_value(self, "weights", "data", "images", "untrained"), **more}


def count_firing(
    data: Data,
    classifier: Classifier | None = None,
    *,
    stages: str | None = None,
    split: str = "all",
    limit: int | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Firing:
    """Count on how many images each unit fires.

    Parameters
    ----------
    data : images as for :func:`~cnncodes.images.read_catalog`, a Catalog, or one codes file (.h5)
    classifier : Classifier, optional
        The network; not needed for a codes file.
    stages : str, optional
        Names and ranges; by default all stages that end in a ReLU, or all that the codes file holds.
    split, limit, workers, progress
        As for :func:`~cnncodes.pictures.codes_source.codes_for`.

    Raises
    ------
    StageError
        For a stage that is not there, or has no ReLU.
    OptionError
        If the split or the limit is not possible, or there is no network.
    CatalogError, CodesFileError
        If nothing is there to be read.
    """
    codes_source.check_split(split, limit)
    kind, path = codes_source.kind_of(data)
    if kind == "codes":
        return _in_codes(path, stages, split, limit, progress)
    if classifier is None:
        raise OptionError("images alone have no units.", "Give a network too, or a codes file.")
    catalog = data if isinstance(data, Catalog) else read_catalog(data)
    catalog = catalog.subset(codes_source.rows_of(catalog, None, split, limit))
    compute = Compute(classifier.device.torch_name, workers, progress=progress)
    return _in_images(catalog, classifier, stages, compute)


def _in_images(catalog: Catalog, classifier: Classifier, stages: str | None, compute: Compute) -> Firing:
    weights = classifier.weights
    network = weights.architecture
    names = network.select(stages) if stages else network.rectified_layers
    if not names and not stages:
        raise OptionError(
            f"no usual layer of {network.name} ends in a ReLU, so that no unit can be dead.",
            "Use another network, or name module paths of layers that do.",
        )
    settings = settings_of(weights, names)
    if not network.stages:
        settings = replace(settings, pool="max")  # a unit fires where its largest value does
    names, left_out = _rectified(settings, names, asked=stages is not None)
    shapes = settings.stage_shapes()
    size = 4 * sum(int(np.prod(shapes[name])) for name in names)  # bytes for each image
    settings = replace(settings, stages=names, batch_size=int(np.clip(ROOM // size, 1, MOST_IMAGES)))
    problems: dict[str, str] = {}
    blocks = codes_source.computed_blocks(catalog, weights, settings, compute, "counting", problems)
    counts = _count(blocks, {name: shapes[name][0] for name in names})
    codes_source.refuse_unreadable(catalog, problems)
    return Firing(
        classifier.name, catalog.root.name, len(catalog) - len(problems), counts, problems, left_out,
        _spatial(settings, names), weights.origin == "random",
    )  # fmt: skip


def _in_codes(path: Path, stages: str | None, split: str, limit: int | None, progress: Progress) -> Firing:
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
        rows = codes_source.rows_of(file.catalog, file.state == DONE, split, limit)
        units = {name: file.stage_shape(name)[0] for name in names}
        counts = _count(codes_source.stored_blocks(file, names, rows, "counting", progress), units)
        wrong = file.problems() if split == "all" and limit is None else {}
        return Firing(
            settings.weights, path.name, len(rows), counts, wrong, left_out, _spatial(settings, names),
            settings.weights.startswith(PREFIX),
        )  # fmt: skip


def _spatial(settings: ExtractionSettings, names: tuple[str, ...]) -> tuple[str, ...]:
    """Stages of which a unit has more than one place."""
    shapes = settings.stage_shapes()
    return tuple(name for name in names if math.prod(shapes[name][1:]) > 1)


def _count(blocks: Blocks, units: dict[str, int]) -> dict[str, Counts]:
    """On how many images each unit is above 0 at any place (of any crop), by stage."""
    counts = {name: np.zeros(count, np.int64) for name, count in units.items()}
    for _, found in blocks:
        for name, count in units.items():
            codes = found[name]  # [images, (crops,) length]
            crops = codes.shape[1] if codes.ndim == 3 else 1
            places = (codes > 0).reshape(len(codes), crops, count, codes.shape[-1] // count)
            counts[name] += places.any(axis=(1, 3)).sum(axis=0)
    return counts


def _rectified(
    settings: ExtractionSettings, names: tuple[str, ...], asked: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stages that went through a ReLU, and the others; others that were asked for by name are refused."""
    kept = tuple(name for name in names if settings.relu(name))
    others = tuple(name for name in names if name not in kept)
    network = settings.architecture
    if others and (asked or not kept):
        known = [name for name in network.rectified_layers if settings.relu(name)]
        if not known:
            problem = f"network '{settings.network}' has no ReLU, so no unit of it can be dead."
            raise StageError(problem, "Name another network.")
        raise StageError(
            f"{', '.join(others)}: without a ReLU no unit can be dead, negative values count as well.",
            f"Name stages that end in one: {', '.join(known)}.",
        )
    if not asked and network.classes is not None and network.stage_names[-1] not in kept:
        others = tuple(dict.fromkeys([*others, network.stage_names[-1]]))
    return kept, others


def draw_dead(firing: Firing) -> Figure:
    """One bar for each layer: the shares of its units that fired on none, on some and on all of the images."""
    foot = wrapped(firing.meaning(), LINE)
    height = 1.95 + 0.46 * len(firing.counts) + 0.21 * len(foot)  # title, legend and axis; bars; foot
    figure, (axes,) = new_figure(WIDTH, height, title=firing.summary())
    _draw_bars(axes, firing)
    title = f"{plain(firing.weights)} on {plain(firing.data)}: on how many of the images does a unit fire?"
    axes.set_title(title, fontsize=11, loc="left", pad=30)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LABELS), fontsize=11, frameon=False,
        handlelength=1, handletextpad=0.5, columnspacing=1.6, borderaxespad=0.3,
    )  # fmt: skip
    figure.supxlabel("\n".join(foot), fontsize=11, x=0.01, ha="left")
    return figure


def _draw_bars(axes: Axes, firing: Firing) -> None:
    stages = list(firing.counts)
    places, left = np.arange(len(stages)), np.zeros(len(stages))
    for share, label, fill, ink in zip(how_often(firing).T, LABELS, FILLS, INKS, strict=True):
        axes.barh(places, 100 * share, left=100 * left, color=fill, height=0.72, label=label)
        for place in np.flatnonzero(share >= SMALLEST).tolist():
            middle, text = 100 * (left[place] + share[place] / 2), f"{100 * share[place]:.0f} %"
            axes.text(middle, place, text, ha="center", va="center", fontsize=11, color=ink)
        left = left + share
    for place, stage in enumerate(stages):
        text = f"none: {len(firing.dead(stage)):,} of {len(firing.counts[stage]):,}"
        axes.text(101, place, text, va="center", fontsize=11)
    axes.set_yticks(places, stages, fontsize=12)
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.set_xlim(0, 122)  # room for the numbers behind the bars
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False)
    axes.spines["bottom"].set_bounds(0, 100)
    axes.set_xlabel("% of the layer's units", fontsize=11, loc="left")


def how_often(firing: Firing) -> npt.NDArray[np.float64]:
    """Share of each layer's units that fire on none, up to 10 %, 10 to 50 %, over 50 %, all of the images ``[stages, 5]``."""
    rows = []
    for counts in firing.counts.values():
        # whole numbers: no share falls on the wrong side of an edge
        places = 1 + sum((100 * counts > edge * firing.images).astype(np.int64) for edge in EDGES)
        places = np.where(counts == 0, 0, np.where(counts == firing.images, len(EDGES) + 2, places))
        rows.append(np.bincount(places, minlength=len(LABELS)) / len(counts))
    return np.array(rows)
