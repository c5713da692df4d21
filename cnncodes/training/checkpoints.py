"""Checkpoints: everything that a training needs to go on as if nothing had happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from cnncodes.core.errors import ModelError
from cnncodes.core.outputs import remove_partials, replacing

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``checkpoint-STEP.pt`` whole and on the disk or not at all, and keep the last two.

    Raises
    ------
    ModelError
        If it cannot be written: a full disk, for example. Those before it stay.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    with replacing(path, overwrite=True, error=ModelError) as whole, whole.open("wb") as file:
        torch.save(state, file)
    keep_last(folder, KEPT)
    return path


def keep_last(folder: Path, count: int) -> None:
    """Remove all checkpoints but the last ones, and what a kill left of one."""
    remove_partials(folder, "checkpoint-*.pt")
    found = checkpoints(folder)
    for old in found[: max(0, len(found) - count)]:
        old.unlink()


def forget_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps: a training that went back must not be continued from them."""
    for path in checkpoints(folder):
        if int(path.stem.rpartition("-")[2]) > step:
            path.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(
        path for path in folder.glob("checkpoint-*.pt") if re.fullmatch(r"checkpoint-\d{8}\.pt", path.name)
    )


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """State of the newest checkpoint that can be read, or None; nothing in it is ever run.

    Raises
    ------
    ModelError
        If there are checkpoints, and none can be read.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            reason = error
    if found:
        raise ModelError(
            f"no checkpoint in '{folder}' can be read: {reason}.", "Start anew in another folder (-o)."
        )
    return None
