"""Images named in a text file: a list (``path label``) or a CSV file (``filename,label[,split]``)."""

from __future__ import annotations

import csv
import io
import os
import re
import sys

from cnncodes import files
from cnncodes.errors import CatalogError, nearest
from cnncodes.images.listing import SPLITS, Listing, class_name, has_image_suffix, split_code

_FILENAME = ("filename", "file", "path", "image", "name")
_LABEL = ("label", "class")
_BLANKS = " \t\r"
_WORD = re.compile(r"[^ ]+")
_CSV_REMEDY = "Begin the file with the line filename,label or filename,label,split."


def read_text(path: str) -> str:
    """Text of a list or CSV file: UTF-8, with or without a byte order mark, other bytes as surrogates.

    Raises
    ------
    CatalogError
        If the file cannot be read, or is larger than a list of images can be.
    """
    try:
        return files.read_text(path, limit=files.LARGEST_TEXT, errors="surrogateescape")
    except OSError as error:
        raise CatalogError(
            f"{path!r} cannot be read: {error.strerror}.", "Give a readable list or CSV file."
        ) from error


def parse_list(text: str, root: str, source: str = "the list") -> Listing:
    """Read a list: one image a line, ``path label``.

    A tab, where there is one, divides; else the path goes to the last word that ends in the suffix of an image, or
    to the last blank where no word does. So both may contain blanks, and ``my cat.jpg`` has no label. Blanks at both
    ends of a line, a path or a label are no part of it. Empty lines and lines that begin with ``#`` are skipped (a file
    ``#1.jpg`` is written ``./#1.jpg``). The order is kept.

    Parameters
    ----------
    text : str
    root : str
        Absolute folder that the paths are relative to.
    source : str
        Name of the list in messages.

    Raises
    ------
    CatalogError
        With the number of the line that cannot be used; if an image has two labels, with the numbers of its lines; or
        if no image is named.
    """
    listing = Listing(root)
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip(_BLANKS)
        if not line or line.startswith("#"):
            continue
        path, label = _divided(line)
        if "\t" in label:
            raise CatalogError(
                f"{source}, line {number} has more than one tab, and a list has a path and a label in each line.",
                "Give a TSV file (.tsv) whose first line names the columns.",
            )
        listing.add(_name(path, root, source, number), label or None)
        lines.append(number)
    _refuse_two_labels(listing, lines, source)
    return _not_empty(listing, source, "Write one image a line: path, a space, label.")


def _divided(line: str) -> tuple[str, str]:
    """Path and label of a line."""
    if "\t" in line:
        path, _, label = line.partition("\t")
    elif ends := [word.end() for word in _WORD.finditer(line) if has_image_suffix(word[0])]:
        path, label = line[: ends[-1]], line[ends[-1] :]
    else:
        path, _, label = line.rpartition(" ") if " " in line else (line, "", "")
    return path.strip(_BLANKS), label.strip(_BLANKS)


def parse_csv(text: str, root: str, source: str = "the CSV file") -> Listing:
    """Read a CSV file whose first line names its columns: ``filename,label[,split]``, in any order.

    ``file``, ``path``, ``image`` or ``name`` may stand for ``filename``, and ``class`` for ``label``; other
    columns are ignored, and label and split may be missing or empty. Fields are separated by commas,
    semicolons or tabs, quoted as in RFC 4180 (quoted names may contain separators, quotes and line
    breaks). The order is kept.

    Parameters
    ----------
    text : str
    root : str
        Absolute folder that the file names are relative to.
    source : str
        Name of the file in messages.

    Raises
    ------
    CatalogError
        With the number of the line that cannot be used; if an image has two labels, with the numbers of its lines;
        if the header is missing; if no image is named.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    listing = Listing(root)
    lines: list[int] = []
    columns: dict[str, int] | None = None
    width = 0
    try:
        for row in reader:
            number = reader.line_num
            if not any(row):
                continue
            if columns is None:
                columns, width = _columns(row, source), len(row)
            elif len(row) > width:
                raise CatalogError(
                    f"{source}, line {number} has {len(row)} fields, and the header names {width}.",
                    'Put names that contain the separator in quotes: "a,b.jpg",cat.',
                )
            else:
                fields = {column: row[i] for column, i in columns.items() if i < len(row)}
                listing.add(*_image(fields, root, source, number))
                lines.append(number)
    except csv.Error as error:
        raise CatalogError(
            f"{source}, line {reader.line_num} cannot be read: {error}.",
            'Quote fields as in "a ""quoted"" name.jpg",cat.',
        ) from error
    _refuse_two_labels(listing, lines, source)
    return _not_empty(listing, source, _CSV_REMEDY)


def _delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=header.count)  # the comma where none occurs


def _columns(header: list[str], source: str) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    columns: dict[str, int] = {}
    for column, spellings in (("filename", _FILENAME), ("label", _LABEL), ("split", ("split",))):
        for spelling in spellings:
            if spelling in names:
                columns[column] = names.index(spelling)
                break
    if "filename" not in columns:
        raise CatalogError(
            f"{source} has no column 'filename'; its first line is {', '.join(header)[:80]!r}.", _CSV_REMEDY
        )
    return columns


def _image(fields: dict[str, str], root: str, source: str, number: int) -> tuple[str, str | None, int]:
    label = fields.get("label", "").strip()
    split_name = fields.get("split", "").strip()
    split = 0 if split_name.lower() in ("", "none") else split_code(split_name)
    if split is None:
        raise CatalogError(
            f"{source}, line {number}: the split {split_name!r} is not known.", nearest(split_name, SPLITS)
        )
    return _name(fields.get("filename", ""), root, source, number), label or None, split


def _name(path: str, root: str, source: str, number: int) -> str:
    """Path as the catalog names it: relative to the root where it lies below it, '/' separated.

    Lists are UTF-8. Where the system's names are not (the C locale), a name is what listing its folder gives.
    """
    if not path or "\0" in path:
        raise CatalogError(
            f"{source}, line {number} has {'a zero byte in the' if path else 'no'} file name.",
            "Correct or delete that line.",
        )
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


def _refuse_two_labels(listing: Listing, lines: list[int], source: str) -> None:
    """Raise CatalogError where one image stands in two lines with different labels; twice the same is no harm."""
    if len(set(listing.names)) == len(listing.names):
        return
    first: dict[str, tuple[str, int]] = {}
    for name, label, line in zip(listing.names, listing.labels, lines, strict=True):
        if label is None:
            continue
        before, where = first.setdefault(name, (label, line))
        if class_name(before) != class_name(label):
            raise CatalogError(
                f"{source} gives the image {name!r} two labels: {before!r} in line {where} and {label!r} in line {line}.",
                "An image has one label here: keep the line that is right and delete the other.",
            )


def _not_empty(listing: Listing, source: str, remedy: str) -> Listing:
    if not listing.names:
        raise CatalogError(f"{source} names no images.", remedy)
    return listing
