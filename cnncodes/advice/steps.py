"""A run: what a person asks for, checked before any work, and its steps: split, advice, recipe, model, test, report.

Every step leaves a file in the run's folder and is skipped where that file is there: ``split.csv``, ``advice.json``,
``recipe.toml``, the codes or ``training/``, ``model.safetensors``, ``report.json``. So an interrupted run goes on; codes and
trainings go on inside themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.advice import division as divisions
from cnncodes.advice import run_folder, run_record
from cnncodes.advice.decision import Advice, advise
from cnncodes.advice.division import Division, known_images, write_division
from cnncodes.advice.facts import Fact, upgraded
from cnncodes.advice.findings import groups_of, near_pairs, pairs_of
from cnncodes.advice.recipe import KEPT, Recipe, asked_fit, find_recipe, load_recipe, recipe_of_run
from cnncodes.advice.run_folder import BEFORE, NOTE, RunNote, remove_before, same_file
from cnncodes.advice.run_record import (
    ADVICE,
    CODES,
    LAYERS,
    MODEL,
    PREDICTIONS,
    REPORT,
    SPLIT,
    TRAINING,
    Made,
    RunOrder,
    RunPlan,
    RunReport,
    make_report,
    test_rows,
)
from cnncodes.advice.sample import MOST_IMAGES, Gathered
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.codes.file import DONE, CodesFile, open_for_writing
from cnncodes.core.errors import (
    CatalogError,
    CodesFileError,
    HeadError,
    OptionError,
    OutputExistsError,
    ResumeError,
)
from cnncodes.core.files import read_text
from cnncodes.core.outputs import locked, write_whole
from cnncodes.core.records import from_value, to_value
from cnncodes.evaluation import EvaluationResult, Predictions, evaluate
from cnncodes.heads import fit_linear, load_model
from cnncodes.heads.splits import is_divided
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_files
from cnncodes.training.folder import InterruptedTrainingError
from cnncodes.weights import Weights, with_fit
from cnncodes.weights.preprocessing import Fit

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

Array = np.ndarray[Any, Any]


def run(
    catalog: Catalog, weights: AnyWeights | None, folder: str | os.PathLike[str], **options: Any
) -> RunReport:
    """From images to a tested model: split, advise, fit or train, evaluate, report.

    Started again with the same arguments it goes on where it was interrupted; a finished run gives its report. If the images have
    changed since, it goes on with them: new ones join the training set, the test images stay, and the result before is kept in
    :attr:`RunReport.history`.

    Parameters
    ----------
    catalog : Catalog
        With labels. Without val or test images a fifth of each class is kept to test, copies on one side. Of val
        and test without the other, that one tests, and whatever is chosen is chosen inside train.
    weights : Weights, name, path or None
        Where the network starts; None for a recipe that trains from new numbers.
    folder : path
        Made if it is missing.
    **options
        The fields of :class:`~cnncodes.advice.RunOrder`: ``recipe``, ``assignments``, ``test``, ``seed``, ``device``, ``overwrite`` ...

    Raises
    ------
    ResumeError
        If the folder holds a run of other weights, seed or recipe, or of images of which fewer than half are there; names what
        changed.
    OutputExistsError
        If the folder holds anything else.
    OptionError
        If ``overwrite`` would take away what is to be read: recipe, weights, list of images, an image.
    HeadError, CatalogError
        If there are too few images or classes.
    InterruptedTrainingError
        After SIGTERM or SIGINT while training, once everything is saved.
    """
    return follow_order(RunOrder(**options), catalog, weights, Path(folder))


def follow_order(order: RunOrder, catalog: Catalog, weights: AnyWeights | None, folder: Path) -> RunReport:
    """:func:`run` of an order."""
    with _begun(order, catalog, weights, folder) as (steps, asked):
        return steps.follow(asked)


def plan_run(
    catalog: Catalog, weights: AnyWeights | None, folder: str | os.PathLike[str], **options: Any
) -> RunPlan:
    """What :func:`run` with the same arguments would do: its split, what to look at in the data, and the recipe.

    It stops before the recipe is followed; what was computed stays in the folder, and :func:`run` goes on from there. Parameters
    and errors are those of :func:`run`; also ResumeError if the folder holds a result of images that have changed since.
    """
    with _begun(RunOrder(**options), catalog, weights, Path(folder), planned=True) as (steps, asked):
        return steps.plan(asked)[0]


@contextmanager
def _begun(
    order: RunOrder, catalog: Catalog, weights: AnyWeights | None, place: Path, planned: bool = False
) -> Iterator[tuple[RunSteps, Recipe | None]]:
    """The steps of the run in its locked folder, and the recipe that is asked for, once all of it is known to fit together."""
    from cnncodes.weights import load_weights

    weights = None if weights is None else load_weights(weights)
    asked = _check(order, catalog, weights, place)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / "run"):
        anew = order.overwrite and (place / NOTE).exists()
        if anew:
            _check_inputs_stay(order, catalog, weights, place, "--overwrite takes away before it starts anew")
            run_folder.remove_run(place)
        note = RunNote(place, run_folder.inputs_of(catalog, weights, order), beside=anew)
        steps = RunSteps(catalog, weights, place, note, order)
        if note.images_changed and not divisions.is_unchanged(note, catalog):
            if planned and (place / REPORT).exists():
                raise ResumeError(
                    f"the images of the finished run in '{place}' have changed, and a plan for them would replace its result.",
                    "Leave out --dry-run to go on with them, or choose another folder with -o.",
                )
            steps.check_recipe(asked or steps.advised())
            _check_inputs_stay(order, catalog, weights, place, "is made again, since the images have changed")
            run_folder.set_aside(note)
        try:
            yield steps, asked
        except InterruptedTrainingError as error:
            raise InterruptedTrainingError(
                error.problem, "Repeat the same command: it goes on there."
            ) from None


def _check(order: RunOrder, catalog: Catalog, weights: Weights | None, place: Path) -> Recipe | None:
    """Refuse before any work what cannot be done; the recipe that is asked for."""
    if place.exists() and not place.is_dir():
        raise OutputExistsError(f"'{place}' is a file.", "Name a folder with -o.")
    if weights is None and (order.recipe is None or load_recipe(order.recipe).method != "train"):
        raise OptionError(
            "there are no weights to start from.", "Give weights, or a recipe of the method 'train'."
        )
    classes = {*catalog.labels.tolist()} - {-1}
    if not classes:
        raise CatalogError(
            "the images have no labels.",
            "Put them into one folder per class, or give a CSV with labels; to look at images without labels: "
            f"cnncodes explore {order.data or shlex.quote(str(catalog.root))}",
        )
    if len(classes) < 2:
        raise HeadError(
            "the images have only one class.", "Give images of two classes or more, a folder each."
        )
    if order.test is not None and not 0 < order.test < 1:
        raise OptionError(
            f"{order.test:g} is no share of the images to keep for the test.",
            "Give a number between 0 and 1, such as 0.25.",
        )
    if order.test is not None and is_divided(catalog):
        raise OptionError(
            f"the images have a split of their own, so a share of {order.test:g} cannot be kept for the test.",
            "Leave out --test, or give the images without their split.",
        )
    if place.is_dir() and not (place / NOTE).exists():
        run_folder.check_empty(place)
    if order.recipe is None:
        return None
    return recipe_of_run(order.recipe, order.assignments, weights.name if weights else None, order.seed)


def _check_inputs_stay(
    order: RunOrder, catalog: Catalog, weights: Weights | None, folder: Path, why: str
) -> None:
    """Raise OptionError if recipe, weights, a list of images or an image is a file of the run, which is going to be taken away."""

    def entry(path: Path) -> Path:
        return path.parent.resolve() / path.name  # a link counts, not what it leads to

    left = {entry(path) for path in run_folder.left_by_run(folder)}
    names = {path.name for path in left}
    read = [("the recipe", find_recipe(os.fspath(order.recipe)))] if order.recipe is not None else []
    read += [("the weights file", Path(weights.name))] if weights is not None else []
    with contextlib.suppress(ValueError):  # words for a person, no command
        read += [("the list of images", Path(word)) for word in shlex.split(order.data or "")]
    read += [("the image", catalog.root / name) for name in catalog.names if name.rpartition("/")[2] in names]
    for what, path in read:
        if {entry(path), path.resolve()} & left:
            raise OptionError(
                f"{what} '{path}' is of the run in '{folder}', which {why}.",
                "Copy the file to another place and name the copy, or choose another folder with -o.",
            )


@dataclass(eq=False)
class RunSteps:
    """What a run was given, and its steps in order."""

    catalog: Catalog
    weights: Weights | None
    folder: Path
    note: RunNote
    order: RunOrder
    gathered: Gathered | None = None  # what the first extraction keeps for the advice

    def __post_init__(self) -> None:
        self.compute = compute = self.order.compute
        self.machine = {"device": compute.device, "workers": compute.workers, "progress": compute.progress}
        self.fit = asked_fit(self.order.recipe, self.order.assignments)
        if self.fit is not None and self.weights is not None:
            self.weights = with_fit(self.weights, self.fit)

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
        plan = run_record.make_plan(self.folder, self.note, self.catalog, division, advice, chosen)
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
        linear = chosen.method == "linear"
        made = self._linear(chosen, divided) if linear else self._train(chosen, division, advice)
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

    # --- the split

    def divide(self, gather: bool = False) -> Division:
        """The split that is given, the data's own, or one drawn once; ``gather``: codes of the advice in the pass that it needs."""
        path = self.folder / SPLIT
        if path.exists():
            division = divisions.read_division(path, self.catalog, self.note.values)
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
        codes = None  # of all images, by which nearly equal ones are known
        if self.weights is not None:
            codes, layers = self.folder / CODES, ",".join(self.weights.architecture.late_layers)
            with self._timed("codes"):
                gather = gather and not (self.folder / ADVICE).exists()
                self._extract(self.catalog, codes, layers, "center", gather)
        known = known_images(self.folder, self.catalog, BEFORE)
        changes = known.words() if known else []
        with self._timed("split"):
            if is_divided(self.catalog):
                late = "" if self.weights is None else self.weights.architecture.late_layers[-1]
                with CodesFile(codes) if codes else contextlib.nullcontext() as file:
                    division = divisions.own_division(self.catalog, file, late)
                changes = [f"{known.new:,} new since the run before", *changes] if known else []
            else:
                usable, same, groups = self._groups(codes)
                options: dict[str, Any] = {"same": same, "share": self.order.share, "seed": self.order.seed}
                division = (
                    divisions.grown_division(self.catalog, usable, groups, known.splits, **options)
                    if known
                    else divisions.draw_division(self.catalog, usable, groups, **options)
                )
            return dataclasses.replace(division, how="; ".join([division.how, *changes]))

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
        fit: Fit | None = None,
    ) -> None:
        """Make or go on with a codes file, with today's split; ``gather``: in one pass with the advice's codes, of few images."""
        from cnncodes.codes.extraction import run_extraction
        from cnncodes.codes.planning import plan_extraction
        from cnncodes.codes.stream import executor_of, local

        assert self.weights is not None
        if path.exists():
            carry_splits(path, catalog)
        where = {name: getattr(self.compute, name) for name in ("device", "workers", "processes")}
        options = {"layers": layers, "crops": crops, "fit": fit, **where}
        make = functools.partial(plan_extraction, catalog, path, self.weights, **options)
        plan = make()
        places = [self.folder / f"{BEFORE}{path.name}"]
        places += [self.order.codes / name for name in (CODES, LAYERS)] if self.order.codes else []
        for place in () if plan.resumes else filter(Path.exists, places):
            # Of other layers or another version: all images are computed.
            with contextlib.suppress(CodesFileError):
                plan = make(reuse=place)
                break
        also: dict[str, Any] = {}
        if gather and plan.known is None and executor_of(self.compute) is local:
            gathered = Gathered(self.weights, min(len(catalog), MOST_IMAGES))
            if gathered.fits(plan.settings, len(catalog)):
                self.gathered = gathered
                also = {"also": gathered.settings.stages, "take": gathered.take}
        run_extraction(plan, lambda _, *where: self.compute.progress(f"extracting {layers}", *where), **also)

    # --- the recipe

    def _advise(self, divided: Catalog, needed: bool) -> Advice | None:
        """Advice, asked once; none without weights, nor of too few images to judge, if it is not ``needed``."""
        if self.weights is None or self.order.division is not None:
            return None
        path = self.folder / ADVICE
        if path.exists():
            return Advice.from_json(read_text(path))
        with self._timed("advice"):
            try:
                options: dict[str, Any] = {
                    "seed": self.compute.seed,
                    "gathered": self.gathered,
                    **self.machine,
                }
                advice = advise(divided, self.weights, data=self.order.data, fit=self.fit, **options)
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
        if chosen and kept.exists() and (changed := run_folder.recipe_differences(kept, chosen.to_toml())):
            raise ResumeError(
                f"the run in '{self.folder}' follows another recipe: {', '.join(changed[:4])}.",
                "Repeat it as it was started, choose another folder with -o, or start anew with --overwrite.",
            )

    # --- the model and its test

    def _linear(self, recipe: Recipe, divided: Catalog) -> Made:
        """Codes of the recipe's layers, and its head on them."""
        assert self.weights is not None
        network = self.weights.architecture
        recipe = recipe.for_network(network)
        extract, head = recipe.extract, recipe.head
        plain = network.select(extract.layers) == network.late_layers and extract.crops == "center"
        plain &= _fitted(self.weights, recipe).preprocessing == self.weights.preprocessing
        codes, path = self.folder / (CODES if plain else LAYERS), self.folder / MODEL
        with self._timed("codes"):
            self._extract(divided, codes, extract.layers, extract.crops, fit=recipe.fit)
        if not path.exists():
            with self._timed("fit"):
                self.compute.progress("fitting", 0, 0, "")
                options: dict[str, Any] = {
                    "C": head.C,
                    "normalisation": head.normalize,
                    "seed": self.compute.seed,
                }
                fit_linear(codes, layer=head.layer, kind=head.kind, **options).model.save(path)
        model = load_model(path)
        with CodesFile(codes) as file:
            unreadable = file.problems()
        return Made(path, codes, run_record.chosen_head(model.stage, model.evidence), unreadable, model.stage)

    def _train(self, recipe: Recipe, division: Division, advice: Advice | None) -> Made:
        """A training in a folder of its own, which goes on where it stopped."""
        from cnncodes.networks import get_network
        from cnncodes.training import finetune, train

        unreadable = dict(advice.unreadable) if advice else {}
        if (self.folder / CODES).exists():  # those that the division left out
            with CodesFile(self.folder / CODES) as codes:
                unreadable |= codes.problems()
        splits = division.splits.copy()
        splits[[row for row, name in enumerate(self.catalog.names) if name in unreadable]] = 0
        divided = dataclasses.replace(self.catalog, splits=splits)
        if self.weights is not None:
            recipe = recipe.for_network(self.weights.architecture)
        settings = recipe.training_settings()
        folder, path = self.folder / TRAINING, self.folder / MODEL
        options: dict[str, Any] = {
            "split": divisions.for_training(divided, division.groups, self.compute.seed),
            "resume": (folder / "run.json").exists(),
            "notes": self.order.notes,
            **self.machine,
        }
        if not path.exists():
            with self._timed("training"):
                if recipe.method == "train":
                    network = get_network(recipe.network)
                    result = train(divided, network, recipe.images, folder, settings, **options)
                else:
                    assert self.weights is not None
                    weights = _fitted(self.weights, recipe)
                    result = finetune(divided, weights, folder, settings, **options)
            best = result.best
            values = {"epochs": len(result.epochs), "epoch": best.epoch, "val_accuracy": best.val_accuracy}
            self.note.keep(chosen=to_value(Fact("epoch", values)), unreadable=result.unreadable)
            same_file(result.model, path)
        unreadable |= self.note.values.get("unreadable", {})
        return Made(path, None, from_value(upgraded(self.note["chosen"]), Fact), unreadable)

    def _evaluate(self, made: Made, divided: Catalog, copies: Array) -> EvaluationResult | None:
        """The test images, without copies of fitted ones and without classes that could not be learned."""
        model = load_model(made.path)
        learned = [k for k, name in enumerate(divided.classes) if name in model.classes]
        known = np.isin(divided.labels, learned)
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
                options = self.machine | {
                    "progress": lambda _, *where: self.compute.progress("testing", *where)
                }
                options["processes"] = self.compute.processes
                result = evaluate(model, divided, rows=rows, copies=copies, **options)
                answers = Predictions.of(result, np.concatenate([rows, copies]))
            answers.save(self.folder / PREDICTIONS)
        return result


def _fitted(weights: Weights, recipe: Recipe) -> Weights:
    """The weights, with the recipe's way to make a photograph a square."""
    return weights if recipe.fit is None else with_fit(weights, recipe.fit)


def carry_splits(path: Path, catalog: Catalog) -> None:
    """Let a codes file of the same images have the catalog's splits, so that whatever reads it tests on the same images."""
    with CodesFile(path) as codes:
        there = codes.catalog
    if there.names == catalog.names and (there.splits != catalog.splits).any():
        with open_for_writing(path) as file:
            file["images/split"][:] = catalog.splits
