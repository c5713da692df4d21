"""Files with many images: tar shards, Parquet and Arrow files (by pyarrow), NumPy and HDF5 files (by h5py)."""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
import os
import posixpath
import re
import struct
import tarfile
import threading
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError, DependencyError
from cnncodes.core.files import open_file, parse_json
from cnncodes.core.outputs import replacing
from cnncodes.images.listing import LABELS, PATHS, has_image_suffix, plain_key
from cnncodes.images.readers import LARGEST_IMAGE

INDEX_FORMAT = 1
ENDS = 2**16  # bytes at both ends of a tar shard by which its index knows it, besides size and time
LARGEST_LABEL = 2**16  # bytes of a .cls or .json member
BESIDE = (".cls", ".json", ".txt")  # members that go with an image: its label, or a text


@dataclass(eq=False)
class TarShard:
    """The images of an uncompressed tar file, as WebDataset has them: read by their offsets, which an index keeps."""

    path: str
    names: tuple[
        str, ...
    ]  # of regular files that end as images do, in the order of the file; without ./ or / in front
    offsets: npt.NDArray[np.int64]  # where the bytes of each are
    sizes: npt.NDArray[np.int64]
    labels: tuple[str, ...]  # of the .cls or .json member of the same name; "" where there is none
    left_out: tuple[str, ...]  # other members, but for those of BESIDE
    #: Kind -> members: ``link`` (not followed), ``outside`` (a name that leads out of the shard), ``repeated`` (the last one
    #: of a name counts, as with tar), ``damaged`` (1: what comes after the last image cannot be read).
    problems: dict[str, int]

    def __post_init__(self) -> None:
        self._places = {name: place for place, name in enumerate(self.names)}

    @classmethod
    def open(cls, path: str) -> TarShard:
        """Open a shard by its index, which is made where there is none, or none of this shard as it is now."""
        with open_file(path) as file:
            stamp = _stamp(file)
            with contextlib.suppress(Exception):  # whatever is wrong with an index, it is made anew
                return _load_index(path, stamp)
            shard = _scan(path, file)
        # no home, or none to write to: no index
        with contextlib.suppress(OSError, RuntimeError, ValueError, CnnCodesError):
            _save_index(shard, stamp)
        return shard

    def place(self, name: str) -> int:
        return self._places[name]

    def size(self, place: int) -> int:
        return int(self.sizes[place])

    def read(self, place: int) -> bytes:
        size = int(self.sizes[place])
        if size > LARGEST_IMAGE:
            raise ValueError(f"{size:,} bytes in a shard, above the limit of {LARGEST_IMAGE:,}")
        with open_file(self.path) as file:
            file.seek(int(self.offsets[place]))
            data = file.read(size)
        if size and not data:
            raise ValueError("the shard ends before it")
        return data  # cut off where the shard is: decoding says what that is, as of a file that is cut off


def _scan(path: str, file: BinaryIO) -> TarShard:
    """Read the headers of all members, and the labels."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    left_out: list[str] = []
    problems: Counter[str] = Counter()
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or a shard of a million members takes a gigabyte
                if member.size < 0:
                    raise ValueError("a member of negative size")  # the next one would be this one again
                name = posixpath.normpath(member.name.lstrip("/"))
                if ".." in member.name.split("/") or "\0" in name:
                    problems["outside"] += 1
                elif member.isdir() or any(part.startswith(".") for part in name.split("/")):
                    continue  # hidden, as in folders
                elif not member.isreg() or member.issparse():
                    problems["link"] += 1
                elif has_image_suffix(name):
                    problems["repeated"] += name in images
                    images.pop(name, None)
                    images[name] = (member.offset_data, member.size)
                elif not name.lower().endswith(BESIDE):
                    left_out.append(name)
                elif not name.lower().endswith(".txt") and member.size <= LARGEST_LABEL:
                    file.seek(member.offset_data)
                    if label := _label(name, file.read(member.size)):
                        labels[_sample(name)] = label
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        if not images:
            file.seek(0)
            if file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")):
                reason = "it is compressed, and members are read by their offsets: decompress it"
                raise ValueError(reason) from error
            raise ValueError(str(error).rstrip(".") or "it is no tar file") from error
        problems["damaged"] = 1
    else:
        file.seek(end)
        problems["damaged"] = int(any(file.read(tarfile.BLOCKSIZE)))
    places = np.array(list(images.values()), np.int64).reshape(-1, 2)
    found = tuple(labels.get(_sample(name), "") for name in images)
    return TarShard(path, tuple(images), places[:, 0], places[:, 1], found, tuple(left_out), dict(+problems))


def _sample(name: str) -> str:
    """What the members of one sample have in common: everything before the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(name: str, data: bytes) -> str:
    """The label that a .cls or .json member gives; empty if it gives none."""
    try:
        text = data.decode("utf-8-sig")
        found = text if name.lower().endswith(".cls") else parse_json(text)
    except ValueError:
        return ""
    if isinstance(found, dict):
        values = {plain_key(str(key)): value for key, value in found.items()}
        found = next((values[key] for key in (*LABELS, "cls") if key in values), None)
    elif not name.lower().endswith(".cls"):
        return ""
    return str(found).strip().replace("\0", "") if isinstance(found, str | int) else ""


