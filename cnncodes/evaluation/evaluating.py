"""Compare one model, or the average of several, with labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.core.errors import CatalogError, ModelError, OptionError
from cnncodes.evaluation.calibration import Calibration, Kind, calibration_error, fit_temperature, log_softmax
from cnncodes.evaluation.metrics import Evaluation, evaluate_scores
from cnncodes.evaluation.rows import (
    all_seen,
    catalog_of,
    caution,
    digests_of,
    labels_for,
    rows_for_temperature,
    rows_to_evaluate,
)
from cnncodes.evaluation.scores import Data, Progress, Scores, is_codes, score_models
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights


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
        Of a softmax head as it gives them; of an SVM log softmax(scores / T), with the temperature T of the
        calibration, or 1 where none could be fitted.
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
        values: dict[str, Any] = json.loads(self.evaluation.to_json())
        return json.dumps(
            values
            | {
                "how": self.how,
                "seen_in_training": self.seen,
                "all_seen_in_training": self.all_seen,
                "copies_left_out": self.copies,
                "top1_with_copies": self.top1_with_copies,
                "watched_in_training": self.watched,
                "calibration": json.loads(self.calibration.to_json()),
                "unreadable": self.scores.problems,
            }
        )


@dataclass(frozen=True, eq=False)
class Judged:
    """Results of all models on the same images, and what a temperature of their average is fitted on."""

    results: tuple[EvaluationResult, ...]
    val: tuple[np.ndarray, ...]  # log probabilities [v, K] of each model on the val images
    val_labels: np.ndarray  # [v]
    val_how: str
    how: str  # which images these are, in words


def evaluate(
    model: AnyModel,
    data: Data,
    *,
    split: str = "auto",
    rows: np.ndarray | None = None,
    copies: np.ndarray | None = None,
    temperature: bool = True,
    weights: AnyWeights | None = None,
    device: str = "auto",
    crops: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
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
    temperature : bool, default True
        Whether a temperature is fitted on the val split, where it is neither evaluated nor fitted on; of
        images, that split is then computed as well.
    weights, device, crops, batch_size, workers, progress
        As for :func:`~cnncodes.evaluation.score`.

    Raises
    ------
    ModelError
        If the data have classes that the model does not know; names each.
    CatalogError
        If no image is left to evaluate.
    """
    judged = judge(
        [load_model(model)], data, split, rows, copies, temperature,
        {
            "weights": [weights] if weights else None, "device": device, "crops": crops,
            "batch_size": batch_size, "workers": workers,
            "progress": progress,
        },
    )  # fmt: skip
    return judged.results[0]


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


def judge(
    models: Sequence[LinearModel],
    data: Data,
    split: str,
    rows: np.ndarray | None,
    copies: np.ndarray | None,
    temperature: bool,
    options: dict[str, Any],
) -> Judged:
    """Results of all models on the same images; parameters as for :func:`evaluate`.

    ``options`` are those of :func:`~cnncodes.evaluation.score_models`.
    """
    if not models:
        raise OptionError("there is no model to evaluate.", "Name one or more.")
    orders = [class_order(model.classes, models[0].classes, place) for place, model in enumerate(models)]
    catalog = catalog_of(data)
    sample = _sample(models, data, catalog, split, rows, copies, temperature)
    scored = _score_rows(models, orders, data, catalog, sample, options)
    if (
        not (scored.readable & ~sample.copied).any()
        and rows is None
        and split == "auto"
        and sample.seen.any()
    ):
        # only broken files are left unseen
        everything, how = all_seen(sample.labels, _fitted(models))
        val, val_how = rows_for_temperature(catalog, sample.labels, sample.seen, everything)
        none = np.zeros(len(everything), np.bool_)
        sample = dataclasses.replace(sample, rows=everything, copied=none, how=how, val=val, val_how=val_how)
        scored = _score_rows(models, orders, data, catalog, sample, options)
    if not (scored.readable & ~sample.copied).any():
        name, reason = next(iter(scored.scores[0].problems.items()), ("", ""))
        raise CatalogError(
            f"none of the images could be read{f'; the first is {name!r}: {reason}' if name else ''}.",
            "Look at one: cnncodes predict MODEL IMAGE.",
        )
    return _results(models, sample, scored)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Which rows of the catalog are compared, and which fit a temperature."""

    labels: np.ndarray  # [N]
    seen: np.ndarray  # [N]
    watched: np.ndarray  # [N]
    rows: np.ndarray
    copied: np.ndarray  # [rows]: not evaluated
    how: str
    val: np.ndarray
    val_how: str


def _sample(
    models: Sequence[LinearModel],
    data: Data,
    catalog: Catalog,
    split: str,
    rows: np.ndarray | None,
    copies: np.ndarray | None,
    temperature: bool,
) -> _Sample:
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
    val, val_how = rows_for_temperature(catalog, labels, seen, rows)
    if not temperature:
        val, val_how = val[:0], "no temperature is fitted: none was asked for"
    copied = np.repeat([False, True], [len(rows), len(copies)])
    rows = np.concatenate([rows, copies])
    return _Sample(labels, seen, watched & ~seen, rows, copied, how, val, val_how)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores of each model, with columns in one order, of the evaluated and of the val images."""

    scores: list[Scores]
    places: np.ndarray  # of the evaluated images in the scores' catalog
    val: list[np.ndarray]

    @property
    def readable(self) -> np.ndarray:
        """Evaluated images that all models could read: bool ``[n]``."""
        return _complete([scores.values[self.places] for scores in self.scores])

    @property
    def val_readable(self) -> np.ndarray:
        """Val images that all models could read: bool ``[v]``."""
        return _complete(self.val)


