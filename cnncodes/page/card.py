"""The model card of a run: one Markdown file for those who get the model and not the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.advice.finished import read_records, read_split
from cnncodes.advice.run_record import PREDICTIONS, SPLIT
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import parse_toml, reading
from cnncodes.core.outputs import replacing
from cnncodes.evaluation import Predictions
from cnncodes.evaluation.calibration import calibration_error, chance_error
from cnncodes.page.html import markdown_source
from cnncodes.page.views import class_counts

CARD = "MODEL_CARD.md"


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
    versions = [f"{name} {version}" for name, version in report.versions.items()]
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
        versions=", ".join(versions),
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
