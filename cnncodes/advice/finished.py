"""A finished run, read from its folder: its report, its note, its images."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

from cnncodes.advice.recipe import KEPT, recipe_of_run
from cnncodes.advice.run_record import (
    KIND,
    NOTE,
    REPORT,
    SPLIT,
    TEST,
    RunOrder,
    RunReport,
    recipe_differences,
)
from cnncodes.codes.file import CodesFile, Provenance
from cnncodes.core.errors import CnnCodesError, ModelError
from cnncodes.core.files import model_file, read_json
from cnncodes.core.files import read_text as read_file
from cnncodes.core.outputs import write_whole
from cnncodes.heads.splits import HELD_OUT
from cnncodes.images.catalog import Catalog, catalog_of
from cnncodes.images.digests import catalog_digests
from cnncodes.images.readers import image_exists, is_url
from cnncodes.images.tables import parse_csv, read_text


def read_records(folder: Path) -> tuple[RunReport, dict[str, Any]]:
    """A run's report, and the note of how it was started; raises ModelError if the folder holds no finished run."""
    try:
        note = read_json(folder / NOTE)
        known = isinstance(note, dict) and note.get("kind") == KIND
    except (OSError, ValueError):
        known, note = False, {}
    if not known:
        raise _no_run(folder, has_note=bool(note))
    missing = [name for name in (REPORT, SPLIT) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the run in '{folder}' is not finished: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            f"Repeat its command to continue it: {note.get('command', 'cnncodes run')}",
        )
    return RunReport.from_json(read_file(folder / REPORT)).placed(folder), note


def weights_mark(name: str | None) -> list[Any]:
    """What is another one where weights of a name may have other numbers: size and time of their file, version of cnncodes.

    Empty for a training from new numbers (None).
    """
    if name is None:
        return []
    path, version = model_file(name), Provenance.now().versions["cnncodes"]
    with contextlib.suppress(OSError, ValueError):
        found = path.stat()
        return [name, version, found.st_size, found.st_mtime_ns]
    return [name, version]


def keep_mark(folder: str | os.PathLike[str], mark: list[Any]) -> None:
    """Note in a finished run which weights it was started with, for :func:`finished_run`."""
    path = Path(folder) / NOTE
    note = read_json(path)
    if note.get("weights_mark") != mark:
        write_whole(path, json.dumps(note | {"weights_mark": mark}, indent=2))


def begun_with(folder: str | os.PathLike[str]) -> str | None:
    """Name of the weights that a finished run in a folder was started with (:func:`keep_mark`); None where it is not known."""
    mark = _noted(folder, "weights_mark")
    return str(mark[0]) if mark else None


def command_of(model: str | os.PathLike[str]) -> str:
    """Command of the run that a model, or a folder, is of; empty where it is of none."""
    path = Path(model)
    return str(_noted(path if path.is_dir() else path.parent, "command") or "")


def _noted(folder: str | os.PathLike[str], name: str) -> Any:
    """An entry of a run's note; None where there is none."""
    try:
        note = read_json(Path(folder) / NOTE)
        return note[name] if note["kind"] == KIND else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def finished_run(
    catalog: Catalog, mark: list[Any], folder: str | os.PathLike[str], order: RunOrder
) -> RunReport | None:
    """The report of a finished run that these images, weights (:func:`weights_mark`) and order would show again; no network is loaded.

    None if there is none, if anything is another one, or if that cannot be known without the weights.
    """
    place = Path(folder)
    try:
        report, note = read_records(place)
        inputs = {**catalog_digests(catalog), "seed": order.seed, TEST: order.share}
        there = {TEST: HELD_OUT} | note["inputs"]
        if note.get("weights_mark") != mark or any(there.get(name) != inputs[name] for name in inputs):
            return None
        advised, fit = (report.advice.recipe, report.advice.fit) if report.advice else ("", None)
        name, fit = (order.recipe, None) if order.recipe else (advised, fit)
        asked = recipe_of_run(name, order.assignments, mark[0] if mark else None, order.seed, fit)
        return None if recipe_differences(place / KEPT, asked.to_toml()) else report
    except (CnnCodesError, OSError, LookupError, TypeError, AttributeError):
        return None  # running it says what is wrong


def _no_run(folder: Path, has_note: bool) -> ModelError:
    """What is there in place of a run, and what to do."""
    make = "make one with: cnncodes run photos/ -o out"
    if not folder.exists():
        return ModelError(f"there is no folder '{folder}'.", f"Name the folder of a run, or {make}")
    if folder.is_file():
        is_run = (folder.parent / NOTE).is_file() and (folder.parent / SPLIT).is_file()
        return ModelError(
            f"'{folder}' is a file, not the folder of a run.",
            f"Write: cnncodes report {shlex.quote(str(folder.parent))}"
            if is_run
            else f"Name a folder, or {make}",
        )
    if has_note:
        return ModelError(
            f"'{folder}' is the folder of a training by itself, without the images' split and a test.",
            "Give the same images and recipe to 'cnncodes run', which trains, tests and writes the page.",
        )
    return ModelError(f"'{folder}' is no folder of 'cnncodes run': it has no {NOTE}.", f"Name one, or {make}")


def read_split(path: Path) -> Catalog:
    """The catalog of a run's ``split.csv``, wherever its images are by now."""
    return catalog_of(parse_csv(read_text(str(path)), os.fspath(path.resolve().parent), repr(str(path))))


def find_files(folder: Path, report: RunReport, catalog: Catalog) -> list[str]:
    """Path of each image: beside the run as it was, or, if the run's folder was moved, where its codes were made of."""
    files = [file if is_url(file) else os.path.normpath(file) for file in catalog.files]
    codes = folder / report.files.get("codes", "")
    if not any(map(image_exists, files[:20])) and codes.is_file():
        try:
            with CodesFile(codes) as file:
                if len(file) == len(catalog):
                    return list(file.catalog.files)
        except CnnCodesError:
            pass
    return files
