"""One way from records to JSON and TOML and back: the records are dataclasses (or msgspec's structs), whose types say it all.

A range is declared once, in the type: ``Annotated[int, Meta(ge=1)]``. Names that are not UTF-8 survive as the surrogates that
Python's json writes, which is why texts are made and read by it, and only the values between are msgspec's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import DAMAGED, parse_json, read_text, reading

__all__ = ["Meta", "Mistake", "from_json", "from_value", "mistakes", "read_record", "to_json", "to_value"]

Record = TypeVar("Record")

_PLACE = re.compile(r" - at `\$?\.?([^`]*)`$")  # msgspec's own, at the end of a message that we do not show


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with the values of a record.

    Parameters
    ----------
    path : tuple of str
        Keys from the outermost table to the value.
    kind : {"unknown", "missing", "value"}
    reason : str
        Of a wrong value, in a few words; empty for the others.
    """

    path: tuple[str, ...]
    kind: str
    reason: str = ""


def to_value(record: Any, *names: str) -> Any:
    """A record as dicts, lists, strings and numbers; numpy's numbers and arrays too, paths as strings.

    With names, only these attributes (or properties) of it.
    """
    if names:
        record = {name: getattr(record, name) for name in names}
    return msgspec.to_builtins(record, enc_hook=_plain)


def to_json(record: Any, indent: int | None = None) -> str:
    """A record as JSON: one entry per field, nested records as objects."""
    return json.dumps(to_value(record), indent=indent)


def from_value(value: Any, kind: type[Record]) -> Record:
    """The record of a type that :func:`to_value` made these values of. Missing fields have their defaults.

    Raises
    ------
    ValueError
        If a value does not fit; the text is the reason, with the place.
    """
    return msgspec.convert(value, kind)


def from_json(text: str, kind: type[Record], what: str, error: type[CnnCodesError] = CnnCodesError) -> Record:
    """The record in a JSON text.

    Parameters
    ----------
    text : str
    kind : type
    what : str
        The subject of an error's first sentence: "the advice".
    error : class
        Of the error.
    """
    with reading(what, error, DAMAGED):
        return from_value(parse_json(text), kind)


def read_record(
    path: str | os.PathLike[str], kind: type[Record], error: type[CnnCodesError] = CnnCodesError
) -> Record:
    """The record in a JSON file; raises ``error`` if it cannot be read."""
    with reading(f"'{Path(path)}'", error, DAMAGED):
        return from_value(parse_json(read_text(path)), kind)


def mistakes(value: Any, kind: Any, path: tuple[str, ...] = ()) -> list[Mistake]:
    """Everything that is wrong with values that are to be a record, in their order: unknown keys, wrong values, missing keys.

    What a record says of several fields together (in ``__post_init__``) is asked only where each of them is right.
    """
    fields = _fields(_record_in(kind))
    if not fields or not isinstance(value, Mapping):
        return _wrong(value, kind, path)
    found = []
    for key, entry in value.items():
        if key not in fields:
            found.append(Mistake((*path, str(key)), "unknown"))
        else:
            found += mistakes(entry, fields[key][0], (*path, key))
    found += [
        Mistake((*path, key), "missing") for key, (_, needed) in fields.items() if needed and key not in value
    ]
    return found or _wrong(value, kind, path)


def _wrong(value: Any, kind: Any, path: tuple[str, ...]) -> list[Mistake]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        text = cause.problem if isinstance(cause, CnnCodesError) else _PLACE.sub("", str(error))
        return [Mistake(path, "value", text)]
    return []


def _record_in(kind: Any) -> Any:
    """The record type of a field that is one, or may be one; None of any other."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _record_in(get_args(kind)[0])
    if origin in (Union, UnionType):
        return next((part for part in get_args(kind) if _fields(part)), None)
    return kind


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """{name: (type, whether it must be given)} of a record type; empty for any other type."""
    if not isinstance(kind, type):
        return {}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {
            field.name: (
                hints[field.name],
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(kind)
            if field.init
        }
    if issubclass(kind, msgspec.Struct):
        return {field.encode_name: (field.type, field.required) for field in msgspec.structs.fields(kind)}
    return {}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a record")
