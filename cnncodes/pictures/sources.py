"""Whatever a person names for a picture of many images: a codes file, the folder of a run, or the images themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.advice.run_record import MODEL, NOTE, SPLIT
from cnncodes.advice.sample import probed_stages
from cnncodes.codes import CodesFile
from cnncodes.codes.export import deepest
from cnncodes.errors import CatalogError, OptionError, nearest
from cnncodes.evaluation.scores import Data, is_codes, one_path
from cnncodes.heads import load_model
from cnncodes.images.catalog import SPLITS, Catalog, read_catalog
from cnncodes.pictures.queries import check_queries

if TYPE_CHECKING:
    from cnncodes.pictures.subject import Subject
    from cnncodes.weights import Weights

NETWORK_SUFFIXES = (".safetensors", ".pth", ".cnnz", ".caffemodel", ".npy")
READ = "the layer that the model reads"  # why it was chosen, for titles
DEEPEST = "the deepest before the classifier"


@dataclass(frozen=True, eq=False)
class CodesSource:
    """Codes that a picture can be made of.

    Parameters
    ----------
    path : Path
        The codes file.
    layer : str or None
        The stage to look at; None for the deepest of the file.
    choice : str
        Why this stage, for titles; empty where a person named it.
    catalog : Catalog or None
        Of all images that there were to choose from; None where the file says it.
    weights : Weights or None
        What the codes were computed with just now; None where the file was there already.
    name : str
        The codes file's, or that of the images' folder.
    problems : dict of str to str
        Name and reason of each image that could not be read just now.
    root : path or None
        Where the images are now, if they were moved.
    """

    path: Path
    layer: str | None
    choice: str
    catalog: Catalog | None
    weights: Weights | None
    name: str
    problems: dict[str, str] = field(default_factory=dict)
    root: str | os.PathLike[str] | None = None

    @property
    def images(self) -> int | None:
        """How many images there were to choose from, but for unreadable ones; None where the file says it."""
        return None if self.catalog is None else len(self.catalog) - len(self.problems)

    @classmethod
    def of(
        cls,
        codes: str | os.PathLike[str] | CodesSource,
        layer: str | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> CodesSource:
        """A codes file by its path, or what :func:`codes_for` gave; a layer or root that is named counts."""
        if not isinstance(codes, CodesSource):
            return cls(Path(codes), layer, "", None, None, Path(codes).name, root=root)
        named = replace(codes, layer=layer, choice="") if layer else codes
        return named if root is None else replace(named, root=root)

    def choose(self, file: CodesFile) -> tuple[str, str]:
        """The stage of the opened file to look at, and in words why, where there was a choice.

        Raises
        ------
        StageError
            If the network has no such stage.
        """
        if self.layer:
            return file.settings.architecture.select_one(self.layer), self.choice
        count = len(file.stages)
        return deepest(file.stages), f"the deepest of {count} layers" if count > 1 else ""


@contextmanager
def codes_for(
    data: Data,
    *,
    layer: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    network: str | None = None,
    split: str = "all",
    limit: int | None = None,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    new_images: bool = False,
    queries: Sequence[str | os.PathLike[str]] = (),
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
        For images, as :func:`cnncodes.pictures.subject.load_subject` takes them; "imagenet" by default.
    split : {"all", "train", "val", "test", "none"}, default "all"
        Of images: only these are computed.
    limit : int, optional
        Of images: only so many are computed, spread evenly.
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
    if root is not None:
        raise OptionError("--root is for codes files, and images are given.", "Leave it out.")
    from cnncodes.codes import plan_extraction, run_extraction
    from cnncodes.pictures.map_record import evenly

    catalog, named = images_for(data, weights)
    catalog = _of_split(catalog, split)
    whole, catalog = catalog, catalog.subset(evenly(np.arange(len(catalog)), limit))
    name = catalog.root.name or "images"
    check_queries(queries, catalog, name)
    subject = _subject(named, network, device)
    asked, choice = (layer, "") if layer else _read_by(subject)
    with tempfile.TemporaryDirectory(prefix="cnncodes-") as folder:
        path = Path(folder) / "codes.h5"
        plan = plan_extraction(catalog, path, subject.weights, layers=asked, device=device, workers=workers)
        result = run_extraction(plan, lambda done, bad: progress(done, plan.images) if progress else None)
        problems = result.unreadable
        if len(problems) == len(catalog):
            reason = next(iter(problems.values())).rstrip(".")
            raise CatalogError(
                f"none of the {len(catalog):,} images could be read: {reason}.", "Look at the files."
            )
        yield CodesSource(path, plan.settings.stages[0], choice, whole, subject.weights, name, problems)


def images_for(
    data: Data, weights: str | os.PathLike[str] | None = None
) -> tuple[Catalog, str | os.PathLike[str]]:
    """The images that a person names, and the network to ask about them: of a run's folder both are its own.

    Raises
    ------
    OptionError
        If a network is named in place of images, or weights beside a run.
    CatalogError
        If there are no images.
    ModelError
        If the run is not finished.
    """
    if isinstance(data, Catalog):
        return data, weights or "imagenet"
    one = _single(data)
    if one is not None and is_run(one):
        from cnncodes.pictures.report.reading import find_files, read_records, read_split

        if weights is not None:
            raise OptionError(
                f"'{one}' is a run, whose own model is asked, so --weights has no use.",
                "Leave it out, or name the images instead.",
            )
        report, _ = read_records(one)
        catalog = read_split(one / SPLIT)
        return _together(catalog, find_files(one, report, catalog)), one / MODEL
    if one is not None and one.suffix.lower() in NETWORK_SUFFIXES and one.is_file():
        raise OptionError(
            f"'{one}' holds a network or a model, and no images.",
            f"Name the images, such as photos/, and this file with --weights {one}.",
        )
    return read_catalog(data), weights or "imagenet"


def is_stored(data: Sequence[str]) -> bool:
    """Whether words name one file or folder that says itself which images there are: a codes file, a model, a run."""
    if len(data) != 1:
        return False
    path = Path(data[0])
    return is_codes(data) or is_run(path) or (path.suffix.lower() in NETWORK_SUFFIXES and path.is_file())


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run."""
    return (path / NOTE).is_file()


