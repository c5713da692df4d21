"""From models and images (or codes) to scores; models that share a network compute it once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.codes.stream import Block, stream
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import ModelError, OptionError, WeightsMismatchError, WeightsMissingError
from cnncodes.heads.confidence import log_softmax, mean_log_probabilities
from cnncodes.heads.linear_model import AnyModel, LinearModel, averaged, load_model, read_rows
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.readers import holds_images
from cnncodes.weights import Weights

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog
#: Why an image that could be read has no scores.
NOT_FINITE = (
    "its codes are no numbers (NaN or infinity): extract it again, and look at the weights if it stays so"
)
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of some images by one model."""

    catalog: Catalog
    values: np.ndarray  # float [N, K], NaN where an image could not be read, or its codes are not finite
    problems: dict[str, str]  # name and reason of each of these images
    #: [N], how far each image is from the training images, 0..100 (:class:`cnncodes.heads.Likeness`); NaN where not known
    percentiles: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Whether each image has scores: bool ``[N]``."""
        missing: np.ndarray = np.isnan(self.values).any(axis=1)
        return ~missing

    def subset(self, rows: np.ndarray) -> Scores:
        """Scores of some rows, with the problems of these alone."""
        catalog = self.catalog.subset(rows)
        kept = set(catalog.names) & set(self.problems)
        problems = {name: reason for name, reason in self.problems.items() if name in kept}
        return Scores(catalog, self.values[rows], problems, self.percentiles[rows])


def score(
    model: AnyModel,
    data: Data,
    *,
    weights: AnyWeights | None = None,
    device: str = "auto",
    crops: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    gpus_per_worker: float | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Scores of images, or of the rows of a codes file.

    Parameters
    ----------
    model : LinearModel, Weights, path or name
        A loaded model, or what :func:`~cnncodes.heads.load_model` knows: a model's file, a run's folder, weights.
    data : images as for :func:`~cnncodes.images.read_catalog`, a Catalog, or one codes file (.h5)
    weights : Weights, name or path, optional
        Those of the model; by default :func:`model_weights` finds them.
    device, batch_size, workers, processes, ray, gpus_per_worker
        As for :func:`~cnncodes.codes.plan_extraction`.
    crops : str, optional
        Other crops than the model was fitted with; kept crops are averaged.
    progress : callable(step, done, total, word), optional

    Raises
    ------
    ModelError
        If a codes file was made otherwise than the model needs.
    WeightsMissingError, WeightsMismatchError
        If the model's weights are not at hand or differ.
    """
    compute = Compute(
        device, workers, processes, ray, batch_size=batch_size, progress=progress, gpus_per_worker=gpus_per_worker
    )  # fmt: skip
    return score_models([model], data, None if weights is None else [weights], crops, compute)[0]


def score_models(
    models: Sequence[AnyModel],
    data: Data,
    weights: Sequence[AnyWeights] | None = None,
    crops: str | None = None,
    compute: Compute = Compute(),  # noqa: B008 - it cannot be changed
) -> list[Scores]:
    """Scores by several models, one record per model, all on the same catalog; equal networks share one pass over the images.

    Parameters
    ----------
    models : sequence of LinearModel, Weights, path or name
    data : as for :func:`score`
    weights : sequence of Weights, name or path, optional
        One per model; else :func:`model_weights` finds them.
    crops : str, optional
    compute : Compute
        Its progress counts the images of all passes.

    Raises
    ------
    OptionError
        If there is no model, or another number of weights.
    ModelError, WeightsMissingError, WeightsMismatchError
        As :func:`score`.
    """
    if not models or (weights is not None and len(weights) != len(models)):
        raise OptionError(
            f"{len(models)} models and {'no' if weights is None else len(weights)} weights cannot be scored.",
            "Give one model or more, and the weights of each or none.",
        )
    loaded = [load_model(model) for model in models]
    if not isinstance(data, Catalog):
        if is_codes(data):
            return [_score_codes(model, one_path(data)) for model in loaded]
        data = read_catalog(data)
    # All weights before the first image, so that a missing file is said at once.
    none: Sequence[None] = [None] * len(loaded)
    numbers = [model_weights(model, own) for model, own in zip(loaded, weights or none, strict=True)]
    values = [np.full((len(data), len(model.classes)), np.nan) for model in loaded]
    usual = [np.full(len(data), np.nan) for _ in loaded]
    problems: list[dict[str, str]] = [{} for _ in loaded]  # of each model
    passes = _passes(loaded, crops)
    size = compute.batch_size or default_batch_size(len(data))
    for number, (settings, members) in enumerate(passes):
        bad: dict[str, str] = {}
        for member in members:
            problems[member] = bad
        settings = dataclasses.replace(settings, batch_size=size)
        for block in stream(data, numbers[members[0]], settings, compute):
            done = int(block.rows[-1]) + 1
            place = slice(block.rows[0], done)
            for member in members:
                values[member][place], usual[member][place] = _block_scores(loaded[member], block)
            bad |= {data.names[row]: reason for row, reason in block.problems.items()}
            word = f"{len(bad):,} unreadable" if bad else ""
            compute.progress("scoring", number * len(data) + done, len(passes) * len(data), word)
    return [_finite(data, *parts) for parts in zip(values, problems, usual, strict=True)]


