"""Several networks, weights and recipes on one split of the same images: which is best, and by how much.

Each model is a run in a folder of its own, so that it goes on where it stopped, and everything that reads a run reads it.
"""

from __future__ import annotations

import csv
import functools
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnncodes.advice.division import Division, read_division, write_division
from cnncodes.advice.recipe import load_recipe, recipe_files, recipe_of_run
from cnncodes.advice.run_folder import (
    NOTE,
    RECORD,
    SETTINGS,
    TABLE,
    TRY,
    RunNote,
    finished_run,
    inputs_of,
    keep_mark,
    read_split,
    weights_mark,
)
from cnncodes.advice.run_record import PREDICTIONS, SPLIT, RunOrder, RunReport
from cnncodes.advice.steps import RunSteps, follow_order
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.codes.file import CodesFile
from cnncodes.codes.stream import settings_of, stream
from cnncodes.core.compute import Compute, no_progress
from cnncodes.core.errors import CatalogError, CnnCodesError, OptionError, OutputExistsError, ResumeError
from cnncodes.core.files import cells, read_json
from cnncodes.core.outputs import locked, replacing, write_whole
from cnncodes.core.records import read_record, to_json, to_value
from cnncodes.evaluation import Predictions
from cnncodes.evaluation.evaluating import paired_interval
from cnncodes.evaluation.metrics import wilson_interval
from cnncodes.images.catalog import SPLITS, Catalog
from cnncodes.images.digests import catalog_digests
from cnncodes.networks import get_network
from cnncodes.networks.definitions import LIBRARIES, NETWORKS, TANH
from cnncodes.training.folder import InterruptedTrainingError

if TYPE_CHECKING:
    from cnncodes.weights import Weights

PICTURE = "compare.png"
KIND = "cnncodes compare"
#: Recipes by the method that most people mean.
USUAL = {"linear": "small-similar", "finetune": "large-similar"}
TIMED = 64  # images, for the speed


@dataclass(frozen=True)
class ComparedModel:
    """One network, trained by one recipe and tested."""

    name: str  # as in the table: its network and the name of its weights
    network: str  # what it started from; weights may be a file
    weights: str
    recipe: str  # as it was asked for
    folder: str  # of its run
    untrained: bool  # it started from random numbers
    accuracy: float  # top-1 on the test images, 0..1; low, high: 95 % interval (Wilson)
    low: float
    high: float
    difference: float  # accuracy less that of the best model, -1..0
    difference_low: float | None  # 95 %, paired by images; None of the best model
    difference_high: float | None
    images_per_second: float  # from files to codes, on this machine
    codes_bytes: int | None  # of one image, of the layer that the head reads; None of a training
    seconds: float  # of all steps of its run

    @property
    def is_worse(self) -> bool:
        """Whether the test images tell it from the best: its interval lies below zero."""
        return self.difference_high is not None and self.difference_high < 0


@dataclass(frozen=True)
class FailedModel:
    """One that gave no result, and the two sentences of why."""

    name: str
    recipe: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ModelComparison:
    """What :func:`compare` found."""

    folder: str
    classes: int
    train: int  # images of the split that all models have
    val: int
    test: int
    split: str  # how it came about, in words
    n: int  # test images that every model has an answer for: those that are compared
    models: tuple[ComparedModel, ...]  # the best first
    failed: tuple[FailedModel, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)  # images that could not be read, with the reason

    @property
    def close(self) -> tuple[ComparedModel, ...]:
        """Models other than the best that these test images cannot tell from it."""
        return tuple(model for model in self.models[1:] if not model.is_worse)

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return to_json(self, indent=2)


@dataclass(frozen=True)
class Start:
    """A network and the weights that it starts from: what ``--models`` lists."""

    network: str | None
    weights: str

    @classmethod
    def parse(cls, text: str, weights: str = "imagenet") -> Start:
        """``NETWORK`` with the weights of all, ``NETWORK=WEIGHTS``, or weights that say which network they are of."""
        name, equals, own = text.strip().partition("=")
        if equals and own:
            return cls(get_network(name).name, own)
        if name.removesuffix(TANH) in NETWORKS or name.partition("/")[0] in LIBRARIES:
            return cls(get_network(name).name, weights)
        return cls(None, name)

    @property
    def name(self) -> str:
        """For people and folders: of weights in a file its name, of those of a run or a training that of the folder."""
        path = Path(self.weights)
        named = path.parent if path.name == "model.safetensors" else path
        weights = path.resolve().name if path.is_dir() else named.name
        return weights if self.network is None else f"{self.network}={weights}"


Told: TypeAlias = Callable[[str, str, "RunReport | FailedModel"], None]


