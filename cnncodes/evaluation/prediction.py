"""From a model and images (or codes) to scores, predictions and evaluations."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.pipeline import Pipeline
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.errors import (
    CatalogError,
    ModelError,
    OptionError,
    WeightsMismatchError,
    WeightsMissingError,
)
from cnncodes.evaluation.metrics import Evaluation, evaluate_scores
from cnncodes.heads.linear_model import LinearModel, averaged, read_rows
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.digests import file_digests
from cnncodes.images.listing import SPLITS

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Progress = Callable[[int, int], None]
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of some images by one model.

    Parameters
    ----------
    catalog : Catalog
    values : float ndarray [N, K]
        NaN where an image could not be read.
    problems : dict of str to str
        Name and reason of each unreadable image.
    """

    catalog: Catalog
    values: np.ndarray
    problems: dict[str, str]

    @property
    def readable(self) -> np.ndarray:
        """Whether each image has scores: bool ``[N]``."""
        missing: np.ndarray = np.isnan(self.values).any(axis=1)
        return ~missing


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first.

    ``probabilities`` is None for an SVM, whose scores are distances and not odds; ``problem`` is the reason
    why an image could not be read, and then the rest is empty.
    """

    name: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] | None = None
    problem: str | None = None

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """An evaluation, and on which images: ``how`` in words, ``rows`` of the scores' catalog.

    ``seen`` is on how many of them the model was fitted.
    """

    evaluation: Evaluation
    scores: Scores
    rows: np.ndarray
    how: str
    seen: int

    @property
    def all_seen(self) -> bool:
        """Whether the model was fitted on each of the images: then this is no test."""
        return self.seen == self.evaluation.n

    def to_json(self) -> str:
        """JSON object: the evaluation's entries, ``how``, and the unreadable images."""
        values: dict[str, Any] = json.loads(self.evaluation.to_json())
        return json.dumps(
            values
            | {
                "how": self.how,
                "seen_in_training": self.seen,
                "all_seen_in_training": self.all_seen,
                "unreadable": self.scores.problems,
            }
        )


