"""Reading a recipe so that all its mistakes are found at once, each with its line and the nearest right word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
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
from cnncodes.advice.toml_text import KeyPath, TomlError, line_of, read_toml
from cnncodes.core.errors import CnnCodesError, OptionError, nearest

Record = TypeVar("Record")

MOST_FLAWS = 50  # that are no TOML: each reads the text once more


@dataclass(frozen=True)
class Flaw:
    """One mistake: its line in the file, or None and the option of the command line that made it."""

    line: int | None
    text: str
    option: str = ""

    def __str__(self) -> str:
        return f"{self.option or f'line {self.line}'}: {self.text}"


@dataclass(frozen=True)
class Value:
    """A value and where it stands: a line of the file, or an option."""

    value: Any
    line: int | None = None
    option: str = ""

    def flaw(self, text: str) -> Flaw:
        return Flaw(self.line, text, self.option)


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
                self.flaws.append(Flaw(line, f"'{name}' is a section; write [{name}] and its keys below it."))
            elif isinstance(content, dict | list) and not self._homes(name):
                allowed = [section for section in self.table if section]
                self.flaws.append(Flaw(line, f"there is no section [{name}]. {nearest(name, allowed)}"))
            else:
                self.flaws.append(Flaw(line, self._unknown("", name)))

    def read_assignment(self, text: str, option: str = "") -> None:
        """Take ``section.name=value``; a bare name belongs to [train]."""
        option = option or f"--set {text}"
        name, equals, written = text.partition("=")
        section, _, key = name.strip().rpartition(".")
        section = section or "train"
        if not equals:
            self.flaws.append(Flaw(None, "there is no '='. Write --set section.name=value.", option))
        elif section not in self.table:
            allowed = [name for name in self.table if name]
            self.flaws.append(
                Flaw(None, f"there is no section '{section}'. {nearest(section, allowed)}", option)
            )
        elif key not in self.table[section]:
            self.flaws.append(Flaw(None, self._unknown(section, key), option))
        else:
            try:
                value = parse(written.strip(), self.table[section][key].kind)
                self.given[section][key] = Value(value, option=option)
            except TypeError:
                self.flaws.append(Flaw(None, self._unfit(section, key, written.strip()), option))

    def check_method(self) -> Method | None:
        """The method, after seeing that every key is for it; None if there is no right one."""
        for key in self.table[""]:
            wrong = any(flaw.text.startswith(f"{key} = ") for flaw in self.flaws)
            if key not in self.given[""] and key not in self._broken and not wrong:
                example = f'"{METHODS[0]}"' if key == "method" else '"..."'
                self.flaws.append(Flaw(1, f"the key '{key}' is missing. Write {key} = {example} at the top."))
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
        while True:
            try:
                return record(**{**fixed, **{key: value.value for key, value in values.items()}})
            except OptionError as error:
                blamed = sorted(
                    (found.start(), key)
                    for key in values
                    if (found := re.search(rf"\b{key}\b", error.problem))
                )
                text = f"{error.problem} {error.remedy}"
                if not blamed:  # a default that does not go with the rest
                    self.flaws.append(Flaw(self.section_lines.get(section, 1), text))
                    return record()
                self.flaws.append(values[blamed[0][1]].flaw(text))
                for _, key in blamed:
                    del values[key]

    def fault(self, section: str, key: str, error: CnnCodesError) -> None:
        """A mistake that another room has found in a value."""
        self.flaws.append(self.given[section][key].flaw(f"{section}.{key}: {error.problem} {error.remedy}"))

    def ordered_flaws(self) -> tuple[Flaw, ...]:
        """Those of the file by line, then those of the command line."""
        return tuple(sorted(self.flaws, key=lambda flaw: (flaw.line is None, flaw.line or 0)))

    def _take(self, section: str, key: str, value: object, line: int) -> None:
        if key not in self.table[section]:
            self.flaws.append(Flaw(line, self._unknown(section, key)))
            return
        try:
            self.given[section][key] = Value(convert(value, self.table[section][key].kind), line)
        except TypeError:
            self.flaws.append(Flaw(line, self._unfit(section, key, value)))

    def _unfit(self, section: str, key: str, value: object) -> str:
        kind = self.table[section][key].kind
        name = f"{section}.{key}" if section else key
        if isinstance(value, str) and (choices := choices_of(kind)):
            return f"{name} = '{value}' is not known. {nearest(value, choices)}"
        return f"{name} = {value!r} does not fit. Give {describe(kind)}."

    def _unknown(self, section: str, key: str) -> str:
        """Where a key belongs that its section does not have, or which one was meant."""
        problem = f"[{section}] has no key '{key}'." if section else f"'{key}' is no key of a recipe."
        if homes := self._homes(key):
            if homes == [""]:
                return f"{problem} It stands at the top, before the first section."
            return f"{problem} It belongs to {' or '.join(f'[{home}]' for home in homes)}."
        here = [*self.table[section], *([] if section else [name for name in self.table if name])]
        if close := _close(key, here):
            return f"{problem} Did you mean {' or '.join(repr(name) for name in close)}?"
        everywhere = {name: home for home, keys in self.table.items() if home for name in keys}
        if close := _close(key, everywhere):
            return f"{problem} Did you mean '{close[0]}' of [{everywhere[close[0]]}]?"
        return f"{problem} Allowed: {', '.join(here)}."

    def _homes(self, key: str) -> list[str]:
        return [section for section, keys in self.table.items() if key in keys]

    def _check_keys_for(
        self, method: Method, section: str, methods: Mapping[str, tuple[Method, ...]]
    ) -> None:
        if all(method not in allowed for allowed in methods.values()):
            belongs = _names(sorted({name for allowed in methods.values() for name in allowed}))
            text = f"[{section}] is not for the method '{method}', but for {belongs}. Leave it out."
            if section in self.section_lines:
                self.flaws.append(Flaw(self.section_lines[section], text))
            else:
                self.flaws.append(next(iter(self.given[section].values())).flaw(text))
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
    return Flaw(error.line, f"this is not TOML: {error.reason}.{hint}")


def _close(wrong: str, allowed: Iterable[str]) -> list[str]:
    """Names that were probably meant: spelled alike, or with the wrong one as one of their words."""
    names = list(allowed)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return close + [name for name in names if wrong in name.split("_") and name not in close]


def _names(words: Iterable[str]) -> str:
    return " and ".join(f"'{word}'" for word in words)
