"""From a codes file to a linear model: which rows are fitted, in memory or in blocks, and which layer is the best."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnncodes.codes.export import deepest
from cnncodes.codes.file import DONE, CodesFile, Provenance
from cnncodes.codes.on_ray import map_on_ray
from cnncodes.core.compute import Progress, available_memory, no_progress
from cnncodes.core.errors import HeadError
from cnncodes.heads.choice import Candidates, ClassWeight, FitOptions, choose
from cnncodes.heads.confidence import Likeness
from cnncodes.heads.fit import FewShot, FitResult, Limits, StageFit, few_shot, fit
from cnncodes.heads.head import HeadKind, NormalisationKind
from cnncodes.heads.linear_model import LinearModel, among, averaged, read_rows
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
    """What :func:`fit_linear` found."""

    model: LinearModel
    split: Split
    result: FitResult
    compared: dict[
        str, float
    ]  # for every stage that was tried, the accuracy (0..1) on the rows that choose C
    #: Test rows that the weights were trained on: for the network they are not new, so they test the head alone.
    learned: int = 0
    in_blocks: bool = False  # the codes were not all in memory at once


def fit_linear(
    codes: str | os.PathLike[str],
    *,
    layer: str | None = None,
    kind: HeadKind = "svm",
    C: Candidates = "auto",
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
        One layer of the file: what the classifier reads by default, fc7 of an AlexNet and ``penultimate`` of others.
        Or "auto": all are compared by the accuracy that chooses C; the best is taken.
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
    options = FitOptions(kind, C, normalisation, class_weight, folds, seed=seed, jobs=jobs)
    if memory is None:  # where it is not known, as on macOS, all is read at once
        memory = available_memory() // 2 or sys.maxsize
    with CodesFile(codes) as file:
        file.require_complete()
        digests, weights_seen = file.digests(), file.weights_seen()
        network = file.settings.architecture
        rows, labels, classes = _divided(file, digests, split, seed)
        stages = file.stages if layer == "auto" else (network.select_one(layer or network.usual_layer),)
        limits = Limits(memory, device, progress)
        task = _Task(rows, labels, classes, options, limits, several=len(stages) > 1)
        kept = [None if state is None else _absolute(f"{state}.{place}") for place in range(len(stages))]
        items = [(_absolute(codes), *item) for item in zip(stages, kept, strict=True)]
        fits = dict(zip(stages, task.fit_all(file, items, ray), strict=True))
        compared = {
            stage: found.judged.best_accuracy
            for stage, found in fits.items()
            if found.judged and (found.result.choice or len(stages) > 1)
        }
        chosen = max(compared, key=lambda stage: compared[stage]) if len(stages) > 1 else stages[0]
        found = fits[chosen]
        head, fitted = found.result.head, rows.train
        if found.result.choice:
            fitted = np.concatenate([rows.train, rows.choose])
        likeness = found.likeness
        if not found.in_blocks:
            normalised = head.normalisation(read_rows(file, chosen, fitted))
            likeness = Likeness.of(normalised, labels[fitted], len(classes))
        learned = int(among(digests[rows.test], weights_seen).sum())
        if learned:  # a network can know the labels of its training images by heart
            which = "all" if learned == len(rows.test) else f"{learned:,}"
            said = f"; the weights were trained on {which} of these test images: they are not new to them"
            rows = dataclasses.replace(rows, how=rows.how + said)
        evidence = {
            "codes": Path(codes).name,
            "split": rows.how,
            "split_record": rows.record(file.catalog),
            "images_fitted": len(fitted),
            "weights_trained_on": len(weights_seen),
            "test_images_weights_trained_on": learned,
            "layers_compared": compared,
            "fit": found.result.record(),
            "provenance": dataclasses.asdict(Provenance.now(file.provenance.weights_source)),
        }
        crops = averaged(file.settings.crops)
        settings = dataclasses.replace(file.settings, stages=(chosen,), crops=crops, dtype="float32")
    for path in filter(None, kept):
        path.unlink(missing_ok=True)
    seen = np.union1d(digests[np.concatenate([fitted, rows.left_out])], weights_seen)
    model = LinearModel(head, settings, evidence, seen, likeness=likeness)
    return LinearFit(model, rows, found.result, compared, learned, found.in_blocks)


def _divided(
    file: CodesFile, digests: np.ndarray, rule: SplitRule, seed: int
) -> tuple[Split, np.ndarray, tuple[str, ...]]:
    """The split of the file's rows, their labels among the classes that have rows to fit, and the names of these."""
    same = identical_contents(digests)
    rows = split_rows(file.catalog, file.state == DONE, rule, seed, same=same)
    own = rows.kind == "own"  # a draw keeps copies on one side
    rows = without_copies(rows, same, file if own else None, deepest(file.stages))
    labels, classes = compact_labels(file.catalog, rows.train)
    return with_known_classes(file.catalog, rows, labels), labels, classes


