"""Compare one model, the average of several, or two with each other, with labels."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CatalogError, ModelError, OptionError
from cnncodes.core.records import to_value
from cnncodes.evaluation.calibration import Calibration, Kind, calibration_error, chance_error
from cnncodes.evaluation.metrics import Evaluation, evaluate_scores
from cnncodes.evaluation.rows import all_seen, catalog_of, caution, digests_of, labels_for, rows_to_evaluate
from cnncodes.evaluation.scores import Data, Scores, is_codes, score_models
from cnncodes.heads.calibration import log_softmax, mean_log_probabilities
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """An evaluation, and on which images.

    Parameters
    ----------
    evaluation : Evaluation
    scores : Scores
        Of an average, the logarithms of the averaged probabilities.
    rows : int ndarray [n]
        Those of the scores' catalog that were evaluated.
    how : str
        Which images these are, in words.
    seen : int
        On how many of them the model was fitted.
    watched : int
        On how many others of them something of the model was chosen: they are no test either.
    labels : int ndarray [n]
        Places in the classes.
    log_probabilities : float ndarray [n, K]
        With the model's temperature; of an SVM without one, log softmax(scores).
    calibration : Calibration
    copies : int
        Further images, copies of those that the model was fitted on, which are not evaluated.
    top1_with_copies : float or None
        What the accuracy would be if they were.
    """

    evaluation: Evaluation
    scores: Scores
    rows: np.ndarray
    how: str
    seen: int
    labels: np.ndarray
    log_probabilities: np.ndarray
    calibration: Calibration
    copies: int = 0
    top1_with_copies: float | None = None
    watched: int = 0

    @property
    def all_seen(self) -> bool:
        """Whether the model was fitted on each of the images: then this is no test."""
        return self.seen == self.evaluation.n

    def to_json(self) -> str:
        """JSON object: the evaluation's entries, ``how``, the calibration, and the unreadable images."""
        return json.dumps(self.to_value())

    def to_value(self) -> dict[str, Any]:
        """The entries of :meth:`to_json`."""
        return {
            **to_value(self.evaluation),
            "how": self.how,
            "seen_in_training": self.seen,
            "all_seen_in_training": self.all_seen,
            "copies_left_out": self.copies,
            "top1_with_copies": self.top1_with_copies,
            "watched_in_training": self.watched,
            "calibration": to_value(self.calibration),
            "unreadable": dict(self.scores.problems),
        }


@dataclass(frozen=True, eq=False)
class AverageResult:
    """Several models and their average, all on the same images and with the classes in the same order.

    ``models`` has one result per model, in the order given; ``how`` says in words what was averaged.
    """

    average: EvaluationResult
    models: tuple[EvaluationResult, ...]
    how: str

    def to_json(self) -> str:
        """JSON object: the average's entries, ``averaged`` in words, and ``models`` with one entry for each."""
        models = [model.to_value() for model in self.models]
        return json.dumps({**self.average.to_value(), "averaged": self.how, "models": models})


