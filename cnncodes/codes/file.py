"""The codes file, format 1 (docs/codes-file.md): the one module that imports h5py.

All datasets are created at full size, contiguous and allocated early; then HDF5 closes the file. Rows are
written by :mod:`cnncodes.codes.rows`, without HDF5, at the offsets reported here.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnncodes.codes.lock import locked
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.errors import CnnCodesError, CodesFileError, OutputExistsError
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.networks import Shape

FORMAT = 1
PENDING, DONE, UNREADABLE = 0, 1, 2
PROBLEM_BYTES = 160  # a fixed width, so that a reason is written in place like a row
BLOCK_ROWS = 4096

_TEXT = h5py.string_dtype("utf-8")
_WEIGHTS_SEEN = "weights_seen"  # optional: files of other weights, and older ones, lack it


@dataclass(frozen=True)
class Place:
    """Where a dataset lies in the file: row ``i`` has ``row_bytes`` bytes from ``offset + i * row_bytes``."""

    offset: int
    row_bytes: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Layout:
    """Places of the datasets that are written while extracting."""

    rows: int
    layers: dict[str, Place]
    digest: Place
    state: Place
    problem: Place


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
        names = ("cnncodes", "torch", "numpy", "h5py", "Pillow")
        versions = {"python": sys.version.split()[0]}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "from a bare checkout"
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(" ".join(["cnncodes", *sys.argv[1:]]), created, versions, weights_source)


def bytes_needed(rows: int, settings: ExtractionSettings) -> int:
    """Bytes that the codes of ``rows`` images take, without the names and the header."""
    values = sum(int(np.prod(shape)) for shape in settings.stage_shapes().values())
    per_row = values * settings.kept_crops * np.dtype(settings.dtype).itemsize
    return rows * (per_row + PROBLEM_BYTES + 8 + 1)


def create(
    path: Path,
    catalog: Catalog,
    settings: ExtractionSettings,
    provenance: Provenance,
    size: np.ndarray,
    mtime: np.ndarray,
    weights_seen: Sequence[int] = (),
) -> None:
    """Write the whole structure of a codes file with every row pending.

    Parameters
    ----------
    path : Path
        Overwritten if it is there.
    catalog, settings, provenance
    size : ndarray of uint64 [N]
        Bytes of each image file.
    mtime : ndarray of int64 [N]
        Modification time of each in ns.
    weights_seen : sequence of int, default ()
        Digests of the images that the weights were trained on.
    """
    rows = len(catalog)
    with h5py.File(path, "w") as file:
        _write_attributes(file, settings, provenance, catalog)
        file.create_dataset("classes", data=_encode(catalog.classes), dtype=_TEXT)
        images = file.create_group("images")
        images.create_dataset("name", data=_encode(catalog.names), dtype=_TEXT)
        images.create_dataset("label", data=catalog.labels.astype("<i4"))
        split_type = h5py.enum_dtype({name: place for place, name in enumerate(SPLITS)}, basetype="u1")
        images.create_dataset("split", data=catalog.splits.astype("u1"), dtype=split_type)
        images.create_dataset("size", data=size.astype("<u8"))
        images.create_dataset("mtime", data=mtime.astype("<i8"))
        _allocate(images, "digest", (rows,), np.dtype("<u8"))
        _allocate(images, "state", (rows,), np.dtype("u1"))
        _allocate(images, "problem", (rows,), h5py.string_dtype("utf-8", PROBLEM_BYTES))
        layers = file.create_group("layers")
        for stage, shape in settings.stage_shapes().items():
            length = int(np.prod(shape))
            whole = (rows, length) if settings.kept_crops == 1 else (rows, settings.kept_crops, length)
            dataset = _allocate(layers, stage, whole, np.dtype(settings.dtype).newbyteorder("<"))
            dataset.attrs["shape"] = np.array(shape, dtype="<i8")
            dataset.attrs["relu"] = settings.relu(stage)
        if len(weights_seen):
            file.create_dataset(_WEIGHTS_SEEN, data=np.array(weights_seen, "<u8"))
        _link(file, settings.stages[-1])


def _write_attributes(
    file: h5py.File, settings: ExtractionSettings, provenance: Provenance, catalog: Catalog
) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["settings"] = settings.to_json()
    # The same once more, entry by entry, for people and for readers of other languages.
    file.attrs["network"] = settings.network
    file.attrs["stages"] = ",".join(settings.stages)
    _write_text(file, "weights", settings.weights)
    file.attrs["weights_sha256"] = settings.weights_sha256
    _write_text(file, "weights_source", provenance.weights_source)
    file.attrs["preprocessing"] = settings.preprocessing.to_json()
    file.attrs["crops"] = settings.crops
    file.attrs["precision"] = settings.precision
    file.attrs["versions"] = json.dumps(provenance.versions)
    _write_text(file, "command", provenance.command)
    file.attrs["created"] = provenance.created
    _write_text(file, "root", str(catalog.root.absolute()))


def _write_text(file: h5py.File, name: str, text: str) -> None:
    """An attribute of any length, whose bytes may be no UTF-8: paths and command lines are like that."""
    file.attrs.create(name, text.encode("utf-8", "surrogateescape"), dtype=_TEXT)


def _link(file: h5py.File, stage: str) -> None:
    """Hard links at the root, for readers that expect these names."""
    file["features"] = file["layers"][stage]
    file["labels"] = file["images/label"]
    file["image_names"] = file["images/name"]


def _allocate(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """Contiguous dataset with its place in the file fixed now and nothing written to it."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the file system gives zeros, which mean "pending"
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, space, creation).close()
    return group[name]


