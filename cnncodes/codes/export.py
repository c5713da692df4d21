"""Codes for other tools (npy, CSV, Parquet, TensorBoard's projector), read in blocks, and features that other programs computed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import DONE, CodesFile, open_hdf5
from cnncodes.core.errors import CodesFileError, DependencyError, OptionError, OutputExistsError, nearest
from cnncodes.core.files import cells, reading
from cnncodes.core.outputs import replacing
from cnncodes.core.words import visible
from cnncodes.images.catalog import Catalog
from cnncodes.images.decode import write_png
from cnncodes.images.listing import SPLITS
from cnncodes.images.loader import Loader
from cnncodes.weights.preprocessing import Preprocessing

BLOCK = 1024  # rows
SPRITE_SIDE = 8192  # px: TensorBoard's largest sprite
THUMBNAIL = 64  # px
PROJECTOR = ("vectors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt")


def export_codes(
    codes: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: str,
    layer: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the rows that are done for another tool, each file whole or not at all; returns the files.

    Parameters
    ----------
    codes : path of a codes file
    output : path
        A file, or for the projector a folder that is made.
    to : {"npy", "csv", "parquet", "projector"}
        - npy: ``[rows, length]`` (or ``[rows, crops, length]``) in the stored dtype, and beside
          ``codes.npy`` a ``codes.names.csv`` with the name, label and split of each row;
        - csv: one line per row: filename, label, split, then the values (crops follow one another);
        - parquet: columns filename, label, split, codes (a list per row); needs pyarrow;
        - projector: vectors.tsv, metadata.tsv, sprite.png and projector_config.pbtxt for TensorBoard.
    layer : str, optional
        By default the deepest of the file, after its ReLU if that is there.

    Raises OptionError for a format, layer or name that does not fit, OutputExistsError if a file is there and ``overwrite`` is false,
    CodesFileError if no row is done, the file has no such layer, or the output cannot be written, DependencyError without pyarrow.
    """
    writers: dict[str, Callable[[CodesFile, str, np.ndarray, list[Path]], None]] = {
        "npy": _npy, "csv": _csv, "parquet": _parquet, "projector": _projector,
    }  # fmt: skip
    if to not in writers:
        raise OptionError(f"format '{to}' is not known.", nearest(to, writers))
    path = Path(output)
    targets = [path, path.with_suffix(".names.csv")] if to == "npy" else [path]
    if to == "projector":
        targets = [path / name for name in PROJECTOR]
    if to == "npy" and path.suffix == ".csv":
        raise OptionError(
            f"npy was asked for, and '{path}' is the name of a CSV.", "Use a name that ends in .npy."
        )
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        raise OutputExistsError(f"'{there[0]}' exists already.", "Choose another name, or use --overwrite.")
    if same := [target for target in there if target.samefile(codes)]:
        raise OutputExistsError(f"'{same[0]}' is the codes file itself.", "Choose another name with -o.")
    with CodesFile(codes) as file:
        file.require_complete()
        stage = file.settings.architecture.select_one(layer) if layer else deepest(file.stages)
        rows = np.flatnonzero(file.state == DONE)
        if not len(rows):
            raise CodesFileError(f"'{codes}' has no row that is done.", "Extract first.")
        if to == "projector":
            path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            parts = [
                stack.enter_context(replacing(target, overwrite=True, error=CodesFileError))
                for target in targets
            ]
            writers[to](file, stage, rows, parts)
    return targets


def deepest(stages: tuple[str, ...]) -> str:
    """The last stage that is stored after its ReLU, else the last."""
    after = [stage for stage in stages if not stage.endswith(":linear")]
    return (after or list(stages))[-1]


def _blocks(file: CodesFile, stage: str, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        yield part, file.read(stage, part)


def _labels(file: CodesFile, row: int) -> tuple[str, str, str]:
    """Name, label and split of a row as text; empty for none."""
    catalog = file.catalog
    label, split = int(catalog.labels[row]), int(catalog.splits[row])
    known = visible(catalog.classes[label]) if label >= 0 else ""
    return visible(catalog.names[row]), known, SPLITS[split] if split else ""


def _npy(file: CodesFile, stage: str, rows: np.ndarray, paths: list[Path]) -> None:
    path, labels = paths
    first = file.read(stage, rows[:1])
    out = np.lib.format.open_memmap(path, mode="w+", dtype=first.dtype, shape=(len(rows), *first.shape[1:]))
    done = 0
    for _, values in _blocks(file, stage, rows):
        out[done : done + len(values)] = values
        done += len(values)
    out.flush()
    with labels.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("filename", "label", "split"))
        writer.writerows(cells(*_labels(file, int(row))) for row in rows)


def _csv(file: CodesFile, stage: str, rows: np.ndarray, paths: list[Path]) -> None:
    (path,) = paths
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        length = file.read(stage, rows[:1]).size
        writer.writerow(("filename", "label", "split", *(f"{stage}_{place}" for place in range(length))))
        for part, values in _blocks(file, stage, rows):
            flat = values.reshape(len(part), -1)
            for row, line in zip(part, flat, strict=True):
                # repr of the stored type: the shortest text that reads back to the same bits
                writer.writerow((*cells(*_labels(file, int(row))), *(str(value) for value in line)))


