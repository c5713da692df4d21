"""The linear model: a head with everything needed to predict from pixels.

The file is safetensors: the head's arrays and one JSON record. No pickle anywhere.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.core.errors import CnnCodesError, ModelError, OptionError
from cnncodes.core.files import MODEL, model_file
from cnncodes.heads.confidence import Likeness
from cnncodes.heads.head import Head, Normalisation
from cnncodes.images.listing import SUFFIXES
from cnncodes.weights import Weights, read_arrays, write_arrays
from cnncodes.weights.content import require_finite
from cnncodes.weights.safetensors_file import ENTRY, require_one_head

FORMAT = 1
KIND = "linear model"
_ENTRY = "seen"  # tensor with the digests of the training images
_WATCHED = "watched"  # and of those that only chose
_MEANS, _DISTANCES = "class_means", "distances"
_MAKE_ONE = "Make one with 'cnncodes fit-linear codes.h5 -o model.safetensors'."


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear classifier on the codes of one stage of one network."""

    head: Head
    settings: ExtractionSettings  # how codes are made: network, weights, preprocessing, the one stage, crops
    #: How the head came about (choice of C, layers compared, rows), for people.
    evidence: dict[str, Any] = field(default_factory=dict)
    #: uint64 digests of the files that the head was fitted on, of copies of them in other files, and of those that the
    #: weights were trained on, so that an evaluation can leave them out.
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    #: The model's file, beside which its weights may be, or the network whose own classifier it is. Not saved.
    origin: Path | Weights | None = field(default=None, repr=False)
    #: uint64 digests of the files on which something was chosen (a training's epoch) and nothing fitted: no test either.
    watched: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    #: What is usual among the training images; None of a network's own classifier, and of models of earlier versions.
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
        """Whether the head or the weights learned from images with these digests (``images.file_digest``): bool ``[N]``."""
        return among(digests, self.seen)

    def has_watched(self, digests: np.ndarray) -> np.ndarray:
        """Whether something of the model was chosen on images with these digests: bool ``[N]``."""
        return among(digests, self.watched)

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

        Raises ModelError if it is not a model, is damaged, has numbers that are NaN or infinite, or is of a newer version.
        """
        path = model_file(path)
        if not path.is_file():
            raise ModelError(f"there is no model '{path}'.", _MAKE_ONE)
        arrays, record = read_arrays(path)
        if record is None or record.get("kind") != KIND:
            raise ModelError(f"'{path}' is a safetensors file, but not a model of cnncodes.", _MAKE_ONE)
        if record.get("format") != FORMAT:
            raise ModelError(
                f"model '{path}' has format {record.get('format')}; this version reads format {FORMAT}.",
                "Update cnncodes.",
            )
        require_finite(f"model '{path}'", arrays, ModelError)
        require_one_head(f"the model '{path}'", record, ModelError)
        try:
            return cls(
                head=Head.from_arrays(arrays, record["head"]),
                settings=ExtractionSettings.from_json(json.dumps(record["settings"])),
                evidence=dict(record["evidence"]),
                seen=arrays[_ENTRY].view(np.uint64),
                origin=path,
                watched=arrays.get(_WATCHED, np.zeros(0, np.int64)).view(np.uint64),
                likeness=Likeness(arrays[_MEANS], arrays[_DISTANCES])
                if {_MEANS, _DISTANCES} <= arrays.keys()
                else None,
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
    ModelError, WeightsError
        If there is no such file, or no model in the folder, or it is damaged.
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

    Raises ModelError if the network ends before a classifier.
    """
    network = weights.architecture
    if network.classes is None:
        raise ModelError(
            f"network '{network.name}' of weights '{weights.name}' ends before a classifier.",
            "Fit a head on its codes: cnncodes extract, then cnncodes fit-linear.",
        )
    names = weights.class_names() or tuple(f"class {place}" for place in range(network.classes))
    settings = ExtractionSettings(
        weights.network, (network.stage_names[-1],), weights.name, weights.fingerprint, weights.preprocessing,
        classes=network.classes,
    )  # fmt: skip
    identity, bias = np.eye(network.classes, dtype=np.float32), np.zeros(network.classes, np.float32)
    temperature = weights.evidence.get("temperature")
    head = Head("softmax", identity, bias, Normalisation("none"), 1.0, names, temperature)
    seen, watched = (np.array(digests, np.uint64) for digests in (weights.seen, weights.watched))
    return LinearModel(head, settings, dict(weights.evidence), seen, origin=weights, watched=watched)


def read_rows(file: CodesFile, stage: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Codes of one stage as float32 ``[rows, length]``; kept crops are averaged."""
    codes = file.read(stage, rows).astype(np.float32, copy=False)
    return codes.mean(axis=1) if codes.ndim == 3 else codes


def among(digests: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Whether each digest is among ``seen``: bool ``[N]``; 0 stands for a file that was not read."""
    found: np.ndarray = np.isin(digests, seen) & (digests != 0)
    return found


def averaged(crops: str) -> str:
    """The crops whose codes a head reads: kept ones are averaged."""
    return {"mirror": "mirror-mean", "ten": "ten-mean"}.get(crops, crops)