def layout(path: Path) -> Layout:
    """Places of the rows in a codes file; raises CodesFileError if they are not contiguous (a packed copy)."""
    with CodesFile(path) as codes:
        file = codes.hdf5
        return Layout(
            rows=len(codes),
            layers={stage: _place(file["layers"][stage], path) for stage in codes.settings.stages},
            digest=_place(file["images/digest"], path),
            state=_place(file["images/state"], path),
            problem=_place(file["images/problem"], path),
        )


def _place(dataset: h5py.Dataset, path: Path) -> Place:
    offset = dataset.id.get_offset()
    if offset is None:
        raise CodesFileError(
            f"'{path}' cannot be continued: its rows are compressed.", "Use the file it was packed from."
        )
    row_bytes = int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize
    return Place(offset, row_bytes, dataset.dtype)


class CodesFile:
    """A codes file, open for reading. Use it in a ``with`` statement.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    settings : ExtractionSettings
    provenance : Provenance
    catalog : Catalog
        Names, labels, splits and classes of all rows.
    state : ndarray of uint8 [N]
        0 pending, 1 done, 2 unreadable.

    Raises
    ------
    CodesFileError
        If the file is missing, is no HDF5 file or no codes file of a known format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hdf5 = _open(self.path)
        try:
            self._read_header()
        except CodesFileError:
            self.close()
            raise
        except (KeyError, ValueError, TypeError, OSError, CnnCodesError) as error:
            self.close()
            reason = error.problem if isinstance(error, CnnCodesError) else error
            raise CodesFileError(
                f"'{self.path}' is not a codes file, or is damaged: {str(reason).rstrip('.')}.",
                "Make one with 'cnncodes extract DATA -o codes.h5'.",
            ) from error

    def _read_header(self) -> None:
        file = self.hdf5
        if "format" not in file.attrs or "layers" not in file:
            raise CodesFileError(
                f"'{self.path}' is an HDF5 file, but not one of codes.",
                "Make one with 'cnncodes extract DATA -o codes.h5'.",
            )
        if int(file.attrs["format"]) != FORMAT:
            raise CodesFileError(
                f"'{self.path}' has format {file.attrs['format']}; this version reads format {FORMAT}.",
                "Update cnncodes.",
            )
        self.settings = ExtractionSettings.from_json(file.attrs["settings"])
        self.provenance = Provenance(
            command=_text(file.attrs["command"]),
            created=str(file.attrs["created"]),
            versions=json.loads(file.attrs["versions"]),
            weights_source=_text(file.attrs["weights_source"]),
        )
        self.catalog = Catalog(
            root=Path(_text(file.attrs["root"])),
            names=tuple(file["images/name"].asstr(errors="surrogateescape")[:]),
            labels=file["images/label"][:].astype(np.int32),
            splits=file["images/split"][:].astype(np.uint8),
            classes=tuple(file["classes"].asstr(errors="surrogateescape")[:]),
        )
        self.state: np.ndarray = file["images/state"][:]
        for stage in self.settings.stages:
            if file["layers"][stage].shape[0] != len(self.state):
                raise ValueError(f"layer {stage} has not one row for each image")

    def __enter__(self) -> CodesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self.hdf5["images/state"].shape[0])

    def close(self) -> None:
        """Close the file; reading is no longer possible."""
        self.hdf5.close()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stored stages."""
        return self.settings.stages

    def require_complete(self) -> None:
        """Raise CodesFileError if rows are pending: what is made of a part should not pass for the whole."""
        pending = int((self.state == PENDING).sum())
        if pending:
            raise CodesFileError(
                f"{pending:,} of the {len(self):,} images of '{self.path}' are not extracted yet.",
                "Repeat the extract command: it goes on where it stopped.",
            )

    def stage_shape(self, stage: str) -> Shape:
        """Shape of one crop's activations before they were laid out in a row: ``(256, 6, 6)`` for pool5."""
        return tuple(int(side) for side in self._dataset(stage).attrs["shape"])

    def read(self, stage: str, rows: np.ndarray | slice | None = None) -> np.ndarray:
        """Codes of one stage: ``[rows, length]`` or ``[rows, crops, length]``, in the stored dtype.

        Rows that are pending are zero, those of unreadable images NaN. ``rows`` is a slice, or a sorted or
        unsorted integer array.
        """
        dataset = self._dataset(stage)
        if rows is None or isinstance(rows, slice):
            return np.asarray(dataset[rows if rows is not None else slice(None)])
        wanted = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(wanted), *dataset.shape[1:]), dtype=dataset.dtype)
        for start in range(0, len(wanted), BLOCK_ROWS):
            part = wanted[start : start + BLOCK_ROWS]
            if not len(part):
                continue
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

    def files(self) -> tuple[np.ndarray, np.ndarray]:
        """Size in bytes (uint64 [N]) and modification time in ns (int64 [N]) of the images that were read."""
        return self.hdf5["images/size"][:], self.hdf5["images/mtime"][:]

    def digests(self) -> np.ndarray:
        """What was in the image files, uint64 [N]; see :func:`cnncodes.images.file_digest`. 0 for rows not done."""
        return np.asarray(self.hdf5["images/digest"][:])

    def weights_seen(self) -> np.ndarray:
        """Digests, uint64 ``[M]``, of the images that the weights were trained on, as far as that is known."""
        known = _WEIGHTS_SEEN in self.hdf5
        return self.hdf5[_WEIGHTS_SEEN][:].astype(np.uint64) if known else np.zeros(0, np.uint64)

    def problems(self) -> dict[str, str]:
        """Name and reason of every unreadable image."""
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


