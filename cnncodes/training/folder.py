"""The folder of a run: what it was started with, and whether it is the one that is to be continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnncodes.codes.file import Provenance
from cnncodes.errors import CnnCodesError, OptionError, OutputExistsError
from cnncodes.training.checkpoints import checkpoints
from cnncodes.training.frozen import FILE as FROZEN
from cnncodes.weights.content import replacing

MODEL = "model.safetensors"
RECORD = "run.json"


def open_run(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Make the folder, or see that the run in it is the one to be continued.

    Parameters
    ----------
    folder : Path
    record : dict
        What the run is started with, as JSON: ``settings`` and whatever else must be the same when it goes on.
    resume : bool

    Raises
    ------
    OutputExistsError
        If the folder holds a run and ``resume`` is false.
    OptionError
        If the run in it was started with something else, each difference named, or its record cannot be read.
    """
    path = folder / RECORD
    begun = checkpoints(folder) or (folder / MODEL).exists() or (folder / FROZEN).exists()
    if path.exists() and (begun or resume):
        if not resume:
            raise OutputExistsError(
                f"'{folder}' holds a run already ({len(checkpoints(folder))} checkpoints).",
                "Continue it with --resume, or choose another folder with -o.",
            )
        _check_same(folder, _read(path), record)
        return
    folder.mkdir(parents=True, exist_ok=True)
    provenance = Provenance.now()
    whole = record | {
        "command": provenance.command,
        "created": provenance.created,
        "versions": provenance.versions,
    }
    write_whole(path, json.dumps(whole, indent=2))


def keep_rate(folder: Path, rate: float) -> None:
    """Write a measured learning rate into the settings of the folder's run, if it holds one."""
    path = folder / RECORD
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        record["settings"]["learning_rate"] = rate
        write_whole(path, json.dumps(record, indent=2))


def write_whole(path: Path, text: str) -> None:
    """Write a small text file of a run; a kill leaves the old or the new one, never half a file."""
    with replacing(path, overwrite=True, error=CnnCodesError) as whole:
        whole.write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"'{path}' cannot be read: {error}.", "Start the training anew in another folder with -o."
        ) from error


def _check_same(folder: Path, there: dict[str, Any], record: dict[str, Any]) -> None:
    """Raise OptionError if a run was started otherwise: settings one by one, with both values."""
    old, new = there.get("settings", {}), record["settings"]
    changed = [
        f"train.{name} ({old.get(name)} then, {new[name]} now)" for name in new if old.get(name) != new[name]
    ]
    changed += [name for name, value in record.items() if name != "settings" and there.get(name) != value]
    if changed:
        raise OptionError(
            f"the run in '{folder}' was started otherwise: {', '.join(changed)} changed.",
            "Resume with the same data and settings, or choose another folder with -o.",
        )
