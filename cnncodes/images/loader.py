"""Decoding in threads, ahead of the network and bounded; batches come out in order whatever their number."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import ImageError, OptionError
from cnncodes.images.catalog import Catalog
from cnncodes.images.decode import Jpeg, Source, decode, plain_jpeg, read_image
from cnncodes.images.digests import bytes_digest, file_digest
from cnncodes.images.preprocess import CROPS, check_crops, crops_of, resized_size, share_seen
from cnncodes.images.readers import NOTE, ON_CPU
from cnncodes.weights.preprocessing import Preprocessing

PATIENCE_S = 2.0  # for threads that are to end

Allocate = Callable[[tuple[int, ...]], npt.NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pixels of some rows of a catalog."""

    rows: Sequence[int]  # of the catalog, as they were asked for
    #: [B, n_crops, crop, crop, 3], channels in the order of the preprocessing record; zeros where an image cannot be read.
    pixels: npt.NDArray[np.uint8]
    problems: dict[int, str]  # row of the catalog -> reason, for each image that cannot be read
    digests: npt.NDArray[np.uint64]  # [B]: file_digest of each file; 0 for what is no file or cannot be read
    notes: dict[int, tuple[str, ...]]  # row -> kinds (readers.NOTES): amiss with an image that is read
    seen: npt.NDArray[np.float64]  # [B]: share of each picture's area that its crops show; NaN if not read
    encoded: dict[int, Jpeg] = field(default_factory=dict)  # place in the batch: what is left to a GPU

    def decode_here(self, place: int, preprocessing: Preprocessing, crops: str) -> None:
        """Decode an image that the GPU could not read, and note that."""
        row = int(self.rows[place])
        try:
            image = decode(self.encoded[place].data, preprocessing)
            crops_of(image, preprocessing, crops, out=self.pixels[place])
            self.notes[row] = (*image.info.get(NOTE, ()), ON_CPU)
        except ImageError as error:
            self.problems[row] = error.problem
            self.pixels[place], self.digests[place], self.seen[place] = 0, 0, np.nan


class Loader:
    """Iterable of :class:`Batch`, decoded by threads ahead of whoever consumes them.

    Work is handed out image by image, in order, so that the first batch is ready soon and a slow image delays nothing but its
    own batch. Pillow decodes and resizes without holding Python's lock. Leaving the loop early, by ``break`` or an exception,
    stops the threads after the image that each is at. The loader can be iterated again; the figures add up.

    >>> for batch in Loader(catalog, [range(0, 64), range(64, 100)], TORCHVISION_PREPROCESSING):
    ...     network(batch.pixels)                                                    # doctest: +SKIP

    Parameters
    ----------
    images : Catalog, or sequence of images
        Anything :func:`~cnncodes.images.decode.decode` takes: paths, Pillow images, arrays.
    batches : sequence of range (or of other sequences of int)
        Rows of each batch.
    preprocessing : Preprocessing
    crops : str, default "center"
        One of :data:`~cnncodes.images.preprocess.CROPS`.
    workers : int, default 2
        Number of threads.
    ahead : int, default 3
        Batches that are decoded, or being decoded, while one is consumed: ``ahead + 1`` are in memory.
    allocate : callable(shape) -> array of uint8, optional
        Gives the memory of each batch, for example pinned memory; called in the consumer's thread. An array
        may be handed out again as soon as its batch is no longer used. By default ``numpy.empty``.

    Attributes
    ----------
    waited_s, busy_s : float
        Seconds that the consumer waited for decoding, and that threads worked on images, summed over threads.
    images, unreadable : int
        Images that were tried so far, and those of them that cannot be read.
    keep_jpegs : bool
        Whether the consumer decodes the JPEGs (``encoded`` of a batch); false at first.

    Raises
    ------
    OptionError
        If ``crops``, ``workers`` or ``ahead`` is not allowed.
    """

    def __init__(
        self,
        images: Catalog | Sequence[Source],
        batches: Sequence[Sequence[int]],
        preprocessing: Preprocessing,
        *,
        crops: str = "center",
        workers: int = 2,
        ahead: int = 3,
        allocate: Allocate | None = None,
    ) -> None:
        check_crops(crops)
        for name, value in (("workers", workers), ("ahead", ahead)):
            if value < 1:
                raise OptionError(f"{name}={value} is not allowed.", f"Use {name} of at least 1.")
        self.sources = images.reader if isinstance(images, Catalog) else images
        self.batches = batches
        self.preprocessing = preprocessing
        self.crops = crops
        self.workers = workers
        self.ahead = ahead
        self.allocate: Allocate = allocate or (lambda shape: np.empty(shape, np.uint8))
        self.waited_s = 0.0
        self.busy_s = 0.0
        self.images = 0
        self.unreadable = 0
        self.keep_jpegs = False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        work = _Work(self.sources, self.preprocessing, self.crops, self.keep_jpegs)
        names = [f"decode-{number}" for number in range(self.workers)]
        threads = [
            threading.Thread(target=_decode_all, args=(work,), name=name, daemon=True) for name in names
        ]
        for thread in threads:
            thread.start()
        side = self.preprocessing.crop
        opened: deque[_OpenBatch] = deque()
        try:
            for number in range(len(self.batches)):
                for rows in self.batches[number + len(opened) : number + self.ahead]:
                    shape = (len(rows), CROPS[self.crops], side, side, 3)
                    opened.append(_OpenBatch(rows, self.allocate(shape)))
                    for place in range(len(rows)):
                        work.tasks.put((opened[-1], place))
                self._wait_for(opened[0])
                batch = opened.popleft()
                self.images += len(batch.rows)
                self.unreadable += len(batch.problems)
                problems, notes = dict(sorted(batch.problems.items())), dict(sorted(batch.notes.items()))
                yield Batch(
                    batch.rows, batch.pixels, problems, batch.digests, notes, batch.seen, batch.encoded
                )
                del batch  # its memory is the consumer's now
        finally:
            work.stopped.set()
            for _ in threads:
                work.tasks.put(None)
            # passed only in the middle of huge pictures and slow answers of servers; threads are daemons
            deadline = time.monotonic() + PATIENCE_S
            for thread in threads:
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _wait_for(self, batch: _OpenBatch) -> None:
        started = time.perf_counter()
        for _ in batch.rows:
            seconds, failure = batch.done.get()
            self.busy_s += seconds
            if failure is not None:
                raise failure
        self.waited_s += time.perf_counter() - started