def pack(source: Path, target: Path, *, level: int = 1, overwrite: bool = False) -> tuple[int, int]:
    """Compressed copy of a codes file: gzip without shuffle, with which ReLU codes would grow.

    Returns
    -------
    tuple of int
        Bytes before and after.

    Raises
    ------
    OutputExistsError
        If the target is there and ``overwrite`` is false, or is the source.
    CodesFileError
        If rows of the source are pending.
    OutputBusyError
        If another process is writing the target.
    """
    if target.exists() and (not overwrite or target.samefile(source)):
        raise OutputExistsError(
            f"'{target}' exists already.", "Choose another name with -o, or use --overwrite."
        )
    temporary = target.with_name(target.name + ".part")
    with locked(target), CodesFile(source) as codes:
        codes.require_complete()
        try:
            with h5py.File(temporary, "w") as copy:
                _copy_packed(codes, copy, level)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return source.stat().st_size, target.stat().st_size


def _copy_packed(codes: CodesFile, copy: h5py.File, level: int) -> None:
    for name, value in codes.hdf5.attrs.items():
        copy.attrs[name] = value
    codes.hdf5.copy("images", copy)
    codes.hdf5.copy("classes", copy)
    if _WEIGHTS_SEEN in codes.hdf5:
        codes.hdf5.copy(_WEIGHTS_SEEN, copy)
    layers = copy.create_group("layers")
    for stage in codes.stages:
        original = codes.hdf5["layers"][stage]
        chunk_rows = max(1, min(len(codes), 2**20 // max(1, original[0:1].nbytes)))
        packed = layers.create_dataset(
            stage,
            shape=original.shape,
            dtype=original.dtype,
            chunks=(chunk_rows, *original.shape[1:]),
            compression="gzip",
            compression_opts=level,
        )
        for name, value in original.attrs.items():
            packed.attrs[name] = value
        for start in range(0, len(codes), chunk_rows):
            packed[start : start + chunk_rows] = original[start : start + chunk_rows]
    _link(copy, codes.stages[-1])


def open_for_writing(path: Path) -> Any:
    """The file open in HDF5 itself, for :class:`cnncodes.codes.rows.Hdf5Rows`."""
    return h5py.File(path, "r+")


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise CodesFileError(
            f"there is no file '{path}'.", "Make it with 'cnncodes extract DATA -o codes.h5'."
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CodesFileError(
            f"'{path}' is not an HDF5 file, or is damaged: {str(error).splitlines()[0]}.",
            "Make it again with 'cnncodes extract DATA -o codes.h5'.",
        ) from error


def _encode(texts: tuple[str, ...]) -> np.ndarray:
    encoded = np.empty(len(texts), dtype=object)
    encoded[:] = [text.encode("utf-8", "surrogateescape") for text in texts]
    return encoded


def _text(value: Any) -> str:
    return os.fsdecode(bytes(value)) if isinstance(value, bytes | np.bytes_) else str(value)