def index_path(path: str) -> Path:
    """Where the index of a shard is kept: below ``$XDG_CACHE_HOME``, since data are often not ours to write beside."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    digest = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()
    return cache / "cnncodes" / "shards" / f"{digest[:32]}.npz"


def _stamp(file: BinaryIO) -> npt.NDArray[np.uint8]:
    """By what an index knows its shard: size, time of change, and a digest of both ends."""
    status = os.fstat(file.fileno())
    known = [f"{INDEX_FORMAT} {status.st_size} {status.st_mtime_ns} ".encode()]
    for place in (0, max(0, status.st_size - ENDS)):
        file.seek(place)
        known.append(file.read(ENDS))
    file.seek(0)
    return np.frombuffer(hashlib.blake2b(b"".join(known), digest_size=16).digest(), np.uint8)


def _load_index(path: str, stamp: npt.NDArray[np.uint8]) -> TarShard:
    """The shard as its index has it; raises if that is of another, or no index."""
    with open_file(index_path(path)) as file, np.load(file, allow_pickle=False) as kept:
        if not np.array_equal(kept["stamp"], stamp):
            raise ValueError("another shard, or the same before a change")
        texts = {
            name: tuple(kept[name].tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
            for name in ("names", "labels", "left_out", "problems")
        }
        names, labels, left_out, kinds = texts.values()
        offsets, sizes, counts = kept["offsets"], kept["sizes"], kept["counts"].tolist()
    if not len(names) == len(labels) == len(offsets) == len(sizes):
        raise ValueError("lengths differ")
    return TarShard(path, names, offsets, sizes, labels, left_out, dict(zip(kinds, counts, strict=True)))


def _save_index(shard: TarShard, stamp: npt.NDArray[np.uint8]) -> None:
    def packed(texts: Iterable[str]) -> npt.NDArray[np.uint8]:
        """Texts as bytes, each ended by a zero; numpy's own arrays of texts make all as long as the longest."""
        joined = "".join(f"{text}\0" for text in texts)
        return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)

    index = index_path(shard.path)
    index.parent.mkdir(parents=True, exist_ok=True)
    with replacing(index, overwrite=True) as whole, whole.open("wb") as file:
        np.savez(
            file, stamp=stamp, names=packed(shard.names), labels=packed(shard.labels), left_out=packed(shard.left_out),
            offsets=shard.offsets, sizes=shard.sizes, problems=packed(shard.problems),
            counts=np.array(list(shard.problems.values()), np.int64),
        )  # fmt: skip


