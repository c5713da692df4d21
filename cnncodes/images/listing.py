"""What every way of naming images agrees on: suffixes, splits, natural order, and the plain listing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Names of the splits; a catalog stores their index as uint8.
SPLITS = ("none", "train", "val", "test")

#: Suffixes of the image files that are looked for in folders, in any case.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp")

_SUFFIX_SET = frozenset(SUFFIXES)
_SPLIT_CODES = {
    "train": 1,
    "training": 1,
    "val": 2,
    "valid": 2,
    "validation": 2,
    "test": 3,
    "testing": 3,
}
_DIGITS = re.compile(r"([0-9]+)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


@dataclass
class Listing:
    """Images as they were found, before labels become numbers: three lists of equal length.

    Parameters
    ----------
    root : str
        Absolute folder that ``names`` are relative to.
    names : list of str
        '/' separated; bytes that are not UTF-8 are surrogates, as :func:`os.fsdecode` gives them.
    labels : list of str or None
        Class name of each image, None where it has none.
    splits : list of int
        Index into :data:`SPLITS`.
    left_out : list of str
        Files in a folder that do not end as images do.
    """

    root: str
    names: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, name: str, label: str | None = None, split: int = 0) -> None:
        """Append one image."""
        self.names.append(name)
        self.labels.append(label)
        self.splits.append(split)


def visible(name: str) -> str:
    r"""A name as text that every program can show and store: bytes that are not UTF-8 become ``\xff``.

    For people and for CSV files. JSON and codes files keep names exactly (docs/codes-file.md).

    >>> visible("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    # not os.fsencode: in the C locale it knows no letter beyond ASCII, and a list of images may name some
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def has_image_suffix(name: str) -> bool:
    """Whether a file name ends in one of :data:`SUFFIXES`, in any case."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in _SUFFIX_SET


def split_code(name: str) -> int | None:
    """Index into :data:`SPLITS` of the name of a folder or CSV entry; None for any other text.

    ``train``, ``training``, ``val``, ``valid``, ``validation``, ``test`` and ``testing``, in any case.
    """
    return _SPLIT_CODES.get(name.lower())


def _component_key(name: str) -> tuple[object, ...]:
    # Text and numbers alternate, so that like is compared with like. A number is compared by its count of
    # digits and then its digits: the same order as int(), without a limit on their count, and faster.
    parts: list[object] = list(_DIGITS.split(name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        parts[i] = (len(digits), digits)
    # The name itself decides where only leading zeros differ.
    return (*parts, (-1, ""), name)


def natural_key(path: str) -> tuple[tuple[object, ...], ...]:
    """Sort key of the natural order: folder by folder, numbers in names by value, otherwise by code point.

    >>> sorted(["b/10.jpg", "b/9.jpg", "a1/x.jpg", "a/x.jpg"], key=natural_key)
    ['a/x.jpg', 'a1/x.jpg', 'b/9.jpg', 'b/10.jpg']
    """
    return tuple(_component_key(component) for component in path.split("/"))


def class_order(labels: Iterable[str | None]) -> tuple[str, ...]:
    """Distinct class names in natural order; in numeric order, signs included, if all are integers.

    >>> class_order(["10", "9", None, "-1"])
    ('-1', '9', '10')
    """
    names = {label for label in labels if label is not None}
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names, key=natural_key))
