"""What every way of naming images agrees on: suffixes, splits, natural order, and the plain listing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from cnncodes.core.errors import CatalogError

#: Names of the splits; a catalog stores their index as uint8.
SPLITS = ("none", "train", "val", "test")

#: Suffixes of the image files that are looked for in folders, in any case.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".heic", ".heif",
)  # fmt: skip

#: Usual names of the column of the path, or of the images themselves, as :func:`plain_key` gives them.
PATHS = (
    "filename", "filepath", "file", "path", "imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "image", "img",
    "name", "imageid", "id", "url", "imageurl",
)  # fmt: skip

#: Usual names of the column or the key of the label, as :func:`plain_key` gives them; the first that is there counts.
LABELS = (
    "label", "class", "category", "target", "classname", "classlabel", "labelname", "labels", "classid", "labelid",
)  # fmt: skip

_SUFFIX_SET = frozenset(SUFFIXES)
_SPLIT_CODES = {
    "train": 1, "training": 1, "val": 2, "valid": 2, "validation": 2, "dev": 2, "test": 3, "testing": 3,
}  # fmt: skip
# Words beside that of the split which tell nothing: test_set, train_images, trainset, train2017. Nothing is tried twice.
_FILLER = r"(?:(?:data)?sets?|data|images?|imgs?|pictures|photos|samples|\d)"
_FILLERS = re.compile(f"{_FILLER}++")
_SPLIT_WORD = re.compile(f"({'|'.join(sorted(_SPLIT_CODES, reverse=True))}){_FILLER}*+")
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"([0-9]+)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0+)?", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """What a person says about how lists and folders are to be read; see :func:`~cnncodes.images.catalog.read_catalog`."""

    root: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    classes_are: str | None = None


@dataclass
class Listing:
    """Images as they were found, before labels become numbers: names, labels and splits are of equal length."""

    root: str  # absolute folder that names are relative to
    names: list[str] = field(default_factory=list)  # as in a Catalog
    labels: list[str | None] = field(default_factory=list)  # class names
    splits: list[int] = field(default_factory=list)  # index into SPLITS
    left_out: list[str] = field(default_factory=list)  # files in a folder that do not end as images do
    notes: list[str] = field(default_factory=list)  # what else a person should know of the reading

    def add(self, name: str, label: str | None = None, split: int = 0) -> None:
        """Append one image."""
        self.names.append(name)
        self.labels.append(label)
        self.splits.append(split)


def has_image_suffix(name: str) -> bool:
    """Whether a file name ends in one of :data:`SUFFIXES`, in any case."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in _SUFFIX_SET


def plain_key(name: str) -> str:
    """The name of a column or a key as it is compared: small letters and digits alone."""
    return re.sub(r"[\W_]+", "", name).lower()


def split_code(name: str) -> int | None:
    """Index into :data:`SPLITS` of the name of a folder or CSV entry, in any case, beside words that tell nothing; else None.

    >>> [split_code(name) for name in ("Train", "test_set", "images-val", "train2017", "seg_train", "trains")]
    [1, 3, 2, 1, None, None]
    """
    code, rest = _split_words(name)
    return None if rest else code


def split_folders(names: Iterable[str]) -> dict[str, int]:
    """Those of some folders side by side that are splits by their names, with their index into :data:`SPLITS`.

    A common word may stand beside the split's (``seg_train``, ``seg_test``). With such a word or a number in them
    (``test1``, ``test2``), names count only where there are two different splits.

    >>> split_folders(["seg_train", "seg_test", "seg_pred"])
    {'seg_train': 1, 'seg_test': 3}
    >>> split_folders(["test1", "test2"]), split_folders(["steam_train", "toy_train"])
    ({}, {})
    """
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for name in names:
        code, rest = _split_words(name)
        if code is not None:
            groups.setdefault(rest, {})[name] = code
    for rest, group in sorted(groups.items()):  # first those without another word
        sure = not rest and not any(letter.isdigit() for name in group for letter in name)
        if sure or len(set(group.values())) > 1:
            return group
    return {}


def tells_nothing(name: str) -> bool:
    """Whether a folder's name says only that there are images in it: ``images``, ``img_data``."""
    return any(map(str.isalpha, name)) and all(map(_FILLERS.fullmatch, _WORD.findall(name.casefold())))


def _split_words(name: str) -> tuple[int | None, tuple[str, ...]]:
    """The split that one word of a name says, and the other words that tell something."""
    codes: list[int] = []
    rest: list[str] = []
    for word in _WORD.findall(name.casefold()):
        if found := _SPLIT_WORD.fullmatch(word):
            codes.append(_SPLIT_CODES[found[1]])
        elif not _FILLERS.fullmatch(word):
            rest.append(word)
    return (codes[0] if len(codes) == 1 else None), tuple(rest)


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


def class_name(label: str) -> str:
    """A label as class names are compared: composed letters (Unicode's NFC), no blanks at its ends."""
    return unicodedata.normalize("NFC", label).strip()


def class_places(labels: Iterable[str | None]) -> tuple[tuple[str, ...], dict[str | None, int]]:
    """The classes in order, and the place among them of each label as it is written.

    One rule says which labels are one class. Labels are compared as :func:`class_name` gives them, and a whole number that
    a spreadsheet wrote as ``1.0`` is ``1``, where all labels are whole numbers or ``1`` is one of them. What then differs
    in capitals or blanks alone is a CatalogError: nobody can tell whether a hand slipped.

    >>> class_places(["1.0", "0", " 1", None])
    (('0', '1'), {'1.0': 1, '0': 0, ' 1': 1})
    """
    names = {label: name for label in dict.fromkeys(labels) if label and (name := class_name(label))}
    known = set(names.values())
    whole = {name: found[1] for name in known if (found := _WHOLE.fullmatch(name))}
    numbers = len(whole) == len(known)
    names = {
        label: whole[name] if name in whole and (numbers or whole[name] in known) else name
        for label, name in names.items()
    }
    classes = class_order(names.values())
    alike: dict[str, str] = {}
    for name in classes:
        other = alike.setdefault("".join(name.lower().split()), name)
        if other != name:
            raise CatalogError(
                f"the classes {other!r} and {name!r} differ only in capitals or blanks.",
                "Write them alike if they are one class, else give them names with other letters.",
            )
    places = {name: place for place, name in enumerate(classes)}
    return classes, {label: places[name] for label, name in names.items()}


def class_order(labels: Iterable[str | None]) -> tuple[str, ...]:
    """Distinct class names in natural order; in numeric order, signs included, if all are integers.

    >>> class_order(["10", "9", None, "-1"])
    ('-1', '9', '10')
    """
    names = {label for label in labels if label is not None}
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names, key=natural_key))
