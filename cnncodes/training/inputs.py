"""What is learned, and what enters the learner: views or kept values of each batch, and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cnncodes.codes import file as codes_file
from cnncodes.codes.compute import Device, pinned
from cnncodes.codes.rows import RowWriter, reserve
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.structure import create, layout
from cnncodes.core.compute import available_memory
from cnncodes.core.errors import CnnCodesError, CodesFileError, HeadError, OptionError
from cnncodes.core.files import parse_json
from cnncodes.core.outputs import replacing
from cnncodes.core.records import to_json
from cnncodes.heads import splits
from cnncodes.heads.splits import Split, SplitRule
from cnncodes.images.catalog import Catalog, stat_files
from cnncodes.images.digests import file_digests, identical_files
from cnncodes.images.loader import Loader
from cnncodes.networks import Linear
from cnncodes.training.device import Resources, autocast
from cnncodes.training.folder import FROZEN
from cnncodes.training.learner import Learner, Targets, mixed_views
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes, square_of
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.record import fingerprint

MEASURED = 500  # images for colour axes
SAMPLED = 200  # images of :meth:`Inputs.sample`
SOME = 32  # of them in a batch
FILLING = "frozen stages"  # the step in a progress
SHARE = 0.25  # of the free memory that each cache may take
AUTO_VIEWS = 4
AUTO_BYTES = 8 * 2**30  # the most disk that is taken without being asked
BATCH = 64  # rows of a frozen cache that are computed together
VAL = -1  # the view of the val images: their centre crops

#: Readable rows of a batch, and their pixels or values on the device.
Readable: TypeAlias = tuple[list[int], Tensor]
#: view, rows, pixels -> value at the boundary
Forward: TypeAlias = Callable[[int, list[int], Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Task:
    """What a training learns."""

    catalog: Catalog
    preprocessing: Preprocessing
    split: Split  # ``train`` learns, ``choose`` is watched, ``test`` is used once, at the end
    labels: np.ndarray  # int64 [N], places in ``classes``; -1: none
    classes: tuple[str, ...]  # of the last stage


def choose_task(catalog: Catalog, preprocessing: Preprocessing, rule: SplitRule | Split, seed: int) -> Task:
    """The classes and parts of a catalog, by the caller's split or a rule.

    By a rule the same images test as in every other command (:func:`cnncodes.heads.split_rows`), without copies of those to
    learn from; if no others choose, a tenth of those to learn from is watched.
    """
    split = rule
    if not isinstance(split, Split):
        same = identical_files(catalog)
        split = splits.split_rows(catalog, np.ones(len(catalog), np.bool_), split, seed, same=same)
        if split.kind != "none":
            split = splits.with_watched(catalog, split, same=same)
        split = splits.without_copies(split, same)
    labels, classes = splits.compact_labels(catalog, split.train)
    if len(classes) < 2:
        raise HeadError(
            "there is only one class to learn.", "Give images of two classes or more, a folder each."
        )
    split = splits.with_known_classes(catalog, split, labels)
    return Task(catalog, preprocessing, split, labels, classes)


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a batch."""

    rows: list[int]  # of the catalog; those that can be read
    values: Tensor  # normalised views [rows, 3, side, side]; with a frozen cache the values at its boundary
    targets: Targets
    size: int  # images that the batch of all processes should have
    places: list[int]  # of ``rows`` in that batch


