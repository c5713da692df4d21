"""What options mean: options that travel together as one object, texts that are read, and what is checked before the work."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from cnncodes import images, weights
from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.core.outputs import output_file

if TYPE_CHECKING:
    from cnncodes.images import Catalog


@dataclass(frozen=True)
class Reading(options.Group):
    """How DATA are read: keywords of :func:`cnncodes.images.read_catalog`."""

    root: options.Root = None
    path_column: options.PathColumn = None
    label_column: options.LabelColumn = None
    split_column: options.SplitColumn = None
    classes_are: options.ClassesAre = None
    labels: options.LabelsFiles = None
    exclude: options.ExcludeFiles = None

    def catalog(self, data: list[str]) -> Catalog:
        """The images of DATA; nothing is decoded."""
        corrections = {"labels": self.labels or (), "exclude": self.exclude or ()}
        return images.read_catalog(data, **{**vars(self), **corrections})

    def unlabelled(self) -> Reading:
        """The same for images whose folders name no classes, unless options say so."""
        return replace(self, classes_are="none") if self.classes_are is None else self

    def images(self, data: list[str], *, stored: bool) -> list[str] | Catalog:
        """The catalog of images, or DATA unchanged if they are ``stored`` (a codes file, a run), which lists its own images."""
        if not stored:
            return self.catalog(data)
        if given := self._given():
            why = f"'{data[0]}' lists its own images." if data else "no images are given."
            raise OptionError(
                f"{given[0]} changes how images are read, and {why}",
                "Leave it out, or give the images instead.",
            )
        return data

    def words(self, data: Sequence[str], network: str | None = None) -> str:
        """The same data, and the network if one was named, as words of another command."""
        return shlex.join([*data, *self._given(), *([] if network is None else ["--model", network])])

    def _given(self) -> list[str]:
        """The options that were given, as words."""
        given: list[str] = []
        for name, value in vars(self).items():
            for each in value if isinstance(value, list) else [value]:
                given += [] if each is None else [f"--{name.replace('_', '-')}", each]
        return given


@dataclass(frozen=True)
class Machine(options.Group):
    """Where the work is done: keywords of all functions that compute."""

    device: options.Device = "auto"
    workers: options.Workers = None


@dataclass(frozen=True)
class Cluster(Machine):
    """Where codes are computed: in this process, in several, or on a Ray cluster."""

    processes: options.Processes = 1
    ray: options.Ray = None
    gpus_per_worker: options.GpusPerWorker = None


def parse_C(text: str) -> float | list[float] | Literal["auto"]:
    """``auto``, one number, or several separated by commas."""
    if text == "auto":
        return "auto"
    with suppress(ValueError):
        first, *others = (float(part) for part in text.split(","))
        return [first, *others] if others else first
    raise OptionError(f"--C '{text}' is not a number.", "Use auto, a value, or several: --C 0.1,1,10.")


def parse_integers(text: str, option: str) -> list[int]:
    """Positive integers separated by commas."""
    with suppress(ValueError):
        values = [int(part) for part in text.split(",")]
        if min(values) >= 1:
            return values
    raise OptionError(f"{option} '{text}' is not a list of counts.", f"Use whole numbers: {option} 1,5,10.")


def parse_bytes(text: str, option: str) -> int:
    """A size such as 2G, 1.5GB or 500M, in powers of 1000; a number alone is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise OptionError(
            f"{option} '{text}' is not a size.", f"Use a number with k, M, G or T: {option} 2G."
        )
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


def parse_split(text: str) -> float | Literal["auto", "none"]:
    """``auto``, ``none``, or a share between 0 and 1."""
    if text in ("auto", "none"):
        return cast("Literal['auto', 'none']", text)
    with suppress(ValueError):
        if 0 < (value := float(text)) < 1:
            return value
    raise OptionError(f"--split '{text}' is not known.", "Use auto, none, or a share: --split 0.2.")


def check_free(
    output: str | Path,
    overwrite: bool,
    suffix: str = "",
    what: str = "a model file",
    option: str = "-o",
) -> None:
    """Refuse early what a command could not write after its work; ``option`` is the one that names it."""
    path = Path(output)
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", f"Name a file with {option}.")
    if path.suffix != suffix and suffix:
        raise OptionError(f"{what} ends in {suffix}, not '{path.name}'.", f"Rename the output ({option}).")
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' does not exist.", f"Make it: mkdir -p '{path.parent}'."
        )
    output_file(path, OutputExistsError)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", f"Choose another name with {option}, or use --overwrite."
        )


def check_folder(output: str | Path, names: Sequence[str], option: str = "-o") -> None:
    """Refuse early a folder that cannot be made, or in which files of these names cannot be written."""
    folder = Path(output)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputExistsError(f"'{there}' is a file, not a folder.", f"Name a folder with {option}.")
    effective = os.access in os.supports_effective_ids
    for place in (there, *(folder / name for name in names)):
        if place != there and place.is_dir():
            raise OutputExistsError(
                f"'{place}' is a folder; a file of this name is to be written.",
                f"Name another folder with {option}.",
            )
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise OutputExistsError(f"'{place}' may not be written.", f"Name another folder with {option}.")


def check_picture(output: str | Path, overwrite: bool, option: str = "-o") -> None:
    """:func:`check_free` for a picture, whose suffix says its format."""
    from cnncodes.pictures.drawing import check_format

    check_format(output)
    check_free(output, overwrite, option=option)


def fit_entries(fit: str | None) -> list[str]:
    """Entries of a recipe for --fit."""
    if fit is None:
        return []
    return ["extract.crops=ten"] if fit == "ten" else [f"images.fit={'shorter' if fit == 'crop' else fit}"]


def load_weights(
    reporter: Reporter, name: str, network: str | None, fit: str | None = None
) -> weights.Weights:
    """Weights by name, with a note about what their file has besides the network, or lacks; ``fit``: see ``with_fit``."""
    loaded = weights.load_weights(name, network=network)
    loaded = loaded if fit is None else weights.with_fit(loaded, fit)
    if loaded.left_out is not None:
        reporter.note(f"weights '{name}': {loaded.left_out}")
    return loaded
