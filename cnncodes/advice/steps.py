"""The steps of a run: look at the images, choose a recipe, follow it, test, report. Interrupted, it goes on.

Every step leaves a file in the run's folder and is skipped where that file is there: ``split.csv``,
``advice.json``, ``recipe.toml``, the codes or ``training/``, ``model.safetensors``, ``report.json``. Codes and
trainings go on inside themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.advice.copies import groups_of, near_pairs, pairs_of
from cnncodes.advice.decision import Advice, advise
from cnncodes.advice.division import (
    Division,
    draw_division,
    for_training,
    grown_division,
    own_division,
    read_division,
    write_division,
)
from cnncodes.advice.facts import Fact, upgraded
from cnncodes.advice.growth import known_images, remove_before
from cnncodes.advice.recipe import KEPT, Recipe, asked_fit, recipe_of_run
from cnncodes.advice.run_record import (
    ADVICE,
    BEFORE,
    CODES,
    LAYERS,
    MODEL,
    PREDICTIONS,
    REPORT,
    SPLIT,
    TRAINING,
    RunNote,
    RunOrder,
    RunPlan,
    RunReport,
    recipe_differences,
    same_file,
)
from cnncodes.advice.run_report import Made, chosen_head, make_plan, make_report, test_rows
from cnncodes.advice.sample import MOST_IMAGES, Gathered
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.codes.file import DONE, CodesFile, open_for_writing
from cnncodes.core.compute import Compute
from cnncodes.core.errors import CodesFileError, HeadError, ResumeError
from cnncodes.core.files import read_text
from cnncodes.core.outputs import write_whole
from cnncodes.core.records import from_value, to_value
from cnncodes.evaluation import EvaluationResult, Predictions, evaluate
from cnncodes.heads import fit_linear, load_model
from cnncodes.heads.splits import is_divided
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_files
from cnncodes.weights import Weights, with_fit

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class RunSteps:
    """What a run was given, and its steps in order; ``gathered`` is what the first extraction keeps for the advice."""

    catalog: Catalog
    weights: Weights | None
    folder: Path
    note: RunNote
    order: RunOrder
    gathered: Gathered | None = None

    def __post_init__(self) -> None:
        self.fit = asked_fit(self.order.recipe, self.order.assignments)
        if self.fit is not None and self.weights is not None:
            self.weights = with_fit(self.weights, self.fit)

    @property
    def compute(self) -> Compute:
        """Where the work is done."""
        return self.order.compute

    def plan(self, asked: Recipe | None) -> tuple[RunPlan, Recipe, Division, Advice | None]:
        """The steps before the recipe is followed: split, advice, choice of the recipe."""
        finished = (self.folder / REPORT).exists()

        def tell(what: str, record: Any) -> None:
            if self.order.told is not None and not finished:
                self.order.told(what, record)

        division = self.divide(gather=True)
        tell("split", division)
        advice = self._advise(division.applied(self.catalog), needed=asked is None)
        if advice is not None:
            tell("advice", advice)
        chosen = self._choose(asked, advice)
        plan = make_plan(self.folder, self.note, self.catalog, division, advice, chosen)
        tell("plan", plan)
        return plan, chosen, division, advice

    def follow(self, asked: Recipe | None) -> RunReport:
        """Every step that is not done yet."""
        plan, chosen, division, advice = self.plan(asked)
        divided = division.applied(self.catalog)
        path = self.folder / REPORT
        if path.exists():
            remove_before(self.folder)
            return RunReport.from_json(read_text(path)).placed(self.folder)
        made = (
            self._linear(chosen, divided)
            if chosen.method == "linear"
            else self._train(chosen, division, advice)
        )
        result = self._evaluate(made, divided, division.left_out)
        report = make_report(plan, self.note, division, divided, advice, made, result)
        write_whole(path, report.to_json())
        remove_before(self.folder)
        return report

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Note how long a step took, once it is done; a step that is made in two parts has their sum."""
        started = time.perf_counter()
        yield
        there = self.note["seconds"]
        took = there.get(step, 0.0) + time.perf_counter() - started
        self.note.keep(seconds={**there, step: round(took, 3)})

    def divide(self, gather: bool = False) -> Division:
        """The split that is given, the data's own, or one that is drawn once and kept; the codes that are there carry it.

        With ``gather`` the codes of the advice are computed in the pass that the split needs.
        """
        path = self.folder / SPLIT
        if path.exists():
            division = read_division(path, self.catalog, self.note.values)
            if self.order.division is not None and (division.splits != self.order.division.splits).any():
                raise ResumeError(
                    f"the run in '{self.folder}' has another split of the images.",
                    "Remove the folder, or choose another one with -o.",
                )
        else:
            division = self.order.division or self._new_division(gather)
            self.note.keep(**division.values)
            write_division(path, self.catalog, division)
        if (self.folder / CODES).exists():
            carry_splits(self.folder / CODES, division.applied(self.catalog))
        return division

    def _new_division(self, gather: bool) -> Division:
        codes = self._codes_for_copies(gather and not (self.folder / ADVICE).exists())
        known = known_images(self.folder, self.catalog, BEFORE)
        with self._timed("split"):
            if is_divided(self.catalog):
                division = self._own_division(codes)
                words = [f"{known.new:,} new since the run before", *known.words()] if known else []
                return dataclasses.replace(division, how="; ".join([division.how, *words]))
            usable, same, groups = self._groups(codes)
            options: dict[str, Any] = {"same": same, "share": self.order.share, "seed": self.order.seed}
            if known is None:
                return draw_division(self.catalog, usable, groups, **options)
            division = grown_division(self.catalog, usable, groups, known.splits, **options)
            return dataclasses.replace(division, how="; ".join([division.how, *known.words()]))

    def _own_division(self, codes: Path | None) -> Division:
        if codes is None or self.weights is None:
            return own_division(self.catalog)
        with CodesFile(codes) as file:
            return own_division(self.catalog, file, self.weights.architecture.late_layers[-1])

    def _codes_for_copies(self, gather: bool) -> Path | None:
        """Codes of all images, by which nearly equal ones are known; None without a network to make them."""
        if self.weights is None:
            return None
        path = self.folder / CODES
        with self._timed("codes"):
            layers = ",".join(self.weights.architecture.late_layers)
            self._extract(self.catalog, path, layers, "center", gather)
        return path

    def _groups(self, path: Path | None) -> tuple[Array, Array, Array]:
        """Which images can be read, and which are copies of each other: by content, and nearly, by their codes."""
        same = identical_files(self.catalog)
        pairs = [pairs_of(same)]
        usable = np.ones(len(self.catalog), np.bool_)
        if path is not None and self.weights is not None:
            with CodesFile(path) as codes:
                usable = codes.state == DONE
                rows = np.flatnonzero(usable)
                deepest = codes.read(self.weights.architecture.late_layers[-1], rows)
                near, _ = near_pairs(deepest, load_thresholds().near_copy)
            pairs.append(rows[near])
        return usable, same, groups_of(len(self.catalog), np.concatenate(pairs))

    def _extract(
        self,
        catalog: Catalog,
        path: Path,
        layers: str,
        crops: str,
        gather: bool = False,
        fit: str | None = None,
    ) -> None:
        """Make or go on with a codes file; the split that it was made with is brought up to date.

        With ``gather`` the advice's codes are computed in the same pass, if there are few enough images.
        """
        from cnncodes.codes.extraction import run_extraction
        from cnncodes.codes.planning import plan_extraction
        from cnncodes.codes.stream import executor_of, local

        assert self.weights is not None
        if path.exists():
            carry_splits(path, catalog)
        make = functools.partial(
            plan_extraction, catalog, path, self.weights, layers=layers, crops=crops, fit=fit, device=self.order.device,
            workers=self.order.workers, processes=self.order.processes,
        )  # fmt: skip
        plan = make()
        places = [self.folder / f"{BEFORE}{path.name}"]
        places += [self.order.codes / name for name in (CODES, LAYERS)] if self.order.codes else []
        for place in () if plan.resumes else filter(Path.exists, places):
            with contextlib.suppress(
                CodesFileError
            ):  # of other layers or another version: all images are computed
                plan = make(reuse=place)
                break
        also: dict[str, Any] = {}
        if gather and plan.known is None and executor_of(self.compute) is local:
            gathered = Gathered(self.weights, min(len(catalog), MOST_IMAGES))
            if gathered.fits(plan.settings, len(catalog)):
                self.gathered = gathered
                also = {"also": gathered.settings.stages, "take": gathered.take}
        run_extraction(plan, lambda _, *where: self.compute.progress(f"extracting {layers}", *where), **also)

    def _advise(self, divided: Catalog, needed: bool) -> Advice | None:
        """Advice on the images to fit, asked once; none where nothing pretrained is used.

        Nor where there are too few images to judge a network by, if a person has chosen the recipe.
        """
        if self.weights is None or self.order.division is not None:
            return None
        path = self.folder / ADVICE
        if path.exists():
            return Advice.from_json(read_text(path))
        with self._timed("advice"):
            try:
                advice = advise(
                    divided, self.weights, data=self.order.data, device=self.compute.device, workers=self.compute.workers,
                    seed=self.compute.seed, fit=self.fit,
                    progress=self.compute.progress, gathered=self.gathered,
                )  # fmt: skip
            except HeadError:
                if needed:
                    raise
                return None
            finally:
                self.gathered = None  # up to 300 MB
            write_whole(path, advice.to_json())
        return advice

    def _choose(self, asked: Recipe | None, advice: Advice | None) -> Recipe:
        """The recipe to follow, with every number; kept, and refused if it is another one later."""
        chosen = asked or self._resolved(advice)
        self.check_recipe(chosen)
        kept = self.folder / KEPT
        if not kept.exists():
            by = "person" if asked else "advice"
            untrained = self.weights is not None and self.weights.origin == "random"
            self.note.keep(recipe=chosen.name, chosen_by=by, method=chosen.method, untrained=untrained)
            write_whole(kept, chosen.to_toml())
        return chosen

    def _resolved(self, advice: Advice | None) -> Recipe:
        weights = self.weights.name if self.weights else None
        name, fit = (advice.recipe, advice.fit) if advice else ("", None)
        return recipe_of_run(name, self.order.assignments, weights, self.order.seed, fit)

    def advised(self) -> Recipe | None:
        """The recipe of the advice that is there, with what is asked to be changed in it."""
        path = self.folder / ADVICE
        return self._resolved(Advice.from_json(read_text(path))) if path.exists() else None

    def check_recipe(self, chosen: Recipe | None) -> None:
        """Raise ResumeError if the run follows another recipe already."""
        kept = self.folder / KEPT
        if chosen and kept.exists() and (changed := recipe_differences(kept, chosen.to_toml())):
            raise ResumeError(
                f"the run in '{self.folder}' follows another recipe: {', '.join(changed[:4])}.",
                "Repeat it as it was started, choose another folder with -o, or start anew with --overwrite.",
            )

    def _fitted(self, recipe: Recipe) -> Weights:
        """The weights, with the recipe's way to make a photograph a square."""
        assert self.weights is not None
        return self.weights if recipe.fit is None else with_fit(self.weights, recipe.fit)

    def _linear(self, recipe: Recipe, divided: Catalog) -> Made:
        """Codes of the recipe's layers, and its head on them."""
        assert self.weights is not None
        network = self.weights.architecture
        recipe = recipe.for_network(network)
        extract, head = recipe.extract, recipe.head
        seen = self._fitted(recipe).preprocessing
        plain = network.select(extract.layers) == network.late_layers and extract.crops == "center"
        plain &= seen == self.weights.preprocessing
        codes, path = self.folder / (CODES if plain else LAYERS), self.folder / MODEL
        with self._timed("codes"):
            self._extract(divided, codes, extract.layers, extract.crops, fit=recipe.fit)
        if not path.exists():
            with self._timed("fit"):
                self.compute.progress("fitting", 0, 0, "")
                fit = fit_linear(
                    codes,
                    layer=head.layer,
                    kind=head.kind,
                    C=head.C,
                    normalisation=head.normalize,
                    seed=self.compute.seed,
                )
                fit.model.save(path)
        model = load_model(path)
        with CodesFile(codes) as file:
            unreadable = file.problems()
        return Made(path, codes, chosen_head(model.stage, model.evidence), unreadable, model.stage)

    def _train(self, recipe: Recipe, division: Division, advice: Advice | None) -> Made:
        """A training in a folder of its own, which goes on where it stopped."""
        from cnncodes.networks import get_network
        from cnncodes.training import finetune, train

        splits = division.splits.copy()
        unreadable = dict(advice.unreadable) if advice else {}
        if (self.folder / CODES).exists():  # those that the division left out
            with CodesFile(self.folder / CODES) as codes:
                unreadable |= codes.problems()
        splits[[row for row, name in enumerate(self.catalog.names) if name in unreadable]] = 0
        divided = dataclasses.replace(self.catalog, splits=splits)
        split = for_training(divided, division.groups, self.compute.seed)
        if self.weights is not None:
            recipe = recipe.for_network(self.weights.architecture)
        settings = recipe.training_settings()
        folder, path = self.folder / TRAINING, self.folder / MODEL
        options: dict[str, Any] = {
            "split": split,
            "device": self.compute.device,
            "workers": self.compute.workers,
            "resume": (folder / "run.json").exists(),
            "progress": self.compute.progress,
            "notes": self.order.notes,
        }
        if not path.exists():
            with self._timed("training"):
                if recipe.method == "train":
                    assert recipe.network is not None and recipe.images is not None
                    result = train(
                        divided, get_network(recipe.network), recipe.images, folder, settings, **options
                    )
                else:
                    result = finetune(divided, self._fitted(recipe), folder, settings, **options)
            best = result.best
            values = {"epochs": len(result.epochs), "epoch": best.epoch, "val_accuracy": best.val_accuracy}
            self.note.keep(chosen=to_value(Fact("epoch", values)), unreadable=result.unreadable)
            same_file(result.model, path)
        unreadable |= self.note.values.get("unreadable", {})
        return Made(path, None, from_value(upgraded(self.note["chosen"]), Fact), unreadable)

    def _evaluate(self, made: Made, divided: Catalog, copies: Array) -> EvaluationResult | None:
        """The test images, without copies of fitted ones and without classes that could not be learned."""
        model = load_model(made.path)
        known = np.isin(
            divided.labels, [k for k, name in enumerate(divided.classes) if name in model.classes]
        )
        known[[row for row, name in enumerate(divided.names) if name in made.unreadable]] = False
        rows, copies = (part[known[part]] for part in (test_rows(divided, copies), copies))
        if not len(rows):
            return None
        with self._timed("test"):
            self.compute.progress("testing", 0, len(rows), "")
            if made.codes is not None:
                result = evaluate(model, made.codes, rows=rows, copies=copies)
                answers = Predictions.of(result)
            else:
                result = evaluate(
                    model, divided, rows=rows, copies=copies, device=self.compute.device, workers=self.compute.workers,
                    processes=self.compute.processes,
                    progress=lambda _, done, total, word: self.compute.progress("testing", done, total, word),
                )  # fmt: skip
                answers = Predictions.of(result, np.concatenate([rows, copies]))
            answers.save(self.folder / PREDICTIONS)
        return result


def carry_splits(path: Path, catalog: Catalog) -> None:
    """Let a codes file of the same images have the catalog's splits, so that whatever reads it tests on the same images."""
    with CodesFile(path) as codes:
        there = codes.catalog
    if there.names == catalog.names and (there.splits != catalog.splits).any():
        with open_for_writing(path) as file:
            file["images/split"][:] = catalog.splits
