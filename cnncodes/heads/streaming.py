"""A head fitted in blocks of rows, for codes that do not fit into memory: the minimum that :mod:`.svm` and :mod:`.softmax` find.

All classes and folds and, where that costs little, several values of C are solved side by side, since each pass over the file costs
the same reading for all of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.core.errors import CnnCodesError, HeadError
from cnncodes.heads.blocks import Axes, Blocks, Problems, minimise
from cnncodes.heads.choice import (
    TOLERANCE,
    TRAINING,
    Choice,
    FitOptions,
    TrainingSets,
    best_of,
    stratified_folds,
)
from cnncodes.heads.confidence import Likeness, fit_temperature
from cnncodes.heads.fit import FINAL_TOLERANCE, FitResult, Limits, StageFit, two_rows
from cnncodes.heads.head import Head, check_labels
from cnncodes.heads.splits import Split
from cnncodes.weights import read_arrays, write_arrays

Array = npt.NDArray[Any]

#: Columns of unknowns that cost about as much as reading the rows: so many values of C are solved together.
SIDE_BY_SIDE = {"cpu": 64, "gpu": 4096}
BELOW = 2  # so many values of C in succession that are worse than the best end the search


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """Rows ``[n]`` of the file, ascending, with their labels and folds; ``final`` says which the final head is fitted on."""

    rows: Array
    labels: Array
    fold: Array
    final: Array
    how: str

    @classmethod
    def of(
        cls, split: Split, labels: Array, classes: Sequence[str], options: FitOptions, *, optional: bool
    ) -> HeldOutRows:
        """For all values of C; one value may with ``optional`` do without held-out rows where none are possible."""
        train, choose, several = split.train, split.choose, len(options.candidates) > 1
        check_labels(labels[train], classes)
        rows, how = np.concatenate([train, choose]), f"val split of {len(choose)} images"
        fold = np.where(np.arange(len(rows)) < len(train), TRAINING, 0)
        if not len(choose):
            try:
                fold, how = stratified_folds(labels[train], options.folds, classes, seed=options.seed)
            except HeadError:
                if several or not optional:
                    raise
        final = np.arange(len(rows)) < (len(rows) if several else len(train))
        order = np.argsort(rows, kind="stable")
        return cls(rows[order], labels[rows][order], fold[order], final[order], how)


class BlockFit:
    """The fit of one head: prepared by three or four passes, then C is chosen, and the final head fitted."""

    def __init__(
        self,
        file: CodesFile,
        stage: str,
        held: HeldOutRows,
        classes: Sequence[str],
        options: FitOptions,
        limits: Limits,
    ) -> None:
        kind, normalisation, class_weight = options.kind, options.normalisation, options.class_weight
        self.held, self.classes, self.kind, self.limits = held, tuple(classes), kind, limits
        self.candidates, self.K = options.candidates, len(classes)
        self.columns = 1 if kind == "svm" and self.K == 2 else self.K  # of unknowns, per training set
        self.folds = int(held.fold.max()) + 1
        self.blocks = blocks = Blocks(file, stage, held.rows, self.columns * max(self.folds, 1), limits)
        blocks.normalise(normalisation, held.final)
        self.labels = blocks.put(held.labels, torch.int64)
        used = np.column_stack([*(held.fold != f for f in range(self.folds)), held.final])
        self._counts = np.array([np.bincount(held.labels[column], minlength=self.K) for column in used.T])
        self._weights = TrainingSets.of(held.labels, used, self.K, class_weight).weights
        self._used = blocks.put(used)
        self._digest = hashlib.sha256(held.rows.tobytes() + held.labels.tobytes() + used.tobytes())
        self._digest.update(file.digests()[held.rows].tobytes())
        asked = (stage, kind, normalisation, class_weight, file.settings.to_json(), self.candidates)
        self._digest.update(repr(asked).encode())
        self._measure()

    def _measure(self) -> None:
        """The Gram matrix, class means and axes; what is usual among the rows of the final fit."""
        blocks, D = self.blocks, self.blocks.d + 1
        whole = 0.75 * self.limits.memory >= 32 * D * D  # the matrix, and three times as much to decompose it
        device = self.labels.device
        gram = torch.zeros((D - 1, D - 1) if whole else (0, 0), dtype=blocks.sums, device=device)
        sums = torch.zeros((self.K, D - 1), dtype=blocks.sums, device=device)
        others = torch.zeros(D - 1, dtype=blocks.sums, device=device)
        blocks.step = "measuring codes"
        final = self._used[:, -1]
        for rows, block in blocks:
            if whole:
                gram += block.T @ block
            one = torch.nn.functional.one_hot(self.labels[rows], self.K).to(block.dtype) * final[rows, None]
            sums += one.T @ block
            others += block[~final[rows]].sum(0, dtype=blocks.sums)
        means = (sums / torch.from_numpy(np.maximum(self._counts[-1], 1)).to(sums)[:, None]).cpu().numpy()
        fitted = (
            (block[final[rows]].cpu().numpy(), self.held.labels[rows][self.held.final[rows]])
            for rows, block in blocks
        )
        self.likeness = Likeness.around(means, fitted, self._counts[-1])
        total, full = (sums.sum(0) + others).cpu().numpy(), None
        if whole:
            full = np.empty((D, D))
            full[:-1, :-1], full[-1, -1] = gram.cpu().numpy(), blocks.n
            full[-1, :-1] = full[:-1, -1] = total
        del gram
        if self.kind == "softmax":
            centre = total / blocks.n
            blocks.centre = blocks.put(centre, blocks.dtype)
            if full is not None:
                full[:-1, :-1] -= blocks.n * np.outer(centre, centre)
        blocks.step = "principal axes"
        self.axes = Axes.of(blocks, full, penalise_bias=self.kind == "svm", memory=self.limits.memory)

    def solve(self, W: Array, Cs: Sequence[float], sets: Sequence[int], tolerance: float) -> Array:
        """Minimisers [d + 1, C, S, columns] for each C and training set, all from the start ``W`` [d + 1, S, columns]."""
        blocks, one = self.blocks, self.kind == "svm"
        grid = np.meshgrid(Cs, sets, np.arange(self.columns if one else 1), indexing="ij")
        each_C, each_set, k = (part.ravel() for part in grid)
        costs = self._weights[each_set]  # [P, K], as choice.TrainingSets has them
        if one:
            k = k + (self.K == 2)
            against = costs[:, :1] if self.K == 2 else 1.0
            costs = np.where(np.arange(self.K) == k[:, None], costs, against)
        costs = each_C[:, None] * costs * (0.5 if self.K == 2 and not one else 1.0)
        started = np.repeat(W[:, None], len(Cs), axis=1)
        flat = started.reshape(len(W), len(k), -1)
        room = max(self.limits.memory // 4, 1)  # for unknowns, gradient, directions and copies, 72 bytes each
        for group in np.array_split(np.arange(len(k)), min(-(-72 * started.size // room), len(k))):
            table = costs[group]
            totals = _without_codes(table * self._counts[each_set[group]])
            problems = Problems(
                self.labels, self._used, blocks.put(each_set[group]), blocks.put(table, blocks.dtype),
                blocks.put(k[group]) if one else None, None if one else blocks.put(totals, blocks.sums),
            )  # fmt: skip
            unknowns = blocks.put(flat[:, group], blocks.sums)
            minimise(unknowns, problems, blocks, self.axes, tolerance)
            flat[:, group] = unknowns.cpu().numpy()
        return flat.reshape(started.shape)

    def choose(self, began: float) -> tuple[Choice, Array]:
        """The choice of C, and where the final fit can start: unknowns [d + 1, columns]. Goes on from the saved state."""
        held = np.flatnonzero(self.held.fold != TRAINING)
        sample = held[:: -(-len(held) * self.K * 256 // self.limits.memory)]  # fits the temperature
        candidates, key = self.candidates, self._digest.hexdigest()
        kept, accuracy = _saved(self.limits.state, key)
        if not kept:
            W = np.zeros((self.blocks.d + 1, self.folds, self.columns))
            kept = {"W": W, "best": W[:, 0], "scores": np.zeros((len(sample), self.K)), "sample": sample}
        sample = kept["sample"]  # of the fit that goes on, which may have had another limit of memory
        kind = "cpu" if self.blocks.device.is_cpu else "gpu"
        together = max(1, SIDE_BY_SIDE[kind] // (self.folds * self.columns))
        while len(accuracy) < len(candidates) and not _falls(accuracy):
            Cs = candidates[len(accuracy) : len(accuracy) + together]
            self.blocks.step = f"C = {', '.join(f'{C:g}' for C in Cs)}"
            solved = self.solve(kept["W"], Cs, range(self.folds), TOLERANCE)
            for place in range(len(Cs)):
                kept["W"] = solved[:, place]
                shares, scores = self._judge(kept["W"], sample)
                if not accuracy or np.mean(shares) > max(map(np.mean, accuracy)) + 1e-9:
                    kept |= {"best": kept["W"].mean(axis=1), "scores": scores}
                accuracy.append(shares)
            if self.limits.state is not None:
                write_arrays(self.limits.state, kept, {"key": key, "accuracy": accuracy}, overwrite=True)
        means, sd = np.mean(accuracy, axis=1), np.std(accuracy, axis=1)
        stopped = "; larger C not tried, since the accuracy falls" if len(means) < len(candidates) else ""
        choice = Choice(
            candidates[: len(means)],
            tuple(means.tolist()),
            tuple(sd.tolist()),
            candidates[best_of(means)],
            self.held.how + stopped,
            time.perf_counter() - began,
            fit_temperature(kept["scores"], self.held.labels[sample]),
            self.folds,
        )
        return choice, kept["best"]

    def _judge(self, W: Array, sample: Array) -> tuple[list[float], Array]:
        """Accuracy of each fold on the rows that it holds out, and the scores [sample, K] of some rows."""
        hits, found = np.zeros(self.folds), np.empty((len(sample), self.K))
        unknowns = self.blocks.put(W, self.blocks.dtype)
        for rows, block in self.blocks:
            fold = self.held.fold[rows]
            low, high = np.searchsorted(sample, (rows.start, rows.stop))
            scores = np.empty((len(fold), self.K))
            for f in np.unique(fold[fold != TRAINING]):
                there = np.flatnonzero(fold == f)
                values = self.blocks.products(
                    unknowns[:, f : f + 1], block[torch.from_numpy(there).to(block.device)]
                )[:, 0]
                found_there = values.cpu().numpy()
                if self.columns == 1:  # one for two classes
                    found_there = np.concatenate([-found_there, found_there], axis=1)
                scores[there] = found_there
                hits[f] += (scores[there].argmax(axis=1) == self.held.labels[rows][there]).sum()
            found[low:high] = scores[sample[low:high] - rows.start]
        return (hits / np.bincount(self.held.fold[self.held.fold != TRAINING])).tolist(), found

    def final(self, C: float, start: Array) -> tuple[Array, Array]:
        """Weights [K, d] and bias [K] fitted on all rows that may be used."""
        self.blocks.step = f"final fit, C = {C:g}"
        W = self.solve(start[:, None], [C], [self.folds], FINAL_TOLERANCE)[:, 0, 0].T
        weight, bias = W[:, :-1], W[:, -1]
        if self.blocks.centre is not None:
            bias = bias - bias.mean() - weight @ self.blocks.centre.cpu().numpy()
        return two_rows(weight, bias, self.kind) if self.kind == "svm" else (weight, bias)


def fit_in_blocks(
    file: CodesFile,
    stage: str,
    split: Split,
    labels: tuple[Array, Sequence[str]],
    options: FitOptions,
    limits: Limits,
    *,
    optional: bool,
) -> StageFit:
    """The head on one stage, from labels [N], -1 for none, and the names of the classes.

    With ``optional`` one value of C may do without held-out rows.
    """
    began = time.perf_counter()
    held = HeldOutRows.of(split, *labels, options, optional=optional)
    fit = BlockFit(file, stage, held, labels[1], options, limits)
    judged, start = None, np.zeros((fit.blocks.d + 1, fit.columns))
    if fit.folds:
        judged, start = fit.choose(began)
    C, temperature = (judged.best, judged.temperature) if judged else (fit.candidates[0], None)
    head = Head(fit.kind, *fit.final(C, start), fit.blocks.record, C, fit.classes, temperature)
    choice = judged if len(fit.candidates) > 1 else None
    seconds = time.perf_counter() - began
    result = FitResult(head, choice, int(held.final.sum()), "newton in blocks of rows", seconds)
    return StageFit(result, judged, fit.likeness, in_blocks=True)


def _without_codes(totals: Array) -> Array:
    """Objective [P] where only the bias is fitted, from the cost of all rows of each class [P, K]."""
    totals = np.maximum(totals, np.finfo(np.float32).tiny)
    result: Array = -(totals * np.log(totals / totals.sum(axis=1, keepdims=True))).sum(axis=1)
    return result


def _falls(accuracy: Sequence[Sequence[float]]) -> bool:
    """Whether the last values of C are all worse than the best before them."""
    means = [float(np.mean(each)) for each in accuracy]
    return len(means) > BELOW and max(means[-BELOW:]) < max(means[:-BELOW])


def _saved(state: Path | None, key: str) -> tuple[dict[str, Array], list[list[float]]]:
    """Arrays and accuracies that an earlier, interrupted fit of the same rows and options left."""
    if state is None or not state.is_file():
        return {}, []
    try:
        arrays, record = read_arrays(state)
    except CnnCodesError:  # half a file, or another's
        return {}, []
    return (arrays, record["accuracy"]) if record is not None and record.get("key") == key else ({}, [])