def _parquet(file: CodesFile, stage: str, rows: np.ndarray, paths: list[Path]) -> None:
    (path,) = paths
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DependencyError(
            "Parquet files need pyarrow, which is not installed.", "Run: pip install 'cnncodes[parquet]'."
        ) from error
    first = file.read(stage, rows[:1])
    length, kind = first.size, pa.from_numpy_dtype(first.dtype)
    texts = [(name, pa.string()) for name in ("filename", "label", "split")]
    schema = pa.schema([*texts, ("codes", pa.list_(kind, length))])
    with pq.ParquetWriter(path, schema) as writer:
        for part, values in _blocks(file, stage, rows):
            text: Any = list(zip(*(_labels(file, int(row)) for row in part), strict=True))
            flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)
            writer.write_table(pa.table([*map(pa.array, text), flat], schema=schema))


def _projector(file: CodesFile, stage: str, rows: np.ndarray, paths: list[Path]) -> None:
    """TensorBoard's embedding projector: https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin."""
    vectors, metadata, sprite, config = paths
    with vectors.open("w", encoding="utf-8") as stream:
        for part, values in _blocks(file, stage, rows):
            for line in values.reshape(len(part), -1):
                stream.write("\t".join(f"{value:.6g}" for value in line) + "\n")
    with metadata.open("w", encoding="utf-8") as stream:
        stream.write("filename\tlabel\tsplit\n")
        for row in rows:
            stream.write("\t".join(" ".join(text.split()) for text in _labels(file, int(row))) + "\n")
    side = int(np.ceil(np.sqrt(len(rows))))
    thumbnail = max(8, min(THUMBNAIL, SPRITE_SIDE // side))
    write_png(sprite, _sprite(file, rows, side, thumbnail))
    dims = f"    single_image_dim: {thumbnail}\n" * 2
    text = f'  tensor_name: "{stage}"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n'
    text += f'  sprite {{\n    image_path: "sprite.png"\n{dims}  }}\n'
    config.write_text(f"embeddings {{\n{text}}}\n", encoding="utf-8")


def _sprite(file: CodesFile, rows: np.ndarray, side: int, thumbnail: int) -> np.ndarray:
    """Thumbnails row by row on a square: uint8 ``[side * thumbnail, side * thumbnail, 3]``; black if unreadable."""
    sheet = np.zeros((side * thumbnail, side * thumbnail, 3), dtype=np.uint8)
    small = Preprocessing(resize=thumbnail, crop=thumbnail, decoding="reduced")
    batches = [rows[start : start + BLOCK].tolist() for start in range(0, len(rows), BLOCK)]
    place = 0
    for batch in Loader(file.catalog, batches, small):
        for pixels in batch.pixels[:, 0]:
            top, left = (place // side) * thumbnail, (place % side) * thumbnail
            sheet[top : top + thumbnail, left : left + thumbnail] = pixels
            place += 1
    return sheet


def read_features(path: str | os.PathLike[str], catalog: Catalog) -> np.ndarray:
    """Read ``images/name`` and ``layers/features`` (or ``image_names`` and ``features``) of an HDF5 file.

    Features stored as uint8 with an attribute ``largest`` stand for ``largest * (stored / 255) ** 2``.

    Returns float16 ``[N, D]``, one row per image of the catalog; float32 where float16 could not hold the largest. Raises
    CodesFileError if the file cannot be read, has no features, lacks images of the catalog, or has some that are not finite.
    """
    path = Path(path)
    remedy = "Give an HDF5 file of features by image name."
    with reading(f"'{path}'", CodesFileError, remedy), open_hdf5(path) as file:
        names_at = "images/name" if "images/name" in file else "image_names"
        features_at = "layers/features" if "layers/features" in file else "features"
        if names_at not in file or features_at not in file:
            raise CodesFileError(
                f"'{path}' has no features by image name.",
                "It needs images/name and layers/features, or image_names and features.",
            )
        dataset = file[features_at]
        there = {name.decode("utf-8", "surrogateescape"): row for row, name in enumerate(file[names_at][:])}
        missing = [name for name in catalog.names if name not in there]
        if missing:
            raise CodesFileError(
                f"'{path}' has no features of {len(missing):,} of {len(catalog):,} images, such as '{missing[0]}'.",
                "Names must be relative to the folder of the images, as the data have them.",
            )
        rows = np.array([there[name] for name in catalog.names])
        stored = dataset[:][rows].reshape(len(rows), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            if stored.dtype == np.uint8:
                table = float(dataset.attrs["largest"]) * (np.arange(256) / 255) ** 2
                values: np.ndarray = table.astype(_dtype_for(table))[stored]
            else:
                values = stored.astype(_dtype_for(stored))
        _check_finite(values, path, catalog)
        return values


def _largest(values: np.ndarray) -> float:
    """The largest magnitude, without a copy of the array; NaN or infinity where there is one."""
    return float(np.abs(np.array([values.min(initial=0), values.max(initial=0)], np.float64)).max())


def _dtype_for(values: np.ndarray) -> type[np.float16] | type[np.float32]:
    """float16, which takes half the memory, unless a number is beyond its range: it would become infinite."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"features of type {values.dtype} are no numbers")
    return np.float16 if _largest(values) <= float(np.finfo(np.float16).max) else np.float32


def _check_finite(values: np.ndarray, path: Path, catalog: Catalog) -> None:
    if np.isfinite(_largest(values)):
        return
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    raise CodesFileError(
        f"'{path}' has features that are no finite numbers, of {len(bad):,} of {len(catalog):,} images, "
        f"such as '{catalog.names[bad[0]]}'.",
        "Compute the features of these images again, or leave the images out.",
    )
