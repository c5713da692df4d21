"""HTML and Markdown from records and the templates: one file with everything inside, and no request to anywhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from cnncodes.advice.facts import finding_text, note_text, rate_found, reason_of
from cnncodes.advice.run_folder import PAGE, read_records, read_split
from cnncodes.advice.run_record import PREDICTIONS, SPLIT
from cnncodes.core.compute import Progress
from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError
from cnncodes.core.files import parse_toml, reading
from cnncodes.core.outputs import replacing, write_whole
from cnncodes.core.records import from_json, to_json
from cnncodes.core.words import percent
from cnncodes.evaluation import Predictions
from cnncodes.evaluation.metrics import calibration_error, chance_error
from cnncodes.images.preprocess import NEARLY_ALL
from cnncodes.page.gather import read_run
from cnncodes.page.record import RunPage
from cnncodes.page.views import class_counts, views
from cnncodes.pictures.drawing import plain

CARD = "MODEL_CARD.md"
LONGEST_NAME = 36  # characters of a class's name that stands in a sentence
#: Scripts of each page, in their order; the first defines what the others use.
SCRIPTS = {
    "page": ("table.js", "map.js", "corrections.js"),
    "gallery": ("table.js", "gallery.js", "corrections.js"),
    "explore": ("table.js", "map.js", "explore.js"),
    "slides": (),
}


@dataclass(frozen=True)
class PageFile:
    """A page that was written."""

    path: str
    bytes: int
    images: int  # on it, as the next four
    tested: int
    mistakes: int
    on_map: int
    pictures: int
    missing_images: int  # that could not be shown
    notes: tuple[str, ...]  # what the page could not have, and why

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> PageFile:
        """Inverse of :meth:`to_json`."""
        return from_json(text, cls, "the record of a page")


def write_report(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PageFile:
    """Write the page of a run, whole or not at all.

    Parameters
    ----------
    folder : path
        Of a finished ``cnncodes run``.
    output : path, optional
        By default ``report.html`` in the folder.
    overwrite : bool, default False
        Replace an output that is there. The run's own page is always made again.
    title, device, workers, seed, progress
        As for :func:`read_run`.

    Raises
    ------
    OptionError
        If the output does not end in ``.html``.
    OutputExistsError
        If it cannot be written there, or is there and ``overwrite`` is false.
    ModelError
        If the folder holds no finished run.
    CnnCodesError
        If the disk is full.
    """
    path = Path(output) if output is not None else Path(folder) / PAGE
    read_records(Path(folder))  # what is no run is told before what is no place for a page
    check_output(path, overwrite or output is None)
    page = read_run(folder, title=title, device=device, workers=workers, seed=seed, progress=progress)
    text = render(page)
    write_whole(path, text)
    answers = page.answers
    return PageFile(
        path=str(path),
        bytes=len(text.encode()),
        images=len(page.catalog),
        tested=len(answers.answers) if answers else 0,
        mistakes=len(answers.mistakes) if answers else 0,
        on_map=len(page.map.rows) if page.map else 0,
        pictures=len(page.pictures),
        missing_images=len(page.missing),
        notes=page.notes,
    )


def check_output(path: Path, overwrite: bool = True) -> None:
    """Refuse early what could not be written; raises as :func:`write_report`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"a page ends in .html, not '{path.name}'.", "Rename the output (-o).")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise OutputExistsError(f"'{path}' {what}.", "Name a file in an existing folder with -o.")
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", "Choose another name with -o, or use --overwrite."
        )


def render(page: RunPage) -> str:
    """The HTML of a page: one text with its styles, its script and its images inside.

    A content security policy allows the one script by its hash and no request to anywhere, so that even a name that
    found its way around the escaping could do nothing.
    """
    return page_source("page", page=page, report=page.report, view=views(page))


