"""NumPy and HDF5 files of images: arrays of pixels or, in HDF5, encoded images, with their labels beside them."""

from __future__ import annotations

import functools
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.files import open_file
from cnncodes.images.columnar import Columns, library_errors
from cnncodes.images.listing import LABELS, PATHS, plain_key
from cnncodes.images.readers import LARGEST_IMAGE

HDF5 = (".h5", ".hdf5")
ARRAYS = (".npy", *HDF5)
CHUNKS_KEPT = 2**26  # bytes of the chunks last read of a dataset, which may be compressed
FILES_KEPT = 4  # HDF5 files that stay open
MOST_ROWS = 2**26  # a small file can say that it has any number

_LABELS = ("y", *LABELS, "targets")  # usual names of datasets
_X = re.compile(r"(?i)(?<![a-z])(?:x|images?|imgs?|data)(?![a-z])")


class ArrayShard(Columns):
    """The images of a ``.npy`` or an HDF5 file, whose datasets are columns.

    Pixels are uint8 ``[N, H, W]``, ``[N, H, W, 1 or 3]`` or ``[N, 1 or 3, H, W]``, which the bytes of an image have as an
    uncompressed BMP file; in HDF5 images may be encoded, too, each as bytes. Links to other files are not followed.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or holds no images.
    """

    usual = ("x", "data", "images", *PATHS)

    def __init__(self, path: str) -> None:
        self.path = path
        with open_file(path) as file:
            status = os.fstat(file.fileno())
        self._bytes, self._stamp = status.st_size, (status.st_size, status.st_mtime_ns)
        found = self._datasets()
        self.images = {name for name, data in found.items() if _is_encoded(data) or _axes(data)}
        if not self.images:
            raise ValueError(
                "; ".join(_refusal(name, data) for name, data in found.items()) or "it has no datasets"
            )
        self.lengths = {name: len(data) for name, data in found.items()}
        if max(self.lengths.values()) > MOST_ROWS:
            raise ValueError(f"it has {max(self.lengths.values()):,} rows, above the limit of {MOST_ROWS:,}")

    def _datasets(self) -> dict[str, Any]:
        with library_errors():
            return _npy(self.path) if self.path.lower().endswith(".npy") else _hdf5(self.path, self._stamp)

    def label_column(self, images: str) -> str | None:
        """The column of the labels of a column of images: ``y_train`` of ``x_train``, else one with a usual name."""
        group, found = images.rpartition("/")[0], self._datasets()
        names = [name for name, length in self.lengths.items() if length == self.lengths[images]]
        names = [name for name in names if _values(found[name]) is not None]
        usual = [
            (name.rpartition("/")[0] != group, _LABELS.index(key), name)
            for name in names
            if (key := plain_key(name.rpartition("/")[2])) in _LABELS
        ]
        named = [name for name in _label_names(images) if name in names]
        return named[0] if named else min(usual)[2] if usual else None

    def kind(self, column: str) -> str | None:
        data = self._datasets()[column]
        return f"{data.dtype} {list(data.shape)}" if _values(data) is None else None

    def cells(self, column: str) -> list[Any]:
        with library_errors():
            values = np.asarray(self._datasets()[column][()]).reshape(-1).tolist()
        return [os.fsdecode(value) if isinstance(value, bytes) else value for value in values]

    def size(self, place: int) -> int:
        return self._bytes

    def read(self, place: int) -> bytes:
        column, row = self.at(place)
        data = self._datasets()[column]
        axes, size = _axes(data), data.size // len(data)
        if size > LARGEST_IMAGE:
            raise ValueError(f"an image of {size:,} bytes, above the limit of {LARGEST_IMAGE:,}")
        with library_errors():
            return bytes(data[row]) if axes is None else bitmap(np.transpose(data[row], axes))


