"""What is computed once and kept while it is needed: decoded images, and what the frozen stages give for them."""

from __future__ import annotations

import os
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
SHARE = 0.25  # of the free memory that decoded images may take, and what frozen stages gave
AUTO_VIEWS = 4
AUTO_BYTES = 8 * 2**30  # the most disk that is taken without being asked
BATCH = 64

#: view (-1: val), rows, pixels -> value at the boundary
Forward: TypeAlias = Callable[[int, list[int], Tensor], Tensor]


class PixelCache:
    """Batches of ``uint8 [batch, crop, crop, 3]`` on the device, kept after the first time where there is room.

    Parameters
    ----------
    catalog : Catalog
    rows : int ndarray
        Rows that will be asked for.
    preprocessing : Preprocessing
        Its centre crop is what is given.
    resources : Resources
    """

    def __init__(
        self, catalog: Catalog, rows: np.ndarray, preprocessing: Preprocessing, resources: Resources
    ) -> None:
        self._catalog, self._preprocessing = catalog, preprocessing
        self._device, self._workers = resources.device, resources.workers
        device = resources.device
        self._place = np.full(len(catalog), -1)
        self._place[rows] = np.arange(len(rows))
        self._there = np.zeros(len(rows), np.bool_)
        #: Row and reason of each image that could not be read so far.
        self.problems: dict[int, str] = {}
        #: What was in each image file that was decoded so far, by row of the catalog; 0: not yet.
        self.digests = np.zeros(len(catalog), np.uint64)
        shape = (len(rows), preprocessing.crop, preprocessing.crop, 3)
        fits = int(np.prod(shape)) <= SHARE * free_memory(device)
        self._kept = torch.empty(shape, dtype=torch.uint8, device=device.torch_name) if fits else None

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Readable rows of each batch, and their pixels; a batch without any is given too."""
        wanted = np.concatenate(
            [np.asarray(batch, dtype=np.int64) for batch in batches] or [np.zeros(0, int)]
        )
        if self._kept is not None and self._there[self._place[wanted]].all():
            yield from self._from_memory(self._kept, batches)
            return
        loader = Loader(
            self._catalog,
            batches,
            self._preprocessing,
            workers=self._workers,
            allocate=pinned if self._device.is_cuda else None,
        )
        with closing(iter(loader)) as loaded:  # type: ignore[type-var]
            for batch in loaded:
                self.problems.update(batch.problems)
                self.digests[np.asarray(batch.rows, dtype=np.int64)] = batch.digests
                good = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
                rows = [int(batch.rows[place]) for place in good]
                pixels = torch.from_numpy(batch.pixels[:, 0]).to(self._device.torch_name, non_blocking=True)
                if self._kept is not None:
                    self._kept[torch.from_numpy(self._place[np.asarray(batch.rows, dtype=np.int64)])] = pixels
                    self._there[self._place[np.asarray(batch.rows, dtype=np.int64)]] = True
                yield rows, pixels if len(good) == len(batch.rows) else pixels[good]

    def _from_memory(
        self, kept: Tensor, batches: Sequence[Sequence[int]]
    ) -> Iterator[tuple[list[int], Tensor]]:
        for batch in batches:
            rows = [int(row) for row in batch if row not in self.problems]
            yield rows, kept[torch.from_numpy(self._place[rows]).to(kept.device)]


def free_memory(device: Device) -> int:
    """Free memory in bytes of where decoded images would be kept: the GPU's, or the machine's (0: not known)."""
    if device.is_cuda:
        return int(torch.cuda.mem_get_info(device.torch_name)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def views_to_keep(settings: TrainingSettings, learner: Learner, images: int) -> int:
    """How many augmented views of each image are kept; 0: nothing is.

    Raises
    ------
    OptionError
        If views are asked for and cannot be kept.
    """
    network = learner.module.network
    reason = None
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

    Parameters
    ----------
    folder : Path
        The run; the file in it is ``frozen.h5``: a row for each augmented view of each training image, then one for the
        centre crop of each val image. Filling it can be stopped at any moment and goes on with the rows that are pending.
    learner : Learner
    task : Task
    settings : TrainingSettings
    views : int
    device : Device
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
        catalog, preprocessing = task.catalog, task.preprocessing
        train_rows, val_rows = task.split.train, task.split.choose
        network = learner.module.network
        before = network.stages[: learner.first]
        self.path, self.views, self._device = folder / FILE, views, device
        self.boundary = before[-1].name
        self.shape = network.output_shapes(preprocessing.crop)[self.boundary]
        self._train_rows, self._val_rows = train_rows, val_rows
        rows = np.concatenate([np.tile(train_rows, views), val_rows])
        self._catalog = catalog.subset(rows)
        self._files = tuple(values[rows] for values in stat_files(catalog))  # sizes and times
        frozen = learner.module.state_dict()
        kept = {
            key: value.cpu()
            for key, value in frozen.items()
            if key.startswith(tuple(f"{stage.prefix}." for stage in before))
        }
        self._settings = ExtractionSettings(
            network=network.name.removesuffix("-tanh"),
            stages=(self.boundary,),
            weights=f"frozen stages up to {self.boundary}, views by seed {settings.seed}",
            weights_sha256=fingerprint(kept),
            preprocessing=preprocessing,
            precision=settings.precision,
            batch_size=BATCH,
            classes=network.classes,
        )
        self._place = np.full(len(catalog), -1)
        self._place[train_rows] = np.arange(len(train_rows))
        self._val_place = np.full(len(catalog), -1)
        self._val_place[val_rows] = views * len(train_rows) + np.arange(len(val_rows))
        self._values: np.ndarray | Tensor | None = None
        #: Name and reason of each image that could not be read.
        self.problems: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """Rows of the file: views of training images, and val images."""
        return len(self._catalog)

    def fill(
        self,
        pixels: PixelCache,
        val_pixels: PixelCache,
        forward: Forward,
        progress: Callable[[int], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Compute what is pending; False if it was asked to stop before all was done.

        ``progress`` is called with the number of rows that are there.
        """
        if not self._usable():
            self._create()
        with codes_file.CodesFile(self.path) as codes:
            state = codes.state
        done = int((state != codes_file.PENDING).sum())
        with closing(RowWriter(self.path, layout(self.path))) as writer:
            for view, part in self._parts(state):
                source = self._val_rows if view < 0 else self._train_rows
                offset = len(self._train_rows) * (self.views if view < 0 else view)
                wanted = [source[[row - offset for row in rows]].tolist() for rows in part]
                cache = val_pixels if view < 0 else pixels
                for rows, asked, (readable, found) in zip(part, wanted, cache.batches(wanted), strict=True):
                    values = np.zeros((len(rows), int(np.prod(self.shape))), np.float32)
                    if readable:
                        given = forward(view, readable, found).flatten(1).float().cpu().numpy()
                        values[[asked.index(row) for row in readable]] = given
                    there = set(readable)
                    bad = {
                        rows[place]: cache.problems[row]
                        for place, row in enumerate(asked)
                        if row not in there
                    }
                    writer.write(rows[0], {self.boundary: values}, bad, np.zeros(len(rows), np.uint64))
                    done += len(rows)
                    if progress:
                        progress(done)
                    if stopped():
                        return False
        return True

    def _parts(self, state: np.ndarray) -> Iterator[tuple[int, list[range]]]:
        """By view (-1: val), the batches in which rows are pending; no batch has rows of two views."""
        count = len(self._train_rows)
        for view in [*range(self.views), -1]:
            low = count * (self.views if view < 0 else view)
            high = low + (len(self._val_rows) if view < 0 else count)
            batches = [range(start, min(start + BATCH, high)) for start in range(low, high, BATCH)]
            if part := [
                rows for rows in batches if (state[rows.start : rows.stop] == codes_file.PENDING).any()
            ]:
                yield view, part

    def open(self) -> None:
        """Map the rows; read them into memory (the GPU's) where they fit."""
        with codes_file.CodesFile(self.path) as codes:
            self._broken = set(np.flatnonzero(codes.state == codes_file.UNREADABLE).tolist())
            self.problems = codes.problems()
            place = layout(self.path).layers[self.boundary]
            shape = (len(codes), int(np.prod(self.shape)))
        mapped: np.ndarray = np.memmap(self.path, place.dtype, "r", place.offset, shape)
        if mapped.nbytes <= SHARE * free_memory(self._device):
            self._values = torch.from_numpy(np.array(mapped)).to(self._device.torch_name)
        else:
            self._values = mapped

    def batches(
        self, epoch: int, batches: Sequence[Sequence[int]], *, val: bool = False
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Readable rows of each batch of the catalog, and their values ``[batch, *shape]`` on the device."""
        assert self._values is not None
        for batch in batches:
            asked = np.asarray(batch, dtype=np.int64)
            places = (
                self._val_place[asked]
                if val
                else self._place[asked] + (epoch % self.views) * len(self._train_rows)
            )
            good = [at for at, place in enumerate(places.tolist()) if place not in self._broken]
            if isinstance(self._values, Tensor):
                found = self._values[torch.from_numpy(places[good]).to(self._values.device)]
            else:
                found = torch.from_numpy(self._values[places[good]]).to(self._device.torch_name)
            yield asked[good].tolist(), found.view(-1, *self.shape)

    def remove(self) -> None:
        """Delete the file: what it holds can be computed again."""
        self._values = None
        self.path.unlink(missing_ok=True)

    def _usable(self) -> bool:
        if not self.path.exists():
            return False
        try:
            with codes_file.CodesFile(self.path) as codes:
                same = codes.settings == self._settings and codes.catalog.names == self._catalog.names
                return same and all(map(np.array_equal, codes.files(), self._files))
        except CnnCodesError:  # damaged: computed again
            return False

    def _create(self) -> None:
        with replacing(self.path, overwrite=True, error=CodesFileError) as whole:
            create(
                whole, self._catalog, self._settings, codes_file.Provenance.now(), *self._files
            )  # fmt: skip
            reserve(whole)