def _score_rows(
    models: Sequence[LinearModel],
    orders: Sequence[np.ndarray],
    data: Data,
    catalog: Catalog,
    sample: _Sample,
    options: dict[str, Any],
) -> _Scored:
    """Scores of the sample: of images it alone is computed, in one go; of a codes file all scores are there."""
    if isinstance(data, Catalog) or not is_codes(data):
        both = score_models(models, catalog.subset(np.concatenate([sample.rows, sample.val])), **options)
        places, val = np.split(np.arange(len(sample.rows) + len(sample.val)), [len(sample.rows)])
        evaluated = [scores.subset(places) for scores in both]
    else:
        evaluated = both = score_models(models, data, **options)
        places, val = sample.rows, sample.val
    return _Scored(
        [
            dataclasses.replace(scores, values=scores.values[:, order])
            for scores, order in zip(evaluated, orders, strict=True)
        ],
        places,
        [scores.values[val][:, order] for scores, order in zip(both, orders, strict=True)],
    )


def _results(models: Sequence[LinearModel], sample: _Sample, scored: _Scored) -> Judged:
    """Metrics and calibration of each model, on the images that all of them could read."""
    readable, val_good = scored.readable, scored.val_readable
    good, copied = readable & ~sample.copied, readable & sample.copied
    labels, val_labels = sample.labels[sample.rows][good], sample.labels[sample.val][val_good]
    how, val_how = sample.how, sample.val_how
    if bad := int((~readable & ~sample.copied).sum()):
        how += f"; {bad:,} of them could not be read"
    if len(sample.val) and not val_good.any():
        val_how = "no temperature is fitted: none of the images of the val split could be read"
    results, val_logarithms = [], []
    for model, scores, val in zip(models, scored.scores, scored.val, strict=True):
        values = scores.values[scored.places][good]
        svm = model.head.kind == "svm"
        calibration = calibrate(
            values, labels, val[val_good], val_labels, val_how, "softmax(score)" if svm else "probabilities"
        )
        used = (calibration.temperature or 1.0) if svm else 1.0
        evaluation = evaluate_scores(values, labels, models[0].classes)
        val_logarithms.append(log_softmax(val[val_good], used))
        hits = (scores.values[scored.places].argmax(axis=1) == sample.labels[sample.rows])[good | copied]
        results.append(
            EvaluationResult(
                evaluation=evaluation,
                scores=scores,
                rows=scored.places[good],
                how=how,
                seen=int(sample.seen[sample.rows][good].sum()),
                labels=labels,
                log_probabilities=log_softmax(values, used),
                calibration=calibration,
                copies=int(copied.sum()),
                top1_with_copies=float(hits.mean()) if copied.any() else None,
                watched=int(sample.watched[sample.rows][good].sum()),
            )
        )
    return Judged(tuple(results), tuple(val_logarithms), val_labels, val_how, how)


def calibrate(
    scores: np.ndarray,
    labels: np.ndarray,
    val_scores: np.ndarray,
    val_labels: np.ndarray,
    how: str,
    of: Kind = "probabilities",
) -> Calibration:
    """Calibration error of softmax(scores), and with the temperature that the val images give.

    ``how`` says which val images these are, or why there are none.
    """
    error, bins = calibration_error(np.exp(log_softmax(scores)), labels)
    temperature = fit_temperature(val_scores, val_labels)
    if temperature is None:
        if len(val_labels):
            how = (
                f"no temperature is fitted: on {how} no finite one is best "
                "(all are right, or the scores are no better than guessing)"
            )
        return Calibration(error, bins, None, None, how, of)
    scaled, _ = calibration_error(np.exp(log_softmax(scores, temperature)), labels)
    return Calibration(error, bins, temperature, scaled, how, of)


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
