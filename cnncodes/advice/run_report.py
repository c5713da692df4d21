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
from cnncodes.advice.facts import Fact
from cnncodes.advice.recipe import KEPT, Recipe
from cnncodes.advice.run_record import (
    ADVICE,
    MODEL,
    PREDICTIONS,
    REPORT,
    SPLIT,
    TRAINING,
    Earlier,
    RunNote,
    RunPlan,
    RunReport,
    predict_command,
)
from cnncodes.core.records import from_value
from cnncodes.evaluation import EvaluationResult
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.digests import identical_files

Array = npt.NDArray[Any]

FEW_TO_TEST = 50  # images: with fewer, an accuracy is uncertain by some ten points


@dataclass(frozen=True)
class Made:
    """What a recipe gave: the model's file, on what it is evaluated, what was chosen in it, and the stage read."""

    path: Path
    codes: Path | None
    chosen: Fact
    unreadable: dict[str, str]
    stage: str = ""


def test_rows(divided: Catalog, left_out: npt.ArrayLike = ()) -> Array:
    """Labelled test images that are no copies of fitted ones, in the same or (``left_out``) in other files."""
    test = np.flatnonzero(divided.splits == SPLITS.index("test"))
    same = identical_files(divided)
    fitted = np.isin(divided.splits, (SPLITS.index("train"), SPLITS.index("val")))
    copied = np.isin(same[test], same[fitted & (same >= 0)])
    return test[~copied & (divided.labels[test] >= 0) & ~np.isin(test, np.asarray(left_out, np.int64))]


def make_plan(
    folder: Path,
    note: RunNote,
    catalog: Catalog,
    division: Division,
    advice: Advice | None,
    recipe: Recipe,
) -> RunPlan:
    """What a run is going to do, once its recipe is chosen."""
    counts = np.bincount(division.splits, minlength=len(SPLITS))
    by, expected = note["chosen_by"], None
    why: tuple[Fact, ...] = ()
    if advice and by == "advice":
        why = (*advice.reasons, *filter(None, (advice.close,)))
        expected = advice.advised.seconds
    elif advice and advice.recipe != note["recipe"]:
        why = (Fact("requested", {"advised": advice.recipe}),)
    if (
        advice and by == "person" and advice.fit and recipe.method != "train"
    ):  # not followed: the recipe is the person's
        why += tuple(fact for fact in advice.reasons if fact.kind == "fit")
    return RunPlan(
        folder=str(folder),
        images=len(catalog),
        classes=len(np.unique(catalog.labels[division.splits == SPLITS.index("train")])),
        train=int(counts[SPLITS.index("train")]),
        val=int(counts[SPLITS.index("val")]),
        test=int(counts[SPLITS.index("test")]),
        split=division.how,
        problems=advice.warnings if advice else (),
        unreadable=dict(advice.unreadable) if advice else {},
        recipe=note["recipe"],
        method=recipe.method,
        summary=recipe.summary,
        chosen_by=by,
        reasons=why,
        expected_seconds=expected,
        recipe_text=recipe.to_toml(),
    )


def make_report(
    plan: RunPlan,
    note: RunNote,
    division: Division,
    divided: Catalog,
    advice: Advice | None,
    made: Made,
    result: EvaluationResult | None,
) -> RunReport:
    """The report of a run whose steps are all done."""
    unreadable = {**plan.unreadable, **made.unreadable}
    unreadable |= result.scores.problems if result else {}
    files = {"model": MODEL, "split": SPLIT, "recipe": KEPT, "report": REPORT}
    files |= {"advice": ADVICE} if advice else {}
    files |= {"predictions": PREDICTIONS} if result else {}
    files |= {"codes": made.codes.name} if made.codes else {"training": TRAINING}
    untrained = note.values.get("untrained", False)
    planned = vars(plan) | {
        "test": 0 if result is None else result.evaluation.n,
        "unreadable": unreadable,
        "reasons": (made.chosen, *plan.reasons),
    }
    return RunReport(
        **planned,
        model=str(made.path),
        advice=advice,
        evaluation=None if result is None else result.evaluation,
        stage=made.stage,
        untrained=untrained,
        left_out=tuple(division.left_out.tolist()),
        copies=0 if result is None else result.copies,
        top1_with_copies=None if result is None else result.top1_with_copies,
        notes=_notes(test_rows(divided, division.left_out), divided, result, untrained),
        files=files,
        versions=note["versions"],
        seconds=note["seconds"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        command=predict_command(str(made.path)),
        history=from_value(note.values.get("history", []), tuple[Earlier, ...]),
    )


def chosen_head(stage: str, evidence: dict[str, Any]) -> Fact:
    """The stage that a head reads and what it is worth there, the C, and what chose both."""
    choice = evidence["fit"]["choice"]
    if choice is None:
        return Fact("head", {"stage": stage})
    accuracy = choice["accuracy"][choice["C"].index(choice["best"])]
    chosen = {"C": choice["best"], "folds": choice.get("folds", 0), "how": choice["how"]}
    return Fact("head", {"stage": stage, "accuracy": accuracy, **chosen})


def _notes(
    test: Array, divided: Catalog, result: EvaluationResult | None, untrained: bool
) -> tuple[Fact, ...]:
    """What makes the figures less certain than they look."""
    notes, copies = [], 0
    tested = 0 if result is None else result.evaluation.n
    if result is None:
        notes.append(Fact("untested"))
    elif tested < FEW_TO_TEST:
        notes.append(Fact("few-tested", {"tested": tested}))
    if result is not None and result.seen:
        notes.append(Fact("seen", {"seen": result.seen, "tested": tested}))
    if result is not None and result.top1_with_copies is not None:
        copies = result.copies
        notes.append(Fact("copies", {"copies": copies, "top1": result.top1_with_copies}))
    left = int((divided.splits == SPLITS.index("test")).sum()) - len(test) - copies
    if left:
        notes.append(Fact("left-out", {"images": left, "further": bool(copies)}))
    untested = np.setdiff1d(divided.labels[divided.splits == SPLITS.index("train")], divided.labels[test])
    if len(untested) and result is not None:
        names = [divided.classes[label] for label in untested[:5]]
        notes.append(Fact("classes-untested", {"count": len(untested), "names": names}))
    return (*notes, Fact("untrained")) if untrained else tuple(notes)
