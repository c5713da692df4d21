"""Images named in a text file, one a line: ``path label``."""

from __future__ import annotations

import re

from cnncodes.core import files
from cnncodes.core.errors import CatalogError
from cnncodes.images.listing import Listing, has_image_suffix
from cnncodes.images.tables import checked, image_name, is_header

_BLANKS = " \t\r"
_WORD = re.compile(r"[^ ]+")


def read_text(path: str) -> str:
    """Text of a list or table: UTF-8, its bytes that are none as surrogates, or UTF-16, as its first bytes tell.

    Raises
    ------
    CatalogError
        If the file cannot be read.
    """
    try:
        with files.open_file(path) as file:
            first = file.read(2)
        encoding = "utf-8-sig"
        if first in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        elif len(first) == 2 and 0 in first and any(first):
            encoding = "utf-16-be" if first[0] == 0 else "utf-16-le"
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        return files.read_text(path, limit=files.LARGEST_TEXT, encoding=encoding, errors=errors)
    except (OSError, ValueError) as error:
        raise CatalogError(
            f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}.",
            "Give a readable list or CSV file.",
        ) from error


def parse_list(text: str, root: str, source: str = "the list") -> Listing:
    """Read a list: one image a line, ``path label``.

    A tab, where there is one, divides; else the path goes to the last word that ends in the suffix of an image, or
    to the last blank where no word does. So both may contain blanks, and ``my cat.jpg`` has no label. Blanks at both
    ends of a line, a path or a label are no part of it. Empty lines, lines that begin with ``#`` (a file ``#1.jpg`` is
    written ``./#1.jpg``) and a first line ``filename label`` are skipped. The order is kept.

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
        if not lines and is_header([path, label] if label else [path]):
            continue
        listing.add(image_name(path, root, f"{source}, line {number}"), label or None)
        lines.append(number)
    return checked(listing, lines, source, "Write one image a line: path, a space, label.")


def _divided(line: str) -> tuple[str, str]:
    """Path and label of a line."""
    if "\t" in line:
        path, _, label = line.partition("\t")
    elif ends := [word.end() for word in _WORD.finditer(line) if has_image_suffix(word[0])]:
        path, label = line[: ends[-1]], line[ends[-1] :]
    else:
        path, _, label = line.rpartition(" ") if " " in line else (line, "", "")
    return path.strip(_BLANKS), label.strip(_BLANKS)