class Columns(ABC):
    """A file of columns, of which some hold images.

    An image is named by its row, ``12``; by column and row, ``photo/12``, in another column than :meth:`image_column` finds.
    """

    path: str
    lengths: dict[str, int]  # rows of each column
    images: set[str]  # columns that hold images
    file_bytes: int
    usual: Sequence[str] = PATHS  # names of columns of images, the best first

    def image_column(self, asked: str | None = None) -> str | None:
        """The column of images: the one that is asked for, else the first with a usual name, or the only one; None without."""
        if asked is not None:
            return asked if asked in self.images else None
        keys = {name: plain_key(name.rpartition("/")[2]) for name in self.images}
        usual = [
            (name.count("/"), self.usual.index(key), name) for name, key in keys.items() if key in self.usual
        ]
        return min(usual)[2] if usual else next(iter(self.images)) if len(self.images) == 1 else None

    def label_column(self, images: str) -> str | None:
        """The column of the labels, where it is not found by its name alone."""
        return None

    def names(self, column: str) -> list[str]:
        """Names of the images of a column."""
        before = "" if column == self.image_column() else f"{column}/"
        return [f"{before}{row}" for row in range(self.lengths[column])]

    def place(self, name: str) -> int:
        """Row of an image, counted on over the columns."""
        column, _, row = name.rpartition("/")
        asked = self.image_column(column or None)
        if asked is None or not row.isdecimal() or int(row) >= self.lengths[asked]:
            raise LookupError(name)
        return list(self.lengths).index(asked) * max(self.lengths.values()) + int(row)

    def size(self, place: int) -> int:
        return self.file_bytes

    def read(self, place: int) -> bytes:
        column, row = divmod(place, max(self.lengths.values()))
        with library_errors():
            return self.image(list(self.lengths)[column], row)

    @abstractmethod
    def image(self, column: str, row: int) -> bytes:
        """An encoded image."""

    @abstractmethod
    def kind(self, column: str) -> str | None:
        """What a column holds, where that is no text and no number."""

    @abstractmethod
    def cells(self, column: str) -> list[Any]:
        """Values of a column."""


@contextlib.contextmanager
def library_errors() -> Iterator[None]:
    """Whatever a library raises for a damaged file, which is of no one kind, as OSError or ValueError."""
    try:
        yield
    except (OSError, ValueError, CnnCodesError):
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


COLUMNAR = (".parquet", ".arrow")
LARGEST_GROUP = 2**31  # bytes of a row group: it is read as a whole
KEPT = 2**28  # bytes of the row groups last read that stay in memory


class ColumnShard(Columns):
    """A Parquet file, or an Arrow file as the datasets library saves it; DependencyError if pyarrow is not installed."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise DependencyError(
                f"{path!r} is a Parquet or Arrow file, and pyarrow is not installed.",
                "Run: pip install 'cnncodes[parquet]', or give a CSV or JSON Lines file.",
            ) from error
        with library_errors(), open_file(path) as file:
            self.file_bytes = os.fstat(file.fileno()).st_size
            self._table = None
            if path.lower().endswith(".parquet"):
                parquet = pq.ParquetFile(file)
                self._metadata, self._schema = parquet.metadata, parquet.schema_arrow
                groups = range(self._metadata.num_row_groups)
                counts = [self._metadata.row_group(group).num_rows for group in groups]
                self._starts = list(itertools.accumulate(counts, initial=0))
                rows = self._metadata.num_rows
            else:  # in the stream or the file format, mapped into memory
                opener = pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream
                self._table = opener(pa.memory_map(path)).read_all()
                self._table.validate(full=True)  # its places are checked once
                self._schema, rows = self._table.schema, self._table.num_rows
            self.lengths = {str(name): rows for name in self._schema.names}
            self.images = {field.name for field in self._schema if _holds_images(pa, field.type)}

    def kind(self, column: str) -> str | None:
        import pyarrow as pa

        kind = self._schema.field(column).type
        return str(kind)[:80] if pa.types.is_nested(kind) or pa.types.is_binary(kind) else None

    def cells(self, column: str) -> list[Any]:
        """Values of a column; of a ClassLabel of the datasets library, the names of the classes."""
        with library_errors():
            if self._table is not None:
                values = self._table.column(column).to_pylist()
            else:
                import pyarrow.parquet as pq

                with open_file(self.path) as file:
                    values = pq.ParquetFile(file).read(columns=[column]).column(column).to_pylist()
        if (names := _class_names(self._schema.metadata, column)) is None:
            return list(values)
        known: dict[Any, str | None] = {None: None, -1: None, **dict(enumerate(names))}
        return [known.get(value, str(value)) for value in values]

    def image(self, column: str, row: int) -> bytes:
        if self._table is not None:
            cell = self._table.column(column)[row]
        else:
            group = bisect.bisect_right(self._starts, row) - 1
            cell = _groups.column(self, group, column)[row - self._starts[group]]
        if cell.is_valid and hasattr(cell, "keys"):  # a struct: its path may be no text
            cell = cell["bytes"]
        if not cell.is_valid:
            raise ValueError("the row holds no image")
        return bytes(cell.as_py())

    def read_group(self, group: int, column: str) -> Any:
        """A column of a row group of a Parquet file."""
        import pyarrow.parquet as pq

        if (size := self._metadata.row_group(group).total_byte_size) > LARGEST_GROUP:
            raise ValueError(f"a row group of {size:,} bytes, above the limit of {LARGEST_GROUP:,}")
        with open_file(self.path) as file:
            parquet = pq.ParquetFile(file, metadata=self._metadata)
            return parquet.read_row_group(group, columns=[column]).column(column)


class _Groups:
    """The row groups last read: images come row after row, and Parquet gives a row only with its group."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[ColumnShard, int, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def column(self, shard: ColumnShard, group: int, column: str) -> Any:
        key = (shard, group, column)
        with self._lock:  # held while reading, or each thread reads the same group
            if key not in self._kept:
                self._kept[key] = shard.read_group(group, column)
                while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