def _single(data: Data) -> Path | None:
    """The one path that data name, if it is one."""
    if isinstance(data, Catalog) or (not isinstance(data, str | os.PathLike) and len(data) != 1):
        return None
    return one_path(data)


def _stored(data: Data, layer: str | None) -> CodesSource | None:
    """The codes file that data name: itself, or that of a run, if it has the layer."""
    one = _single(data)
    if one is None or isinstance(data, Catalog):
        return None
    if is_codes(data):
        return CodesSource.of(one, layer)
    if not is_run(one):
        return None
    from cnncodes.pictures.report.reading import read_records

    report, _ = read_records(one)
    path, asked = one / report.files.get("codes", "-"), layer or load_model(one / MODEL).stage
    if not path.is_file():
        return None
    with CodesFile(path) as file:
        there = asked in file.stages
    return CodesSource(path, asked, "" if layer else READ, None, None, path.name) if there else None


def _subject(named: str | os.PathLike[str], network: str | None, device: str) -> Subject:
    from cnncodes.pictures.subject import load_subject

    return load_subject(named, network=network, device=device)


def _read_by(subject: Subject) -> tuple[str, str]:
    """The stage that a linear classifier reads, and why; of other networks the deepest before the classifier."""
    network = subject.weights.architecture
    if subject.head is not None and subject.head.stage != network.stage_names[-1]:
        return subject.head.stage, READ
    return probed_stages(network)[-1], DEEPEST


def _of_split(catalog: Catalog, split: str) -> Catalog:
    if split == "all":
        return catalog
    if split not in SPLITS:
        raise OptionError(f"split '{split}' is not known.", nearest(split, ("all", *SPLITS)))
    rows = np.flatnonzero(catalog.splits == SPLITS.index(split))
    if not len(rows):
        raise CatalogError(f"no image is in split '{split}'.", "Name another split, or all.")
    return catalog.subset(rows)


def _together(catalog: Catalog, files: list[str]) -> Catalog:
    """The catalog with names from the folder on that its files have in common."""
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - a Path for each costs 30 times more
    try:
        root = os.path.commonpath(list(folders))
    except ValueError:  # two drives
        return catalog
    names = tuple(os.path.relpath(file, root).replace(os.sep, "/") for file in files)
    return Catalog(Path(root), names, catalog.labels, catalog.splits, catalog.classes)
