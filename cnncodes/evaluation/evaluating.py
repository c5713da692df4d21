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
from cnncodes.evaluation.metrics import (
    Calibration,
    Evaluation,
    Kind,
    calibration_error,
    chance_error,
    evaluate_scores,
)
from cnncodes.evaluation.rows import Asked, Sample, catalog_of, sample_of
from cnncodes.evaluation.scores import Data, Scores, is_codes, score_models
from cnncodes.heads.confidence import log_softmax, mean_log_probabilities
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """An evaluation, and on which images."""

    evaluation: Evaluation
    scores: Scores  # of an average, the logarithms of the averaged probabilities
    rows: np.ndarray  # int [n], those of the scores' catalog that were evaluated
    how: str  # which images these are, in words
    seen: int  # on how many of them the model was fitted
    labels: np.ndarray  # int [n], places in the classes
    log_probabilities: (
        np.ndarray
    )  # [n, K], with the model's temperature; of an SVM without one, log softmax(scores)
    calibration: Calibration
    copies: int = 0  # further images, copies of those that the model was fitted on, which are not evaluated
    top1_with_copies: float | None = None  # what the accuracy would be if they were
    watched: int = 0  # on how many others something of the model was chosen: they are no test either

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
    """Several models and their average, all on the same images and with the classes in the same order."""

    average: EvaluationResult
    models: tuple[EvaluationResult, ...]  # in the order given
    how: str  # what was averaged, in words

    def to_json(self) -> str:
        """JSON object: the average's entries, ``averaged`` in words, and ``models`` with one entry for each."""
        models = [model.to_value() for model in self.models]
        return json.dumps({**self.average.to_value(), "averaged": self.how, "models": models})


