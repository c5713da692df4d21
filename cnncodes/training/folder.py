"""The folder of a training: what it was started with, and whether it can be resumed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnncodes.codes.file import Provenance
from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.core.files import read_json
from cnncodes.core.outputs import locked, remove_partials, write_whole
from cnncodes.training.caches import FILE as FROZEN
from cnncodes.training.callbacks import EVENTS
from cnncodes.training.state import METRICS, checkpoints

KIND = "cnncodes training"
MODEL = "model.safetensors"
RECORD = "run.json"
RANGE_TEST = "range_test.json"
#: Files of a training other than checkpoints and events, in the order in which they are removed.
NAMES = (MODEL, FROZEN, RANGE_TEST, METRICS, RECORD)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder of a run and hold its lock, without which nothing in it is written.

    Raises OutputExistsError if it is a file, and OutputBusyError if another process is training there.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"'{folder}' is a file.", "Name a folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "run"):
        yield


def open_run(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Begin a run in a folder that is :func:`held`, or check that the run in it can be resumed.

    ``record`` is what the run is started with, as JSON: ``settings`` and whatever else must be the same when it is resumed.
    Raises OutputExistsError if the folder holds a run and ``resume`` is false, or a ``run.json`` or model that no training
    wrote, and OptionError if the run in it was started with something else, or its record cannot be read.
    """
    path = folder / RECORD
    there = _read(path) if path.exists() else None
    own = (*checkpoints(folder), folder / MODEL, folder / FROZEN)
    begun = [place.name for place in own if place.exists()]
    if there is None and begun:
        raise OutputExistsError(
            f"'{folder}' has '{begun[0]}' in it, and no {RECORD} that says how it was trained.",
            "Nothing was changed; choose another folder with -o.",
        )
    if there is not None and (begun or resume):
        if not resume:
            state = "is finished" if _is_finished(folder, there) else "is not finished"
            raise OutputExistsError(
                f"'{folder}' holds a training that {state}.",
                "Continue it with --resume, or choose another folder with -o.",
            )
        check_same(folder, there, record)
        return
    now = Provenance.now()
    about = {"command": now.command, "created": now.created, "versions": now.versions}
    write_whole(path, json.dumps({"kind": KIND} | record | about, indent=2))


def keep_rate(folder: Path, rate: float) -> None:
    """Write a measured learning rate into the settings of the folder's run, if it holds one."""
    path = folder / RECORD
    if path.exists():
        record = _read(path)
        record["settings"]["learning_rate"] = rate
        write_whole(path, json.dumps(record, indent=2))


def keep_result(folder: Path, result: dict[str, Any]) -> None:
    """Write epochs, test and unreadable images of a finished training into the run's record."""
    path = folder / RECORD
    write_whole(path, json.dumps(_read(path) | {"result": result}, indent=2))


def result_of(folder: Path) -> dict[str, Any] | None:
    """What :func:`keep_result` wrote; None if the folder's run is not finished, or its model is gone."""
    record = _read(folder / RECORD)
    return dict(record["result"]) if _is_finished(folder, record) else None


def left_by_training(folder: Path) -> list[Path]:
    """The files that a training left in a folder, its record last; no file of the user's."""
    own = (folder / name for name in NAMES)
    events = (folder / EVENTS).glob("events.out.tfevents.*")
    return [*events, *checkpoints(folder), *(path for path in own if path.exists())]


def remove_training(folder: Path) -> None:
    """Remove what a training left in a folder, the record last, and the folder if nothing else is in it.

    Raises OutputBusyError if another process is training there.
    """
    if not folder.is_dir():
        return
    with locked(folder / "run"):
        for pattern in ("checkpoint-*.pt", *NAMES):
            remove_partials(folder, pattern)
        for path in left_by_training(folder):
            path.unlink(missing_ok=True)
    for place in (folder / EVENTS, folder):
        with contextlib.suppress(OSError):  # a file of the user's is in it
            place.rmdir()


def _read(path: Path) -> dict[str, Any]:
    """The record of a training; raises OptionError if it is damaged, OutputExistsError if it is that of something else."""
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"'{path}' cannot be read: {error}.", "Start the training again in another folder with -o."
        ) from error
    own = isinstance(record, dict) and isinstance(record.get("settings"), dict)
    if not own or record.get("kind", KIND) != KIND:  # older records name no kind
        raise OutputExistsError(
            f"'{path}' exists and was not written by a training.",
            "Nothing was changed; choose another folder with -o.",
        )
    return dict(record)


def _is_finished(folder: Path, record: dict[str, Any]) -> bool:
    result = record.get("result")
    whole = isinstance(result, dict) and {"epochs", "unreadable", "test"} <= result.keys()
    return whole and (folder / MODEL).exists()


def check_same(folder: Path, there: dict[str, Any], record: dict[str, Any]) -> None:
    """Raise OptionError if a run, or a checkpoint of it, was started with something else: each setting with both values."""
    old, new = there.get("settings", {}), record["settings"]
    changed = [
        f"train.{name} ({old.get(name)} then, {new[name]} now)" for name in new if old.get(name) != new[name]
    ]
    changed += [name for name, value in record.items() if name != "settings" and there.get(name) != value]
    if changed:
        raise OptionError(
            f"the run in '{folder}' was started with something else: {', '.join(changed)} changed.",
            "Resume with the same data and settings, or choose another folder with -o.",
        )
