"""Computed once and kept while needed: decoded images, and the values of frozen stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cnncodes.codes import file as codes_file
from cnncodes.codes.compute import Device, pinned
from cnncodes.codes.rows import RowWriter, reserve
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.structure import create, layout
from cnncodes.core.compute import available_memory
from cnncodes.core.errors import CnnCodesError, CodesFileError, OptionError
from cnncodes.core.outputs import replacing
from cnncodes.images.catalog import Catalog, stat_files
from cnncodes.images.loader import Loader
from cnncodes.networks import Linear
from cnncodes.training.device import Resources
from cnncodes.training.learner import Learner
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.record import fingerprint

if TYPE_CHECKING:
    from cnncodes.training.inputs import Task

FILE = "frozen.h5"
SHARE = 0.25  # of the free memory that each cache may take
AUTO_VIEWS = 4
AUTO_BYTES = 8 * 2**30  # the most disk that is taken without being asked
BATCH = 64
VAL = -1  # the view of the val images: their centre crops

#: view, rows, pixels -> value at the boundary
Forward: TypeAlias = Callable[[int, list[int], Tensor], Tensor]


class PixelCache:
    """Centre crops ``uint8 [batch, crop, crop, 3]`` of ``rows`` on the device, kept after the first time if there is memory for all.

    ``problems`` has row and reason of each image that could not be read so far, ``digests`` (uint64) those of each image file of the
    catalog; 0: not decoded yet.
    """

    def __init__(
        self, catalog: Catalog, rows: np.ndarray, preprocessing: Preprocessing, resources: Resources
    ) -> None:
        self._catalog, self._preprocessing = catalog, preprocessing
        self._device, self._workers = resources.device, resources.workers
        self._place = np.full(len(catalog), -1)
        self._place[rows] = np.arange(len(rows))
        self._there = np.zeros(len(rows), np.bool_)
        self.problems: dict[int, str] = {}
        self.digests = np.zeros(len(catalog), np.uint64)
        shape = (len(rows), preprocessing.crop, preprocessing.crop, 3)
        fits = int(np.prod(shape)) <= SHARE * free_memory(self._device)
        self._kept = torch.empty(shape, dtype=torch.uint8, device=self._device.torch_name) if fits else None

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Readable rows of each batch, and their pixels; a batch may have none."""
        kept = self._kept
        if kept is not None and all(self._there[self._place[np.asarray(b, np.int64)]].all() for b in batches):
            for batch in batches:
                rows = [int(row) for row in batch if row not in self.problems]
                yield rows, kept[torch.from_numpy(self._place[rows]).to(kept.device)]
            return
        allocate = pinned if self._device.is_cuda else None
        loader = Loader(self._catalog, batches, self._preprocessing, workers=self._workers, allocate=allocate)
        with closing(iter(loader)) as loaded:  # type: ignore[type-var]
            for found in loaded:
                places = np.asarray(found.rows, np.int64)
                self.problems.update(found.problems)
                self.digests[places] = found.digests
                pixels = torch.from_numpy(found.pixels[:, 0]).to(self._device.torch_name, non_blocking=True)
                if kept is not None:
                    kept[torch.from_numpy(self._place[places])] = pixels
                    self._there[self._place[places]] = True
                good = [place for place, row in enumerate(found.rows) if row not in found.problems]
                yield places[good].tolist(), pixels if len(good) == len(places) else pixels[good]


def free_memory(device: Device) -> int:
    """Free memory in bytes of the GPU, or of the machine (0: not known)."""
    if device.is_cuda:
        return int(torch.cuda.mem_get_info(device.torch_name)[0])
    return available_memory()


def views_to_keep(settings: TrainingSettings, learner: Learner, images: int) -> int:
    """How many augmented views of each image are kept; 0: none. Raises OptionError if some are asked for and cannot be."""
    network, reason = learner.module.network, None
    if learner.first == 0:
        reason = "no stage before the first learning one is frozen"
    elif settings.mixup or settings.input_sizes:
        reason = "mixup and input sizes need the pixels in every epoch"
    if settings.cached_views > 0 and reason:
        raise OptionError(
            f"train.cached_views = {settings.cached_views} is not possible: {reason}.",
            "Set it to 0, or freeze the first stages.",
        )
    if settings.cached_views >= 0:
        return min(settings.cached_views, settings.epochs)
    if reason or not isinstance(network.stages[learner.first], Linear):
        return 0
    views = min(AUTO_VIEWS, settings.epochs)
    values = int(np.prod(network.incoming_shapes()[learner.first]))
    return views if 4 * values * images * views <= AUTO_BYTES else 0