def _passes(models: Sequence[LinearModel], crops: str | None) -> list[tuple[ExtractionSettings, list[int]]]:
    """Settings of each pass with all stages that it computes, and the places of the models that it serves."""
    groups: dict[ExtractionSettings, list[int]] = {}
    for place, model in enumerate(models):
        own = dataclasses.replace(model.settings, crops=crops or model.settings.crops, dtype="float32")
        same = dataclasses.replace(own, stages=("any",), weights="", batch_size=1)
        groups.setdefault(same, []).append(place)
    passes = []
    for same, places in groups.items():
        first, stages = models[places[0]].settings, dict.fromkeys(models[place].stage for place in places)
        settings = dataclasses.replace(same, stages=tuple(stages), weights=first.weights)
        passes.append((settings, places))
    return passes


def _finite(catalog: Catalog, values: np.ndarray, problems: dict[str, str], usual: np.ndarray) -> Scores:
    """The scores, all NaN and with a reason where codes were not finite; a class without any probability may have -inf."""
    bad = np.isnan(values).any(axis=1) | np.isposinf(values).any(axis=1)
    values[bad] = np.nan
    reasons = {catalog.names[row]: NOT_FINITE for row in np.flatnonzero(bad)}
    return Scores(catalog, values, reasons | problems, usual)


def _block_scores(model: LinearModel, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[rows, K]`` and :attr:`Scores.percentiles` of one block; kept crops are averaged, unreadable images are NaN.

    A head reads the mean of the crops' codes, as it was fitted. Of a network's own classifier the probabilities
    are averaged (Krizhevsky, Sutskever and Hinton 2012, section 4.1), and their logarithms are the scores.
    """
    read = block.codes[model.stage].astype(np.float32, copy=False)
    if read.ndim == 3 and _is_network(model):
        crops = [log_softmax(model.head.scores(read[:, crop])) for crop in range(read.shape[1])]
        values, usual = mean_log_probabilities(crops), np.full(len(read), np.nan)
    else:
        values, usual = _head_scores(model, read if read.ndim == 2 else read.mean(1))
    values[[row - block.rows[0] for row in block.problems]] = np.nan
    return values, usual


def _head_scores(model: LinearModel, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[n, K]`` and :attr:`Scores.percentiles` ``[n]`` of codes ``[n, d]``."""
    if model.likeness is None:
        return model.head.scores(codes), np.full(len(codes), np.nan)
    return model.head.scores(codes), model.likeness.percentiles(model.head.normalisation(codes))


def _is_network(model: LinearModel) -> bool:
    """Whether the model is a network's own last stage: its head changes nothing, or picks one data set's classes."""
    weight = model.head.weight
    picks = np.eye(weight.shape[1], dtype=np.float32)[weight.argmax(axis=1)]
    return model.stage == model.settings.architecture.stage_names[-1] and np.array_equal(weight, picks)


def model_weights(model: AnyModel, weights: AnyWeights | None = None) -> Weights:
    """The weights that a model was fitted with, verified by their fingerprint, with the model's preprocessing.

    Parameters
    ----------
    model : LinearModel, Weights, path or name
    weights : Weights, name or path, optional
        The weights, or where they are; by default what the model's record names, also looked for beside its file.

    Raises
    ------
    WeightsMissingError, WeightsMismatchError
        If they are not at hand, or are other numbers.
    """
    from cnncodes.weights import load_weights

    model = load_model(model)
    settings, origin = model.settings, model.origin
    if weights is None:
        weights = origin if isinstance(origin, Weights) else settings.weights
        if isinstance(origin, Path) and not Path(settings.weights).exists():
            near = origin.parent / settings.weights
            weights = near if near.is_file() else weights
    try:
        found = load_weights(weights, network=settings.network)
    except WeightsMissingError as error:
        raise WeightsMissingError(
            f"the model needs weights '{settings.weights}' ({settings.weights_sha256[:12]}): {error.problem}",
            f"{error.remedy} Or name their file with --weights.",
        ) from error
    if found.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{found.name}' ({found.fingerprint[:12]}) are not those that the model was fitted with "
            f"({settings.weights_sha256[:12]}).",
            "Name the right file with --weights, or fit the model again.",
        )
    record = settings.preprocessing
    return found if found.preprocessing == record else dataclasses.replace(found, preprocessing=record)


def is_codes(data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> bool:
    """Whether data are one codes file: by its suffix, and if it holds no images."""
    if isinstance(data, str | os.PathLike):
        return Path(data).suffix.lower() in HDF5_SUFFIXES and not holds_images(data)
    return len(data) == 1 and is_codes(data[0])


def one_path(data: Any) -> Path:
    """The path of the one file that data name."""
    return Path(data if isinstance(data, str | os.PathLike) else data[0])


def _score_codes(model: LinearModel, path: Path) -> Scores:
    with CodesFile(path) as codes:
        codes.require_complete()
        _check_settings(model.settings, codes.settings, path)
        values, usual = np.full((len(codes), len(model.classes)), np.nan), np.full(len(codes), np.nan)
        rows = np.flatnonzero(codes.state == DONE)
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            with np.errstate(invalid="ignore", over="ignore"):  # codes that are not finite: said below
                values[part], usual[part] = _head_scores(model, read_rows(codes, model.stage, part))
        return _finite(codes.catalog, values, codes.problems(), usual)


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
