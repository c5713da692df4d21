"""Codes for other tools: npy, CSV, Parquet and TensorBoard's projector. Rows are read in blocks."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.core.errors import CodesFileError, DependencyError, OptionError, OutputExistsError, nearest
from cnncodes.core.files import cells
from cnncodes.core.outputs import replacing
from cnncodes.core.words import visible
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
    """Write the rows that are done for another tool, each file whole or not at all.

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

    Returns the files written.

    Raises
    ------
    OptionError
        If the format is not known, ``layer`` names several stages, or the name of an npy file ends in .csv.
    OutputExistsError
        If one of them is there and ``overwrite`` is false.
    CodesFileError
        If no row is done, the file has no such layer, or the output cannot be written.
    DependencyError
        If pyarrow is needed and missing.
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