def write_card(
    folder: str | os.PathLike[str], output: str | os.PathLike[str] = CARD, *, overwrite: bool = False
) -> Path:
    """Write the model card of a run as Markdown, with a header in YAML as model hubs read it.

    It says what the model is, the classes with their counts, how it was split and tested, accuracy with its interval and by class,
    calibration, what the model is not for, where its weights are from, the recipe, the command and the versions. The licence and
    who is to be asked are left for a person.

    Parameters
    ----------
    folder : path
        Of a finished ``cnncodes run``.
    output : path, default "MODEL_CARD.md"
    overwrite : bool, default False

    Raises
    ------
    ModelError
        If the folder holds no finished run.
    OutputExistsError
        If the output is there, and ``overwrite`` is false.
    CnnCodesError
        If the report is damaged, or the card cannot be written.
    """
    place, path = Path(folder), Path(output)
    report, note = read_records(place)
    with reading("the recipe in the run's report"):
        recipe = parse_toml(report.recipe_text)
    inputs: dict[str, Any] = dict(note.get("inputs") or {})
    text = markdown_source(
        "card",
        title=place.resolve().name,
        report=report,
        found=report.evaluation,
        created=str(note.get("created", ""))[:10],
        command=str(note.get("command", "")),
        classes=class_counts(read_split(place / SPLIT)),
        weights=str(recipe.get("network", {}).get("weights", "")),
        fingerprint=str(inputs.get("weights") or ""),
        versions=", ".join(f"{name} {version}" for name, version in report.versions.items()),
        calibration=_calibration(place / PREDICTIONS),
    )
    with replacing(path, overwrite=overwrite, error=CnnCodesError) as whole:
        whole.write_text(text + "\n", encoding="utf-8")
    return path


def _calibration(path: Path) -> dict[str, float] | None:
    """Calibration error on the test images and what chance alone gives; None of a model without probabilities, and of older runs."""
    try:
        saved = Predictions.load(path)
    except CnnCodesError:
        return None
    logarithms = saved.log_probabilities
    if logarithms is None or not len(saved.labels):
        return None
    odds = np.exp(logarithms)
    return {"error": calibration_error(odds, saved.labels)[0], "chance": chance_error(odds)}


def page_source(name: str, **values: Any) -> str:
    """A template with its values, the common styles, its scripts as one, and the digest of that."""
    environment = _environment()
    assert environment.loader is not None
    sources = [environment.loader.get_source(environment, file)[0] for file in ("page.css", *SCRIPTS[name])]
    script = "\n".join(sources[1:])
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    template = environment.get_template(f"{name}.html")
    return template.render(style=sources[0], script=script, digest=digest, **values)


@functools.cache
def _environment() -> Environment:
    """Templates in which every value is escaped, and made printable before."""
    environment = Environment(
        loader=PackageLoader("cnncodes.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=functools.partial(_shown, by=plain),
    )
    environment.globals["nearly_all"] = NEARLY_ALL
    environment.filters |= {
        "exact": Exact,
        "n": "{:,}".format,
        "code": _code,
        "fence": _fence,
        "finding": finding_text,
        "note": note_text,
        "rate_found": rate_found,
        "yaml": lambda text: Exact(json.dumps(plain(text), ensure_ascii=False)),
        "reason": reason_of,
        "counted": counted,
        "data_uri": lambda image: f"data:image/webp;base64,{base64.b64encode(image).decode('ascii')}",
        "duration": lambda seconds: f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min",
        "percent": percent,
        "plain": plain,
        "shortened": shortened,
    }
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _shown(value: Any, by: Callable[[str], str]) -> Any:
    """A text as ``by`` makes it, unless a filter has made it."""
    return by(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def markdown_source(name: str, **values: Any) -> str:
    """A template of Markdown with its values; a text that is not made by a filter is on one line, and its signs mean nothing."""

    def escaped(text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", plain(text))

    environment = _environment().overlay(autoescape=False, finalize=functools.partial(_shown, by=escaped))
    return environment.get_template(f"{name}.md").render(**values)


def _fence(text: str, language: str) -> Exact:
    """A block of code, fenced by more marks than it has."""
    marks = "`" * (1 + max(2, *map(len, re.findall("`+", text)), 0))
    lines = "\n".join(map(plain, text.strip().split("\n")))
    return Exact(f"{marks}{language}\n{lines}\n{marks}")


def _code(text: str) -> Exact:
    """A piece of code in a line, or in a cell of a table."""
    marks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if len(marks) > 1 else ""
    return Exact(marks + padding + plain(text).replace("|", "\\|") + padding + marks)


class Exact(str):
    """A text that a template writes as it is, escaped but not made printable: what a script reads again."""

    def __html__(self) -> str:
        return html.escape(self, quote=True)


def counted(number: int, singular: str, plural: str = "") -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def shortened(name: str) -> str:
    """A name of at most :data:`LONGEST_NAME` characters: its beginning and its end."""
    name = plain(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}...{name[-10:]}"