class Inputs:
    """The images of a training on their way into the learner; values of a ``frozen`` cache enter it in place of views."""

    def __init__(
        self, learner: Learner, task: Task, settings: TrainingSettings, folder: Path, resources: Resources
    ) -> None:
        self.catalog, self.labels = task.catalog, task.labels
        self.preprocessing, self.settings = task.preprocessing, settings
        self.train_rows, self.val_rows, self.test_rows = task.split.train, task.split.choose, task.split.test
        self.axes: ColourAxes | None = None  # of the training images, if the settings ask for colour noise
        self._unreadable: dict[str, str] = {}  # by an earlier process, or in the test
        self._learner, self._resources = learner, resources
        self._device, self._processes = resources.device, resources.processes
        whole = square_of(self.preprocessing)  # crops are views
        self._pixels = PixelCache(self.catalog, self.train_rows, whole, resources)
        self._val_pixels = PixelCache(self.catalog, self.val_rows, self.preprocessing, resources)
        views = views_to_keep(settings, learner, len(self.train_rows))
        self.frozen: FrozenCache | None = None
        if views:
            self.frozen = FrozenCache(folder, learner, task, settings, views, self._device)

    def draws(self, epoch: int) -> Augmentation:
        """What happens to each image in an epoch, and the order of the images."""
        return Augmentation(self.settings, len(self.catalog), self.preprocessing, epoch, self.axes)

    def batches(self, draws: Augmentation) -> list[list[int]]:
        """Rows of each batch of an epoch, for all processes together."""
        batches = self._in_batches(draws.order[np.isin(draws.order, self.train_rows)])
        if self.settings.network.batch_norm and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()  # one image has no variance
            batches[-1] += last
        return batches

    def to_learn(self, batches: Sequence[list[int]], draws: Augmentation) -> Iterator[Batch]:
        """This process's share of each batch, augmented; a share without readable images is given too."""
        if self.frozen is not None:
            return self._shares(batches, partial(self.frozen.batches, draws.epoch % self.frozen.views))

        def augmented(squares: Tensor, rows: list[int]) -> tuple[Tensor, Tensor | None]:
            views, parts = draws.views(squares, rows), draws.mix(rows)
            if parts is None:
                return self._normalised(views), None
            mix = torch.from_numpy(parts).to(views.device)
            return self._normalised(mixed_views(views, mix)), mix

        return self._shares(batches, self._pixels.batches, augmented)

    def to_watch(self) -> Iterator[Batch]:
        """This process's share of each batch of val rows: centre crops, nothing at random."""
        batches = self._in_batches(self.val_rows)
        if self.frozen is not None:
            return self._shares(batches, partial(self.frozen.batches, VAL))
        return self._shares(batches, self._val_pixels.batches, self._centred)

    def to_test(self, rows: np.ndarray) -> Iterator[Batch]:
        """As :meth:`to_watch`, of other rows; they enter the first stage, also if it is frozen."""
        pixels = PixelCache(self.catalog, rows, self.preprocessing, self._resources)
        yield from self._shares(self._in_batches(rows), pixels.batches, self._centred)
        self._unreadable |= {self.catalog.names[row]: reason for row, reason in pixels.problems.items()}

    def _in_batches(self, rows: np.ndarray) -> list[list[int]]:
        size = self.settings.batch_size
        return [rows[start : start + size].tolist() for start in range(0, len(rows), size)]

    def _shares(
        self,
        batches: Sequence[list[int]],
        read: Callable[[list[list[int]]], Iterator[Readable]],
        make: Callable[[Tensor, list[int]], tuple[Tensor, Tensor | None]] = lambda values, rows: (
            values,
            None,
        ),
    ) -> Iterator[Batch]:
        """This process's share of each batch: what can be read of it, made into views and the parts of mixed ones."""
        shares = [self._processes.share(batch) for batch in batches]
        for whole, (rows, values) in zip(batches, read(shares), strict=True):
            readable = set(rows)
            places = [place for place in self._processes.places(len(whole)) if whole[place] in readable]
            labels = torch.from_numpy(self.labels[np.asarray(rows, np.int64)]).to(self._device.torch_name)
            views, mix = make(values, rows)
            yield Batch(rows, views, Targets(labels, mix), len(whole), places)

    def _centred(self, squares: Tensor, rows: list[int]) -> tuple[Tensor, None]:
        return self._normalised(squares.permute(0, 3, 1, 2).float()), None

    def unreadable(self) -> dict[str, str]:
        """Name and reason of each image that could not be read so far."""
        found = self._pixels.problems | self._val_pixels.problems
        kept = self.frozen.problems if self.frozen is not None else {}
        return self._unreadable | kept | {self.catalog.names[row]: found[row] for row in sorted(found)}

    def sample(self) -> Iterator[Tensor]:
        """Normalised centre crops ``[batch, 3, crop, crop]`` of some watched images, or else of training images."""
        rows, pixels = self.val_rows, self._val_pixels
        if not len(rows):
            rows = self.train_rows
            pixels = PixelCache(self.catalog, rows, self.preprocessing, self._resources)
        for squares in pixels.some(rows, SAMPLED):
            yield self._centred(squares, [])[0]

    def class_weights(self) -> Tensor | None:
        """n / (K n_k) as float32 ``[K]``, as scikit-learn's "balanced"; None where all images count alike."""
        if self.settings.class_weight == "none":
            return None
        counts = np.bincount(self.labels[self.train_rows])
        weights = len(self.train_rows) / (len(counts) * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self._device.torch_name)

    def digests(self) -> tuple[set[int], set[int]]:
        """Those of the images that are learned from, and of those that are watched."""

        def of(rows: np.ndarray, cache: PixelCache) -> set[int]:
            found = cache.digests[rows]
            unknown = np.flatnonzero(found == 0)
            if len(unknown):  # decoded by an earlier process, or not readable
                found[unknown] = file_digests(self.catalog.subset(rows[unknown]))
            return set(found[found != 0].tolist())

        return of(self.train_rows, self._pixels), of(self.val_rows, self._val_pixels)

    def fill(self, stopped: Callable[[], bool]) -> bool:
        """Fill the frozen cache, if there is one; False if it was asked to stop. One process computes, the others wait."""
        frozen = self.frozen
        if frozen is None:
            return True
        draws = lru_cache(maxsize=1)(self.draws)  # all batches of a view come one after the other

        def forward(view: int, rows: list[int], squares: Tensor) -> Tensor:
            # views are made in float32, as those that are not kept
            views = squares.permute(0, 3, 1, 2).float() if view == VAL else draws(view).views(squares, rows)
            with torch.inference_mode(), autocast(self.settings.precision, self._device):
                return self._learner.before(self._normalised(views))

        if self._processes.leads:
            with closing(frozen.fill(self._pixels, self._val_pixels, forward)) as counts:
                for done in counts:
                    self._resources.progress(FILLING, done, len(frozen), "")
                    if stopped():
                        return False
        self._processes.wait()
        frozen.open()
        return True

    def measure(self) -> None:
        """Measure the colour axes on some training images, if the settings need them and they are not known."""
        if self.settings.pca_noise and self.axes is None:
            some = self._pixels.some(self.train_rows, MEASURED)
            self.axes = ColourAxes.of(squares[:, ::4, ::4].cpu().numpy() for squares in some)

    def measured(self) -> dict[str, Any]:
        """What :meth:`measure` found, and which images cannot be read, for a checkpoint."""
        return {"axes": to_json(self.axes) if self.axes else None, "unreadable": self.unreadable()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`measured` gave."""
        axes = parse_json(saved["axes"] or "{}")
        self.axes = ColourAxes(**{name: np.array(axes[name]) for name in axes}) if axes else None
        self._unreadable = dict(saved["unreadable"])

    def _normalised(self, views: Tensor) -> Tensor:
        """Views in 0..255 as the network wants them, in torchvision's order of operations."""
        record = self.preprocessing
        mean, std = (torch.tensor(v, device=views.device).view(3, 1, 1) for v in (record.mean, record.std))
        return ((views / record.scale - mean) / std).contiguous(memory_format=torch.channels_last)


class PixelCache:
    """Centre crops ``uint8 [batch, crop, crop, 3]`` of ``rows`` on the device, kept after the first time if there is memory for all."""

    def __init__(
        self, catalog: Catalog, rows: np.ndarray, preprocessing: Preprocessing, resources: Resources
    ) -> None:
        self._catalog, self._preprocessing = catalog, preprocessing
        self._device, self._workers = resources.device, resources.workers
        self._place = np.full(len(catalog), -1)
        self._place[rows] = np.arange(len(rows))
        self._there = np.zeros(len(rows), np.bool_)
        self.problems: dict[int, str] = {}  # row and reason of each image that could not be read so far
        self.digests = np.zeros(
            len(catalog), np.uint64
        )  # of each image file of the catalog; 0: not decoded yet
        shape = (len(rows), preprocessing.crop, preprocessing.crop, 3)
        self._kept: Tensor | None = None
        if fits(math.prod(shape), self._device):
            self._kept = torch.empty(shape, dtype=torch.uint8, device=self._device.torch_name)

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[Readable]:
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

    def some(self, rows: np.ndarray, count: int) -> Iterator[Tensor]:
        """Pixels of at most ``count`` readable images spread over ``rows``, in batches that are not empty."""
        chosen = np.unique(rows[np.linspace(0, len(rows) - 1, count).astype(int)]).tolist()
        batches = [chosen[start : start + SOME] for start in range(0, len(chosen), SOME)]
        return (pixels for readable, pixels in self.batches(batches) if readable)


def fits(size: int, device: Device) -> bool:
    """Whether so many bytes are a small part of the free memory of the GPU, or of the machine."""
    free = torch.cuda.mem_get_info(device.torch_name)[0] if device.is_cuda else available_memory()
    return bool(size <= SHARE * free)


def views_to_keep(settings: TrainingSettings, learner: Learner, images: int) -> int:
    """How many augmented views of each image are kept; 0: none. Raises OptionError if some are asked for and cannot be."""
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
    network, views = learner.module.network, min(AUTO_VIEWS, settings.epochs)
    if reason or not isinstance(network.stages[learner.first], Linear):
        return 0
    return (
        views if 4 * math.prod(network.incoming_shapes()[learner.first]) * images * views <= AUTO_BYTES else 0
    )


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
        network = learner.module.network
        before = network.stages[: learner.first]
        self.path, self.views, self._device = folder / FROZEN, views, device
        self.boundary = before[-1].name
        self._shape = network.output_shapes(task.preprocessing.crop)[self.boundary]
        self._parts = [*[task.split.train] * views, task.split.choose]
        self._place = np.full(
            (views + 1, len(task.catalog)), -1
        )  # row of the file, by view and row of the catalog
        for part, end, place in zip(
            self._parts, np.cumsum([*map(len, self._parts)]), self._place, strict=True
        ):
            place[part] = np.arange(end - len(part), end)
        rows = np.concatenate(self._parts)
        self._catalog = task.catalog.subset(rows)
        self._files = tuple(values[rows] for values in stat_files(task.catalog))  # sizes and times
        prefixes = tuple(f"{stage.prefix}." for stage in before)
        state = learner.module.state_dict()
        self._settings = ExtractionSettings(
            network=network.name.removesuffix("-tanh"),
            stages=(self.boundary,),
            weights=f"frozen stages up to {self.boundary}, views by seed {settings.seed}",
            weights_sha256=fingerprint({k: v.cpu() for k, v in state.items() if k.startswith(prefixes)}),
            preprocessing=task.preprocessing,
            precision=settings.precision,
            batch_size=BATCH,
            classes=network.classes,
        )
        self._values: np.ndarray | Tensor | None = None
        self.problems: dict[str, str] = {}  # name and reason of each image that could not be read

    def __len__(self) -> int:
        return len(self._catalog)

    def fill(
        self, pixels: PixelCache, val_pixels: PixelCache, forward: Forward
    ) -> Generator[int, None, None]:
        """Compute the pending rows; how many are done, after each batch."""
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
                batches = [part[start : start + BATCH] for start in range(0, len(part), BATCH)]
                batches = [rows for rows in batches if pending[place[rows]].any()]
                cache = val_pixels if view == VAL else pixels
                given = cache.batches([rows.tolist() for rows in batches])
                for rows, (readable, found) in zip(batches, given, strict=True):
                    values = np.zeros((len(rows), math.prod(self._shape)), np.float32)
                    good = np.isin(rows, readable)
                    if readable:
                        values[good] = forward(view, readable, found).flatten(1).float().cpu().numpy()
                    bad = {int(place[row]): cache.problems[int(row)] for row in rows[~good]}
                    digests = np.zeros(len(rows), np.uint64)
                    writer.write(int(place[rows[0]]), {self.boundary: values}, bad, digests)
                    done += len(rows)
                    yield done

    def open(self) -> None:
        """Map the rows, or read them into memory (the GPU's) where they fit."""
        with codes_file.CodesFile(self.path) as codes:
            self._broken = codes.state == codes_file.UNREADABLE
            self.problems = codes.problems()
            place = layout(self.path).layers[self.boundary]
            shape = (len(codes), math.prod(self._shape))
        mapped: np.ndarray = np.memmap(self.path, place.dtype, "r", place.offset, shape)
        self._values = mapped
        if fits(mapped.nbytes, self._device):
            self._values = torch.from_numpy(np.array(mapped)).to(self._device.torch_name)

    def batches(self, view: int, batches: Sequence[Sequence[int]]) -> Iterator[Readable]:
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
            yield rows[good].tolist(), found.view(-1, *self._shape)

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
