"""What may stand in a recipe, and what is wrong with one: all mistakes at once, each with its line and the nearest right word."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

from cnncodes.core.errors import CnnCodesError, nearest
from cnncodes.core.files import TOML_TOKEN, parse_toml
from cnncodes.core.records import Meta, Mistake, check_fields, fields_of, from_text, mistakes
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Fit, Preprocessing

Method = Literal["linear", "finetune", "train"]
METHODS: tuple[Method, ...] = get_args(Method)

#: Where the numbers of "train" differ from TrainingSettings' own: nothing is pretrained in a new network, so all of
#: it learns at one rate, and takes many more epochs.
TRAIN_DEFAULTS = {"epochs": 90, "batch_size": 128, "middle_rate": 1.0, "early_rate": 1.0}


@dataclass(frozen=True)
class When:
    """For which images a recipe is: the two questions of CS231n's transfer learning notes."""

    size: Literal["small", "large", "any"] = "any"
    similarity: Literal["similar", "different", "any"] = "any"
    text: str = ""  # the same in plain words


@dataclass(frozen=True)
class ExtractSettings:
    """The codes that a linear recipe wants."""

    layers: str = "fc7"  # as ``cnncodes extract --layers``
    crops: Literal["center", "mirror", "ten", "mirror-mean", "ten-mean"] = "center"


@dataclass(frozen=True)
class HeadSettings:
    """The head that a linear recipe fits; see :func:`cnncodes.heads.fit_linear`."""

    kind: Literal["svm", "softmax"] = "svm"
    layer: str = "fc7"  # one stage, or "auto"
    C: (
        Annotated[float, Meta(gt=0)]
        | Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1)]
        | Literal["auto"]
    ) = "auto"
    normalize: Literal["l2", "standard", "none"] = "l2"

    def __post_init__(self) -> None:
        check_fields(self, "head")


@dataclass(frozen=True)
class Start:
    """[network] of a recipe that starts from weights."""

    weights: str = "imagenet"


@dataclass(frozen=True)
class Images:
    """[images] of a recipe that starts from weights."""

    fit: Fit | None = None  # how a photograph becomes a square; None: as recorded with the weights


@dataclass(frozen=True)
class New:
    """[network] of a recipe that trains a new network."""

    name: str = "alexnet"


@dataclass(frozen=True)
class RecipeFile:
    """What every recipe file says; the record of a method has its sections, too."""

    summary: str
    method: Method
    source: str
    when: When = field(default_factory=When)


def _file(**parts: type) -> Any:
    fields = [(name, kind, field(default_factory=kind)) for name, kind in parts.items()]
    return make_dataclass("RecipeFile", fields, bases=(RecipeFile,), frozen=True)


#: ``train.network`` stands in [network].
FILES: dict[Method, Any] = {
    "linear": _file(network=Start, images=Images, extract=ExtractSettings, head=HeadSettings),
    "finetune": _file(network=Start, images=Images, train=TrainingSettings),
    "train": _file(network=New, images=Preprocessing, train=TrainingSettings),
}


class Key(NamedTuple):
    """A key of a section: the type of its value, and the methods it is for."""

    kind: Any
    methods: tuple[Method, ...]


@functools.cache
def sections() -> dict[str, dict[str, Key]]:
    """Every section and its keys; "" has those that stand before the first section."""
    table: dict[str, dict[str, Key]] = {"": {}}

    def add(section: str, key: str, kind: Any, method: Method) -> None:
        if inside := fields_of(kind):  # a record is a section of its own, also in [train]
            for name, (inner, _) in inside.items():
                add(key, name, inner, method)
        else:
            keys = table.setdefault(section, {})
            keys[key] = Key(kind, (*(keys[key].methods if key in keys else ()), method))

    for method, record in FILES.items():
        for key, (kind, _) in fields_of(record).items():
            add("", key, kind, method)
    return table


KeyPath = tuple[str, ...]

MOST_FLAWS = 50  # that are no TOML: each reads the text once more
OWN = ("name", "weights")  # of [network]; what else it has is TrainingSettings.network

