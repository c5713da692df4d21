"""What is learned, and what enters the learner: views or kept values of each batch, and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnncodes.core.errors import HeadError
from cnncodes.core.files import parse_json
from cnncodes.core.records import to_json
from cnncodes.heads.splits import (
    Split,
    SplitRule,
    compact_labels,
    split_rows,
    with_known_classes,
    with_watched,
    without_copies,
)
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import file_digests, identical_files
from cnncodes.images.loader import Loader
from cnncodes.training.caches import VAL, FrozenCache, PixelCache, views_to_keep
from cnncodes.training.device import Resources, autocast
from cnncodes.training.learner import Learner, Targets, mixed_views
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes, square_of
from cnncodes.weights.preprocessing import Preprocessing

MEASURED = 500  # images for colour axes
SAMPLED = 200  # images of :meth:`Inputs.sample`
SOME = 32  # of them in a batch
FROZEN = "frozen stages"  # the step in a progress


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
    learn from; if no others choose, a tenth of those to learn from is watched. Raises HeadError if there are fewer than two classes.
    """
    split = rule
    if not isinstance(split, Split):
        same = identical_files(catalog)
        split = split_rows(catalog, np.ones(len(catalog), np.bool_), split, seed, same=same)
        if split.kind != "none":
            split = with_watched(catalog, split, same=same)
        split = without_copies(split, same)
    labels, classes = compact_labels(catalog, split.train)
    if len(classes) < 2:
        raise HeadError(
            "there is only one class to learn.", "Give images of two classes or more, a folder each."
        )
    return Task(catalog, preprocessing, with_known_classes(catalog, split, labels), labels, classes)


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a batch."""

    rows: list[int]  # of the catalog; those that can be read
    values: Tensor  # normalised views [rows, 3, side, side]; with a frozen cache the values at its boundary
    targets: Targets
    size: int  # images that the batch of all processes should have
    places: list[int]  # of ``rows`` in that batch


class Inputs:
    """The images of a training on their way into the learner: rows that are learned from, watched, and tested once at the end.

    If there is a ``frozen`` cache, its values enter the learner in place of views. ``axes`` are those of the training images, after
    :meth:`measure` if the settings ask for colour noise.
    """

    def __init__(
        self, learner: Learner, task: Task, settings: TrainingSettings, folder: Path, resources: Resources
    ) -> None:
        self.catalog, self.labels = task.catalog, task.labels
        self.preprocessing, self.settings = task.preprocessing, settings
        self.train_rows, self.val_rows, self.test_rows = task.split.train, task.split.choose, task.split.test
        self.axes: ColourAxes | None = None
        self._unreadable: dict[str, str] = {}  # by an earlier process, or in the test
        self._learner, self._resources = learner, resources
        self._device, self._processes = resources.device, resources.processes
        self._whole = square_of(self.preprocessing)  # crops are views
        self._pixels = PixelCache(self.catalog, self.train_rows, self._whole, resources)
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
        order = draws.order[np.isin(draws.order, self.train_rows)]
        batches = self.in_batches(order)
        if self.settings.network.batch_norm and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()  # one image has no variance
            batches[-1] += last
        return batches

    def in_batches(self, rows: np.ndarray) -> list[list[int]]:
        """Rows one batch after the other."""
        size = self.settings.batch_size
        return [rows[start : start + size].tolist() for start in range(0, len(rows), size)]

    def to_learn(self, batches: Sequence[list[int]], draws: Augmentation) -> Iterator[Batch]:
        """This process's share of each batch, augmented; a share without readable images is given too."""
        if self.frozen is not None:
            yield from self._kept(batches, draws.epoch % self.frozen.views)
            return
        for batch, (rows, squares) in zip(batches, self._pixels.batches(self._shares(batches)), strict=True):
            views, parts = draws.views(squares, rows), draws.mix(rows)
            mix = None if parts is None else torch.from_numpy(parts).to(views.device)
            if mix is not None:
                views = mixed_views(views, mix)
            yield self._batch(batch, rows, self._normalised(views), mix)

    def to_watch(self) -> Iterator[Batch]:
        """This process's share of each batch of val rows: centre crops, nothing at random."""
        batches = self.in_batches(self.val_rows)
        if self.frozen is not None:
            return self._kept(batches, VAL)
        return self._centres(batches, self._val_pixels)

    def to_test(self, rows: np.ndarray) -> Iterator[Batch]:
        """As :meth:`to_watch`, of other rows; they enter the first stage, also if it is frozen."""
        pixels = PixelCache(self.catalog, rows, self.preprocessing, self._resources)
        yield from self._centres(self.in_batches(rows), pixels)
        self._unreadable |= {self.catalog.names[row]: reason for row, reason in pixels.problems.items()}

    def _kept(self, batches: Sequence[list[int]], view: int) -> Iterator[Batch]:
        assert self.frozen is not None
        kept = self.frozen.batches(view, self._shares(batches))
        for batch, (rows, values) in zip(batches, kept, strict=True):
            yield self._batch(batch, rows, values)

    def _centres(self, batches: Sequence[list[int]], source: PixelCache) -> Iterator[Batch]:
        for batch, (rows, squares) in zip(batches, source.batches(self._shares(batches)), strict=True):
            yield self._batch(batch, rows, self._normalised(squares.permute(0, 3, 1, 2).float()))

    def _shares(self, batches: Sequence[list[int]]) -> list[list[int]]:
        return [self._processes.share(batch) for batch in batches]

    def _batch(
        self, whole: Sequence[int], rows: list[int], values: Tensor, mix: Tensor | None = None
    ) -> Batch:
        readable = set(rows)
        places = [place for place in self._processes.places(len(whole)) if whole[place] in readable]
        labels = torch.from_numpy(self.labels[np.asarray(rows, np.int64)]).to(self._device.torch_name)
        return Batch(rows, values, Targets(labels, mix), len(whole), places)

    def unreadable(self) -> dict[str, str]:
        """Name and reason of each image that could not be read so far."""
        found = self._pixels.problems | self._val_pixels.problems
        kept = self.frozen.problems if self.frozen is not None else {}
        return self._unreadable | kept | {self.catalog.names[row]: found[row] for row in sorted(found)}

    def sample(self) -> Iterator[Tensor]:
        """Normalised centre crops ``[batch, 3, crop, crop]`` of some watched images, or else of training images."""
        rows = self.val_rows if len(self.val_rows) else self.train_rows
        for pixels in self._some(rows, SAMPLED, self.preprocessing):
            views = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
            yield self._normalised(views.to(self._device.torch_name))

    def class_weights(self) -> Tensor | None:
        """n / (K n_k) as float32 ``[K]``, as scikit-learn's "balanced"; None where all images count alike."""
        if self.settings.class_weight == "none":
            return None
        counts = np.bincount(self.labels[self.train_rows])
        weights = len(self.train_rows) / (len(counts) * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self._device.torch_name)

    def digests(self) -> tuple[set[int], set[int]]:
        """Those of the images that are learned from, and of those that are watched."""
        learned, watched = (
            self._digests(rows, cache.digests[rows])
            for rows, cache in ((self.train_rows, self._pixels), (self.val_rows, self._val_pixels))
        )
        return learned, watched

    def _digests(self, rows: np.ndarray, found: np.ndarray) -> set[int]:
        unknown = np.flatnonzero(found == 0)
        if len(unknown):  # decoded by an earlier process, or not readable
            found[unknown] = file_digests(self.catalog.subset(rows[unknown]))
        return set(found[found != 0].tolist())

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

        def progress(done: int, rows: int) -> None:
            self._resources.progress(FROZEN, done, rows, "")

        caches = self._pixels, self._val_pixels
        if self._processes.leads and not frozen.fill(*caches, forward, progress, stopped):
            return False
        self._processes.wait()
        frozen.open()
        return True

    def measure(self) -> None:
        """Measure the colour axes on some training images, if the settings need them and they are not known."""
        if self.settings.pca_noise and self.axes is None:
            some = self._some(self.train_rows, MEASURED, self._whole)
            self.axes = ColourAxes.of(pixels[:, ::4, ::4] for pixels in some)

    def measured(self) -> dict[str, Any]:
        """What :meth:`measure` found, and which images cannot be read, for a checkpoint."""
        return {"axes": to_json(self.axes) if self.axes else None, "unreadable": self.unreadable()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`measured` gave."""
        axes = parse_json(saved["axes"] or "null")
        self.axes = ColourAxes(**{name: np.array(axes[name]) for name in axes}) if axes else None
        self._unreadable = dict(saved["unreadable"])

    def _normalised(self, views: Tensor) -> Tensor:
        """Views in 0..255 as the network wants them, in torchvision's order of operations."""
        record = self.preprocessing
        mean = torch.tensor(record.mean, device=views.device).view(3, 1, 1)
        std = torch.tensor(record.std, device=views.device).view(3, 1, 1)
        return ((views / record.scale - mean) / std).contiguous(memory_format=torch.channels_last)

    def _some(self, rows: np.ndarray, count: int, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        """uint8 ``[batch, crop, crop, 3]`` of at most ``count`` readable images spread over ``rows``."""
        chosen = np.unique(rows[np.linspace(0, len(rows) - 1, count).astype(int)]).tolist()
        batches = [chosen[start : start + SOME] for start in range(0, len(chosen), SOME)]
        for batch in Loader(self.catalog, batches, preprocessing, workers=self._resources.workers):
            good = [place for place, row in enumerate(batch.rows) if row not in batch.problems]
            if good:
                yield batch.pixels[good, 0]