@dataclass(frozen=True)
class Comparison:
    """What two models say of the same images."""

    names: tuple[str, str]  # of the models
    classes: tuple[str, ...]
    n: int  # images
    accuracy: tuple[float, float]  # 0..1
    per_class: tuple[tuple[float | None, ...], tuple[float | None, ...]]  # recall, 0..1; None without images
    only_first: int  # images that this model alone names rightly
    only_second: int
    low: float  # 95 % interval of ``difference``: see :func:`paired_interval`
    high: float
    how: str  # which images these are, in words
    seen: int  # images that at least one of the models has learned from: above 0 it is no test

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
    asked = Asked(split, rows, copies, crops)
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
        As for :func:`evaluate`, and so are the errors.

    Raises
    ------
    ModelError
        If the models' classes differ.
    OptionError
        If there is no model.
    """
    loaded = [load_model(model) for model in models]
    compute = Compute(device, workers, processes, ray, progress=progress, gpus_per_worker=gpus_per_worker)
    results = _judge(loaded, data, Asked(split, crops=crops), weights, compute)
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
    how = "the mean of the models' probabilities"
    if raw := sum(model.head.scale is None for model in loaded):
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
    names : two str, optional
        By default those of the models' weights.
    data, split, device, workers, progress
        As for :func:`evaluate`, and so are the errors.

    Raises
    ------
    ModelError
        If the models' classes differ.
    OptionError
        If there are not two names.
    """
    models = load_model(first), load_model(second)
    called = tuple(names) if names is not None else tuple(model.settings.weights for model in models)
    if len(called) != 2:
        raise OptionError(f"two models are compared, and {len(called)} names are given.", "Give two.")
    results = _judge(models, data, Asked(split), None, Compute(device, workers, progress=progress))
    one, other = results
    hits = [result.log_probabilities.argmax(axis=1) == result.labels for result in results]
    only_first, only_second = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    low, high = paired_interval(only_first, only_second, one.evaluation.n)
    return Comparison(
        names=(called[0], called[1]),
        classes=one.evaluation.classes,
        n=one.evaluation.n,
        accuracy=(one.evaluation.top1, other.evaluation.top1),
        per_class=(one.evaluation.recalls, other.evaluation.recalls),
        only_first=only_first,
        only_second=only_second,
        low=low,
        high=high,
        how=one.how,
        seen=one.seen,
    )


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

    Raises ModelError if the names differ; ``place`` is that of the model with these classes among all, from 0.
    """
    if sorted(classes) != sorted(reference):
        first, other = sorted(set(reference) - set(classes)), sorted(set(classes) - set(reference))
        raise ModelError(
            f"models 1 and {place + 1} do not have the same classes: only model 1 has {_names(first)}, "
            f"only model {place + 1} has {_names(other)}.",
            "Average models that were fitted on the same classes.",
        )
    # Both sorted, place by place: also right where two classes have one name, as in ImageNet.
    places = [sorted(range(len(names)), key=names.__getitem__) for names in (reference, classes)]
    order = np.empty(len(classes), int)
    order[places[0]] = places[1]
    return order


def _judge(
    models: Sequence[LinearModel],
    data: Data,
    asked: Asked,
    weights: Sequence[AnyWeights] | None,
    compute: Compute,
) -> tuple[EvaluationResult, ...]:
    """Results of all models on the same images, those that all of them could read."""
    if not models:
        raise OptionError("there is no model to evaluate.", "Name one or more.")
    orders = [class_order(model.classes, models[0].classes, place) for place, model in enumerate(models)]
    catalog = catalog_of(data)
    sample = sample_of(models, data, catalog, asked)

    def scored(sample: Sample) -> _Scored:
        """Of images the sample alone is computed, in one go; of a codes file all scores are there."""
        given, places = data, sample.rows
        if isinstance(data, Catalog) or not is_codes(data):
            given, places = catalog.subset(places), np.arange(len(places))
        scores = score_models(models, given, weights, asked.crops, compute)
        readable = np.all([each.readable[places] for each in scores], axis=0)
        return _Scored(scores, places, readable, readable & ~sample.copied)

    found = scored(sample)
    if asked.rows is None and asked.split == "auto" and sample.seen.any() and not found.good.any():
        sample = sample.all_seen()  # only broken files are left unseen
        found = scored(sample)
    if not found.good.any():
        name, reason = next(iter(found.scores[0].problems.items()), ("", ""))
        raise CatalogError(
            f"none of the images could be read{f'; the first is {name!r}: {reason}' if name else ''}.",
            "Look at one: cnncodes predict MODEL IMAGE.",
        )
    return tuple(
        _result(
            model,
            dataclasses.replace(scores, values=scores.values[:, order]),
            models[0].classes,
            sample,
            found,
        )
        for model, scores, order in zip(models, found.scores, orders, strict=True)
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores of each model, and which of the sample's images all of them could read."""

    scores: list[Scores]
    places: np.ndarray  # of the sample's images in the scores' catalog
    readable: np.ndarray  # bool, as long
    good: np.ndarray  # bool, as long: readable, and evaluated


def _result(
    model: LinearModel, scores: Scores, classes: Sequence[str], sample: Sample, found: _Scored
) -> EvaluationResult:
    """Metrics and calibration of one model, with the scores' columns in the order of the first model's classes."""
    labels, good = sample.labels[sample.rows], found.good
    copied = found.readable & sample.copied
    values, scale = scores.values[found.places], model.head.scale
    logarithms = log_softmax(values[good], scale or 1.0)
    hits = (values.argmax(axis=1) == labels)[found.readable]
    bad = int((~found.readable & ~sample.copied).sum())
    of: Kind = "softmax(score)" if scale is None else "probabilities"
    return EvaluationResult(
        evaluation=evaluate_scores(values[good], labels[good], classes),
        scores=scores,
        rows=found.places[good],
        how=sample.how + (f"; {bad:,} of them could not be read" if bad else ""),
        seen=int(sample.seen[sample.rows][good].sum()),
        labels=labels[good],
        log_probabilities=logarithms,
        calibration=_calibration(logarithms, labels[good], model.head.temperature, of),
        copies=int(copied.sum()),
        top1_with_copies=float(hits.mean()) if copied.any() else None,
        watched=int(sample.watched[sample.rows][good].sum()),
    )


def _calibration(
    logarithms: np.ndarray, labels: np.ndarray, temperature: float | None, of: Kind
) -> Calibration:
    error, bins = calibration_error(np.exp(logarithms), labels)
    return Calibration(error, bins, chance_error(np.exp(logarithms)), temperature, of)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5])) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