_ASSIGNED = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*([^#]*)")
_PLACE = re.compile(r" ?\(at (?:line (\d+), column \d+|end of document)\)")


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


class Draft:
    """The values of a recipe with the place of each, and what is wrong with them."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values: dict[str, Any] = values or {}
        self.flaws: list[Flaw] = []
        self._lines: dict[KeyPath, int] = {}
        self._options: dict[KeyPath, str] = {}
        self._broken: set[str] = set()

    def read_text(self, text: str) -> None:
        """Take what a TOML text says. A value that is not TOML is a flaw, and the rest is read without its line."""
        lines = text.replace("\r\n", "\n").split("\n")
        while True:
            text = "\n".join(lines)
            try:
                self.values, self._lines = parse_toml(text), key_lines(text)
                return
            except ValueError as error:
                place = _PLACE.search(str(error))
                at_end = place is None or place[1] is None
                number = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
                reason = str(error).replace(place[0], "") if place else str(error)
                broken = lines[number - 1]
                flaw = Flaw(number, f"this is not TOML: {reason}.", _meant(broken, at_end))
                assigned = _ASSIGNED.match(broken)
                if assigned is None or at_end or len(self.flaws) >= MOST_FLAWS:
                    # an open bracket or quote takes in what follows
                    self.flaws = self.flaws[:1] or [flaw]
                    self._broken.update(sections()[""])
                    return
                self.flaws.append(flaw)
                self._broken.add(assigned[1])
                lines[number - 1] = ""

    def assign(self, text: str, option: str = "") -> None:
        """Take ``section.name=value``; a bare name belongs to [train]."""
        option = option or f"--set {text}"
        name, equals, written = text.partition("=")
        section, _, key = name.strip().rpartition(".")
        section = section or "train"
        table = sections()
        if not equals:
            self.flaws.append(Flaw(None, "there is no '='.", "Write --set section.name=value.", option))
        elif section not in table:
            meant = nearest(section, [name for name in table if name])
            self.flaws.append(Flaw(None, f"there is no section '{section}'.", meant, option))
        elif key not in table[section]:
            self.flaws.append(Flaw(None, *_unknown(section, key), option))
        else:
            there = self.values.get(section)
            values = dict(there) if isinstance(there, dict) else {}
            self.values[section] = values | {key: from_text(written.strip(), table[section][key].kind)}
            self._options[section, key] = option

    def given(self, section: str, key: str) -> Any:
        """A value; None if it is not given."""
        values = self.values.get(section)
        return values.get(key) if isinstance(values, dict) else None

    def in_file(self, section: str, key: str) -> bool:
        """Whether a value stands in the file, and no option replaces it."""
        return self.given(section, key) is not None and (section, key) not in self._options

    @property
    def method(self) -> Method | None:
        """None if there is no right one."""
        return next((method for method in METHODS if method == self.values.get("method")), None)

    def check(self, images: dict[str, Any]) -> None:
        """See that everything fits the method, or, of a wrong one, the method that most fits; ``images`` has other defaults."""
        methods = (self.method,) if self.method else METHODS
        misplaced = [Mistake(("train", "network"), "unknown")] if self.given("train", "network") else []
        found = (mistakes(self.file_values(method, images), FILES[method]) for method in methods)
        for mistake in (*misplaced, *min(found, key=len)):
            self._tell(mistake)

    def file_values(self, method: Method, images: dict[str, Any]) -> dict[str, Any]:
        """The values as those of :data:`FILES`, with the defaults of a method and of its images."""
        values = dict(self.values)
        network, train, of_images = (values.get(name, {}) for name in ("network", "train", "images"))
        if method != "linear" and isinstance(train, dict):
            values["train"] = (TRAIN_DEFAULTS if method == "train" else {}) | train
            if isinstance(network, dict):
                values["network"] = {key: value for key, value in network.items() if key in OWN}
                if rest := {key: value for key, value in network.items() if key not in OWN}:
                    values["train"]["network"] = rest
        if method == "train" and isinstance(of_images, dict):
            values["images"] = images | of_images
        return values

    def fault(self, section: str, key: str, error: CnnCodesError) -> None:
        """A mistake that another room has found in a value."""
        self.flag((section, key), f"{section}.{key}: {error.problem}", error.remedy)

    def flag(self, path: KeyPath, problem: str, remedy: str = "") -> None:
        """Note a mistake where a value stands."""
        option = self._options.get(path, "")
        if len(path) == 1 and path not in self._lines:  # a section that is only given by options
            option = next((said for place, said in self._options.items() if place[0] == path[0]), "")
        place = path  # a key of an inline table, or one that is missing, has the line of what is around it
        while place and place not in self._lines:
            place = place[:-1]
        line = None if option else self._lines.get(place, 1)
        self.flaws.append(Flaw(line, problem, remedy, option))

    def _tell(self, mistake: Mistake) -> None:
        """A mistake in the words of a recipe: where a key belongs, which one was meant."""
        path, table = mistake.path, sections()
        if path[:2] == ("train", "network") and len(path) > 2:
            path = ("network", *path[2:])
        section, key = ("", path[0]) if len(path) == 1 else path[:2]
        if mistake.kind == "missing":
            if key not in self._broken:
                value = '"linear"' if key == "method" else '"..."'
                self.flaws.append(Flaw(1, mistake.problem, f"Write {key} = {value} at the top."))
        elif mistake.kind == "value":
            if len(path) == 1 and key in table:
                self.flag(path, f"'{key}' is a section.", f"So write [{key}] and its keys below it.")
            else:
                name = ".".join(mistake.path)
                self.flag(path, mistake.problem.replace(name, ".".join(path), 1), mistake.remedy)
        elif len(path) == 1 and key in table:
            methods = _names({name for entry in table[key].values() for name in entry.methods})
            problem = f"[{key}] is not for the method '{self.method}', but for {methods}."
            self.flag(path, problem, "Leave it out.")
        elif key in table.get(section, {}):
            belongs = _names(table[section][key].methods)
            self.flag(path, f"{section}.{key} is not for the method '{self.method}', but for {belongs}.")
        elif not section and isinstance(self.values[key], dict | list) and not _homes(key):
            self.flag(path, f"there is no section [{key}].", nearest(key, [name for name in table if name]))
        else:
            self.flag(path, *_unknown(section, key))


def _unknown(section: str, key: str) -> tuple[str, str]:
    """A key that its section does not have, and where it belongs or which one was meant."""
    table = sections()
    problem = f"[{section}] has no key '{key}'." if section else f"'{key}' is no key of a recipe."
    if homes := _homes(key):
        if homes == [""]:
            return problem, "It stands at the top, before the first section."
        return problem, f"It belongs to {' or '.join(f'[{home}]' for home in homes)}."
    here = [*table[section], *([] if section else [name for name in table if name])]
    if close := _close(key, here):
        return problem, f"Did you mean {' or '.join(repr(name) for name in close)}?"
    everywhere = {name: home for home, keys in table.items() if home for name in keys}
    if close := _close(key, everywhere):
        return problem, f"Did you mean '{close[0]}' of [{everywhere[close[0]]}]?"
    return problem, f"Allowed: {', '.join(here)}."


def _homes(key: str) -> list[str]:
    return [section for section, keys in sections().items() if key in keys]


def _meant(line: str, at_end: bool) -> str:
    """What is most often meant by a line that is not TOML."""
    if assigned := _ASSIGNED.match(line):
        key, value = assigned[1], assigned[2].strip()
        if value.lower() in ("true", "false", "yes", "no", "on", "off"):
            return "Write true or false, in small letters."
        if value[:1].isalpha() and '"' not in value and not at_end:
            return f'A text stands in quotes: {key} = "{value}".'
        if value[:1] == '"' and "\\" in value:
            return "In double quotes a backslash is written twice; between single quotes it is itself."
    return ""


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of each table and key of a TOML text, which tomllib does not tell: each statement is read by itself."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    start, line, depth = 0, 1, 0
    text += "\n"
    for token in TOML_TOKEN.finditer(text):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        if token[0] != "\n" or depth:
            continue
        statement = text[start : token.end()]
        header = statement.lstrip().startswith("[")
        for path in _paths(parse_toml(statement), () if header else table):
            lines.setdefault(path, line)
            table = path if header else table
        start, line = token.end(), line + statement.count("\n")
    return lines


def _paths(values: dict[str, Any], around: KeyPath) -> Iterator[KeyPath]:
    for key, value in values.items():
        yield (*around, key)
        if isinstance(value, dict):
            yield from _paths(value, (*around, key))


def _close(wrong: str, allowed: Iterable[str]) -> list[str]:
    """Names that were probably meant: spelled alike, or with the wrong one as one of their words."""
    names = list(allowed)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return close + [name for name in names if wrong in name.split("_") and name not in close]


def _names(methods: Iterable[str]) -> str:
    return " and ".join(f"'{method}'" for method in sorted(methods))
