"""One HTML file of a run, from its records and the templates: everything inside, no request to anywhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnncodes.advice.finished import read_records
from cnncodes.advice.run_record import PAGE
from cnncodes.advice.sentences import finding_text, note_text, reason_of
from cnncodes.core.compute import Progress
from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError
from cnncodes.core.files import parse_json
from cnncodes.core.outputs import replacing
from cnncodes.images.preprocess import NEARLY_ALL
from cnncodes.page.gather import read_run
from cnncodes.page.record import RunPage
from cnncodes.page.views import views
from cnncodes.pictures.drawing import plain

LONGEST_NAME = 36  # characters of a class's name that stands in a sentence


@dataclass(frozen=True)
class PageFile:
    """A page that was written.

    Parameters
    ----------
    path : str
    bytes : int
    images, tested, mistakes, on_map, pictures : int
        What is on it.
    missing_images : int
        Images that could not be shown.
    notes : tuple of str
        What the page could not have, and why.
    """

    path: str
    bytes: int
    images: int
    tested: int
    mistakes: int
    on_map: int
    pictures: int
    missing_images: int
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PageFile:
        """Inverse of :meth:`to_json`."""
        values: dict[str, Any] = parse_json(text)
        return cls(**{**values, "notes": tuple(values["notes"])})


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
    text = render(page).encode("utf-8")
    with replacing(path, overwrite=True, error=CnnCodesError) as partial:
        partial.write_bytes(text)
    answers = page.answers
    return PageFile(
        path=str(path),
        bytes=len(text),
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


#: Of each page, in their order; the first defines what the others use.
SCRIPTS = {
    "page": ("table.js", "map.js", "corrections.js"),
    "gallery": ("table.js", "gallery.js", "corrections.js"),
    "explore": ("table.js", "map.js", "explore.js"),
    "slides": (),
}


def page_source(name: str, **values: Any) -> str:
    """A template with its values, the common styles, its scripts as one, and the digest of that."""
    environment = _environment()
    style, *scripts = (_source(environment, file) for file in ("page.css", *SCRIPTS[name]))
    script = "\n".join(scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template(f"{name}.html").render(
        style=style, script=script, digest=digest, **values
    )


@functools.cache
def _environment() -> Environment:
    """Templates in which every value is escaped, and made printable before."""
    environment = Environment(
        loader=PackageLoader("cnncodes.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
        ),
    )
    environment.globals["nearly_all"] = NEARLY_ALL
    environment.filters |= {
        "exact": Exact,
        "n": "{:,}".format,
        "code": _code,
        "fence": _fence,
        "finding": finding_text,
        "note": note_text,
        "yaml": lambda text: Exact(json.dumps(plain(text), ensure_ascii=False)),
        "reason": reason_of,
        "counted": counted,
        "data_uri": data_uri,
        "duration": lambda seconds: f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min",
        "percent": lambda share: "-" if share is None else f"{100 * share:.1f} %",
        "plain": plain,
        "shortened": shortened,
    }
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def markdown_source(name: str, **values: Any) -> str:
    """A template of Markdown with its values; a text that is not made by a filter is on one line, and its signs mean nothing."""
    environment = _environment().overlay(
        autoescape=False,
        finalize=lambda value: (
            _escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
        ),
    )
    return environment.get_template(f"{name}.md").render(**values)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", plain(text))


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


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


class Exact(str):
    """A text that a template writes as it is, escaped but not made printable: what a script reads again."""

    def __html__(self) -> str:
        return html.escape(self, quote=True)


def counted(number: int, singular: str, plural: str = "") -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def data_uri(image: bytes) -> str:
    """A WebP file as the address of an image."""
    return f"data:image/webp;base64,{base64.b64encode(image).decode('ascii')}"


def shortened(name: str) -> str:
    """A name of at most :data:`LONGEST_NAME` characters: its beginning and its end."""
    name = plain(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}...{name[-10:]}"
