"""The linear model: a head with everything needed to predict from pixels, fitted from a codes file.

The file is safetensors: the head's arrays and one JSON record. No pickle anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnncodes.codes.export import deepest
from cnncodes.codes.file import DONE, CodesFile, Provenance
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.core.compute import Progress, available_memory, no_progress
from cnncodes.core.errors import CnnCodesError, HeadError, ModelError, OptionError
from cnncodes.core.files import MODEL, model_file
from cnncodes.heads.choice import Choice, ClassWeight, choose_C
from cnncodes.heads.draws import FewShot, few_shot
from cnncodes.heads.fit import FitResult, Limits, candidates_of, fit_head
from cnncodes.heads.head import Head, HeadKind
from cnncodes.heads.likeness import Likeness
from cnncodes.heads.normalise import Normalisation, NormalisationKind
from cnncodes.heads.splits import Split, SplitRule, split_rows, with_known_classes, without_copies
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_contents
from cnncodes.images.listing import SUFFIXES
from cnncodes.weights import Weights, read_arrays, write_arrays
from cnncodes.weights.content import require_finite
from cnncodes.weights.safetensors_file import ENTRY, require_one_head

FORMAT = 1
KIND = "linear model"
_ENTRY = "seen"  # tensor with the digests of the training images
_WATCHED = "watched"  # and of those that only chose
_MEANS, _DISTANCES = "class_means", "distances"


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear classifier on the codes of one stage of one network.

    Parameters
    ----------
    head : Head
    settings : ExtractionSettings
        Network, weights with their fingerprint, preprocessing, the one stage, crops: how codes are made.
    evidence : dict
        How the head came about (choice of C, layers compared, rows), for people.
    seen : uint64 ndarray
        Digests of the files that the head was fitted on, of copies of them in other files, and of those that the weights
        were trained on, so that an evaluation can leave them out.
    origin : Path, Weights or None
        The model's file, beside which its weights may be, or the network whose own classifier it is. Not saved.
    watched : uint64 ndarray
        Digests of the files on which something was chosen (a training's epoch) and nothing fitted: they are no test either.
    likeness : Likeness or None
        What is usual among the training images; None of a network's own classifier, and of models of earlier versions.
    """

    head: Head
    settings: ExtractionSettings
    evidence: dict[str, Any] = field(default_factory=dict)
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    origin: Path | Weights | None = field(default=None, repr=False)
    watched: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    likeness: Likeness | None = None

    @property
    def stage(self) -> str:
        """The stage whose codes the head reads."""
        return self.settings.stages[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.head.classes

    @property
    def images_fitted(self) -> int:
        """Images that the head was fitted on; of a network, those that it was trained on."""
        return int(self.evidence.get("images_fitted", len(self.seen)))

    def has_seen(self, digests: np.ndarray) -> np.ndarray:
        """Whether the head or the weights learned from images with these digests: bool ``[N]``.

        See :func:`cnncodes.images.file_digest`.
        """
        return _among(digests, self.seen)

    def has_watched(self, digests: np.ndarray) -> np.ndarray:
        """Whether something of the model was chosen on images with these digests: bool ``[N]``."""
        return _among(digests, self.watched)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model file; raises OutputExistsError if it is there and ``overwrite`` is false."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise OptionError(f"a model file ends in .safetensors, not '{path.name}'.", "Rename the output.")
        record = {
            "format": FORMAT,
            "kind": KIND,
            "head": self.head.record(),
            "settings": json.loads(self.settings.to_json()),
            "evidence": self.evidence,
        }
        arrays = {name: np.asarray(array) for name, array in self.head.arrays().items()}
        arrays |= {_ENTRY: self.seen.view(np.int64), _WATCHED: self.watched.view(np.int64)}
        if self.likeness is not None:
            arrays |= {_MEANS: self.likeness.means, _DISTANCES: self.likeness.quantiles}
        write_arrays(path, arrays, record, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LinearModel:
        """Read a model file, or the one in a run's folder.

        Raises
        ------
        ModelError
            If the file is not a model, is damaged, has numbers that are NaN or infinite, or was written by a newer version.
        """
        path = model_file(path)
        if not path.is_file():
            raise ModelError(
                f"there is no model '{path}'.",
                "Make one with 'cnncodes fit-linear codes.h5 -o model.safetensors'.",
            )
        arrays, record = read_arrays(path)
        if record is None or record.get("kind") != KIND:
            raise ModelError(
                f"'{path}' is a safetensors file, but not a model of cnncodes.",
                "Make one with 'cnncodes fit-linear codes.h5 -o model.safetensors'.",
            )
        if record.get("format") != FORMAT:
            raise ModelError(
                f"model '{path}' has format {record.get('format')}; this version reads format {FORMAT}.",
                "Update cnncodes.",
            )
        require_finite(f"model '{path}'", arrays, ModelError)
        require_one_head(f"the model '{path}'", record, ModelError)
        try:
            seen = arrays.pop(_ENTRY).view(np.uint64)
            watched = arrays.pop(_WATCHED, np.zeros(0, np.int64)).view(np.uint64)
            usual = arrays.pop(_MEANS, None), arrays.pop(_DISTANCES, None)
            likeness = None if usual[0] is None or usual[1] is None else Likeness(usual[0], usual[1])
            return cls(
                head=Head.from_arrays(arrays, record["head"]),
                settings=ExtractionSettings.from_json(json.dumps(record["settings"])),
                evidence=dict(record["evidence"]),
                seen=seen,
                origin=path,
                watched=watched,
                likeness=likeness,
            )
        except (KeyError, TypeError, ValueError, CnnCodesError) as error:
            reason = error.problem if isinstance(error, CnnCodesError) else f"{type(error).__name__} {error}"
            raise ModelError(
                f"model '{path}' is damaged: {reason.rstrip('.')}.",
                "Fit the head again, or update cnncodes if a newer version wrote it.",
            ) from error


AnyModel = LinearModel | Weights | str | os.PathLike[str]
"""A loaded model or network, or the file, folder or name of one, as :func:`load_model` knows them."""


def load_model(model: AnyModel) -> LinearModel:
    """A model by its file or folder: a linear model, or weights, whose last stage is the classifier.

    Parameters
    ----------
    model : path, name, LinearModel or Weights
        A file of :func:`fit_linear`, the weights file of a training, the folder of a run or a training, or any other
        weights that :func:`cnncodes.load_weights` knows. A loaded model is given back as it is.

    Raises
    ------
    ModelError
        If there is no such file, or no model in the folder.
    WeightsError
        If it is damaged.
    """
    from cnncodes.weights import load_weights, read_tensors

    if isinstance(model, LinearModel):
        return model
    if isinstance(model, Weights):
        return network_model(model)
    path = model_file(model)
    if path.is_dir():
        raise ModelError(
            f"there is no {path.name}/{MODEL}: '{path}' is no folder of a run that has made its model.",
            "Name the folder of a run or a model's file, and then the images.",
        )
    if path.suffix.lower() in (*SUFFIXES, ".h5", ".hdf5", ".csv", ".txt"):
        raise ModelError(f"'{path}' is not a model.", "The model comes first: MODEL, then the images.")
    if path.suffix == ".safetensors" and (not path.is_file() or is_model(read_tensors(path)[1])):
        return LinearModel.load(path)
    return network_model(load_weights(path))


def is_model(metadata: dict[str, str]) -> bool:
    """Whether the metadata of a safetensors file are those of a linear model."""
    return KIND in metadata.get(ENTRY, "")


def network_model(weights: Weights) -> LinearModel:
    """The classifier of a network as a model: softmax on the logits of its last stage, which nothing changes.

    Raises
    ------
    ModelError
        If the network ends before a classifier.
    """
    network = weights.architecture
    if network.classes is None:
        raise ModelError(
            f"network '{network.name}' of weights '{weights.name}' ends before a classifier.",
            "Fit a head on its codes: cnncodes extract, then cnncodes fit-linear.",
        )
    names = weights.class_names() or tuple(f"class {place}" for place in range(network.classes))
    identity = np.eye(network.classes, dtype=np.float32)
    settings = ExtractionSettings(
        network=weights.network,
        stages=(network.stage_names[-1],),
        weights=weights.name,
        weights_sha256=weights.fingerprint,
        preprocessing=weights.preprocessing,
        classes=network.classes,
    )
    bias = np.zeros(network.classes, np.float32)
    temperature = weights.evidence.get("temperature")
    head = Head("softmax", identity, bias, Normalisation("none"), 1.0, names, temperature)
    seen, watched = (np.array(digests, np.uint64) for digests in (weights.seen, weights.watched))
    return LinearModel(head, settings, dict(weights.evidence), seen, origin=weights, watched=watched)


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
        labels, classes = _compact(file.catalog, rows)
        rows = with_known_classes(file.catalog, rows, labels)
        options: dict[str, Any] = {
            "kind": kind, "C": C, "normalisation": normalisation, "class_weight": class_weight,
            "folds": folds, "seed": seed, "jobs": jobs,
        }  # fmt: skip
        limits = Limits(available_memory() // 2 if memory is None else memory, device, progress)
        task = _Task(file, rows, labels, classes, options, limits, several=len(stages) > 1)
        kept = [
            None if state is None else Path(f"{os.fspath(state)}.{place}") for place in range(len(stages))
        ]
        fits = {stage: task.fit(stage, path) for stage, path in zip(stages, kept, strict=True)}
        compared = {
            stage: fit.judged.best_accuracy
            for stage, fit in fits.items()
            if fit.judged and (fit.result.choice or len(stages) > 1)
        }
        chosen = max(compared, key=lambda stage: compared[stage]) if len(stages) > 1 else stages[0]
        fit = fits[chosen]
        fitted = np.concatenate([rows.train, rows.choose]) if fit.result.choice else rows.train
        likeness = fit.likeness if fit.in_blocks else task.likeness(chosen, fit.result.head, fitted)
        settings = dataclasses.replace(
            file.settings, stages=(chosen,), crops=averaged(file.settings.crops), dtype="float32"
        )
        weights_seen = file.weights_seen()
        learned = int(_among(digests[rows.test], weights_seen).sum())
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


@dataclass(frozen=True, eq=False)
class _Task:
    """What :func:`fit_linear` fits on each stage."""

    file: CodesFile
    rows: Split
    labels: np.ndarray
    classes: tuple[str, ...]
    options: dict[str, Any]
    limits: Limits
    several: bool

    def fit(self, stage: str, state: Path | None) -> _StageFit:
        """The head on one stage; where nothing can be held out to judge one C of one stage, that is left out."""
        try:
            if self._bytes_in_memory(stage) > self.limits.memory:
                from cnncodes.heads.streaming import fit_in_blocks

                limits = dataclasses.replace(self.limits, state=state)
                found = fit_in_blocks(
                    self.file,
                    stage,
                    self.rows,
                    (self.labels, self.classes),
                    self.options,
                    limits,
                    optional=not self.several,
                )
                return _StageFit(found[0], found[1], True, found[2])
            return self._fit_in_memory(stage)
        except HeadError as error:
            raise _left_to_learn(error, self.rows, self.labels) from None

    def _fit_in_memory(self, stage: str) -> _StageFit:
        train, choose = self.rows.train, self.rows.choose
        X, y = read_rows(self.file, stage, train), self.labels[train]
        validation = (read_rows(self.file, stage, choose), self.labels[choose]) if len(choose) else None
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

    def _bytes_in_memory(self, stage: str) -> int:
        """Of the codes as float32, normalised and rotated, and of the scores of held-out rows for each C."""
        C, n = self.options["C"], len(self.rows.train) + len(self.rows.choose)
        return 4 * n * (3 * self.file.length(stage) + len(candidates_of(C)) * len(self.classes))

    def likeness(self, stage: str, head: Head, fitted: np.ndarray) -> Likeness | None:
        """What is usual among the rows that were fitted."""
        codes = head.normalisation(read_rows(self.file, stage, fitted))
        return Likeness.of(codes, self.labels[fitted], len(self.classes))


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
        labels, classes = _compact(file.catalog, split)
        train = np.concatenate([split.train, split.choose])
        test = split.test[labels[split.test] >= 0]
        return few_shot(
            read_rows(file, model.stage, train), labels[train], read_rows(file, model.stage, test), labels[test], classes,
            shots=shots, repeats=repeats, kind=model.head.kind, C=C, normalisation=model.head.normalisation.kind, seed=seed,
            jobs=jobs,
        )  # fmt: skip


def read_rows(file: CodesFile, stage: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Codes of one stage as float32 ``[rows, length]``; kept crops are averaged."""
    codes = file.read(stage, rows).astype(np.float32, copy=False)
    return codes.mean(axis=1) if codes.ndim == 3 else codes


def _compact(catalog: Catalog, rows: Split) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels 0..K-1 for the classes that have training images, -1 for all others, and the classes' names."""
    present = np.unique(catalog.labels[rows.train])
    labels = np.full(len(catalog), -1, dtype=np.int64)
    for place, label in enumerate(present):
        labels[catalog.labels == label] = place
    return labels, tuple(catalog.classes[label] for label in present)


def _among(digests: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Whether each digest is among ``seen``: bool ``[N]``; 0 stands for a file that was not read."""
    found: np.ndarray = np.isin(digests, seen) & (digests != 0)
    return found


def averaged(crops: str) -> str:
    """The crops whose codes a head reads: kept ones are averaged."""
    return {"mirror": "mirror-mean", "ten": "ten-mean"}.get(crops, crops)