@dataclass(frozen=True)
class Comparison:
    """What two models say of the same images.

    Parameters
    ----------
    names : tuple of two str
        Of the models.
    classes : tuple of str
    n : int
        Images.
    accuracy : tuple of two float
        0..1.
    per_class : tuple of two tuples of float or None
        Recall of each class, 0..1; None without images.
    only_first, only_second : int
        Images that this model alone names rightly.
    low, high : float
        95 % interval of ``difference``: see :func:`paired_interval`.
    how : str
        Which images these are, in words.
    seen : int
        Images that at least one of the models has learned from: above 0 it is no test.
    """

    names: tuple[str, str]
    classes: tuple[str, ...]
    n: int
    accuracy: tuple[float, float]
    per_class: tuple[tuple[float | None, ...], tuple[float | None, ...]]
    only_first: int
    only_second: int
    low: float
    high: float
    how: str
    seen: int

    @property
    def difference(self) -> float:
        """Accuracy of the first model less that of the second, -1..1."""
        return (self.only_first - self.only_second) / self.n

    @property
    def is_clear(self) -> bool:
        """Whether the interval is on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def text(self) -> str:
        """One sentence: both accuracies, the margin in points, and whether it is more than noise."""
        new = f", of which {self.seen:,} were learned from" if self.seen else " that neither has learned from"
        doubt = "" if self.is_clear else "; so few images cannot tell which is better"
        first, second = (
            f"{name} {100 * share:.1f} %" for name, share in zip(self.names, self.accuracy, strict=True)
        )
        return (
            f"{first}, {second}: {100 * self.difference:+.1f} points on {self.n:,} images{new} "
            f"(95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}){doubt}"
        )

    def to_json(self) -> str:
        """JSON object with one entry per field, and ``difference``, ``is_clear`` and ``text``."""
        derived = {"difference": self.difference, "is_clear": self.is_clear, "text": self.text}
        return json.dumps(to_value(self) | derived)


def evaluate(
    model: AnyModel,
    data: Data,
    *,
    split: str = "auto",
    rows: np.ndarray | None = None,
    copies: np.ndarray | None = None,
    weights: AnyWeights | None = None,
    device: str = "auto",
    crops: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    gpus_per_worker: float | None = None,
    progress: Progress = no_progress,
) -> EvaluationResult:
    """Compare a model's predictions with labels.

    Parameters
    ----------
    model : LinearModel, Weights, path or name
        As for :func:`~cnncodes.evaluation.score`.
    data : as for :func:`~cnncodes.evaluation.score`, with labels
    split : {"auto", "all", "train", "val", "test"}, default "auto"
        "auto": the images on which the model was not fitted and nothing of it was chosen; of these the test split if
        there is one, else val. If there are none, those on which something was chosen; if it was fitted on all of
        them, all. ``how`` says so.
    rows : int ndarray, optional
        These rows of the catalog, whatever the split.
    copies : int ndarray, optional
        With ``rows``: further ones, copies of images that the model was fitted on, for ``top1_with_copies`` alone.
        Without ``rows`` those of the split that the model was fitted on under this or another name.
    weights, device, crops, batch_size, workers, processes, ray, gpus_per_worker, progress
        As for :func:`~cnncodes.evaluation.score`.

    Raises
    ------
    ModelError
        If the data have classes that the model does not know; names each.
    CatalogError
        If no image is left to evaluate.
    """
    asked = _Asked(split, rows, copies, crops)
    compute = Compute(
        device, workers, processes, ray, batch_size=batch_size, progress=progress, gpus_per_worker=gpus_per_worker
    )  # fmt: skip
    return _judge([load_model(model)], data, asked, None if weights is None else [weights], compute)[0]


def evaluate_average(
    models: Sequence[AnyModel],
    data: Data,
    *,
    split: str = "auto",
    weights: Sequence[AnyWeights] | None = None,
    device: str = "auto",
    crops: str | None = None,
    workers: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    gpus_per_worker: float | None = None,
    progress: Progress = no_progress,
) -> AverageResult:
    """Compare several models, and the average of their probabilities, with labels.

    The average is that of Krizhevsky, Sutskever and Hinton 2012 (section 6: five networks, 18.2 % to 16.4 %
    top-5 error). Images are left out if any of the models was fitted on them.

    Parameters
    ----------
    models : sequence of LinearModel, Weights, path or name
        With the same classes, in any order; the first one's order counts.
    weights : sequence of Weights, name or path, optional
        One per model.
    data, split, device, crops, workers, processes, ray, gpus_per_worker, progress
        As for :func:`evaluate`.

    Raises
    ------
    ModelError
        If the models' classes differ, or the data have others.
    OptionError
        If there is no model.
    CatalogError
        If no image is left to evaluate.
    """
    loaded = [load_model(model) for model in models]
    asked = _Asked(split, crops=crops)
    compute = Compute(device, workers, processes, ray, progress=progress, gpus_per_worker=gpus_per_worker)
    results = _judge(loaded, data, asked, weights, compute)
    first = results[0]
    logarithms = mean_log_probabilities([result.log_probabilities for result in results])
    values = np.full(first.scores.values.shape, np.nan)
    values[first.rows] = logarithms
    average = dataclasses.replace(
        first,
        evaluation=evaluate_scores(logarithms, first.labels, loaded[0].classes),
        scores=dataclasses.replace(first.scores, values=values),
        log_probabilities=logarithms,
        calibration=_calibration(logarithms, first.labels, None, "probabilities"),
    )
    raw = sum(model.head.scale is None for model in loaded)
    how = "the mean of the models' probabilities"
    if raw:
        how += f" ({raw} of them SVMs without calibrated probabilities: softmax of their scores)"
    return AverageResult(average, results, how)


def compare_models(
    first: AnyModel,
    second: AnyModel,
    data: Data,
    *,
    names: Sequence[str] | None = None,
    split: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare two models on the same images, those left out that either was fitted on.

    Parameters
    ----------
    first, second : LinearModel, Weights, path or name
        With the same classes, in any order.
    data : as for :func:`~cnncodes.evaluation.score`, with labels
    names : two str, optional
        By default those of the models' weights.
    split, device, workers, progress
        As for :func:`evaluate`.

    Raises
    ------
    ModelError
        If the models' classes differ, or the data have others.
    CatalogError
        If no image is left to compare on.
    OptionError
        If there are not two names.
    """
    models = load_model(first), load_model(second)
    called = tuple(names) if names is not None else tuple(model.settings.weights for model in models)
    if len(called) != 2:
        raise OptionError(f"two models are compared, and {len(called)} names are given.", "Give two.")
    asked = _Asked(split)
    results = _judge(models, data, asked, None, Compute(device, workers, progress=progress))
    one, other = results
    hits = [result.log_probabilities.argmax(axis=1) == result.labels for result in results]
    only_first, only_second = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    low, high = paired_interval(only_first, only_second, one.evaluation.n)
    return Comparison(
        names=(called[0], called[1]),
        classes=one.evaluation.classes,
        n=one.evaluation.n,
        accuracy=(one.evaluation.top1, other.evaluation.top1),
        per_class=(_recall(one), _recall(other)),
        only_first=only_first,
        only_second=only_second,
        low=low,
        high=high,
        how=one.how,
        seen=one.seen,
    )


