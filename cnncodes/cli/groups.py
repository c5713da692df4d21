"""Options that a command takes together, and gets as one object: how data are read, and where the work is done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncodes.cli import options
from cnncodes.core.errors import OptionError

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
        from cnncodes.images import read_catalog

        return read_catalog(
            data, **{**vars(self), "labels": self.labels or (), "exclude": self.exclude or ()}
        )

    def images(self, data: list[str], *, stored: bool) -> list[str] | Catalog:
        """The catalog of images, or DATA unchanged if they are ``stored`` (a codes file, a run), which lists its own images."""
        if not stored:
            return self.catalog(data)
        if given := self._given():
            raise OptionError(
                f"{given[0]} changes how images are read, and "
                + (f"'{data[0]}' lists its own images." if data else "no images are given."),
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
