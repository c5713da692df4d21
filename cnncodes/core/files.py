"""The files that a person names: opened without waiting, read up to a limit, and parsed without surprises.

What goes wrong is an OSError or a ValueError whose text is the reason: the caller knows what the file was to be, and says so,
as by :func:`reading`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cnncodes.core.errors import CnnCodesError

LARGEST_TEXT = 2**30  # bytes of a list of images: ten million lines
LARGEST_RECORD = 2**26  # bytes of a JSON record
LARGEST_TOML = 2**16  # characters: recipes have 2,000, and tomllib is slow
DAMAGED = "The file is damaged, or was written by another version of cnncodes."
MODEL = "model.safetensors"  # in the folder of a run or a training
DEEPEST = 20  # brackets inside each other, and dots in a TOML key: records have less than ten

# What a spreadsheet takes for a formula: also with the wide signs of East Asian keyboards. A number is none.
_FORMULA = re.compile("[-=+@\\x00-\\x1f\\x7f\\uff0b\\uff0d\\uff1d\\uff20]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")

# Strings are taken whole, to the end of the text where they have no end of their own: nothing is looked at twice.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_JSON_TOKEN = re.compile(_STRING + "|[][{}]", re.DOTALL)
_TOML_STRINGS = r'"""(?:[^\\]|\\.)*?(?:"{3,5}|\Z)' + r"|'''.*?(?:'{3,5}|\Z)|'[^'\n]*+'?|" + _STRING
TOML_TOKEN = re.compile(_TOML_STRINGS + r"|#[^\n]*+|[][{}.,=\n]", re.DOTALL)


def model_file(path: str | os.PathLike[str]) -> Path:
    """The model in the folder of a run or a training; any other path as it is."""
    inside = Path(path) / MODEL
    return inside if os.path.isfile(inside) else Path(path)  # noqa: PTH113 - false for names that no file can have


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, or a link to one, open for reading bytes.

    Opening a pipe waits until somebody writes, and reading a device may never end: neither is opened.

    Raises
    ------
    OSError
        If it cannot be opened or is no regular file; ``strerror`` is the reason.
    ValueError
        If there is a zero byte in its name.
    """
    require_regular(os.stat(path), path)  # noqa: PTH116 - called for every image; opening a device can do something
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    try:
        require_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def read_text(
    path: str | os.PathLike[str],
    *,
    limit: int = LARGEST_RECORD,
    encoding: str = "utf-8-sig",
    errors: str = "strict",
) -> str:
    """Text of a regular file of at most ``limit`` bytes, its line ends as they are.

    Raises
    ------
    OSError
        As :func:`open_file` does, and if the file is larger.
    ValueError
        If it is no text in this encoding (a UnicodeDecodeError).
    """
    with open_file(path) as file:
        content = b"" if (large := os.fstat(file.fileno()).st_size > limit) else file.read(limit + 1)
    if large or len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit / 2**20:,.0f} MB", os.fspath(path))
    return content.decode(encoding, errors)


def parse_json(text: str) -> Any:
    """The value of a JSON text; raises ValueError if it is none, or nested deeper than any record."""
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        depth = _deeper(depth, token[0])
    return json.loads(text)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text; raises ValueError (TOMLDecodeError for wrong syntax) as :func:`parse_json` does."""
    if len(text) > LARGEST_TOML:
        raise ValueError(f"it is longer than {LARGEST_TOML:,} characters, the most that is read as TOML")
    depth = dots = 0
    for token in TOML_TOKEN.finditer(text):
        depth = _deeper(depth, token[0])
        dots = dots + 1 if token[0] == "." else 0 if token[0] in ("\n", ",", "=") else dots
        if dots > DEEPEST:  # tomllib's time grows with the square of the length of a key
            raise ValueError(f"it has a key of more than {DEEPEST} parts")
    return tomllib.loads(text)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; raises OSError and ValueError as :func:`read_text` and :func:`parse_json` do."""
    return parse_json(read_text(path))


def cells(*values: object) -> list[object]:
    """A line of a CSV that people open, where no text is a formula: one that begins like it gets an apostrophe in front."""
    return [
        f"'{value}"
        if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
        else value
        for value in values
    ]


@contextlib.contextmanager
def reading(what: str, error: type[CnnCodesError] = CnnCodesError, remedy: str = DAMAGED) -> Iterator[None]:
    """Whatever a file or a record may do to the code in here, or to a function that this decorates, is an error of one class.

    Parameters
    ----------
    what : str
        The subject of the first sentence: "the advice".
    error : class
    remedy : str
        The second sentence.
    """
    try:
        yield
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        CnnCodesError,
    ) as reason:
        if isinstance(reason, error):
            raise
        raise error(f"{what} cannot be read: {reason_of(reason).rstrip('.')}.", remedy) from reason


def reason_of(error: Exception) -> str:
    """Why something cannot be read, in a few words on one line."""
    if isinstance(error, CnnCodesError):
        return error.problem
    text = (
        (isinstance(error, OSError) and error.strerror)
        or " ".join(str(error).split())
        or type(error).__name__
    )
    return f"{text} is missing" if isinstance(error, KeyError) else text


def _deeper(depth: int, token: str) -> int:
    depth += (token in ("[", "{")) - (token in ("]", "}"))
    if depth > DEEPEST:
        raise ValueError(f"its brackets are nested more than {DEEPEST} deep")
    return depth


def _open_at_once(path: str, flags: int) -> int:
    """What took the place of a regular file a moment ago must not make us wait, either."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
