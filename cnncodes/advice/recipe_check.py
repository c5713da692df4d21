"""Reading a recipe so that all its mistakes are found at once, each with its line and the nearest right word."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cnncodes.advice.recipe_schema import (
    METHODS,
    Method,
    Sections,
    choices_of,
    convert,
    describe,
    parse,
    sections,
)
from cnncodes.core.errors import CnnCodesError, OptionError, nearest
from cnncodes.core.files import parse_toml

Record = TypeVar("Record")

MOST_FLAWS = 50  # that are no TOML: each reads the text once more


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


@dataclass(frozen=True)
class Flaw:
    """One mistake: its line in the file, or None and the option of the command line that made it."""

    line: int | None
    problem: str
    remedy: str = ""
    option: str = ""

    @property
    def text(self) -> str:
        """What is wrong, and what to do."""
        return f"{self.problem} {self.remedy}".rstrip()

    def __str__(self) -> str:
        return f"{self.option or f'line {self.line}'}: {self.text}"


@dataclass(frozen=True)
class Value:
    """A value and where it stands: a line of the file, or an option."""

    value: Any
    line: int | None = None
    option: str = ""

    def flaw(self, problem: str, remedy: str = "") -> Flaw:
        return Flaw(self.line, problem, remedy, self.option)


Given = dict[str, dict[str, Value]]

_ASSIGNED = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*([^#]*)")


class Reading:
    """What was read so far, and what is wrong with it.

    Attributes
    ----------
    given : {section: {key: Value}}
        Only known keys with values of the right type.
    flaws : list of Flaw
    """

    def __init__(self) -> None:
        self.table: Sections = sections()
        self.given: Given = {name: {} for name in self.table}
        self.section_lines: dict[str, int] = {}
        self.flaws: list[Flaw] = []
        self._broken: set[str] = set()

    def read_text(self, text: str) -> None:
        """Take what a TOML text says. A value that is not TOML is a flaw, and the rest is read without its line."""
        lines = text.replace("\r\n", "\n").split("\n")
        while True:
            try:
                document, places = read_toml("\n".join(lines))
            except TomlError as error:
                broken = lines[error.line - 1]
                assigned = _ASSIGNED.match(broken)
                if (
                    assigned is None or error.at_end or len(self.flaws) >= MOST_FLAWS
                ):  # an open bracket or quote takes in what follows
                    self.flaws = self.flaws[:1] or [_no_toml(error, broken)]
                    self._broken.update(self.table[""])
                    return
                self.flaws.append(_no_toml(error, broken))
                self._broken.add(assigned[1])
                lines[error.line - 1] = ""
            else:
                self.read_document(document, places)
                return

    def read_document(self, document: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> None:
        """Take what a TOML document says."""
        for name, content in document.items():
            line = line_of(lines, name)
            if name in self.table[""]:
                self._take("", name, content, line)
            elif isinstance(content, dict) and name in self.table:
                self.section_lines[name] = line
                for key, value in content.items():
                    self._take(name, key, value, line_of(lines, name, key))
            elif name in self.table:
                self.flaws.append(
                    Flaw(line, f"'{name}' is a section.", f"So write [{name}] and its keys below it.")
                )
            elif isinstance(content, dict | list) and not self._homes(name):
                allowed = [section for section in self.table if section]
                self.flaws.append(Flaw(line, f"there is no section [{name}].", nearest(name, allowed)))
            else:
                self.flaws.append(Flaw(line, *self._unknown("", name)))

    def read_assignment(self, text: str, option: str = "") -> None:
        """Take ``section.name=value``; a bare name belongs to [train]."""
        option = option or f"--set {text}"
        name, equals, written = text.partition("=")
        section, _, key = name.strip().rpartition(".")
        section = section or "train"
        if not equals:
            self.flaws.append(Flaw(None, "there is no '='.", "Write --set section.name=value.", option))
        elif section not in self.table:
            allowed = [name for name in self.table if name]
            self.flaws.append(
                Flaw(None, f"there is no section '{section}'.", nearest(section, allowed), option)
            )
        elif key not in self.table[section]:
            self.flaws.append(Flaw(None, *self._unknown(section, key), option))
        else:
            try:
                value = parse(written.strip(), self.table[section][key].kind)
                self.given[section][key] = Value(value, option=option)
            except TypeError:
                self.flaws.append(Flaw(None, *self._unfit(section, key, written.strip()), option))

    def check_method(self) -> Method | None:
        """The method, after seeing that every key is for it; None if there is no right one."""
        for key in self.table[""]:
            if key not in self.given[""] and key not in self._broken:
                example = f'"{METHODS[0]}"' if key == "method" else '"..."'
                self.flaws.append(
                    Flaw(1, f"the key '{key}' is missing.", f"Write {key} = {example} at the top.")
                )
        if "method" not in self.given[""]:
            return None
        method: Method = self.given[""]["method"].value
        for section, keys in self.table.items():
            if section in self.section_lines or self.given[section]:
                self._check_keys_for(method, section, {key: entry.methods for key, entry in keys.items()})
        return method

    def build(self, record: type[Record], section: str, fixed: Mapping[str, Any] | None = None) -> Record:
        """The record that a section fills. A value that it refuses is a flaw, and left out, until it can be built."""
        fixed = dict(fixed or {})
        names = getattr(record, "__dataclass_fields__", {})
        values = {key: value for key, value in self.given[section].items() if key in names}
        accepted = dict(fixed)
        try:
            return record(**accepted | {key: value.value for key, value in values.items()})
        except OptionError:
            pass
        while values:  # a value may need another one that stands below it
            refused: dict[str, OptionError] = {}
            for key, value in values.items():
                try:
                    record(**accepted | {key: value.value})
                    accepted[key] = value.value
                except OptionError as error:
                    refused[key] = error
            if len(refused) == len(values):
                break
            values = {key: values[key] for key in refused}
        try:
            built = record(**accepted)
        except OptionError as error:  # a default that does not go with the rest
            self.flaws.append(Flaw(self.section_lines.get(section, 1), error.problem, error.remedy))
            return record()
        self.flaws += [values[key].flaw(error.problem, error.remedy) for key, error in refused.items()]
        return built

    def fault(self, section: str, key: str, error: CnnCodesError) -> None:
        """A mistake that another room has found in a value."""
        self.flaws.append(self.given[section][key].flaw(f"{section}.{key}: {error.problem}", error.remedy))

    def ordered_flaws(self) -> tuple[Flaw, ...]:
        """Those of the file by line, then those of the command line."""
        return tuple(sorted(self.flaws, key=lambda flaw: (flaw.line is None, flaw.line or 0)))

    def _take(self, section: str, key: str, value: object, line: int) -> None:
        if key not in self.table[section]:
            self.flaws.append(Flaw(line, *self._unknown(section, key)))
            return
        try:
            self.given[section][key] = Value(convert(value, self.table[section][key].kind), line)
        except TypeError:
            self.flaws.append(Flaw(line, *self._unfit(section, key, value)))
            if not section:
                self._broken.add(key)

    def _unfit(self, section: str, key: str, value: object) -> tuple[str, str]:
        kind = self.table[section][key].kind
        name = f"{section}.{key}" if section else key
        if isinstance(value, str) and (choices := choices_of(kind)):
            return f"{name} = '{value}' is not known.", nearest(value, choices)
        return f"{name} = {value!r} does not fit.", f"Give {describe(kind)}."

    def _unknown(self, section: str, key: str) -> tuple[str, str]:
        """A key that its section does not have, and where it belongs or which one was meant."""
        problem = f"[{section}] has no key '{key}'." if section else f"'{key}' is no key of a recipe."
        if homes := self._homes(key):
            if homes == [""]:
                return problem, "It stands at the top, before the first section."
            return problem, f"It belongs to {' or '.join(f'[{home}]' for home in homes)}."
        here = [*self.table[section], *([] if section else [name for name in self.table if name])]
        if close := _close(key, here):
            return problem, f"Did you mean {' or '.join(repr(name) for name in close)}?"
        everywhere = {name: home for home, keys in self.table.items() if home for name in keys}
        if close := _close(key, everywhere):
            return problem, f"Did you mean '{close[0]}' of [{everywhere[close[0]]}]?"
        return problem, f"Allowed: {', '.join(here)}."

    def _homes(self, key: str) -> list[str]:
        return [section for section, keys in self.table.items() if key in keys]

    def _check_keys_for(
        self, method: Method, section: str, methods: Mapping[str, tuple[Method, ...]]
    ) -> None:
        if all(method not in allowed for allowed in methods.values()):
            belongs = _names(sorted({name for allowed in methods.values() for name in allowed}))
            text = f"[{section}] is not for the method '{method}', but for {belongs}.", "Leave it out."
            if section in self.section_lines:
                self.flaws.append(Flaw(self.section_lines[section], *text))
            else:
                self.flaws.append(next(iter(self.given[section].values())).flaw(*text))
            return
        for key, value in self.given[section].items():
            if method not in methods[key]:
                belongs = _names(methods[key])
                self.flaws.append(
                    value.flaw(f"{section}.{key} is not for the method '{method}', but for {belongs}.")
                )


def _no_toml(error: TomlError, line: str) -> Flaw:
    """A mistake of form, with what is most often meant."""
    hint = ""
    if assigned := _ASSIGNED.match(line):
        key, value = assigned[1], assigned[2].strip()
        if value.lower() in ("true", "false", "yes", "no", "on", "off"):
            hint = " Write true or false, in small letters."
        elif value[:1].isalpha() and '"' not in value and not error.at_end:
            hint = f' A text stands in quotes: {key} = "{value}".'
        elif value[:1] == '"' and "\\" in value:
            hint = " In double quotes a backslash is written twice; between single quotes it is itself."
    return Flaw(error.line, f"this is not TOML: {error.reason}.", hint.strip())


def _close(wrong: str, allowed: Iterable[str]) -> list[str]:
    """Names that were probably meant: spelled alike, or with the wrong one as one of their words."""
    names = list(allowed)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return close + [name for name in names if wrong in name.split("_") and name not in close]


def _names(words: Iterable[str]) -> str:
    return " and ".join(f"'{word}'" for word in words)


# --- the text of a TOML file: the line of every key, which tomllib does not tell, and writing values back


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
