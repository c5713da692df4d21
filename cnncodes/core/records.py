"""One way from records to JSON and TOML and back: the records are dataclasses (or msgspec's structs), whose types say it all.

A range is declared once, in the type: ``Annotated[int, Meta(ge=1)]``. Names that are not UTF-8 survive as the surrogates that
Python's json writes, which is why texts are made and read by it, and only the values between are msgspec's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from cnncodes.core.errors import CnnCodesError, OptionError, nearest
from cnncodes.core.files import DAMAGED, parse_json, read_text, reading

__all__ = [
    "Meta", "Mistake", "check_fields", "expected", "fields_of", "from_json", "from_text", "from_value", "mistakes", "read_record",
    "to_json", "to_value",
]  # fmt: skip

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with the values of a record.

    Parameters
    ----------
    path : tuple of str
        Keys from the outermost table to the value.
    kind : {"unknown", "missing", "value"}
    problem, remedy : str
        A sentence each.
    """

    path: tuple[str, ...]
    kind: str
    problem: str = ""
    remedy: str = ""


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


def from_text(text: str, kind: Any) -> Any:
    """A value as it is typed after ``name=``, as its type wants it; several numbers stand between commas. Else the text itself."""
    several = [part.strip() for part in text.strip("[] ").split(",")]
    for value in (text, {"yes": "true", "no": "false"}.get(text.lower(), text), several):
        try:
            return msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError:
            continue
    return text


def check_fields(record: Any, name: str) -> None:
    """Raise OptionError for the first field of a dataclass whose value is not of its type or out of its range."""
    for key, (kind, _) in fields_of(type(record)).items():
        if found := _wrong(getattr(record, key), kind, (name, key)):
            raise OptionError(found[0].problem, found[0].remedy)


def mistakes(value: Any, kind: Any, path: tuple[str, ...] = ()) -> list[Mistake]:
    """Everything that is wrong with values that are to be a record, in their order: unknown keys, wrong values, missing keys.

    What a record says of several fields together (in ``__post_init__``) is asked of those that are right, and told of the one
    without which they would be accepted.
    """
    fields = fields_of(_record_in(kind))
    if not fields or not isinstance(value, Mapping):
        return _wrong(value, kind, path)
    found, right = [], dict(value)
    for key, entry in value.items():
        if key not in fields:
            wrong = [
                Mistake((*path, str(key)), "unknown", f"there is no key '{key}'.", nearest(str(key), fields))
            ]
        else:
            wrong = mistakes(entry, fields[key][0], (*path, key))
        if wrong:
            found += wrong
            right.pop(key)
    needed = [key for key, (_, needed) in fields.items() if needed]
    found += [
        Mistake((*path, key), "missing", f"the key '{key}' is missing.", f"Give {expected(fields[key][0])}.")
        for key in needed
        if key not in value
    ]
    if all(key in right for key in needed) and (together := _wrong(right, kind, path)):
        alone = (key for key in right if not _wrong({k: v for k, v in right.items() if k != key}, kind, path))
        guilty = next(alone, None)
        found += together if guilty is None else [dataclasses.replace(together[0], path=(*path, guilty))]
    return found


def expected(kind: Any) -> str:
    """What a value of a type looks like: ``a whole number from 1 to 100``.

    >>> expected(Annotated[int, Meta(ge=1, le=100)] | Literal["auto"])
    'a whole number from 1 to 100, or "auto"'
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        meta = next((part for part in parts if isinstance(part, Meta)), Meta())
        if meta.examples:
            return f"{expected(parts[0])} such as {json.dumps(meta.examples[0])}"
        ends = (("from", meta.ge), ("above", meta.gt), ("to", meta.le), ("below", meta.lt))
        return " ".join([expected(parts[0]), *(f"{word} {end:g}" for word, end in ends if end is not None)])
    if origin in (Union, UnionType):
        return ", or ".join(expected(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return " or ".join(f'"{word}"' for word in parts)
    if origin is tuple:
        return f"{'several' if Ellipsis in parts else len(parts)} numbers in [ ]"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    return words.get(kind, "a table")


def _wrong(value: Any, kind: Any, path: tuple[str, ...]) -> list[Mistake]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, CnnCodesError):
            return [Mistake(path, "value", cause.problem, cause.remedy)]
        shown = repr(list(value) if isinstance(value, tuple) else value)[:80]
        if get_origin(kind) is Literal and isinstance(value, str):
            remedy = nearest(value, get_args(kind))
        else:
            remedy = f"Give {expected(kind)}."
        return [Mistake(path, "value", f"{'.'.join(path)} = {shown} cannot be used.", remedy)]
    return []


def _record_in(kind: Any) -> Any:
    """The record type of a field that is one, or may be one; None of any other."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _record_in(get_args(kind)[0])
    if origin in (Union, UnionType):
        return next((part for part in get_args(kind) if fields_of(part)), None)
    return kind


def fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """{name: (type, whether it must be given)} of a record type; empty for any other type."""
    if not isinstance(kind, type):
        return {}
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
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


_hints = functools.cache(functools.partial(get_type_hints, include_extras=True))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a record")
