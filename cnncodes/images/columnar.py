"""Parquet and Arrow files: tables of images by path, and shards that hold the images themselves; by pyarrow."""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cnncodes.core.errors import CnnCodesError, DependencyError
from cnncodes.core.files import open_file, parse_json
from cnncodes.images.listing import PATHS, plain_key

COLUMNAR = (".parquet", ".arrow")
LARGEST_GROUP = 2**31  # bytes of a row group: it is read as a whole
KEPT = 2**28  # bytes of the row groups last read that stay in memory


class Columns(ABC):
    """A file of columns that have the same number of rows, of which some hold images.

    An image is named by its row, ``12``; by column and row, ``photo/12``, in another column than :meth:`image_column` finds.

    Attributes
    ----------
    lengths : dict of str to int
        Rows of each column.
    images : set of str
        Columns that hold images.
    """

    path: str
    lengths: dict[str, int]
    images: set[str]
    usual: Sequence[str] = PATHS

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

    def at(self, place: int) -> tuple[str, int]:
        """Column and row of a place."""
        column, row = divmod(place, max(self.lengths.values()))
        return list(self.lengths)[column], row

    @abstractmethod
    def kind(self, column: str) -> str | None:
        """What a column holds, where that is no text and no number."""

    @abstractmethod
    def cells(self, column: str) -> list[Any]:
        """Values of a column."""


class ColumnShard(Columns):
    """A Parquet file, or an Arrow file as the datasets library saves it.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError, ValueError
        If it cannot be read.
    DependencyError
        If pyarrow is not installed.
    """

    def __init__(self, path: str) -> None:
        with _pyarrow(path):
            import pyarrow as pa
            import pyarrow.parquet as pq

            self.path = path
            self._table = None
            with open_file(path) as file:
                self._bytes = os.fstat(file.fileno()).st_size
                if path.lower().endswith(".parquet"):
                    parquet = pq.ParquetFile(file)
                    self._metadata, self.schema = parquet.metadata, parquet.schema_arrow
                    groups = range(self._metadata.num_row_groups)
                    counts = [self._metadata.row_group(group).num_rows for group in groups]
                    self._starts = list(itertools.accumulate(counts, initial=0))
                else:
                    self._table = _read_arrow(pa, path, file.read(6))
                    self.schema = self._table.schema
            rows = self._metadata.num_rows if self._table is None else self._table.num_rows
            self.lengths = {str(name): rows for name in self.schema.names}
            self.images = {field.name for field in self.schema if _holds_images(pa, field.type)}
            self._class_names = _class_names(self.schema.metadata)

    def kind(self, column: str) -> str | None:
        import pyarrow as pa

        kind = self.schema.field(column).type
        return str(kind)[:80] if pa.types.is_nested(kind) or pa.types.is_binary(kind) else None

    def cells(self, column: str) -> list[Any]:
        """Values of a column; of a ClassLabel of the datasets library, the names of the classes."""
        import pyarrow.parquet as pq

        with _pyarrow(self.path):
            if self._table is not None:
                values = self._table.column(column).to_pylist()
            else:
                with open_file(self.path) as file:
                    values = pq.ParquetFile(file).read(columns=[column]).column(column).to_pylist()
        names = self._class_names.get(column)
        if names is None:
            return list(values)
        known: dict[Any, str | None] = {None: None, -1: None, **dict(enumerate(names))}
        return [known.get(value, str(value)) for value in values]

    def size(self, place: int) -> int:
        return self._bytes

    def read(self, place: int) -> bytes:
        column, row = self.at(place)
        with _pyarrow(self.path):
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


@contextmanager
def library_errors() -> Iterator[None]:
    """Whatever a library raises for a damaged file, which is of no one kind, as OSError or ValueError."""
    try:
        yield
    except (OSError, ValueError, CnnCodesError):
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


@contextmanager
def _pyarrow(path: str) -> Iterator[None]:
    with library_errors():
        try:
            yield
        except ImportError as error:
            raise DependencyError(
                f"{path!r} is a Parquet or Arrow file, and pyarrow is not installed.",
                "Run: pip install 'cnncodes[parquet]', or give a CSV or JSON Lines file.",
            ) from error


def _read_arrow(pa: Any, path: str, start: bytes) -> Any:
    """The table of an Arrow file, in the stream or the file format, mapped into memory; its places are checked once."""
    mapped = pa.memory_map(path)
    reader = pa.ipc.open_file(mapped) if start == b"ARROW1" else pa.ipc.open_stream(mapped)
    table = reader.read_all()
    table.validate(full=True)
    return table


def _holds_images(pa: Any, kind: Any) -> bool:
    """Whether a column can hold encoded images: bytes, or the struct of bytes and path of the datasets library."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_images(pa, kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, Sequence[str]]:
    """Names of the classes of each ClassLabel column, as the datasets library writes them into the schema."""
    try:
        features = parse_json((metadata or {})[b"huggingface"].decode("utf-8"))["info"]["features"]
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
