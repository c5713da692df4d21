"""Codes for a picture of many images, of whatever a person names (a codes file, a run's folder, images), and which images."""

from __future__ import annotations

import difflib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cnncodes.advice.run_folder import NOTE
from cnncodes.advice.run_record import MODEL, SPLIT
from cnncodes.codes import CodesFile
from cnncodes.codes.export import deepest
from cnncodes.codes.file import DONE
from cnncodes.codes.stream import stream
from cnncodes.core.errors import CatalogError, ImageError, OptionError, nearest
from cnncodes.evaluation.scores import Data, is_codes, one_path
from cnncodes.heads import load_model
from cnncodes.images.catalog import SPLITS, Catalog, read_catalog
from cnncodes.images.decode import decode
from cnncodes.images.readers import holds_images, image_exists
from cnncodes.pictures.drawing import Array

if TYPE_CHECKING:
    from cnncodes.codes.settings import ExtractionSettings
    from cnncodes.core.compute import Compute, Progress
    from cnncodes.pictures.classifier import Classifier
    from cnncodes.weights import Weights

PathLike = str | os.PathLike[str]
Blocks = Iterator[tuple[Array, dict[str, Array]]]  # places in the catalog, and codes by layer
BLOCK_NUMBERS = 2**24  # read from a codes file at once
NETWORK_SUFFIXES = (".safetensors", ".pth", ".caffemodel", ".npy")
READ = "the layer that the model reads"  # why it was chosen, for titles
DEEPEST = "the deepest before the classifier"


@dataclass(frozen=True, eq=False)
class CodesSource:
    """Codes that a picture can be made of."""

    path: Path  # of the codes file
    layer: str | None  # the stage to look at; None for the deepest of the file
    choice: str  # why this stage, for titles; empty where a person named it
    catalog: Catalog | None  # of all images that there were to choose from; None where the file says it
    weights: Weights | None  # that computed the codes just now; None where the file was there already
    name: str  # the codes file's, or that of the images' folder
    problems: dict[str, str] = field(
        default_factory=dict
    )  # name and reason of what could not be read just now
    root: PathLike | None = None  # where the images are now, if they were moved

    @property
    def images(self) -> int | None:
        """How many images there were to choose from, but for unreadable ones; None where the file says it."""
        return None if self.catalog is None else len(self.catalog) - len(self.problems)

    @classmethod
    def of(
        cls, codes: PathLike | CodesSource, layer: str | None = None, root: PathLike | None = None
    ) -> CodesSource:
        """A codes file by its path, or what :func:`codes_for` gave; a layer or root that is named counts."""
        if not isinstance(codes, CodesSource):
            return cls(Path(codes), layer, "", None, None, Path(codes).name, root=root)
        named = replace(codes, layer=layer, choice="") if layer else codes
        return named if root is None else replace(named, root=root)

    def choose(self, file: CodesFile) -> tuple[str, str]:
        """The stage of the opened file to look at, and why, where there was a choice; raises StageError."""
        if self.layer:
            return file.settings.architecture.select_one(self.layer), self.choice
        count = len(file.stages)
        return deepest(file.stages), f"the deepest of {count} layers" if count > 1 else ""