def score(
    model: LinearModel,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog,
    *,
    weights: Weights | None = None,
    device: str = "auto",
    crops: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Scores of images, or of the rows of a codes file.

    Parameters
    ----------
    model : LinearModel
    data : images as for :func:`~cnncodes.images.read_catalog`, a Catalog, or one codes file (.h5)
    weights : Weights, optional
        Those of the model, if they are loaded already; else :func:`model_weights` finds them.
    device, batch_size, workers
        As for :func:`~cnncodes.codes.plan_extraction`.
    crops : str, optional
        Other crops than the model was fitted with; kept crops are averaged.
    progress : callable(done, unreadable), optional

    Raises
    ------
    ModelError
        If a codes file was made otherwise than the model needs.
    WeightsMissingError, WeightsMismatchError
        If the model's weights are not at hand or differ.
    """
    from cnncodes.codes.compute import Encoder, choose_device

    if not isinstance(data, Catalog):
        if is_codes(data):
            return _score_codes(model, _one_path(data))
        data = read_catalog(data)
    place = choose_device(device)
    settings = dataclasses.replace(
        model.settings,
        crops=crops or model.settings.crops,
        batch_size=batch_size or default_batch_size(len(data)),
    )
    encoder = Encoder(_verified(weights, settings) if weights else model_weights(model), settings, place)
    rows = range(len(data))
    batches = [
        rows[start : start + settings.batch_size] for start in range(0, len(data), settings.batch_size)
    ]
    values = np.full((len(data), len(model.classes)), np.nan)
    problems: dict[str, str] = {}
    for batch, codes in Pipeline(data, batches, encoder, workers=workers or place.cores):
        found = codes[model.stage].astype(np.float32, copy=False)
        values[batch.rows[0] : batch.rows[-1] + 1] = model.head.scores(
            found if found.ndim == 2 else found.mean(1)
        )
        for row, reason in batch.problems.items():
            values[row] = np.nan
            problems[data.names[row]] = reason
        if progress:
            progress(int(batch.rows[-1]) + 1, len(problems))
    return Scores(data, values, problems)


def predict(
    model: LinearModel,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog,
    *,
    top: int = 5,
    **options: Any,
) -> list[Prediction]:
    """The most probable classes of each image, best first, in the order of the catalog.

    ``top`` is the number of classes; the other options are those of :func:`score`.
    """
    if top < 1:
        raise OptionError(f"the {top} best classes cannot be given.", "Use 1 or more.")
    return predictions_of(model, score(model, data, **options), top)


def predictions_of(model: LinearModel, scores: Scores, top: int = 5) -> list[Prediction]:
    """Predictions from scores that are there."""
    found = []
    softmax = model.head.kind == "softmax"
    for name, values in zip(scores.catalog.names, scores.values, strict=True):
        if np.isnan(values).any():
            found.append(Prediction(name, problem=scores.problems.get(name, "not extracted yet")))
            continue
        best = np.argsort(-values, kind="stable")[:top]
        odds = np.exp(values - values.max())
        found.append(
            Prediction(
                name,
                tuple(model.classes[place] for place in best),
                tuple(float(values[place]) for place in best),
                tuple(float(odds[place] / odds.sum()) for place in best) if softmax else None,
            )
        )
    return found


def evaluate(
    model: LinearModel,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog,
    *,
    split: str = "auto",
    rows: np.ndarray | None = None,
    **options: Any,
) -> EvaluationResult:
    """Compare a model's predictions with labels.

    Parameters
    ----------
    model : LinearModel
    data : as for :func:`score`, with labels
    split : {"auto", "all", "train", "val", "test"}, default "auto"
        "auto": the images that the model was not fitted on; of these the test split if there is one, else
        val. If it was fitted on all of them, all, and ``all_seen`` says so.
    rows : int ndarray, optional
        These rows of the catalog, whatever the split.

    Raises
    ------
    ModelError
        If the data have classes that the model does not know; names each.
    CatalogError
        If no image is left to evaluate.
    """
    catalog = _catalog_of(data)
    labels = _labels_for(model, catalog, slice(None) if rows is None else rows)
    seen = model.has_seen(_digests(data, catalog))
    if rows is not None:
        rows = rows[labels[rows] >= 0]
        how = f"{len(rows):,} images"
    else:
        rows, how = _rows_to_evaluate(catalog, labels, seen, split)
    scores, values, places = _score_rows(model, data, catalog, rows, options)
    readable = ~np.isnan(values).any(axis=1)
    if not readable.any() and split == "auto" and seen.any():  # only broken files are left unseen
        rows, how = _all_seen(labels)
        scores, values, places = _score_rows(model, data, catalog, rows, options)
        readable = ~np.isnan(values).any(axis=1)
    if not readable.any():
        raise CatalogError("none of the images could be read.", "Look at one: cnncodes predict MODEL IMAGE.")
    if not readable.all():
        how += f"; {int((~readable).sum()):,} of them could not be read"
    evaluation = evaluate_scores(values[readable], labels[rows][readable], model.classes)
    return EvaluationResult(evaluation, scores, places[readable], how, int(seen[rows][readable].sum()))


def _score_rows(
    model: LinearModel, data: Any, catalog: Catalog, rows: np.ndarray, options: dict[str, Any]
) -> tuple[Scores, np.ndarray, np.ndarray]:
    """Scores, their values ``[rows, K]``, and the places of the rows in the scores' catalog."""
    if isinstance(data, Catalog) or not is_codes(data):
        scores = score(model, catalog.subset(rows), **options)
        return scores, scores.values, np.arange(len(rows))
    scores = score(model, data, **options)
    return scores, scores.values[rows], rows


def _all_seen(labels: np.ndarray) -> tuple[np.ndarray, str]:
    rows = np.flatnonzero(labels >= 0)
    return rows, f"all {len(rows):,} images, on each of which the model was fitted: this is no test"


def model_weights(
    model: LinearModel, weights: str | os.PathLike[str] | None = None, beside: Path | None = None
) -> Weights:
    """The weights that a model was fitted with, verified by their fingerprint.

    Parameters
    ----------
    model : LinearModel
    weights : name or path, optional
        Where they are; by default the name that the model holds.
    beside : Path, optional
        The model's file: weights in a file are looked for in the same folder, too.

    Raises
    ------
    WeightsMissingError
        If they are not at hand.
    WeightsMismatchError
        If these are other numbers.
    """
    from cnncodes.weights import load_weights

    settings = model.settings
    name = str(weights or settings.weights)
    if (
        weights is None
        and beside is not None
        and not Path(name).exists()
        and (beside.parent / name).is_file()
    ):
        name = str(beside.parent / name)
    try:
        found = load_weights(name, network=settings.network)
    except WeightsMissingError as error:
        raise WeightsMissingError(
            f"the model needs weights '{settings.weights}' ({settings.weights_sha256[:12]}): {error.problem}",
            f"{error.remedy} Or name their file with --weights.",
        ) from error
    return _verified(found, settings)


def _verified(weights: Weights, settings: ExtractionSettings) -> Weights:
    """The weights, if they are the numbers that a model was fitted with; else raises WeightsMismatchError."""
    if weights.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{weights.name}' ({weights.fingerprint[:12]}) are not those that the model was fitted with "
            f"({settings.weights_sha256[:12]}).",
            "Name the right file with --weights, or fit the model again.",
        )
    return weights