class FrozenCache:
    """Values that enter the first learning stage, computed once.

    They are in ``frozen.h5`` in the run's folder, a codes file: a row for each augmented view of each training image, then one
    for the centre crop of each val image. Filling it can be stopped at any moment and continues with the pending rows.
    """

    def __init__(
        self,
        folder: Path,
        learner: Learner,
        task: Task,
        settings: TrainingSettings,
        views: int,
        device: Device,
    ) -> None:
        network, catalog = learner.module.network, task.catalog
        before = network.stages[: learner.first]
        self.path, self.views, self._device = folder / FILE, views, device
        self.boundary = before[-1].name
        self.shape = network.output_shapes(task.preprocessing.crop)[self.boundary]
        parts = [*[task.split.train] * views, task.split.choose]
        self._parts, rows = parts, np.concatenate(parts)
        # row of the file, by view and row of the catalog
        self._place = np.full((views + 1, len(catalog)), -1)
        for part, end, place in zip(parts, np.cumsum([*map(len, parts)]), self._place, strict=True):
            place[part] = np.arange(end - len(part), end)
        self._catalog = catalog.subset(rows)
        self._files = tuple(values[rows] for values in stat_files(catalog))  # sizes and times
        prefixes = tuple(f"{stage.prefix}." for stage in before)
        state = learner.module.state_dict()
        kept = {key: value.cpu() for key, value in state.items() if key.startswith(prefixes)}
        self._settings = ExtractionSettings(
            network=network.name.removesuffix("-tanh"),
            stages=(self.boundary,),
            weights=f"frozen stages up to {self.boundary}, views by seed {settings.seed}",
            weights_sha256=fingerprint(kept),
            preprocessing=task.preprocessing,
            precision=settings.precision,
            batch_size=BATCH,
            classes=network.classes,
        )
        self._values: np.ndarray | Tensor | None = None
        #: Name and reason of each image that could not be read.
        self.problems: dict[str, str] = {}

    def fill(
        self,
        pixels: PixelCache,
        val_pixels: PixelCache,
        forward: Forward,
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
    ) -> bool:
        """Compute the pending rows; False if it was asked to stop before all were done. Progress: rows done, and all."""
        if not self._usable():
            with replacing(self.path, overwrite=True, error=CodesFileError) as whole:
                create(whole, self._catalog, self._settings, codes_file.Provenance.now(), *self._files)
                reserve(whole)
        with codes_file.CodesFile(self.path) as codes:
            pending = codes.state == codes_file.PENDING
        done = int((~pending).sum())
        with closing(RowWriter(self.path, layout(self.path))) as writer:
            for view in (*range(self.views), VAL):
                part, place = self._parts[view], self._place[view]
                cache = val_pixels if view == VAL else pixels
                batches = [part[start : start + BATCH] for start in range(0, len(part), BATCH)]
                batches = [rows for rows in batches if pending[place[rows]].any()]
                given = cache.batches([rows.tolist() for rows in batches])
                for rows, (readable, found) in zip(batches, given, strict=True):
                    values = np.zeros((len(rows), int(np.prod(self.shape))), np.float32)
                    good = np.isin(rows, readable)
                    if readable:
                        values[good] = forward(view, readable, found).flatten(1).float().cpu().numpy()
                    bad = {int(place[row]): cache.problems[int(row)] for row in rows[~good]}
                    digests = np.zeros(len(rows), np.uint64)
                    writer.write(int(place[rows[0]]), {self.boundary: values}, bad, digests)
                    done += len(rows)
                    progress(done, len(self._catalog))
                    if stopped():
                        return False
        return True

    def open(self) -> None:
        """Map the rows, or read them into memory (the GPU's) where they fit."""
        with codes_file.CodesFile(self.path) as codes:
            self._broken = codes.state == codes_file.UNREADABLE
            self.problems = codes.problems()
            place = layout(self.path).layers[self.boundary]
            shape = (len(codes), int(np.prod(self.shape)))
        mapped: np.ndarray = np.memmap(self.path, place.dtype, "r", place.offset, shape)
        fits = mapped.nbytes <= SHARE * free_memory(self._device)
        self._values = torch.from_numpy(np.array(mapped)).to(self._device.torch_name) if fits else mapped

    def batches(self, view: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Readable rows of each batch, and their values ``[batch, *shape]`` on the device."""
        assert self._values is not None
        for batch in batches:
            rows = np.asarray(batch, np.int64)
            places = self._place[view, rows]
            good = ~self._broken[places]
            if isinstance(self._values, Tensor):
                found = self._values[torch.from_numpy(places[good]).to(self._values.device)]
            else:
                found = torch.from_numpy(self._values[places[good]]).to(self._device.torch_name)
            yield rows[good].tolist(), found.view(-1, *self.shape)

    def remove(self) -> None:
        """Delete the file."""
        self._values = None
        self.path.unlink(missing_ok=True)

    def _usable(self) -> bool:
        """Whether the file is there, undamaged, and of these stages, images and settings."""
        if not self.path.exists():
            return False
        try:
            with codes_file.CodesFile(self.path) as codes:
                same = codes.settings == self._settings and codes.catalog.names == self._catalog.names
                return same and all(map(np.array_equal, codes.files(), self._files))
        except CnnCodesError:
            return False