_groups = _Groups()


def _holds_images(pa: Any, kind: Any) -> bool:
    """Whether a column can hold encoded images: bytes, or the struct of bytes and path of the datasets library."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_images(pa, kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Names of the classes of a ClassLabel column, as the datasets library writes them into the schema."""
    try:
        features = parse_json((metadata or {})[b"huggingface"].decode("utf-8"))["info"]["features"]
        is_label = features[column].get("_type") == "ClassLabel" and features[column].get("names")
        return [str(one) for one in features[column]["names"]] if is_label else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


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
    """

    usual = ("x", "data", "images", *PATHS)

    def __init__(self, path: str) -> None:
        self.path = path
        with open_file(path) as file:
            status = os.fstat(file.fileno())
        self.file_bytes, self._stamp = status.st_size, (status.st_size, status.st_mtime_ns)
        found = self._datasets()
        self.images = {name for name, data in found.items() if _is_encoded(data) or _axes(data)}
        if not self.images:
            raise ValueError("; ".join(itertools.starmap(_refusal, found.items())) or "it has no datasets")
        self.lengths = {name: len(data) for name, data in found.items()}
        if (most := max(self.lengths.values())) > MOST_ROWS:
            raise ValueError(f"it has {most:,} rows, above the limit of {MOST_ROWS:,}")

    def _datasets(self) -> dict[str, Any]:
        with library_errors():
            return _npy(self.path) if self.path.lower().endswith(".npy") else _hdf5(self.path, self._stamp)

    def label_column(self, images: str) -> str | None:
        """The column of the labels of a column of images: ``y_train`` of ``x_train``, else one with a usual name."""
        group, found = images.rpartition("/")[0], self._datasets()
        names = [name for name, length in self.lengths.items() if length == self.lengths[images]]
        names = [name for name in names if _has_values(found[name])]
        if named := [name for name in _label_names(images) if name in names]:
            return named[0]
        usual = [
            (name.rpartition("/")[0] != group, _LABELS.index(key), name)
            for name in names
            if (key := plain_key(name.rpartition("/")[2])) in _LABELS
        ]
        return min(usual)[2] if usual else None

    def kind(self, column: str) -> str | None:
        data = self._datasets()[column]
        return None if _has_values(data) else f"{data.dtype} {list(data.shape)}"

    def cells(self, column: str) -> list[Any]:
        with library_errors():
            values = np.asarray(self._datasets()[column][()]).reshape(-1).tolist()
        return [os.fsdecode(value) if isinstance(value, bytes) else value for value in values]

    def image(self, column: str, row: int) -> bytes:
        data = self._datasets()[column]
        axes, size = _axes(data), data.size // len(data)
        if size > LARGEST_IMAGE:
            raise ValueError(f"an image of {size:,} bytes, above the limit of {LARGEST_IMAGE:,}")
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
    arrays = (Path(path) for path in paths if path.lower().endswith(".npy"))
    labels = {str(beside) for path in arrays for beside in _beside(path)}
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


def _has_values(data: Any) -> bool:
    """Whether a dataset has one number or text for each row."""
    text = data.dtype.kind in "SU" or (data.dtype.metadata or {}).get("vlen") in (str, bytes)
    one = len(data.shape) > 0 and all(side == 1 for side in data.shape[1:])
    return bool(one and (text or data.dtype.kind in "biuf"))


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
    beside = next(filter(Path.is_file, _beside(Path(path))), None)
    if beside is not None:
        found["label"] = np.lib.format.open_memmap(beside, mode="r")
    if not all(data.ndim for data in found.values()):
        raise ValueError("it is no array of images")
    if beside is not None and len(found["image"]) != len(found["label"]):
        reason = f"it has {len(found['image']):,} rows, and {beside.name!r} has {len(found['label']):,}"
        raise ValueError(reason)
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
