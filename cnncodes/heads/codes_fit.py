"""From a codes file to a linear model: which rows are fitted, in memory or in blocks, and which layer is the best."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from cnncodes.codes.export import deepest
from cnncodes.codes.file import DONE, CodesFile, Provenance
from cnncodes.codes.on_ray import map_on_ray
from cnncodes.core.compute import Progress, available_memory, no_progress
from cnncodes.core.errors import HeadError
from cnncodes.heads.choice import Choice, ClassWeight, choose_C
from cnncodes.heads.draws import FewShot, few_shot
from cnncodes.heads.fit import FitResult, Limits, candidates_of, fit_head
from cnncodes.heads.head import Head, HeadKind
from cnncodes.heads.likeness import Likeness
from cnncodes.heads.linear_model import LinearModel, among, averaged, read_rows
from cnncodes.heads.normalise import NormalisationKind
from cnncodes.heads.splits import (
    Split,
    SplitRule,
    compact_labels,
    split_rows,
    with_known_classes,
    without_copies,
)
from cnncodes.images.digests import identical_contents


@dataclass(frozen=True, eq=False)
class LinearFit:
    """What :func:`fit_linear` found.

    ``compared`` has, for every stage that was tried, the accuracy (0..1) on the rows that choose C. ``learned`` counts
    the test rows that the weights were trained on: for the network they are not new, so they test the head alone.
    ``in_blocks``: the codes were not all in memory at once.
    """

    model: LinearModel
    split: Split
    result: FitResult
    compared: dict[str, float]
    learned: int = 0
    in_blocks: bool = False


def fit_linear(
    codes: str | os.PathLike[str],
    *,
    layer: str | None = None,
    kind: HeadKind = "svm",
    C: float | Sequence[float] | Literal["auto"] = "auto",
    folds: int = 5,
    normalisation: NormalisationKind = "l2",
    class_weight: ClassWeight = None,
    split: SplitRule = "auto",
    seed: int = 0,
    jobs: int = -1,
    memory: int | None = None,
    device: str = "auto",
    state: str | os.PathLike[str] | None = None,
    ray: str | None = None,
    progress: Progress = no_progress,
) -> LinearFit:
    """Fit a linear classifier to a codes file.

    Codes that would take more than ``memory`` are read in blocks, again and again (:mod:`cnncodes.heads.streaming`): the same
    classifier, from files of any size.

    Parameters
    ----------
    codes : path of a codes file
    layer : str, optional
        One layer of the file: what the classifier reads by default, fc7 of an AlexNet and ``penultimate`` of others. Or "auto": all are compared by the accuracy that chooses C; the best is taken.
    kind, C, folds, normalisation, class_weight, jobs
        See :func:`cnncodes.heads.fit_head`.
    split : {"auto", "none"} or float, default "auto"
        See :func:`cnncodes.heads.splits.split_rows`.
    seed : int, default 0
    memory : int, optional
        Bytes; by default half of the memory that is free.
    device : str, default "auto"
        Where blocks are computed.
    state : path, optional
        With blocks: what is kept in files of this name lets the same call go on after a kill. Removed at the end.
    ray : str, optional
        Address of a Ray cluster whose machines find the codes file under the same path. Each layer is fitted there by a task of
        ``jobs`` cores (one core by default).
    progress : Progress
        Of each pass over the rows, with blocks.

    Raises
    ------
    CodesFileError
        If the file cannot be read or has no such layer.
    HeadError
        If there are too few labelled images or classes.
    OptionError
        If a parameter has a value that is not allowed.
    """
    with CodesFile(codes) as file:
        file.require_complete()
        digests = file.digests()
        same = identical_contents(digests)
        rows = split_rows(file.catalog, file.state == DONE, split, seed, same=same)
        own = rows.kind == "own"  # a draw keeps copies on one side
        rows = without_copies(rows, same, file if own else None, deepest(file.stages))
        network = file.settings.architecture
        stages = file.stages if layer == "auto" else (network.select_one(layer or network.usual_layer),)
        labels, classes = compact_labels(file.catalog, rows.train)
        rows = with_known_classes(file.catalog, rows, labels)
        options: dict[str, Any] = {
            "kind": kind, "C": C, "normalisation": normalisation, "class_weight": class_weight,
            "folds": folds, "seed": seed, "jobs": jobs,
        }  # fmt: skip
        if memory is None:  # where it is not known, as on macOS, all is read at once
            memory = available_memory() // 2 or sys.maxsize
        limits = Limits(memory, device, progress)
        task = _Task(rows, labels, classes, options, limits, several=len(stages) > 1)
        kept = [
            None if state is None else Path(f"{os.path.abspath(state)}.{place}")  # noqa: PTH100 - a worker may be elsewhere
            for place in range(len(stages))
        ]
        items = [(os.path.abspath(codes), *item) for item in zip(stages, kept, strict=True)]  # noqa: PTH100
        fits = dict(zip(stages, task.fit_all(file, items, ray, jobs), strict=True))
        compared = {
            stage: fit.judged.best_accuracy
            for stage, fit in fits.items()
            if fit.judged and (fit.result.choice or len(stages) > 1)
        }
        chosen = max(compared, key=lambda stage: compared[stage]) if len(stages) > 1 else stages[0]
        fit = fits[chosen]
        fitted = np.concatenate([rows.train, rows.choose]) if fit.result.choice else rows.train
        likeness = fit.likeness if fit.in_blocks else task.likeness(file, chosen, fit.result.head, fitted)
        settings = dataclasses.replace(
            file.settings, stages=(chosen,), crops=averaged(file.settings.crops), dtype="float32"
        )
        weights_seen = file.weights_seen()
        learned = int(among(digests[rows.test], weights_seen).sum())
        rows = _with_warning(rows, learned)
        evidence = {
            "codes": Path(codes).name,
            "split": rows.how,
            "split_record": rows.record(file.catalog),
            "images_fitted": len(fitted),
            "weights_trained_on": len(weights_seen),
            "test_images_weights_trained_on": learned,
            "layers_compared": compared,
            "fit": fit.result.record(),
            "provenance": dataclasses.asdict(Provenance.now(file.provenance.weights_source)),
        }
        seen = np.union1d(digests[np.concatenate([fitted, rows.left_out])], weights_seen)
    for path in filter(None, kept):
        path.unlink(missing_ok=True)
    model = LinearModel(fit.result.head, settings, evidence, seen, likeness=likeness)
    return LinearFit(model, rows, fit.result, compared, learned, fit.in_blocks)


@dataclass(frozen=True, eq=False)
class _StageFit:
    """The head on one stage, what held-out rows say of its C, and whether the codes were read in blocks."""

    result: FitResult
    judged: Choice | None
    in_blocks: bool = False
    likeness: Likeness | None = None


_Item: TypeAlias = tuple[str, str, Path | None]  # codes file, stage, state


@dataclass(frozen=True, eq=False)
class _Task:
    """What :func:`fit_linear` fits on each stage."""

    rows: Split
    labels: np.ndarray
    classes: tuple[str, ...]
    options: dict[str, Any]
    limits: Limits
    several: bool

    def fit_all(self, file: CodesFile, items: list[_Item], ray: str | None, jobs: int) -> list[_StageFit]:
        """The heads on several stages, one after the other or on a cluster."""
        if ray is None:
            return [self.fit(file, stage, state) for _, stage, state in items]
        cores = max(1, jobs)
        limits = dataclasses.replace(self.limits, progress=no_progress)
        there = dataclasses.replace(self, options=self.options | {"jobs": cores}, limits=limits)
        return map_on_ray(partial(_fit_there, there), items, ray, cores)

    def fit(self, file: CodesFile, stage: str, state: Path | None) -> _StageFit:
        """The head on one stage; where nothing can be held out to judge one C of one stage, that is left out."""
        try:
            if self._bytes_in_memory(file, stage) > self.limits.memory:
                from cnncodes.heads.streaming import fit_in_blocks

                limits = dataclasses.replace(self.limits, state=state)
                found = fit_in_blocks(
                    file,
                    stage,
                    self.rows,
                    (self.labels, self.classes),
                    self.options,
                    limits,
                    optional=not self.several,
                )
                return _StageFit(found[0], found[1], True, found[2])
            return self._fit_in_memory(file, stage)
        except HeadError as error:
            raise _left_to_learn(error, self.rows, self.labels) from None

    def _fit_in_memory(self, file: CodesFile, stage: str) -> _StageFit:
        train, choose = self.rows.train, self.rows.choose
        X, y = read_rows(file, stage, train), self.labels[train]
        validation = (read_rows(file, stage, choose), self.labels[choose]) if len(choose) else None
        result = fit_head(X, y, self.classes, validation=validation, **self.options)
        judged = result.choice
        if judged is None:
            options = {name: value for name, value in self.options.items() if name != "C"}
            try:
                judged = choose_C(X, y, self.classes, Cs=[result.head.C], validation=validation, **options)
            except HeadError:
                if self.several:
                    raise
        head = dataclasses.replace(result.head, temperature=judged.temperature if judged else None)
        return _StageFit(dataclasses.replace(result, head=head), judged)

    def _bytes_in_memory(self, file: CodesFile, stage: str) -> int:
        """Of the codes as float32, normalised and rotated, and of the scores of held-out rows for each C."""
        C, n = self.options["C"], len(self.rows.train) + len(self.rows.choose)
        return 4 * n * (3 * file.length(stage) + len(candidates_of(C)) * len(self.classes))

    def likeness(self, file: CodesFile, stage: str, head: Head, fitted: np.ndarray) -> Likeness | None:
        """What is usual among the rows that were fitted."""
        codes = head.normalisation(read_rows(file, stage, fitted))
        return Likeness.of(codes, self.labels[fitted], len(self.classes))


def _fit_there(task: _Task, item: _Item) -> _StageFit:
    """The head on one stage, by a worker on another machine."""
    codes, stage, state = item
    with CodesFile(codes) as file:
        return task.fit(file, stage, state)


def _left_to_learn(error: HeadError, rows: Split, labels: np.ndarray) -> HeadError:
    """The error; where one image of each class is left to fit, that and why."""
    if not len(rows.test) or len(rows.choose) or np.bincount(labels[rows.train]).max() > 1:
        return error
    return HeadError(
        f"{len(rows.test):,} images are put aside to test, and of {len(rows.train):,} classes one image each is left to "
        "learn from: none can be held out to choose C or a layer.",
        "Add images, give one value of C and one layer, or test nothing with --split none.",
    )


def _with_warning(rows: Split, learned: int) -> Split:
    """The split, which says so if the weights were trained on ``learned`` of its test images."""
    if not learned:
        return rows
    # a network can know the labels of its training images by heart
    which = "all" if learned == len(rows.test) else f"{learned:,}"
    how = f"{rows.how}; the weights were trained on {which} of these test images: they are not new to them"
    return dataclasses.replace(rows, how=how)


def few_shot_codes(
    codes: str | os.PathLike[str],
    fit: LinearFit,
    *,
    shots: Sequence[int] = (1, 5, 10),
    repeats: int = 5,
    C: float | Sequence[float] | Literal["auto"] = "auto",
    seed: int = 0,
    jobs: int = -1,
) -> list[FewShot]:
    """How good the fit's layer, head and normalisation are with few images per class.

    Draws come from the rows that may be fitted, and are tested on the fit's test rows; see
    :func:`cnncodes.heads.few_shot`. Raises HeadError where no test rows were kept.
    """
    split, model = fit.split, fit.model
    if not len(split.test):
        raise HeadError(
            "few-shot draws need images to test on, and none are kept.", "Use --split 0.2 or a test split."
        )
    with CodesFile(codes) as file:
        labels, classes = compact_labels(file.catalog, split.train)
        train = np.concatenate([split.train, split.choose])
        test = split.test[labels[split.test] >= 0]
        return few_shot(
            read_rows(file, model.stage, train), labels[train], read_rows(file, model.stage, test), labels[test], classes,
            shots=shots, repeats=repeats, kind=model.head.kind, C=C, normalisation=model.head.normalisation.kind, seed=seed,
            jobs=jobs,
        )  # fmt: skip