def bitmap(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Pixels ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]`` (RGB) as an uncompressed BMP file, whose bytes no library decides."""
    height, width = pixels.shape[:2]
    colours = pixels.reshape(height, width, -1)[:, :, ::-1]
    depth = colours.shape[2]
    rows = np.zeros((height, -(-width * depth // 4) * 4), np.uint8)
    rows[:, : width * depth] = colours.reshape(height, width * depth)
    palette = bytes(value for grey in range(256) for value in (grey, grey, grey, 0)) if depth == 1 else b""
    start = 54 + len(palette)
    head = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", start + rows.size, 0, start, 40, width, -height, 1, 8 * depth, *[0] * 6
    )
    return head + palette + rows.tobytes()


def without_labels(paths: list[str]) -> list[str]:
    """The paths but for those of the ``.npy`` files that hold the labels of another one."""
    labels = {
        str(beside) for path in paths if path.lower().endswith(".npy") for beside in _beside(Path(path))
    }
    return [path for path in paths if path not in labels]


def _axes(data: Any) -> tuple[int, ...] | None:
    """The order of an image's axes that makes it [H, W] or [H, W, C]; None for what is no array of such pixels."""
    shape = data.shape[1:]
    if data.dtype != np.uint8 or not all(shape):
        return None
    if len(shape) == 3 and shape[2] in (1, 3):
        return (0, 1, 2)
    if len(shape) == 3 and shape[0] in (1, 3):
        return (1, 2, 0)
    return (0, 1) if len(shape) == 2 and shape[1] > 4 else None  # [H, W, 3] alone would be one image


def _is_encoded(data: Any) -> bool:
    """Whether each element of a dataset is bytes of any length."""
    kind = (data.dtype.metadata or {}).get("vlen")
    return len(data.shape) == 1 and kind is not None and kind is not str and kind == np.uint8


def _values(data: Any) -> npt.DTypeLike | None:
    """Type of the numbers or texts of a dataset that has one for each row; None for others."""
    text = data.dtype.kind in "SU" or (data.dtype.metadata or {}).get("vlen") in (str, bytes)
    one = len(data.shape) > 0 and all(side == 1 for side in data.shape[1:])
    return data.dtype if one and (text or data.dtype.kind in "biuf") else None


def _refusal(name: str, data: Any) -> str:
    what = f"{name!r} is {data.dtype} {list(data.shape)}"
    if data.dtype.kind == "f" and len(data.shape) in (3, 4):
        return f"{what}, and pixels must be uint8: convert floats from 0 to 1 by (255 * x).round().astype('uint8')"
    return f"{what}, not uint8 [N, H, W], [N, H, W, 3] or [N, 3, H, W]"


def _label_names(name: str) -> Iterator[str]:
    """What the labels of ``x_train`` or ``train/images`` may be called."""
    group, slash, last = name.rpartition("/")
    yield from (group + slash + _X.sub(word, last) for word in ("y", "Y", "labels") if _X.search(last))


def _beside(path: Path) -> list[Path]:
    """Files in which the labels of a .npy file may be."""
    names = [f"{path.stem}.labels", *_label_names(path.stem), "labels"]
    return [beside for name in names if (beside := path.with_name(f"{name}{path.suffix}")) != path]


def _npy(path: str) -> dict[str, Any]:
    """The array of a file, mapped into memory, and the labels of the file beside it."""
    found: dict[str, Any] = {"image": np.lib.format.open_memmap(path, mode="r")}
    for beside in _beside(Path(path)):
        if beside.is_file():
            found["label"] = np.lib.format.open_memmap(beside, mode="r")
            break
    if not all(data.ndim for data in found.values()):
        raise ValueError("it is no array of images")
    if len({len(data) for data in found.values()}) > 1:
        raise ValueError(
            f"it has {len(found['image']):,} rows, and {beside.name!r} has {len(found['label']):,}"
        )
    return found


@functools.lru_cache(FILES_KEPT)
def _hdf5(path: str, _stamp: tuple[int, int]) -> dict[str, Any]:
    """The datasets of a file that have rows, by their names."""
    import h5py

    file = h5py.File(path, "r", rdcc_nbytes=CHUNKS_KEPT)
    if "format" in file.attrs and "layers" in file:
        file.close()
        raise ValueError("it is a file of CNN codes, which holds no images")
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and not item.is_virtual and not item.external:
            found[name] = item

    file.visititems(visit)
    return found
