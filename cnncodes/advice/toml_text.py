"""The text of a TOML file: the line of every key, which tomllib does not tell, and writing values back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cnncodes.core.files import parse_toml

KeyPath = tuple[str, ...]

# Strings and comments are taken whole, so that nothing inside them looks like a key, a bracket or a new line.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|.",
    re.DOTALL,
)


class TomlError(ValueError):
    """A text that is not TOML, with the line of the mistake; ``at_end`` if it was noticed only where the text ends."""

    def __init__(self, line: int, reason: str, at_end: bool = False) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason
        self.at_end = at_end


def read_toml(text: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The document, and the line (from 1) of each of its tables and keys; raises TomlError.

    A key inside an inline table, such as ``b`` in ``a = { b = 1 }``, has no line of its own: its table's holds.
    """
    text = text.replace("\r\n", "\n")
    try:
        return parse_toml(text), _key_lines(text)
    except ValueError as error:
        found = re.search(r" ?\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(found[1]) if found and found[1] else text.rstrip("\n").count("\n") + 1
        reason = str(error).replace(found[0], "") if found else str(error)
        raise TomlError(line, reason, at_end=not (found and found[1])) from None


def line_of(lines: Mapping[KeyPath, int], *path: str) -> int:
    """Line of a key, else of the nearest table around it, else 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def toml_value(value: object) -> str:
    """One value as TOML text: booleans, numbers, strings, and lists of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's too, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"{type(value).__name__} has no form in TOML here")


def _key_lines(text: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, tokens in _statements(text):
        if tokens[0] == "[":
            inside = "".join(tokens).strip("[] \t")
            table = _key_path(inside)
            lines.setdefault(table, line)
            continue
        path = table + _key_path("".join(tokens[: tokens.index("=")]))
        for length in range(len(table) + 1, len(path) + 1):
            lines.setdefault(path[:length], line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and tokens of each header and each ``key = value``, over as many lines as it takes."""
    line, begun, depth = 1, 1, 0
    tokens: list[str] = []
    for token in _TOKEN.findall(text + "\n"):
        if token == "\n" and depth == 0:
            if tokens:
                yield begun, tokens
            tokens = []
        elif not token.startswith("#") and (tokens or not token.isspace()):
            if not tokens:
                begun = line
            depth += (token in "[{") - (token in "]}")
            tokens.append(token)
        line += token.count("\n")


def _key_path(key: str) -> KeyPath:
    """``a."b.c"`` -> ("a", "b.c"); tomllib itself reads the quotes."""
    path: list[str] = []
    value: Any = parse_toml(f"{key} = 0")
    while isinstance(value, dict):
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)
