"""One HTML file of a run: everything inside, no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cnncodes.advice.run_record import REPORT
from cnncodes.errors import CnnCodesError, OptionError, OutputExistsError
from cnncodes.files import parse_json
from cnncodes.pictures.report.advice import advice
from cnncodes.pictures.report.answers import Progress
from cnncodes.pictures.report.closing import network, repeat
from cnncodes.pictures.report.data import data
from cnncodes.pictures.report.map import codes_map
from cnncodes.pictures.report.markup import escaped, listing
from cnncodes.pictures.report.outcome import mistakes, results
from cnncodes.pictures.report.overview import asked, headline
from cnncodes.pictures.report.reading import read_records, read_run
from cnncodes.pictures.report.record import RunPage
from cnncodes.pictures.report.training import curves
from cnncodes.weights.content import replacing

PAGE = "report.html"  # in a run's folder
#: The parts of a page between headline and end, in order: their names in the navigation, and what makes them.
PARTS = (
    ("how", asked), ("images", data), ("advice", advice), ("training", curves), ("results", results),
    ("mistakes", mistakes), ("map", codes_map), ("network", network), ("repeat", repeat),
)  # fmt: skip


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
    return PageFile(str(path), len(text), **{**page.counts(), "notes": page.notes})


def page_is_current(folder: str | os.PathLike[str]) -> bool:
    """Whether a run's folder holds a page that is not older than its report."""
    page, report = Path(folder) / PAGE, Path(folder) / REPORT
    try:
        return page.stat().st_mtime_ns >= report.stat().st_mtime_ns
    except OSError:
        return False


def check_output(path: Path, overwrite: bool = True) -> None:
    """Refuse early what could not be written; raises as :func:`write_report`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"a page ends in .html, not '{path.name}'.", "Rename the output (-o).")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise OutputExistsError(f"'{path}' {what}.", "Name a file in a folder that is there with -o.")
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", "Choose another name with -o, or use --overwrite."
        )


def render(page: RunPage) -> str:
    """The HTML of a page: one text with its styles, its script and its images inside.

    A content security policy allows the one script by its hash and no request to anywhere, so that even a name that
    found its way around the escaping could do nothing.
    """
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    parts = [(name, part(page)) for name, part in PARTS]
    links = "".join(f'<a href="#{text.split(chr(34), 2)[1]}">{name}</a>' for name, text in parts if text)
    notes = (
        f'<aside class="beware" aria-label="what is missing on this page"><strong>Missing on this page</strong>'
        f"{listing([escaped(note) for note in page.notes])}</aside>"
        if page.notes
        else ""
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escaped(page.title)}: report</title><style>{style}</style></head><body>"
        f'<nav aria-label="parts of this page">{links}</nav><main>{headline(page)}{notes}'
        f"{''.join(text for _, text in parts)}</main>"
        f'<footer><p class="quiet">This file holds everything it shows and sends nothing anywhere.</p></footer>'
        f"<script>{script}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return resources.files("cnncodes.pictures.report").joinpath(name).read_text(encoding="utf-8")
