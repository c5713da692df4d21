"""Images named in a file: a list (``path label`` on each line), or a table with columns for path, label and split."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnncodes.core import files
from cnncodes.core.errors import CatalogError, nearest
from cnncodes.images.listing import (
    LABELS,
    PATHS,
    SPLITS,
    Listing,
    Reading,
    class_name,
    has_image_suffix,
    plain_key,
    split_code,
)
from cnncodes.images.readers import checked_url, image_exists, is_url, open_shard
from cnncodes.images.shards import ARRAYS, COLUMNAR, Columns

_YES_OR_NO = {"isvalid": "val", "isval": "val", "istest": "test"}  # in which no means train
_SPLITS = ("split", "subset", "partition", "set", "fold", *_YES_OR_NO)
_NO_LABEL = ("", "nan", "<na>")
_TRUTH = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0"), False)
_REMEDY = (
    "Begin the file with the line filename,label or filename,label,split, or name the columns: --path-column, "
    "--label-column, --split-column."
)
_FIRST = 8  # columns in a message
_AS_USUAL = Reading()
_BLANKS = " \t\r"
_WORD = re.compile(r"[^ ]+")


@dataclass(frozen=True)
class _Table:
    """What all formats give: the names of the columns, the number of each row in its file, and the cells of a column."""

    source: str  # in messages
    header: Sequence[str]
    numbers: Sequence[int]
    column: Callable[[int], Sequence[Any]]  # of a place in the header
    line: str = "line"


def read_table(full: str, root: str, path: str, reading: Reading, gone: bool = False) -> Listing:
    """Read a list or a table; ``path`` is its name in messages. Unless they may be ``gone``, one of its files must exist."""
    source = repr(path)
    if full.lower().endswith((*COLUMNAR, *ARRAYS)):
        listing, stored = _read_columns(full, root, source, reading)
        if stored:
            return listing
    else:
        listing = _parse(read_text(full), Path(full).suffix.lower(), root, source, reading)
    _mend_names(listing)
    # Files that are missing are reported one by one, but if all are, the root is wrong.
    if not gone and not any(is_there(os.path.join(root, name)) for name in listing.names):  # noqa: PTH118
        raise CatalogError(
            f"none of the {len(listing.names):,} files that {source} names exists; "
            f"the first would be {os.path.join(root, listing.names[0])!r}.",  # noqa: PTH118
            "Paths are relative to the folder of the list: name another with --root (root=), or correct them.",
        )
    return listing


def _parse(text: str, suffix: str, root: str, source: str, reading: Reading) -> Listing:
    if suffix in (".jsonl", ".ndjson"):
        return _parse_json_lines(text, root, source, reading)
    if suffix == ".tsv":
        return parse_csv(text, root, source, reading, "\t")
    first = re.split("[,;\t]", text.lstrip().partition("\n")[0])
    named = (reading.path_column, reading.label_column, reading.split_column) != (None, None, None)
    if suffix == ".csv" or named or (len(first) > 1 and is_header(first)):
        return parse_csv(text, root, source, reading)
    return parse_list(text, root, source)


def parse_csv(
    text: str,
    root: str,
    source: str = "the CSV file",
    reading: Reading = _AS_USUAL,
    delimiter: str | None = None,
) -> Listing:
    """Read a CSV file whose first line names its columns, in any order; the order of the rows is kept.

    The usual names are known, such as ``filename`` or ``image_path``; ``label``, ``class`` or ``category``; ``split``, ``fold``
    or ``is_valid``. Columns that are not used are told in the listing's notes. Label and split may be missing or empty;
    ``nan`` is no label. Fields are separated by commas, semicolons or tabs (by default what the first line has most of), and
    quoted as in RFC 4180. A line that cannot be used is a CatalogError with its number.
    """
    header_line = text.lstrip("\r\n").partition("\n")[0]
    delimiter = delimiter or max(",;\t", key=header_line.count)  # the comma where none occurs
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines if any(row)]
    except csv.Error as error:
        raise CatalogError(
            f"{source}, line {lines.line_num} cannot be read: {error}.",
            'Quote fields as in "a ""quoted"" name.jpg",cat.',
        ) from error
    header = rows.pop(0)[1] if rows else []
    for number, row in rows:
        if len(row) > len(header):
            raise CatalogError(
                f"{source}, line {number} has {len(row)} fields, and the header names {len(header)}.",
                'Put names that contain the separator in quotes: "a,b.jpg",cat.',
            )

    def column(place: int) -> list[str]:
        return [row[place] if place < len(row) else "" for _, row in rows]

    return _listing(_Table(source, header, [number for number, _ in rows], column), root, reading)


def _parse_json_lines(text: str, root: str, source: str, reading: Reading) -> Listing:
    """Read JSON Lines: an object a line, whose keys are columns as :func:`parse_csv` knows them."""
    records: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        with files.reading(f"{source}, line {number}", CatalogError, "Write one JSON object a line."):
            if not isinstance(value := files.parse_json(line), dict):
                raise ValueError("it is no JSON object")
            records.append((number, value))
    header = list(dict.fromkeys(key for _, record in records for key in record))

    def column(place: int) -> list[Any]:
        return [record.get(header[place]) for _, record in records]

    return _listing(_Table(source, header, [number for number, _ in records], column), root, reading)


def _read_columns(path: str, root: str, source: str, reading: Reading) -> tuple[Listing, bool]:
    """Read a file of columns as :func:`parse_csv` has them; and whether it holds the images themselves.

    Such images are rows of a shard, relative to its folder, and their column is :meth:`Columns.image_column`.
    """
    try:
        shard = open_shard(path)
        assert isinstance(shard, Columns)
        images = shard.image_column(reading.path_column)
        if images is not None:
            labels = reading.label_column or shard.label_column(images)
            reading = replace(reading, path_column=images, label_column=labels)
            root = os.path.dirname(path)  # noqa: PTH120
        elif len(shard.images) > 1 and reading.path_column is None:
            raise CatalogError(
                f"{source} has several columns of images: {', '.join(sorted(shard.images)[:_FIRST])}.",
                f"Name one with --path-column, such as --path-column {min(shard.images)}.",
            )
        rows = max(shard.lengths.values()) if images is None else shard.lengths[images]
        header = [name for name, length in shard.lengths.items() if length == rows]

        def column(place: int) -> Sequence[Any]:
            name = header[place]
            if name == images:
                return [f"{os.path.basename(path)}/{row}" for row in shard.names(name)]  # noqa: PTH119
            if kind := shard.kind(name):
                raise _no_text(f"{source}: the column {name!r}", kind)
            return shard.cells(name)

        table = _Table(source, header, range(1, rows + 1), column, "row")
        return _listing(table, root, reading), images is not None
    except (OSError, ValueError, KeyError) as error:
        arrays = path.lower().endswith(ARRAYS)
        wanted = "an array or a dataset of images" if arrays else "a whole Parquet or Arrow file"
        raise CatalogError(
            f"{source} cannot be read: {files.reason_of(error).rstrip('.')}.",
            f"Give {wanted}, a list, a table or a folder.",
        ) from error


def is_header(words: Sequence[str]) -> bool:
    """Whether the words of a first line name columns: of the path, and where there are several, of the label."""
    keys = [plain_key(word) for word in words]
    return any(key in PATHS for key in keys) and (len(keys) == 1 or any(key in LABELS for key in keys))


def image_name(path: str, root: str, where: str) -> str:
    """Path as the catalog names it: relative to the root where it lies below it, '/' separated.

    Lists are UTF-8. Where the system's names are not (the C locale), a name is what listing its folder gives.
    """
    if not path or "\0" in path:
        raise CatalogError(
            f"{where} has {'a zero byte in the' if path else 'no'} file name.", "Correct or delete that line."
        )
    if is_url(path):
        return checked_url(path, where)
    if sys.getfilesystemencoding() != "utf-8":
        path = os.fsdecode(path.encode("utf-8", "surrogateescape"))
    if os.sep != "/":
        path = path.replace(os.sep, "/")
        root = root.replace(os.sep, "/")
    prefix = root.rstrip("/") + "/"
    if path.startswith(prefix) and len(path) > len(prefix):
        return path[len(prefix) :]
    while path.startswith("./") and len(path) > 2:
        path = path[2:]
    return path


def checked(listing: Listing, lines: Sequence[int], source: str, remedy: str, line: str = "line") -> Listing:
    """The listing; raises CatalogError if it is empty, or gives an image two labels (twice the same is no harm)."""
    if not listing.names:
        raise CatalogError(f"{source} names no images.", remedy)
    if len(set(listing.names)) == len(listing.names):
        return listing
    first: dict[str, tuple[str, int]] = {}
    for name, label, number in zip(listing.names, listing.labels, lines, strict=True):
        if label is None:
            continue
        before, where = first.setdefault(name, (label, number))
        if class_name(before) != class_name(label):
            raise CatalogError(
                f"{source} gives the image {name!r} two labels: {before!r} in {line} {where} and {label!r} in {line} "
                f"{number}.",
                "An image has one label here: keep the line that is right and delete the other.",
            )
    return listing


def _listing(table: _Table, root: str, reading: Reading) -> Listing:
    header = [name.strip() for name in table.header]
    keys = [plain_key(name) for name in header]
    where = f"{table.source}, {table.line}"

    def place_of(asked: str | None, known: Sequence[str]) -> int | None:
        """Of the column that a person named, else of the first that has a usual name."""
        if asked is None:
            return next((keys.index(key) for key in known if key in keys), None)
        if asked.strip() not in header:
            raise CatalogError(f"{table.source} has no column {asked!r}.", nearest(asked, header))
        return header.index(asked.strip())

    def texts(place: int) -> list[str]:
        cells = table.column(place)
        for value, number in zip(cells, table.numbers, strict=True):
            if value is not None and not isinstance(value, str | int | float):
                raise _no_text(f"{where} {number}: the column {header[place]!r}", type(value).__name__)
        return ["" if value is None else str(value) for value in cells]

    path, label = place_of(reading.path_column, PATHS), place_of(reading.label_column, LABELS)
    if path is None:
        first = f"has no column 'filename'; its first line is {', '.join(table.header)[:80]!r}"
        raise CatalogError(f"{table.source} {first if header else 'names no images'}.", _REMEDY)
    names = [
        image_name(name, root, f"{where} {number}")
        for name, number in zip(texts(path), table.numbers, strict=True)
    ]
    labels: list[str | None] = [None] * len(names)
    if label is not None:
        labels = [None if text.lower() in _NO_LABEL else text for text in map(str.strip, texts(label))]
    listing = Listing(root, names, labels, [0] * len(names))
    used, asked = {path, label}, place_of(reading.split_column, ())
    for place in [keys.index(key) for key in _SPLITS if key in keys] if asked is None else [asked]:
        values = [] if place in used else list(map(str.strip, texts(place)))
        codes = values and _split_codes(keys[place], values, table.numbers, where, reading)
        if codes:
            listing.splits = [codes[value] for value in values]
            used.add(place)
            break
    if unused := [name for place, name in enumerate(header) if place not in used]:
        more = f" and {len(unused) - _FIRST} more" if len(unused) > _FIRST else ""
        label_is = "; none is known as the label, --label-column names it" if label is None else ""
        listing.notes.append(f"columns not used: {', '.join(unused[:_FIRST])}{more}{label_is}")
    return checked(listing, table.numbers, table.source, _REMEDY, table.line)


def _split_codes(
    name: str, values: list[str], numbers: Sequence[int], where: str, reading: Reading
) -> Mapping[str, int] | None:
    """Split of each value of a column; None if it says something else, as folds do that are numbered."""
    codes: dict[str, int | None] = {}
    for value in set(values):
        if value.lower() in (*_NO_LABEL, "none"):
            codes[value] = 0
        elif name in _YES_OR_NO and value.lower() in _TRUTH:
            codes[value] = SPLITS.index(_YES_OR_NO[name] if _TRUTH[value.lower()] else "train")
        else:
            codes[value] = split_code(value)
    known = {value: code for value, code in codes.items() if code is not None}
    if len(known) == len(codes):
        return known
    # A value that is not known is an error in a column that says splits: by its name, the words of a person, or other values.
    if name == "split" or reading.split_column is not None or any(known.values()):
        wrong, number = next(pair for pair in zip(values, numbers, strict=True) if pair[0] not in known)
        raise CatalogError(f"{where} {number}: the split {wrong!r} is not known.", nearest(wrong, SPLITS))
    return None


def _no_text(what: str, kind: str) -> CatalogError:
    return CatalogError(
        f"{what} holds {kind}, and a name or a number is needed.",
        "Name another column, or write the images to files and their paths to the table.",
    )


def _mend_names(listing: Listing) -> None:
    """Names of no file that are one with slashes for backslashes, without blanks at the ends, or with a suffix."""
    mended: Counter[str] = Counter()

    @functools.cache
    def images_in(folder: str) -> dict[str, list[str]]:
        """The images of a folder by their names without the suffix."""
        stems: dict[str, list[str]] = {}
        with contextlib.suppress(OSError):
            for name in filter(has_image_suffix, os.listdir(folder)):  # noqa: PTH208
                stems.setdefault(name.rpartition(".")[0], []).append(name)
        return stems

    for row, name in enumerate(listing.names):
        plain = name.replace("\\", "/").strip().removeprefix("./")
        if (plain == name and has_image_suffix(name)) or is_there(os.path.join(listing.root, name)):  # noqa: PTH118
            continue
        full = os.path.join(listing.root, plain)  # noqa: PTH118
        if os.path.lexists(full):
            listing.names[row] = plain
            mended["with slashes for backslashes" if "\\" in name else "without blanks at the ends"] += 1
        elif not has_image_suffix(plain):
            folder, stem = os.path.split(full)
            if len(found := images_in(folder).get(stem, [])) == 1:
                listing.names[row] = plain + found[0][len(stem) :]
                mended["with the suffix that they lack"] += 1
    for how, count in mended.items():
        listing.notes.append(f"{count:,} {'name was' if count == 1 else 'names were'} read {how}")


def is_there(path: str) -> bool:
    """Whether there is an image of that path, be it a link that is broken: then it is one that cannot be read."""
    return os.path.lexists(path) or image_exists(path)


def read_text(path: str) -> str:
    """Text of a list or table: UTF-8, its bytes that are none as surrogates, or UTF-16, as its first bytes tell."""
    with files.reading(repr(path), CatalogError, "Give a readable list or CSV file."):
        with files.open_file(path) as file:
            first = file.read(2)
        encoding = "utf-8-sig"
        if first in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        elif len(first) == 2 and 0 in first and any(first):
            encoding = "utf-16-be" if first[0] == 0 else "utf-16-le"
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        return files.read_text(path, limit=files.LARGEST_TEXT, encoding=encoding, errors=errors)


def parse_list(text: str, root: str, source: str = "the list") -> Listing:
    """Read a list: one image a line, ``path label``; the order is kept.

    A tab, where there is one, divides; else the path goes to the last word that ends in the suffix of an image, or
    to the last blank where no word does. So both may contain blanks, and ``my cat.jpg`` has no label. Empty lines, lines that
    begin with ``#`` (a file ``#1.jpg`` is written ``./#1.jpg``) and a first line ``filename label`` are skipped. A line that
    cannot be used is a CatalogError with its number.
    """
    listing = Listing(root)
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip(_BLANKS)
        if not line or line.startswith("#"):
            continue
        if "\t" in line:
            path, _, label = line.partition("\t")
        elif ends := [word.end() for word in _WORD.finditer(line) if has_image_suffix(word[0])]:
            path, label = line[: ends[-1]], line[ends[-1] :]
        else:
            path, _, label = line.rpartition(" ") if " " in line else (line, "", "")
        path, label = path.strip(_BLANKS), label.strip(_BLANKS)
        if "\t" in label:
            raise CatalogError(
                f"{source}, line {number} has more than one tab, and a list has a path and a label in each line.",
                "Give a TSV file (.tsv) whose first line names the columns.",
            )
        if not lines and is_header([path, label] if label else [path]):
            continue
        listing.add(image_name(path, root, f"{source}, line {number}"), label or None)
        lines.append(number)
    return checked(listing, lines, source, "Write one image a line: path, a space, label.")