@dataclass(eq=False)
class _OpenBatch:
    rows: Sequence[int]
    pixels: npt.NDArray[np.uint8]
    problems: dict[int, str] = field(default_factory=dict)
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    encoded: dict[int, Jpeg] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digests = np.zeros(len(self.rows), np.uint64)
        self.seen = np.full(len(self.rows), np.nan)
        # For each image that was worked on: seconds, and a mistake of ours, which belongs to the consumer.
        self.done: SimpleQueue[tuple[float, BaseException | None]] = SimpleQueue()


@dataclass(frozen=True, eq=False)
class _Work:
    """What threads share. It knows no loader, so that an iterator that is forgotten is collected, and its threads end."""

    sources: Sequence[Source]
    preprocessing: Preprocessing
    crops: str
    keep_jpegs: bool
    tasks: SimpleQueue[tuple[_OpenBatch, int] | None] = field(
        default_factory=SimpleQueue
    )  # None ends a thread
    stopped: threading.Event = field(default_factory=threading.Event)


def _decode_all(work: _Work) -> None:
    """Body of each thread."""
    while (task := work.tasks.get()) is not None:
        batch, place = task
        started, failure = time.perf_counter(), None
        try:
            if not work.stopped.is_set():
                _decode_into(batch, place, work)
        except BaseException as error:
            failure = error
        batch.done.put((time.perf_counter() - started, failure))
        del batch, task


def _decode_into(batch: _OpenBatch, place: int, work: _Work) -> None:
    row, preprocessing = int(batch.rows[place]), work.preprocessing
    try:
        source = work.sources[row]
        # A catalog's images are read once for both; the digest of a large file takes a second reading.
        data = read_image(source) if isinstance(source, str) else None
        if work.keep_jpegs and data is not None and (jpeg := plain_jpeg(data)) is not None:
            resized_size(*jpeg.size, preprocessing)
            batch.encoded[place], size, note = jpeg, jpeg.size, ()
        else:
            image = decode(source if data is None else data, preprocessing)
            crops_of(image, preprocessing, work.crops, out=batch.pixels[place])
            size, note = image.size, image.info.get(NOTE, ())
            if work.keep_jpegs and isinstance(source, str):
                note = (*note, ON_CPU)
        batch.seen[place] = share_seen(size, preprocessing, work.crops)
        if isinstance(source, str):
            batch.digests[place] = file_digest(source) if data is None else bytes_digest(data)
        if note:
            batch.notes[row] = note
    except ImageError as error:
        batch.problems[row] = error.problem
        batch.pixels[place] = 0