def compare(
    catalog: Catalog,
    models: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    weights: str = "imagenet",
    recipes: Sequence[str] = ("linear",),
    told: Told | None = None,
    **options: Any,
) -> ModelComparison:
    """Train several models on the same split of some images, and compare them on the same test images.

    The split is the data's own, else drawn once as :func:`cnncodes.run` draws it, with near copies found by the first model. Started
    again, it goes on where it stopped; models may be added. The intervals are each for one pair of models: among
    many, the best is in part lucky.

    Parameters
    ----------
    catalog : Catalog
        With labels.
    models : sequence of str
        ``alexnet``, ``torchvision/resnet50``, ``timm/vit_tiny_patch16_224=random:0``, ``alexnet=starter``, a weights file.
    folder : path
        Made if it is missing; each model has a run in it, beside ``compare.json`` and ``compare.csv``.
    weights : str, default "imagenet"
        Of the networks that are named without any.
    recipes : sequence of str, default ("linear",)
        ``linear`` (a head on codes, as recipe small-similar), ``finetune`` (as large-similar), or any recipe's name or file.
    told : callable(model, recipe, RunReport or FailedModel), optional
        Called as each model is done.
    **options
        ``assignments`` (changes in the recipes that have such an entry), ``data``, ``seed``, ``device``, ``workers``, ``progress``: see
        :class:`~cnncodes.advice.RunOrder`.

    Raises
    ------
    NetworkError, RecipeError, OptionError
        For models and recipes that do not exist, before anything is computed.
    ResumeError, OutputExistsError
        If the folder holds a comparison of other images or another seed, or anything else.
    CatalogError
        If there are no labels.
    CnnCodesError
        If no model gives a result; the error of the first.
    """
    starts = [Start.parse(text, weights) for text in models]
    order = RunOrder(**options)
    asked = _recipes(recipes, order.assignments, order.seed)
    if not starts or len({start.name for start in starts}) < len(starts):
        raise OptionError(
            "the models to compare are none, or two of them have the same name.",
            "Name each model once; rename a file that is called like another.",
        )
    if not (catalog.labels >= 0).any():
        raise CatalogError(
            "the images have no labels.", "Put them into one folder per class, or give a CSV with labels."
        )
    place = Path(folder)
    if place.is_file():
        raise OutputExistsError(f"'{place}' is a file.", "Name a folder with -o.")
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / "compare"):
        work = _Work(catalog, place, order)
        for start in starts:
            for recipe, its_assignments in asked.items():
                found = work.follow(start, recipe, its_assignments)
                if told is not None:
                    told(start.name, recipe, found)
        return work.compared()


def try_recipes(
    report: RunReport, catalog: Catalog, start: Start, recipes: Sequence[str], order: RunOrder, told: Told
) -> ModelComparison:
    """Follow other recipes on the split of a finished run, in the folder ``try`` in its own, and compare all of them with it."""
    names = [name for each in recipes for name in (suitable(report) if each == "all" else [each])]
    asked = _recipes(list(dict.fromkeys(names)), order.assignments, order.seed, from_nothing=True)
    folder = Path(report.folder)
    division = read_division(folder / SPLIT, catalog, read_json(folder / NOTE))
    place = folder / TRY
    place.mkdir(exist_ok=True)
    with locked(place / "compare"):
        work = _Work(catalog, place, replace(order, test=None, codes=folder, told=None), division)
        work.follow(start, report.recipe, (), report)
        for recipe, assignments in asked.items():
            if USUAL.get(recipe, recipe) != report.recipe:
                told(start.name, recipe, work.follow(start, recipe, assignments))
                work.compared()  # what there is, if the next one is interrupted
        return work.compared()


def read_tried(folder: Path) -> ModelComparison | None:
    """What :func:`try_recipes` found last in a run's folder."""
    path = folder / TRY / RECORD
    return read_record(path, ModelComparison, CnnCodesError) if path.exists() else None


def suitable(report: RunReport) -> list[str]:
    """Recipes of the package that start from weights, the fast ones first; that for a few images per class only where there are so few."""
    few = report.train <= load_thresholds().few_shot_per_class * report.classes
    methods = {name: load_recipe(name).method for name in recipe_files() if few or name != "few-shot"}
    return [name for wanted in ("linear", "finetune") for name, method in methods.items() if method == wanted]


def write_table(comparison: ModelComparison, path: Path) -> None:
    """Write the models as CSV, one line each; raises CnnCodesError if it cannot be written."""
    with replacing(path, overwrite=True) as whole, whole.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        rows = [to_value(model) for model in comparison.models]
        writer.writerow(rows[0])
        writer.writerows(cells(*row.values()) for row in rows)


