"""What a person asks of a run, what it is going to do, and its report: chosen what and why, what it is worth, what to beware of."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.decision import Advice
from cnncodes.advice.facts import Fact, Finding, finding_value, note_value, reason_value, upgraded
from cnncodes.advice.recipe import KEPT, Recipe
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import parse_json, reading
from cnncodes.core.records import from_value, to_value
from cnncodes.evaluation import Evaluation, EvaluationResult
from cnncodes.heads.splits import HELD_OUT
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.digests import identical_files

if TYPE_CHECKING:
    from cnncodes.advice.division import Division
    from cnncodes.advice.run_folder import RunNote

Array = npt.NDArray[Any]

# The files in a run's folder.
SPLIT, ADVICE, MODEL, REPORT = "split.csv", "advice.json", "model.safetensors", "report.json"
TRAINING = "training"  # a folder
CODES = "codes.h5"  # of the last stages; LAYERS where a recipe wants others
LAYERS = "layers.h5"
PREDICTIONS = "predictions.h5"  # of the test images
FEW_TO_TEST = 50  # images: with fewer, an accuracy is uncertain by some ten points


@dataclass(frozen=True)
class Earlier:
    """A result that a run had before its images changed."""

    finished: str  # when, as ISO 8601
    images: int
    test: int  # of these
    top1: float | None  # accuracy, 0..1; None if nothing was tested
    recipe: str


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What a person asks of a run: the keywords of :func:`~cnncodes.advice.run` and :func:`~cnncodes.advice.plan_run`."""

    recipe: str | os.PathLike[str] | None = None  # by default the advised one
    assignments: Sequence[str] = ()  # changes in the recipe: ``"train.epochs=3"``
    data: str | None = None  # how the images are named in a command
    test: float | None = None  # share of each class to test, 0..1, where images have no split; None: 0.2
    device: str = "auto"
    workers: int | None = None  # decoding threads
    processes: int = 1  # worker processes that extract and test
    seed: int = 0
    progress: Progress | None = None  # (step, done, total, word)
    notes: Callable[[str], None] | None = None  # told a restart, a loss that stands still ...
    # Told as soon as it is known: "split" and Division, "advice" and Advice, "plan" and RunPlan.
    told: Callable[[str, Any], None] | None = None
    overwrite: bool = False  # take away what a run has left in the folder, and start anew
    division: Division | None = None  # already made; no advice is computed then: name the recipe
    codes: Path | None = None  # folder of a run on the same images whose codes may be used

    @property
    def share(self) -> float:
        """Of each class, to keep for the test."""
        return HELD_OUT if self.test is None else self.test

    @property
    def compute(self) -> Compute:
        """Where the work is done."""
        progress = self.progress or no_progress
        return Compute(self.device, self.workers, self.processes, seed=self.seed, progress=progress)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is going to do."""

    folder: str
    images: int
    classes: int
    train: int
    val: int  # 0 where folds choose
    test: int
    split: str  # how the images were divided, in words
    problems: tuple[Finding, ...]
    unreadable: dict[str, str]  # every image that was needed and could not be read, with the reason
    recipe: str  # its name
    method: str
    summary: str  # the recipe's own line about itself
    chosen_by: str  # "advice" or "person"
    reasons: tuple[Fact, ...]  # why this recipe
    recipe_text: str  # the resolved recipe as TOML
    expected_seconds: float | None = None  # by the advice; None of a recipe that a person has chosen

    def to_json(self) -> str:
        """JSON object with one entry per field, and the sentences of findings and reasons."""
        return json.dumps(self._values())

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = to_value(self)
        values["problems"] = [finding_value(finding) for finding in self.problems]
        values["reasons"] = [reason_value(fact) for fact in self.reasons]
        return values


@dataclass(frozen=True, kw_only=True)
class RunReport(RunPlan):
    """What a run did: what its plan has, and the result. The first reason says what was chosen inside the recipe."""

    model: str
    advice: Advice | None  # None for a network that was trained from new numbers
    evaluation: Evaluation | None  # None if no image could be kept to test
    notes: tuple[Fact, ...]  # what makes the figures less certain than they look
    files: dict[str, str]  # what lies in the folder, by what it is
    versions: dict[str, str]
    seconds: dict[str, float]  # of each step
    command: str  # to predict with the model
    finished: str = ""  # when, as ISO 8601
    stage: str = ""  # that a linear head reads; empty for a training
    left_out: tuple[int, ...] = ()  # rows of ``split.csv``: test images that are copies of images to fit
    copies: int = 0  # of these, those that could be read
    top1_with_copies: float | None = None  # what the accuracy would be with them
    untrained: bool = False  # it started from random numbers
    history: tuple[Earlier, ...] = ()  # results of before the images changed, the oldest first

    def placed(self, folder: Path) -> RunReport:
        """The same with the paths of where its folder is now."""
        model = str(folder / MODEL)
        return dataclasses.replace(self, folder=str(folder), model=model, command=_predict(model))

    def to_json(self) -> str:
        """JSON object with one entry per field, and the sentences of findings, reasons, notes and advice."""
        values = self._values()
        values["notes"] = [note_value(fact) for fact in self.notes]
        if self.advice is not None:
            values["advice"] = parse_json(self.advice.to_json())
        return json.dumps(values)

    @classmethod
    @reading(
        "the report",
        CnnCodesError,
        "The file is damaged, or was written by another version of cnncodes; run again into another folder.",
    )
    def from_json(cls, text: str) -> RunReport:
        """Inverse of :meth:`to_json`; raises CnnCodesError for anything else."""
        values: dict[str, Any] = parse_json(text)
        for name in ("problems", "reasons", "notes"):  # once these were sentences
            values[name] = [upgraded(value) for value in values[name]]
        if values["advice"] is not None:
            values["advice"] = advice = Advice.from_values(values["advice"])
            values.setdefault("untrained", advice.untrained)  # older reports do not say it themselves
        return from_value(values, cls)


@dataclass(frozen=True)
class Made:
    """What following a recipe gave."""

    path: Path  # of the model
    codes: Path | None  # that the head reads
    chosen: Fact  # inside the recipe
    unreadable: dict[str, str]
    stage: str = ""  # that the head reads


def _predict(model: str) -> str:
    """What to type to ask a model about a new photograph."""
    return f"cnncodes predict {shlex.quote(model)} photo.jpg"


def test_rows(divided: Catalog, left_out: npt.ArrayLike = ()) -> Array:
    """Labelled test images that are no copies of fitted ones, in the same or (``left_out``) in other files."""
    test = np.flatnonzero(divided.splits == SPLITS.index("test"))
    same = identical_files(divided)
    fitted = np.isin(divided.splits, (SPLITS.index("train"), SPLITS.index("val")))
    copied = np.isin(same[test], same[fitted & (same >= 0)])
    return test[~copied & (divided.labels[test] >= 0) & ~np.isin(test, np.asarray(left_out, np.int64))]


def make_plan(
    folder: Path, note: RunNote, catalog: Catalog, division: Division, advice: Advice | None, recipe: Recipe
) -> RunPlan:
    """What a run is going to do, once its recipe is chosen."""
    counts = dict(zip(SPLITS, np.bincount(division.splits, minlength=len(SPLITS)).tolist(), strict=True))
    by, expected = note["chosen_by"], None
    why: tuple[Fact, ...] = ()
    if advice and by == "advice":
        why = (*advice.reasons, *filter(None, (advice.close,)))
        expected = advice.advised.seconds
    elif advice:
        if advice.recipe != note["recipe"]:
            why = (Fact("requested", {"advised": advice.recipe}),)
        if advice.fit and recipe.method != "train":  # not followed: the recipe is the person's
            why += tuple(fact for fact in advice.reasons if fact.kind == "fit")
    return RunPlan(
        folder=str(folder),
        images=len(catalog),
        classes=len(np.unique(catalog.labels[division.splits == SPLITS.index("train")])),
        train=counts["train"],
        val=counts["val"],
        test=counts["test"],
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
    files = {"model": MODEL, "split": SPLIT, "recipe": KEPT, "report": REPORT}
    files |= {"advice": ADVICE} if advice else {}
    files |= {"predictions": PREDICTIONS} if result else {}
    files |= {"codes": made.codes.name} if made.codes else {"training": TRAINING}
    untrained = note.values.get("untrained", False)
    planned = vars(plan) | {
        "test": result.evaluation.n if result else 0,
        "unreadable": {**plan.unreadable, **made.unreadable, **(result.scores.problems if result else {})},
        "reasons": (made.chosen, *plan.reasons),
    }
    return RunReport(
        **planned,
        model=str(made.path),
        advice=advice,
        evaluation=result.evaluation if result else None,
        stage=made.stage,
        untrained=untrained,
        left_out=tuple(division.left_out.tolist()),
        copies=result.copies if result else 0,
        top1_with_copies=result.top1_with_copies if result else None,
        notes=_notes(test_rows(divided, division.left_out), divided, result, untrained),
        files=files,
        versions=note["versions"],
        seconds=note["seconds"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        command=_predict(str(made.path)),
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
    if result is None:
        notes.append(Fact("untested"))
    else:
        tested = result.evaluation.n
        if tested < FEW_TO_TEST:
            notes.append(Fact("few-tested", {"tested": tested}))
        if result.seen:
            notes.append(Fact("seen", {"seen": result.seen, "tested": tested}))
        if result.top1_with_copies is not None:
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
