"""From the steps of a run to its report: what was chosen and why, what it is worth, and what to beware of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.decision import Advice
from cnncodes.advice.division import Division
from cnncodes.advice.reasons import Reason
from cnncodes.advice.recipe import KEPT, Recipe
from cnncodes.advice.run_record import (
    ADVICE,
    MODEL,
    PREDICTIONS,
    REPORT,
    SPLIT,
    TRAINING,
    RunNote,
    RunReport,
    predict_command,
)
from cnncodes.evaluation import EvaluationResult
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.digests import identical_files

Array = npt.NDArray[Any]

FEW_TO_TEST = 50  # images: with fewer, an accuracy is uncertain by some ten points


@dataclass(frozen=True)
class Made:
    """What a recipe gave: the model's file, on what it is evaluated, a word on what was chosen in it, and the stage read."""

    path: Path
    codes: Path | None
    chosen: Reason
    unreadable: dict[str, str]
    stage: str = ""


def test_rows(divided: Catalog, left_out: npt.ArrayLike = ()) -> Array:
    """Labelled test images that are no copies of fitted ones, in the same or (``left_out``) in other files."""
    test = np.flatnonzero(divided.splits == SPLITS.index("test"))
    same = identical_files(divided)
    fitted = np.isin(divided.splits, (SPLITS.index("train"), SPLITS.index("val")))
    copied = np.isin(same[test], same[fitted & (same >= 0)])
    return test[~copied & (divided.labels[test] >= 0) & ~np.isin(test, np.asarray(left_out, np.int64))]


def make_report(
    folder: Path,
    note: RunNote,
    division: Division,
    divided: Catalog,
    advice: Advice | None,
    recipe: Recipe,
    made: Made,
    result: EvaluationResult | None,
) -> RunReport:
    """The report of a run whose steps are all done."""
    counts = np.bincount(divided.splits, minlength=len(SPLITS))
    unreadable = {**(advice.unreadable if advice else {}), **made.unreadable}
    unreadable |= result.scores.problems if result else {}
    by = note["chosen_by"]
    why: tuple[Reason, ...] = ()
    if advice:
        other = Reason(f"The recipe was asked for; the advice would have been {advice.recipe}.")
        given = (*advice.reasons, *filter(None, (advice.close,)))
        why = given if by == "advice" else (other,) if advice.recipe != note["recipe"] else ()
    files = {"model": MODEL, "split": SPLIT, "recipe": KEPT, "report": REPORT}
    files |= {"advice": ADVICE} if advice else {}
    files |= {"predictions": PREDICTIONS} if result else {}
    files |= {"codes": made.codes.name} if made.codes else {"training": TRAINING}
    return RunReport(
        folder=str(folder),
        model=str(made.path),
        images=len(divided),
        classes=len(np.unique(divided.labels[divided.splits == SPLITS.index("train")])),
        train=int(counts[SPLITS.index("train")]),
        val=int(counts[SPLITS.index("val")]),
        test=0 if result is None else result.evaluation.n,
        split=division.how,
        problems=advice.warnings if advice else (),
        unreadable=unreadable,
        recipe=note["recipe"],
        method=recipe.method,
        summary=recipe.summary,
        chosen_by=by,
        reasons=(made.chosen, *why),
        advice=advice,
        recipe_text=recipe.to_toml(),
        evaluation=None if result is None else result.evaluation,
        stage=made.stage,
        untrained=note.values.get("untrained", False),
        tested_on="nothing" if result is None else f"{result.evaluation.n:,} images kept to test",
        left_out=tuple(division.left_out.tolist()),
        copies=0 if result is None else result.copies,
        top1_with_copies=None if result is None else result.top1_with_copies,
        notes=_notes(
            test_rows(divided, division.left_out), divided, result, note.values.get("untrained", False)
        ),
        files=files,
        versions=note["versions"],
        seconds=note["seconds"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        command=predict_command(str(made.path)),
    )


def chosen_head(stage: str, evidence: dict[str, Any]) -> Reason:
    """The stage that a head reads and what it is worth there; then the C, and what chose both."""
    fit = evidence["fit"]
    choice = fit["choice"]
    if choice is None:
        return Reason(f"The head, a linear classifier, reads the codes of {stage}.")
    best = choice["accuracy"][choice["C"].index(choice["best"])]
    how = choice["how"]
    folds = "folds" in how
    held = "each held back once" if folds else f"the {how}"
    by = f"by cross-validation ({how})" if folds else "on these"
    return Reason(
        f"The head, a linear classifier, reads the codes of {stage}: {100 * best:.1f} % right on images that it had not "
        f"learned from ({held}).",
        f"Chosen {by}, with C = {choice['best']:g}, how closely it follows single images.",
    )


def _notes(
    test: Array, divided: Catalog, result: EvaluationResult | None, untrained: bool
) -> tuple[str, ...]:
    """What makes the figures less certain than they look."""
    notes = []
    if result is None:
        notes.append("no image could be kept to test, so nothing is known about new images: add images")
    elif result.evaluation.n < FEW_TO_TEST:
        n = result.evaluation.n
        notes.append(
            f"only {n} images test: each right or wrong one moves the accuracy by {100 / n:.1f} points"
        )
    if result is not None and result.seen:
        notes.append(
            f"{result.seen:,} of the {result.evaluation.n:,} test images are among those that the weights were "
            "trained on: the figures say little about new ones"
        )
    copies = 0 if result is None else result.copies
    if result is not None and result.top1_with_copies is not None:
        which = (
            "1 image of the test split is a copy"
            if copies == 1
            else f"{copies:,} images of the test split are copies"
        )
        counted = f"with {'it' if copies == 1 else 'them'} the accuracy would be {100 * result.top1_with_copies:.1f} %"
        notes.append(f"{which} of images learned from, and left out; {counted}")
    left = int((divided.splits == SPLITS.index("test")).sum()) - len(test) - copies
    if left:
        notes.append(
            f"{left:,} {'further ' if copies else ''}test images are copies of fitted ones, or have no label, and were left out"
        )
    untested = np.setdiff1d(divided.labels[divided.splits == SPLITS.index("train")], divided.labels[test])
    if len(untested) and result is not None:
        names = ", ".join(repr(divided.classes[label]) for label in untested[:5])
        notes.append(f"{len(untested)} of the classes have no image to test: {names}")
    if untrained:
        notes.append(
            "the weights are random: they were trained on nothing, so similar and different mean little; run again with "
            "trained weights"
        )
    return tuple(notes)