@contextmanager
def codes_for(
    data: Data,
    *,
    layer: str | None = None,
    weights: PathLike | None = None,
    network: str | None = None,
    split: str = "all",
    limit: int | None = None,
    root: PathLike | None = None,
    device: str = "auto",
    workers: int | None = None,
    new_images: bool = False,
    queries: Sequence[PathLike] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[CodesSource]:
    """Codes for a picture: those of a codes file or of a run, else computed from images, and not kept.

    One rule says which layer a picture shows: the one that is named; else, of a run or a model with a linear
    classifier, the one that this reads; else the deepest of the codes file, and fc7 of images.

    Parameters
    ----------
    data : a codes file, the folder of a finished run, or images as for :func:`cnncodes.images.read_catalog`
    layer : str, optional
    weights, network
        For images, as :func:`cnncodes.pictures.classifier.load_classifier` takes them; "imagenet" by default.
    split : {"all", "train", "val", "test", "none"}, default "all"
    limit : int, optional
        Only so many images, spread evenly.
    root : path, optional
        Of a codes file: where its images are now, if they were moved.
    device, workers
        For images, as for extraction.
    new_images : bool, default False
        Whether codes of other images will be asked for: then weights may stand beside stored codes, too.
    queries : sequence of names or paths, optional
        Of images that will be asked about: they are looked for before codes are computed.
    progress : callable(done, total), optional

    Raises
    ------
    OptionError
        If a network is named in place of images, or weights beside codes; or a query is not there.
    CnnCodesError
        For what cannot be read.
    """
    stored = _stored(data, layer)
    if stored is not None:
        given = "--weights" if weights is not None else "--model" if network is not None else ""
        if given and not new_images:
            raise OptionError(
                f"'{one_path(data)}' says itself which weights made its codes, so {given} has no use.",
                "Leave it out, or name the images instead.",
            )
        yield replace(stored, root=root)
        return
    refuse_root(root)
    from cnncodes.codes import plan_extraction, run_extraction
    from cnncodes.pictures.classifier import load_classifier

    whole, named = images_for(data, weights)
    if split != "all":
        whole = whole.subset(rows_of(whole, None, split))
    catalog = whole.subset(evenly(np.arange(len(whole)), limit))
    name = catalog.root.name or "images"
    check_queries(queries, catalog, name)
    classifier = load_classifier(named, network=network, device=device)
    asked, choice = (layer, "") if layer else _read_by(classifier)
    with tempfile.TemporaryDirectory(prefix="cnncodes-") as folder:
        path = Path(folder) / "codes.h5"
        plan = plan_extraction(
            catalog, path, classifier.weights, layers=asked, device=device, workers=workers
        )
        result = run_extraction(
            plan, lambda _, done, total, word: progress(int(done), total) if progress else None
        )
        refuse_unreadable(catalog, result.unreadable)
        stage = plan.settings.stages[0]
        yield CodesSource(path, stage, choice, whole, classifier.weights, name, result.unreadable)


def computed_blocks(
    catalog: Catalog,
    weights: Weights,
    settings: ExtractionSettings,
    compute: Compute,
    word: str,
    problems: dict[str, str],
) -> Blocks:
    """Codes of the images that can be read, block by block; ``problems`` gets name and reason of the others."""
    for block in stream(catalog, weights, settings, compute.quiet()):
        problems |= {catalog.names[row]: reason for row, reason in block.problems.items()}
        own = block.readable
        yield np.array(block.rows, np.int64)[own], {name: block.codes[name][own] for name in settings.stages}
        compute.progress(word, int(block.rows[-1]) + 1, len(catalog), "")


def stored_blocks(
    file: CodesFile, stages: Sequence[str], rows: Array, word: str, progress: Progress
) -> Blocks:
    """The same of these rows of a codes file; places are among ``rows``."""
    done = file.state[rows] == DONE
    length = sum(math.prod(file.stage_shape(name)) for name in stages) * file.settings.kept_crops
    step = max(1, BLOCK_NUMBERS // length)
    for start in range(0, len(rows), step):
        own = np.flatnonzero(done[start : start + step]) + start
        yield own, {name: file.read(name, rows[own]) for name in stages}
        progress(word, min(start + step, len(rows)), len(rows), "")


def images_for(data: Data, weights: PathLike | None = None) -> tuple[Catalog, PathLike]:
    """The images that a person names, and the network to ask about them: of a run's folder both are its own."""
    if isinstance(data, Catalog):
        return data, weights or "imagenet"
    kind, one = kind_of(data)
    if kind == "network":
        raise OptionError(
            f"'{one}' holds a network or a model, and no images.",
            f"Name the images, such as photos/, and this file with --weights {one}.",
        )
    if kind != "run":
        return read_catalog(data), weights or "imagenet"
    from cnncodes.advice.run_folder import find_files, read_records, read_split

    if weights is not None:
        raise OptionError(
            f"'{one}' is a run, whose own model is asked, so --weights has no use.",
            "Leave it out, or name the images instead.",
        )
    report, _ = read_records(one)
    catalog = read_split(one / SPLIT)
    return _together(catalog, find_files(one, report, catalog)), one / MODEL


def kind_of(data: Data) -> tuple[Literal["codes", "run", "network", "images"], Path]:
    """What data are, and the one path that they name; only images can be several."""
    if isinstance(data, Catalog) or not (isinstance(data, str | os.PathLike) or len(data) == 1):
        return "images", Path()
    one = one_path(data)
    if is_codes(data):
        return "codes", one
    if (one / NOTE).is_file():
        return "run", one
    network = one.suffix.lower() in NETWORK_SUFFIXES and one.is_file()  # a .npy file may hold images, too
    return ("network" if network and not holds_images(one) else "images"), one


def _stored(data: Data, layer: str | None) -> CodesSource | None:
    """The codes file that data name: itself, or that of a run, if it has the layer."""
    kind, one = kind_of(data)
    if kind != "run":
        return CodesSource.of(one, layer) if kind == "codes" else None
    from cnncodes.advice.run_folder import read_records

    report, _ = read_records(one)
    path, asked = one / report.files.get("codes", "-"), layer or load_model(one / MODEL).stage
    if not path.is_file():
        return None
    with CodesFile(path) as file:
        there = asked in file.stages
    return CodesSource(path, asked, "" if layer else READ, None, None, path.name) if there else None


def _read_by(classifier: Classifier) -> tuple[str, str]:
    """The stage that a linear classifier reads, and why; of other networks the deepest before the classifier."""
    network = classifier.weights.architecture
    if classifier.head is not None and classifier.head.stage != network.stage_names[-1]:
        return classifier.head.stage, READ
    return network.codes_layers[-1], DEEPEST


def _together(catalog: Catalog, files: list[str]) -> Catalog:
    """The catalog with names from the folder on that its files have in common."""
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - a Path for each costs 30 times more
    try:
        root = os.path.commonpath(list(folders))
    except ValueError:  # two drives
        return catalog
    names = tuple(os.path.relpath(file, root).replace(os.sep, "/") for file in files)
    return Catalog(Path(root), names, catalog.labels, catalog.splits, catalog.classes)


def refuse_root(root: PathLike | None) -> None:
    if root is not None:
        raise OptionError("--root is for codes files, and images are given.", "Leave it out.")


def refuse_unreadable(catalog: Catalog, problems: dict[str, str]) -> None:
    """Raise CatalogError if no image could be read."""
    if len(problems) == len(catalog):
        name, reason = next(iter(problems.items()))
        raise CatalogError(
            f"none of the {len(catalog):,} images can be read; '{name}': {reason.rstrip('.')}.",
            "Give images that can be opened.",
        )


def check_split(split: str, limit: int | None = None) -> None:
    """Raise OptionError if a split is not known, or a limit is not possible."""
    if split not in ("all", *SPLITS):
        raise OptionError(f"split '{split}' is not known.", nearest(split, ("all", *SPLITS)))
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")


def rows_of(catalog: Catalog, usable: Array | None, split: str, limit: int | None = None) -> Array:
    """Usable rows (all of them for None) of a split, at most ``limit``, spread evenly; raises CatalogError for none."""
    check_split(split, limit)
    usable = np.ones(len(catalog), np.bool_) if usable is None else usable
    if split != "all":
        usable = usable & (catalog.splits == SPLITS.index(split))
    rows = np.flatnonzero(usable)
    if not len(rows):
        where = f" in split '{split}'" if split != "all" else ""
        raise CatalogError(f"there is no readable image{where}.", "Name other data, or another split.")
    return evenly(rows, limit)


def evenly(rows: Array, limit: int | None) -> Array:
    """At most ``limit`` of the rows, spread evenly, the first and the last among them."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]


def find_row(image: str, catalog: Catalog, where: str) -> int:
    """Row of an image of the catalog, by its name, its path, or the end of its name; -1 for another file.

    Raises OptionError if there is neither, or several images end so; ``where`` names these images.
    """
    names = catalog.names
    if image in names:
        return names.index(image)
    path = os.path.normpath(os.path.abspath(image))  # noqa: PTH100 - links stay: they may be the catalog's
    folder = os.path.join(os.path.abspath(catalog.root), "")  # noqa: PTH100, PTH118
    inside = path.removeprefix(folder).replace(os.sep, "/")
    if inside in names:
        return names.index(inside)
    if image_exists(image):
        return -1
    ends = [row for row, name in enumerate(names) if name.endswith(f"/{image}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise OptionError(
            f"image '{image}' is not one but {len(ends):,} of '{where}': {names[ends[0]]}, {names[ends[1]]}.",
            "Give its whole name.",
        )
    close = difflib.get_close_matches(image, names, n=3, cutoff=0.6)
    raise OptionError(
        f"there is no file '{image}', and none of the {len(names):,} images of '{where}' is called so.",
        f"Did you mean {', '.join(close)}?" if close else f"Its images are called like '{names[0]}'.",
    )


def check_queries(images: Sequence[PathLike], catalog: Catalog, where: str) -> None:
    """Refuse at once what could not be asked about after minutes of computing: OptionError, ImageError."""
    for image in [os.fspath(image) for image in images]:
        row = find_row(image, catalog, where)
        path = catalog.reader[row] if row >= 0 else image
        try:
            decode(path)
        except ImageError as error:
            raise ImageError(
                f"'{path}' cannot be read: {error.problem.rstrip('.')}.", error.remedy
            ) from error