def is_codes(data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> bool:
    """Whether data are one codes file, by its suffix, and not images."""
    if isinstance(data, str | os.PathLike):
        return Path(data).suffix.lower() in HDF5_SUFFIXES
    return len(data) == 1 and is_codes(data[0])


def _one_path(data: Any) -> Path:
    return Path(data if isinstance(data, str | os.PathLike) else data[0])


def _catalog_of(data: Any) -> Catalog:
    if isinstance(data, Catalog):
        return data
    if is_codes(data):
        with CodesFile(_one_path(data)) as codes:
            return codes.catalog
    return read_catalog(data)


def _digests(data: Any, catalog: Catalog) -> np.ndarray:
    """What is in each image file: from the codes file, or by reading the images."""
    if not isinstance(data, Catalog) and is_codes(data):
        with CodesFile(_one_path(data)) as codes:
            return codes.digests()
    return file_digests(catalog)


def _score_codes(model: LinearModel, path: Path) -> Scores:
    with CodesFile(path) as codes:
        codes.require_complete()
        _check_settings(model.settings, codes.settings, path)
        values = np.full((len(codes), len(model.classes)), np.nan)
        rows = np.flatnonzero(codes.state == DONE)
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            values[part] = model.head.scores(read_rows(codes, model.stage, part))
        return Scores(codes.catalog, values, codes.problems())


def _check_settings(needed: ExtractionSettings, there: ExtractionSettings, path: Path) -> None:
    if needed.stages[0] not in there.stages:
        raise ModelError(
            f"the model reads layer {needed.stages[0]}, and '{path}' has {', '.join(there.stages)}.",
            f"Extract again with --layers {needed.stages[0]}, or give the images instead.",
        )
    same = dataclasses.replace(
        there, stages=needed.stages, crops=averaged(there.crops), dtype=needed.dtype, batch_size=needed.batch_size,
        weights=needed.weights,
    )  # fmt: skip
    if differences := same.differences(needed):
        raise ModelError(
            f"'{path}' was made otherwise than the codes that the model was fitted on ({'; '.join(differences)}).",
            "Extract again with the model's settings, or give the images instead.",
        )


def _labels_for(model: LinearModel, catalog: Catalog, rows: np.ndarray | slice) -> np.ndarray:
    """Labels of the whole catalog as places in the model's classes, -1 for none; ``rows`` must have known ones."""
    used = [catalog.classes[label] for label in np.unique(catalog.labels[rows]) if label >= 0]
    unknown = [name for name in used if name not in model.classes]
    if unknown:
        raise ModelError(
            f"the data have classes that the model does not know: {', '.join(map(repr, unknown))} "
            f"(it knows {', '.join(map(repr, model.classes))}).",
            "Rename these classes as the model has them, leave them out, or fit a model on these data.",
        )
    if not used:
        raise CatalogError(
            "the images have no labels, so there is nothing to compare with.",
            "Use 'cnncodes predict', or put the images into one folder per class.",
        )
    places = {label: model.classes.index(name) for label, name in enumerate(catalog.classes) if name in used}
    return np.array([places.get(label, -1) for label in catalog.labels.tolist()])


def _rows_to_evaluate(
    catalog: Catalog, labels: np.ndarray, seen: np.ndarray, split: str
) -> tuple[np.ndarray, str]:
    """Rows, and what they are in words."""
    labelled = labels >= 0
    if split in SPLITS[1:]:
        rows = np.flatnonzero(labelled & (catalog.splits == SPLITS.index(split)))
        how = f"the {len(rows):,} images of the {split} split"
    elif split == "all":
        rows = np.flatnonzero(labelled)
        how = f"all {len(rows):,} images"
    elif split == "auto":
        rows, how = np.flatnonzero(labelled & ~seen), "images that the model was not fitted on"
        for name in ("test", "val"):
            in_split = catalog.splits == SPLITS.index(name)
            if in_split[rows].any():
                repeated = int((labelled & in_split & seen).sum())
                rows, how = rows[in_split[rows]], f"images of the {name} split"
                how += (
                    f", without {repeated:,} that were fitted under this or another name" if repeated else ""
                )
                break
        how = f"the {len(rows):,} {how}"
        if not len(rows):
            rows, how = _all_seen(labels)
    else:
        raise OptionError(f"split '{split}' is not known.", "Use auto, all, train, val or test.")
    if not len(rows):
        raise CatalogError(f"there are no labelled images in {how}.", "Use --split all, or other data.")
    return rows, how