def _recall(result: EvaluationResult) -> tuple[float | None, ...]:
    return tuple(figures.recall for figures in result.evaluation.per_class)


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies on the same ``n`` images, -1..1.

    Only images that one of the two alone names rightly say anything. Half an image is added to each of the four
    cells of the table, so that the interval holds for few images too (Agresti and Min 2005, section 3).
    """
    total = n + 2
    difference = (only_first - only_second) / total
    spread = math.sqrt(only_first + only_second + 1 - total * difference**2) / total
    return max(difference - _Z * spread, -1.0), min(difference + _Z * spread, 1.0)


def class_order(classes: Sequence[str], reference: Sequence[str], place: int = 1) -> np.ndarray:
    """Columns that put scores of ``classes`` into the order of ``reference``: int ``[K]``.

    ``place`` is that of the model with these classes among all, from 0, for the error.

    Raises
    ------
    ModelError
        If the names differ; names those that only one of them has.
    """
    if sorted(classes) != sorted(reference):
        only = sorted(set(reference) - set(classes)), sorted(set(classes) - set(reference))
        raise ModelError(
            f"models 1 and {place + 1} do not have the same classes: only model 1 has {_names(only[0])}, "
            f"only model {place + 1} has {_names(only[1])}.",
            "Average models that were fitted on the same classes.",
        )
    # Both sorted, place by place: also right where two classes have one name, as in ImageNet.
    order = np.empty(len(classes), int)
    order[sorted(range(len(reference)), key=reference.__getitem__)] = sorted(
        range(len(classes)), key=classes.__getitem__
    )
    return order


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a person asks of an evaluation; see :func:`evaluate`."""

    split: str
    rows: np.ndarray | None = None
    copies: np.ndarray | None = None
    crops: str | None = None