def _recipes(
    names: Sequence[str], assignments: Sequence[str], seed: int, from_nothing: bool = False
) -> dict[str, tuple[str, ...]]:
    """The changes for each recipe that is asked for: those of sections that its method has."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        method = load_recipe(USUAL.get(name, name)).method
        suits = {text: text.startswith(("extract.", "head.")) == (method == "linear") for text in assignments}
        found[name] = tuple(text for text in assignments if text.startswith("images.") or suits[text])
        if method == "train" and not from_nothing:
            raise OptionError(
                f"recipe '{name}' trains from new numbers, whatever weights a model has.",
                "Compare recipes that start from weights: linear, finetune, or see 'cnncodes recipes list'.",
            )
        recipe_of_run(USUAL.get(name, name), found[name], "random:0", seed)  # mistakes are told now
    unused = set(assignments) - {text for texts in found.values() for text in texts}
    if unused and not from_nothing:
        raise OptionError(
            f"none of the recipes has an entry for '{sorted(unused)[0]}'.", "Leave it out, or add a recipe."
        )
    return found


@dataclass(frozen=True)
class _Measured:
    """Of a network with its weights, whichever recipe follows."""

    network: str
    images_per_second: float


@dataclass(frozen=True)
class _Settings:
    """``settings.json``: what all models have in common, and what is known of them beside their runs."""

    kind: str
    inputs: dict[str, Any]
    how: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    measured: dict[str, _Measured] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, catalog: Catalog, seed: int, beside: bool) -> _Settings:
        """Those of a folder, or new ones; raises ResumeError and OutputExistsError, but not ``beside`` a run, which has looked."""
        asked = cls(KIND, {**catalog_digests(catalog), "seed": seed})
        path = folder / SETTINGS
        if not path.exists():
            there = sorted(entry.name for entry in folder.iterdir() if entry.suffix != ".lock")
            if there and not beside:
                problem = f"'{folder}' is no comparison, and '{there[0]}' is in it."
                raise OutputExistsError(problem, "Choose another folder with -o.")
            return asked.kept(folder)
        found = read_record(path, cls, OutputExistsError)
        changed = [name for name, value in asked.inputs.items() if found.inputs.get(name) != value]
        if beside:
            return replace(asked, measured=found.measured).kept(folder)
        if changed:
            raise ResumeError(
                f"the comparison in '{folder}' is of something else: {', '.join(changed)} changed.",
                "Give the same images and seed, or choose another folder with -o.",
            )
        return found

    def kept(self, folder: Path) -> _Settings:
        write_whole(folder / SETTINGS, to_json(self, indent=2))
        return self


@dataclass(frozen=True)
class _Done:
    """A run that is finished, and what its test images said."""

    start: Start
    recipe: str
    report: RunReport
    answers: Predictions


class _Work:
    """The comparison while it is made."""

    def __init__(
        self, catalog: Catalog, folder: Path, order: RunOrder, division: Division | None = None
    ) -> None:
        self.catalog, self.folder, self.order = catalog, folder, order
        self.settings = _Settings.of(folder, catalog, order.seed, beside=division is not None)
        self.done: list[_Done] = []
        self.failed: list[FailedModel] = []
        self.division = division  # None before the first model is there to look for copies by
        if (kept := self.settings).how is not None:
            values = {"split": kept.how, "split_record": kept.record, "left_out": kept.left_out}
            self.division = read_division(folder / SPLIT, catalog, values)

    def follow(
        self, start: Start, recipe: str, assignments: tuple[str, ...], report: RunReport | None = None
    ) -> RunReport | FailedModel:
        """One model by one recipe, if it is not done; what goes wrong with it is kept and ends nothing else."""
        from cnncodes.weights import load_weights

        try:
            report = report or self._report(start, recipe, assignments)
            if start.name not in (known := self.settings.measured):
                weights = load_weights(start.weights, network=start.network)
                rate = images_per_second(self.catalog, weights, self.order.compute)
                self._keep(measured={**known, start.name: _Measured(weights.network, rate)})
            answers = Predictions.load(Path(report.folder) / PREDICTIONS)
        except InterruptedTrainingError:
            raise
        except CnnCodesError as error:
            problem, remedy = error.problem, error.remedy
        except Exception as error:
            # A library's network may do anything; the others must not be lost for it.
            problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            remedy = "The network cannot be used this way: leave it out, or use another recipe."
        else:
            self.done.append(_Done(start, recipe, report, answers))
            return report
        self.failed.append(FailedModel(start.name, recipe, problem, remedy))
        return self.failed[-1]

    def _report(self, start: Start, recipe: str, assignments: tuple[str, ...]) -> RunReport:
        """The report of the model's run, which is finished first where it is not; raises CatalogError if nothing was tested."""
        place = self.folder / re.sub(r"[^\w.=-]+", "-", f"{start.name}-{recipe}").strip("-.")
        mark, name = [*weights_mark(start.weights), start.network], USUAL.get(recipe, recipe)
        order = replace(self.order, recipe=name, assignments=assignments)
        report = finished_run(self.catalog, mark, place, order)
        split = None if self.division is None else self.division.splits
        if report is None or split is None or not np.array_equal(read_split(place / SPLIT).splits, split):
            from cnncodes.weights import load_weights

            weights = load_weights(start.weights, network=start.network)
            told = order.progress or no_progress
            order = replace(order, progress=lambda step, *where: told(f"{start.name}: {step}", *where))
            order = replace(order, division=self.division or self._divide(weights, place, order))
            report = follow_order(order, self.catalog, weights, place)
            keep_mark(place, mark)
        if report.evaluation is None:
            raise CatalogError("no image is left to test, so that nothing can be compared.", "Add images.")
        return report

    def _divide(self, weights: Weights, place: Path, order: RunOrder) -> Division:
        """The split that the first model's run makes; kept for all."""
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / "run"):
            note = RunNote(place, inputs_of(self.catalog, weights, order))
            made = RunSteps(self.catalog, weights, place, note, order).divide()
        write_division(self.folder / SPLIT, self.catalog, made)
        self._keep(how=made.how, record=made.record, left_out=tuple(made.left_out.tolist()))
        self.division = made
        return made

    def _keep(self, **values: Any) -> None:
        self.settings = replace(self.settings, **values).kept(self.folder)

    def compared(self) -> ModelComparison:
        """The results beside each other, written too; raises the first error if there is none."""
        if not self.done or self.division is None:
            first = self.failed[0]
            raise CnnCodesError(first.problem, first.remedy)
        answers = [made.answers for made in self.done]
        rows = functools.reduce(np.intersect1d, (each.rows for each in answers))
        right = [(each.predicted == each.labels)[np.isin(each.rows, rows)] for each in answers]
        order = sorted(range(len(right)), key=lambda place: -int(right[place].sum()))
        counts = np.bincount(self.division.splits, minlength=len(SPLITS))
        train, val, test = (int(counts[SPLITS.index(name)]) for name in ("train", "val", "test"))
        comparison = ModelComparison(
            folder=str(self.folder),
            classes=self.done[0].report.classes,
            train=train,
            val=val,
            test=test,
            split=self.division.how,
            n=len(rows),
            models=tuple(self._compared(self.done[k], right[k], right[order[0]]) for k in order),
            failed=tuple(self.failed),
            unreadable={name: why for made in self.done for name, why in made.report.unreadable.items()},
        )
        write_whole(self.folder / RECORD, comparison.to_json())
        write_table(comparison, self.folder / TABLE)
        return comparison

    def _compared(self, made: _Done, right: np.ndarray, best: np.ndarray) -> ComparedModel:
        n, hits, report = len(right), int(right.sum()), made.report
        low, high = wilson_interval(hits, n)
        alone, missed = int((right & ~best).sum()), int((best & ~right).sum())
        itself = right is best
        least, most = (None, None) if itself else paired_interval(alone, missed, n)
        measured = self.settings.measured[made.start.name]
        return ComparedModel(
            name=made.start.name,
            network=measured.network,
            weights=made.start.weights,
            recipe=made.recipe,
            folder=report.folder,
            untrained=report.untrained,
            accuracy=hits / n,
            low=low,
            high=high,
            difference=(alone - missed) / n,
            difference_low=least,
            difference_high=most,
            images_per_second=measured.images_per_second,
            codes_bytes=_bytes_of_codes(report),
            seconds=sum(report.seconds.values()),
        )


def _bytes_of_codes(report: RunReport) -> int | None:
    """Of one image, of the layer that the head reads."""
    path = Path(report.folder) / report.files.get("codes", "")
    if not (report.stage and path.is_file()):
        return None
    with CodesFile(path) as codes:
        dataset = codes.hdf5["layers"][report.stage]
        return int(math.prod(dataset.shape[1:]) * dataset.dtype.itemsize)


def images_per_second(catalog: Catalog, weights: Weights, compute: Compute) -> float:
    """From files to codes of the usual layer, of some images spread over the catalog; the second of two passes counts."""
    rows = np.unique(np.linspace(0, len(catalog) - 1, TIMED).astype(int))
    sample = catalog.subset(rows)
    settings = settings_of(weights, (weights.architecture.usual_layer,), len(sample))
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for block in stream(sample, weights, settings, compute):
            compute.progress("measuring speed", block.rows[-1] + 1, len(sample), "")
        seconds = time.perf_counter() - started
    return round(len(sample) / seconds, 3)