def _absolute(path: str | os.PathLike[str]) -> Path:
    """The path as a worker in another folder finds it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay links


_Item = tuple[Path, str, Path | None]  # codes file, stage, state


@dataclass(frozen=True, eq=False)
class _Task:
    """What :func:`fit_linear` fits on each stage."""

    rows: Split
    labels: np.ndarray
    classes: tuple[str, ...]
    options: FitOptions
    limits: Limits
    several: bool  # stages are compared

    def fit_all(self, file: CodesFile, items: list[_Item], ray: str | None) -> list[StageFit]:
        """The heads on several stages, one after the other or on a cluster."""
        if ray is None:
            return [self.fit(file, stage, state) for _, stage, state in items]
        cores = max(1, self.options.jobs)
        options = dataclasses.replace(self.options, jobs=cores)
        limits = dataclasses.replace(self.limits, progress=no_progress)
        there = dataclasses.replace(self, options=options, limits=limits)
        return map_on_ray(partial(_fit_there, there), items, ray, cores)

    def fit(self, file: CodesFile, stage: str, state: Path | None) -> StageFit:
        """The head on one stage; where nothing can be held out to judge one C of one stage, that is left out."""
        try:
            if self._bytes_in_memory(file, stage) <= self.limits.memory:
                return self._fit_in_memory(file, stage)
            from cnncodes.heads.streaming import fit_in_blocks

            limits = dataclasses.replace(self.limits, state=state)
            labels = self.labels, self.classes
            return fit_in_blocks(
                file, stage, self.rows, labels, self.options, limits, optional=not self.several
            )
        except HeadError as error:
            raise _left_to_learn(error, self.rows, self.labels) from None

    def _fit_in_memory(self, file: CodesFile, stage: str) -> StageFit:
        train, choose_on = self.rows.train, self.rows.choose
        X, y = read_rows(file, stage, train), self.labels[train]
        validation = (read_rows(file, stage, choose_on), self.labels[choose_on]) if len(choose_on) else None
        result = fit(X, y, self.classes, self.options, validation)
        judged = result.choice
        if judged is None:
            options = dataclasses.replace(self.options, C=result.head.C)
            try:
                judged = choose(X, y, self.classes, options, validation)
            except HeadError:
                if self.several:
                    raise
        head = dataclasses.replace(result.head, temperature=judged.temperature if judged else None)
        return StageFit(dataclasses.replace(result, head=head), judged, likeness=None, in_blocks=False)

    def _bytes_in_memory(self, file: CodesFile, stage: str) -> int:
        """Of the codes as float32, normalised and rotated, and of the scores of held-out rows for each C."""
        n = len(self.rows.train) + len(self.rows.choose)
        return 4 * n * (3 * file.length(stage) + len(self.options.candidates) * len(self.classes))


def _fit_there(task: _Task, item: _Item) -> StageFit:
    """The head on one stage, by a worker on another machine, with its share of the memory: others fit beside it."""
    codes, stage, state = item
    cores = task.options.jobs
    share = available_memory() // 2 * cores // max(cores, os.cpu_count() or 1)
    if share and share < task.limits.memory:  # 0: it is not known
        task = dataclasses.replace(task, limits=dataclasses.replace(task.limits, memory=share))
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


def few_shot_codes(
    codes: str | os.PathLike[str],
    fit: LinearFit,
    *,
    shots: Sequence[int] = (1, 5, 10),
    repeats: int = 5,
    C: Candidates = "auto",
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
        X, X_test = (read_rows(file, model.stage, part) for part in (train, test))
    kind, normalisation = model.head.kind, model.head.normalisation.kind
    return few_shot(
        X, labels[train], X_test, labels[test], classes, shots=shots, repeats=repeats, kind=kind, C=C,
        normalisation=normalisation, seed=seed, jobs=jobs,
    )  # fmt: skip