def _judge(
    models: Sequence[LinearModel],
    data: Data,
    asked: _Asked,
    weights: Sequence[AnyWeights] | None,
    compute: Compute,
) -> tuple[EvaluationResult, ...]:
    """Results of all models on the same images."""
    if not models:
        raise OptionError("there is no model to evaluate.", "Name one or more.")
    orders = [class_order(model.classes, models[0].classes, place) for place, model in enumerate(models)]
    catalog = catalog_of(data)
    sample = _sample(models, data, catalog, asked)

    def scored(sample: _Sample) -> _Scored:
        """Of images the sample alone is computed, in one go; of a codes file all scores are there."""
        rows = sample.rows
        if isinstance(data, Catalog) or not is_codes(data):
            evaluated = score_models(models, catalog.subset(rows), weights, asked.crops, compute)
            rows = np.arange(len(rows))
        else:
            evaluated = score_models(models, data, weights, asked.crops, compute)
        ordered = [
            dataclasses.replace(scores, values=scores.values[:, order])
            for scores, order in zip(evaluated, orders, strict=True)
        ]
        return _Scored(ordered, rows)

    found = scored(sample)
    if asked.rows is None and asked.split == "auto" and sample.seen.any() and not found.any_of(sample):
        # only broken files are left unseen
        everything, how = all_seen(sample.labels, _fitted(models))
        none = np.zeros(len(everything), np.bool_)
        sample = dataclasses.replace(sample, rows=everything, copied=none, how=how)
        found = scored(sample)
    if not found.any_of(sample):
        name, reason = next(iter(found.scores[0].problems.items()), ("", ""))
        raise CatalogError(
            f"none of the images could be read{f'; the first is {name!r}: {reason}' if name else ''}.",
            "Look at one: cnncodes predict MODEL IMAGE.",
        )
    return _results(models, sample, found)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Which rows of the catalog are compared."""

    labels: np.ndarray  # [N]
    seen: np.ndarray  # [N]
    watched: np.ndarray  # [N]
    rows: np.ndarray
    copied: np.ndarray  # [rows]: not evaluated
    how: str


def _sample(models: Sequence[LinearModel], data: Data, catalog: Catalog, asked: _Asked) -> _Sample:
    split, rows, copies = asked.split, asked.rows, asked.copies
    labels = labels_for(models[0].classes, catalog, slice(None) if rows is None else rows)
    digests = digests_of(data, catalog)
    seen = np.any([model.has_seen(digests) for model in models], axis=0)
    watched = np.any([model.has_watched(digests) for model in models], axis=0)
    if rows is not None:
        rows = rows[labels[rows] >= 0]
        copies = rows[:0] if copies is None else copies[labels[copies] >= 0]
        how = f"{len(rows):,} images"
    else:
        rows, copies, how = rows_to_evaluate(catalog, labels, seen, watched, split, _fitted(models))
        if not seen[rows].all() or split != "auto":  # else it is said already
            how += caution(rows, seen, watched, _fitted(models))
    copied = np.repeat([False, True], [len(rows), len(copies)])
    rows = np.concatenate([rows, copies])
    return _Sample(labels, seen, watched & ~seen, rows, copied, how)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores of each model, with columns in one order, of the evaluated images."""

    scores: list[Scores]
    places: np.ndarray  # of the evaluated images in the scores' catalog

    @property
    def readable(self) -> np.ndarray:
        """Evaluated images that all models could read: bool ``[n]``."""
        return _complete([scores.values[self.places] for scores in self.scores])

    def any_of(self, sample: _Sample) -> bool:
        """Whether any image that is evaluated could be read."""
        return bool((self.readable & ~sample.copied).any())


def _results(models: Sequence[LinearModel], sample: _Sample, scored: _Scored) -> tuple[EvaluationResult, ...]:
    """Metrics and calibration of each model, on the images that all of them could read."""
    readable = scored.readable
    good, copied = readable & ~sample.copied, readable & sample.copied
    labels, how = sample.labels[sample.rows][good], sample.how
    if bad := int((~readable & ~sample.copied).sum()):
        how += f"; {bad:,} of them could not be read"
    results = []
    for model, scores in zip(models, scored.scores, strict=True):
        values = scores.values[scored.places][good]
        logarithms = log_softmax(values, model.head.scale or 1.0)
        evaluation = evaluate_scores(values, labels, models[0].classes)
        hits = (scores.values[scored.places].argmax(axis=1) == sample.labels[sample.rows])[good | copied]
        results.append(
            EvaluationResult(
                evaluation=evaluation,
                scores=scores,
                rows=scored.places[good],
                how=how,
                seen=int(sample.seen[sample.rows][good].sum()),
                labels=labels,
                log_probabilities=logarithms,
                calibration=_calibration(
                    logarithms,
                    labels,
                    model.head.temperature,
                    "softmax(score)" if model.head.scale is None else "probabilities",
                ),
                copies=int(copied.sum()),
                top1_with_copies=float(hits.mean()) if copied.any() else None,
                watched=int(sample.watched[sample.rows][good].sum()),
            )
        )
    return tuple(results)


def _calibration(
    logarithms: np.ndarray, labels: np.ndarray, temperature: float | None, of: Kind
) -> Calibration:
    error, bins = calibration_error(np.exp(logarithms), labels)
    return Calibration(error, bins, chance_error(np.exp(logarithms)), temperature, of)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"


def _fitted(models: Sequence[LinearModel]) -> str:
    """Who may have been fitted on an image, in words."""
    return "the model was" if len(models) == 1 else "at least one of the models was"


def _complete(values: Sequence[np.ndarray]) -> np.ndarray:
    """Whether no score of a row is missing, in any of these arrays: bool ``[rows]``."""
    missing: np.ndarray = np.isnan(np.concatenate(values, axis=1)).any(axis=1)
    return ~missing
