"""The codes file, format 1 (docs/codes-file.md): what is in one, and how it is read. ``structure`` makes it and ``rows`` fills it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import shlex
import struct
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from cnncodes.codes.settings import ExtractionSettings
from cnncodes.core.errors import CodesFileError
from cnncodes.core.files import open_file, parse_json, reading, reason_of
from cnncodes.images.catalog import Catalog
from cnncodes.networks import Shape

FORMAT = 1
MAKE = "'cnncodes extract DATA -o codes.h5'"
PENDING, DONE, UNREADABLE = 0, 1, 2
BLOCK_ROWS = 4096
HEAP = b"GCOL\x01\0\0\0"  # begins a collection of texts (HDF5 file format, III.E: Global Heap)
_HEAP_PIECE = struct.Struct("<H6xQ")  # the number of a text, 0 for the free rest, and its bytes
COPIED = "copied"  # in images, optional: rows whose codes came from another file
WEIGHTS_SEEN = "weights_seen"  # optional: files of other weights, and older ones, lack it


class Files(NamedTuple):
    """Image files as they are on the disk."""

    size: np.ndarray  # bytes, uint64 [N]; 0 for what is not there
    mtime: np.ndarray  # modification time in ns, int64 [N]


@dataclass(frozen=True)
class Provenance:
    """Where a codes file came from, for people: not compared when resuming."""

    command: str
    created: str
    versions: dict[str, str] = field(default_factory=dict)
    weights_source: str = ""

    @classmethod
    def now(cls, weights_source: str = "") -> Provenance:
        """Of this process: its command line, the time, the versions of what computes."""
        versions = {"python": sys.version.split()[0]}
        for name in ("cnncodes", "torch", "numpy", "h5py", "Pillow"):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "from a bare checkout"
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(shlex.join(["cnncodes", *sys.argv[1:]]), created, versions, weights_source)


class CodesFile:
    """A codes file, open for reading; use it in a ``with`` statement.

    Raises CodesFileError if the file is missing, is no HDF5 file or no codes file of a known format.
    """

    settings: ExtractionSettings
    provenance: Provenance
    catalog: Catalog  # names, labels, splits and classes of all rows
    state: np.ndarray  # uint8 [N]: 0 pending, 1 done, 2 unreadable

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hdf5 = open_hdf5(self.path)
        try:
            with self.intact():
                self._read_header()
        except BaseException:
            self.close()
            raise

    def intact(self) -> AbstractContextManager[None]:
        """Whatever HDF5 meets in damaged bytes is a CodesFileError: it has no one class of error for that."""
        remedy = f"It is damaged, or no codes file: make one with {MAKE}."
        return reading(f"the codes file '{self.path}'", CodesFileError, remedy)

    def _read_header(self) -> None:
        file = self.hdf5
        if "format" not in file.attrs or "layers" not in file:
            raise CodesFileError(
                f"'{self.path}' is an HDF5 file, but not one of codes.", f"Make one with {MAKE}."
            )
        if int(file.attrs["format"]) != FORMAT:
            problem = f"'{self.path}' has format {file.attrs['format']}; this version reads format {FORMAT}."
            raise CodesFileError(problem, "Update cnncodes.")
        self._check_heaps()
        self.settings = ExtractionSettings.from_json(file.attrs["settings"])
        self.provenance = Provenance(
            command=_text(file.attrs["command"]),
            created=str(file.attrs["created"]),
            versions={str(name): str(value) for name, value in parse_json(file.attrs["versions"]).items()},
            weights_source=_text(file.attrs["weights_source"]),
        )
        self._check_shapes()
        self.catalog = Catalog(
            root=Path(_text(file.attrs["root"])),
            names=tuple(file["images/name"].asstr(errors="surrogateescape")[:]),
            labels=file["images/label"][:].astype(np.int32),
            splits=file["images/split"][:].astype(np.uint8),
            classes=tuple(file["classes"].asstr(errors="surrogateescape")[:]),
        )
        self.state = file["images/state"][:]
        if (self.state > UNREADABLE).any():
            raise ValueError("images/state has numbers that mean nothing")

    def _check_heaps(self) -> None:
        """Before a text is read: HDF5 walks the heaps that hold texts, and does not end at a piece of no bytes.

        All of them lie before the codes.
        """
        layers = [self.hdf5["layers"][name] for name in self.hdf5["layers"]]
        starts = [
            stage.id.get_offset()
            or (stage.id.get_chunk_info(0).byte_offset if stage.id.get_num_chunks() else 0)
            for stage in layers
            if not stage.is_virtual  # else the codes are in other files
        ]
        with self.path.open("rb") as file:
            content = file.read(min(starts, default=-1))
        at = -1
        while (at := content.find(HEAP, at + 1)) >= 0:
            end = at + int.from_bytes(content[at + 8 : at + 16], "little")
            place = at + 16
            while place + 16 <= min(end, len(content)):
                number, size = _HEAP_PIECE.unpack_from(content, place)
                step = 16 + (size + 7) // 8 * 8 if number else size
                if not 0 < step <= end - place:
                    raise ValueError("a heap of texts is damaged")
                place += step

    def _check_shapes(self) -> None:
        """Before anything is read: a wrong number of rows may be too large for the memory."""
        images, settings = self.hdf5["images"], self.settings
        rows = images["state"].shape
        for name in ("name", "label", "split", "size", "mtime", "digest", "problem"):
            number = images[name].dtype.kind in "iu"
            if images[name].shape != rows or number == (name in ("name", "problem")):
                raise ValueError(f"images/{name} is not one value for each image")
        crops = () if settings.kept_crops == 1 else (settings.kept_crops,)
        for stage, shape in settings.stage_shapes().items():
            dataset = self.hdf5["layers"][stage]
            if dataset.shape != (*rows, *crops, int(np.prod(shape))) or dataset.dtype.kind != "f":
                raise ValueError(f"layer {stage} is not one row of codes for each image")

    def __enter__(self) -> CodesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.state)

    def close(self) -> None:
        """Close the file; reading is no longer possible."""
        self.hdf5.close()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of those that are stored."""
        return self.settings.stages

    def require_complete(self) -> None:
        """Raise CodesFileError if rows are pending: what is made of a part should not pass for the whole."""
        if pending := int((self.state == PENDING).sum()):
            raise CodesFileError(
                f"{pending:,} of the {len(self):,} images of '{self.path}' are not extracted yet.",
                "Repeat the extract command: it goes on where it stopped.",
            )

    def stage_shape(self, stage: str) -> Shape:
        """Of one crop's activations before they were laid out in a row: ``(256, 6, 6)`` for pool5."""
        with self.intact():
            return tuple(int(side) for side in self._dataset(stage).attrs["shape"])

    def length(self, stage: str) -> int:
        """Numbers in one crop's code of a stage."""
        with self.intact():
            return int(self._dataset(stage).shape[-1])

    def read(self, stage: str, rows: np.ndarray | slice | None = None) -> np.ndarray:
        """Codes of one stage: ``[rows, length]`` or ``[rows, crops, length]``, in the stored dtype.

        Rows that are pending are zero, those of unreadable images NaN. ``rows`` is a slice or an integer array in any order.
        """
        with self.intact():
            dataset = self._dataset(stage)
            if rows is None or isinstance(rows, slice):
                return np.asarray(dataset[rows if rows is not None else slice(None)])
            wanted = np.asarray(rows, dtype=np.int64)
            out = np.empty((len(wanted), *dataset.shape[1:]), dtype=dataset.dtype)
            for start in range(0, len(wanted), BLOCK_ROWS):
                part = wanted[start : start + BLOCK_ROWS]
                low, high = int(part.min()), int(part.max()) + 1
                if high - low <= 4 * len(part):  # nearly a run of rows: one read, then pick
                    out[start : start + len(part)] = dataset[low:high][part - low]
                else:
                    unique, back = np.unique(part, return_inverse=True)
                    out[start : start + len(part)] = dataset[unique][back]
            return out

    def blocks(self, stage: str, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """First row and codes of one block after the other, for files larger than memory."""
        for start in range(0, len(self), rows):
            yield start, self.read(stage, slice(start, start + rows))

    def files(self) -> Files:
        """The image files as they were when they were read."""
        with self.intact():
            return Files(self.hdf5["images/size"][:], self.hdf5["images/mtime"][:])

    def digests(self) -> np.ndarray:
        """What was in the image files, uint64 [N]; see :func:`cnncodes.images.file_digest`. 0 for rows not done."""
        with self.intact():
            return np.asarray(self.hdf5["images/digest"][:])

    def weights_seen(self) -> np.ndarray:
        """Digests, uint64 ``[M]``, of the images that the weights were trained on, as far as that is known."""
        with self.intact():
            known = WEIGHTS_SEEN in self.hdf5
            return self.hdf5[WEIGHTS_SEEN][:].astype(np.uint64) if known else np.zeros(0, np.uint64)

    def copied(self) -> np.ndarray:
        """Whether each row's codes came from another file: bool ``[N]``."""
        with self.intact():
            images = self.hdf5["images"]
            return images[COPIED][:].astype(bool) if COPIED in images else np.zeros(len(self), bool)

    def problems(self) -> dict[str, str]:
        """Name and reason of every unreadable image."""
        with self.intact():
            reasons = self.hdf5["images/problem"]
            return {
                self.catalog.names[row]: bytes(reasons[row]).rstrip(b"\0").decode("utf-8", "replace")
                for row in np.flatnonzero(self.state == UNREADABLE)
            }

    def _dataset(self, stage: str) -> h5py.Dataset:
        if stage not in self.settings.stages:
            raise CodesFileError(
                f"'{self.path}' has no layer '{stage}'; it has {', '.join(self.settings.stages)}.",
                f"Name one of these, or run extract again with --layers {stage}.",
            )
        return self.hdf5["layers"][stage]


def open_for_writing(path: Path) -> h5py.File:
    """The file open in HDF5 itself, to write into rows that are there; raises CodesFileError.

    A reader in another program holds HDF5's lock. It is no obstacle: rows change in place, as they do while a file grows.
    """
    with _explained(path):
        try:
            return h5py.File(path, "r+")
        except BlockingIOError:
            return h5py.File(path, "r+", locking=False)


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading; raises CodesFileError if it is none, or no regular file."""
    with _explained(path):
        open_file(path).close()
        return h5py.File(path, "r")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """HDF5's errors in opening a file, in words of ours."""
    try:
        yield
    except FileNotFoundError:
        raise CodesFileError(f"there is no file '{path}'.", f"Make it with {MAKE}.") from None
    except BlockingIOError as error:
        problem = f"another program has '{path}' open and is writing it."
        raise CodesFileError(problem, "Close it there, and try again.") from error
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"'{path}' is not an HDF5 file, or is damaged: {reason_of(error)}."
        raise CodesFileError(problem, f"Make it again with {MAKE}.") from error


def _text(value: Any) -> str:
    return os.fsdecode(bytes(value)) if isinstance(value, bytes | np.bytes_) else str(value)
