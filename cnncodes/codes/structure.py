"""How a codes file is laid out: made at full size, with the places of its rows, or copied with its rows compressed.

All datasets are created at full size, contiguous and allocated early; then HDF5 closes the file. Rows are
written by :mod:`cnncodes.codes.rows`, without HDF5, at the offsets reported here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnncodes.codes.file import COPIED, FORMAT, WEIGHTS_SEEN, CodesFile, Provenance
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.core.errors import CodesFileError, OutputExistsError
from cnncodes.core.files import reason_of
from cnncodes.core.outputs import locked, replacing
from cnncodes.images.catalog import SPLITS, Catalog

PROBLEM_BYTES = 160  # a fixed width, so that a reason is written in place like a row

_TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class Place:
    """Where a dataset lies in the file: row ``i`` has ``row_bytes`` bytes from ``offset + i * row_bytes``."""

    offset: int
    row_bytes: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Layout:
    """Places of the datasets that are written while extracting."""

    layers: dict[str, Place]
    digest: Place
    state: Place
    problem: Place


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
    sources: Sequence[tuple[str, int]] = (),
) -> None:
    """Write the whole structure of a codes file with every row pending; a file that is there is overwritten.

    ``sources`` are codes files (path, rows) in which the rows of the layers are, one after the other; by default they are in this one.
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
        shards, shard = catalog.reader.shards()
        if shards:
            images.create_dataset("shards", data=_encode(shards), dtype=_TEXT)
            images.create_dataset("source", data=shard.astype("<i4"))
        images.create_dataset("size", data=size.astype("<u8"))
        images.create_dataset("mtime", data=mtime.astype("<i8"))
        _allocate(images, "digest", (rows,), np.dtype("<u8"))
        _allocate(images, "state", (rows,), np.dtype("u1"))
        _allocate(images, "problem", (rows,), h5py.string_dtype("utf-8", PROBLEM_BYTES))
        layers = file.create_group("layers")
        for stage, shape in settings.stage_shapes().items():
            length = int(np.prod(shape))
            whole = (rows, length) if settings.kept_crops == 1 else (rows, settings.kept_crops, length)
            dtype = np.dtype(settings.dtype).newbyteorder("<")
            if sources:
                stacked, first = h5py.VirtualLayout(whole, dtype), 0
                for source, count in sources:
                    there = h5py.VirtualSource(source, f"layers/{stage}", (count, *whole[1:]), dtype)
                    stacked[first : first + count] = there
                    first += count
                dataset = layers.create_virtual_dataset(stage, stacked)
            else:
                dataset = _allocate(layers, stage, whole, dtype)
            dataset.attrs["shape"] = np.array(shape, dtype="<i8")
            dataset.attrs["relu"] = settings.relu(stage)
        if len(weights_seen):
            file.create_dataset(WEIGHTS_SEEN, data=np.array(weights_seen, "<u8"))
        _link(file, settings.stages[-1])


def write_copied(path: Path, rows: np.ndarray) -> None:
    """Note in a new codes file which rows are copied from another one: batches are made of the rest."""
    with h5py.File(path, "r+") as file:
        images = file["images"]
        images[COPIED] = np.isin(np.arange(len(images["state"])), rows).astype("u1")


def _write_attributes(
    file: h5py.File, settings: ExtractionSettings, provenance: Provenance, catalog: Catalog
) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["settings"] = settings.to_json()
    # The same once more, entry by entry, for people and for readers of other languages.
    for name in ("network", "weights_sha256", "crops", "precision"):
        file.attrs[name] = getattr(settings, name)
    file.attrs["stages"] = ",".join(settings.stages)
    file.attrs["preprocessing"] = settings.preprocessing.to_json()
    file.attrs["versions"] = json.dumps(provenance.versions)
    file.attrs["created"] = provenance.created
    source, command, root = provenance.weights_source, provenance.command, str(catalog.root.absolute())
    texts = {"weights": settings.weights, "weights_source": source, "command": command, "root": root}
    for name, text in texts.items():  # of any length, and of bytes that may be no UTF-8
        file.attrs.create(name, text.encode("utf-8", "surrogateescape"), dtype=_TEXT)


def _encode(texts: tuple[str, ...]) -> np.ndarray:
    encoded = np.empty(len(texts), dtype=object)
    encoded[:] = [text.encode("utf-8", "surrogateescape") for text in texts]
    return encoded


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
    with CodesFile(path) as codes, codes.intact():
        file = codes.hdf5
        layers = {stage: _place(file["layers"][stage], path) for stage in codes.settings.stages}
        images = [_place(file["images"][name], path) for name in ("digest", "state", "problem")]
        end = 0  # rows must not be written over others, or past the end
        for place in sorted([*layers.values(), *images], key=lambda place: place.offset):
            if place.offset < end:
                raise ValueError("its datasets overlap")
            end = place.offset + len(codes) * place.row_bytes
        if end > path.stat().st_size:
            raise ValueError("its datasets reach beyond its end")
        return Layout(layers, *images)


def _place(dataset: h5py.Dataset, path: Path) -> Place:
    offset = dataset.id.get_offset()
    if offset is None:
        raise CodesFileError(
            f"'{path}' cannot be continued: its rows are compressed.", "Use the file it was packed from."
        )
    row_bytes = int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize
    return Place(offset, row_bytes, dataset.dtype)


def pack(source: Path, target: Path, *, level: int = 1, overwrite: bool = False) -> tuple[int, int]:
    """Compressed copy of a codes file: gzip without shuffle, with which ReLU codes would grow. Returns bytes before and after.

    Raises OutputExistsError if the target is there and ``overwrite`` is false, or is the source, CodesFileError if rows of the source are
    pending, and OutputBusyError if another process is writing the target.
    """
    if target.exists() and (not overwrite or target.samefile(source)):
        raise OutputExistsError(
            f"'{target}' exists already.", "Choose another name with -o, or use --overwrite."
        )
    with locked(target), CodesFile(source) as codes:
        codes.require_complete()
        with replacing(target, overwrite=True, error=CodesFileError) as whole:
            try:
                with h5py.File(whole, "w") as copy:
                    _copy_packed(codes, copy, level)
            except (RuntimeError, ValueError, TypeError, KeyError) as error:
                problem = f"'{source}' cannot be packed: {reason_of(error)}."
                raise CodesFileError(problem, "It is damaged: extract it again.") from error
    return source.stat().st_size, target.stat().st_size


def _copy_packed(codes: CodesFile, copy: h5py.File, level: int) -> None:
    _write_attributes(copy, codes.settings, codes.provenance, codes.catalog)
    codes.hdf5.copy("images", copy)
    codes.hdf5.copy("classes", copy)
    if WEIGHTS_SEEN in codes.hdf5:
        codes.hdf5.copy(WEIGHTS_SEEN, copy)
    layers = copy.create_group("layers")
    for stage in codes.stages:
        original = codes.hdf5["layers"][stage]
        chunk_rows = max(1, min(len(codes), 2**20 // max(1, original[0:1].nbytes)))
        packed = layers.create_dataset(
            stage, original.shape, original.dtype, chunks=(chunk_rows, *original.shape[1:]),
            compression="gzip", compression_opts=level,
        )  # fmt: skip
        packed.attrs["shape"] = np.array(codes.stage_shape(stage), dtype="<i8")
        packed.attrs["relu"] = codes.settings.relu(stage)
        for start in range(0, len(codes), chunk_rows):
            packed[start : start + chunk_rows] = original[start : start + chunk_rows]
    _link(copy, codes.stages[-1])
