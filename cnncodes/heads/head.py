"""A linear head: weights, bias, and the normalisation of raw codes; what codes must be before one is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, ModelError, OptionError, nearest
from cnncodes.core.files import reading
from cnncodes.heads.confidence import log_softmax

HeadKind = Literal["svm", "softmax"]
NormalisationKind = Literal["none", "l2", "standard"]
Array = npt.NDArray[Any]

_BLOCK = 4096  # rows at a time


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What happens to a row of codes before the weights.

    "l2" divides each row by its Euclidean length (Razavian et al. 2014, 'CNN features off-the-shelf', section 3); a row of zeros
    stays zeros. "standard" subtracts the training rows' ``mean`` [d] and divides by their standard deviation ``scale`` [d].
    """

    kind: NormalisationKind = "l2"
    mean: Array | None = None
    scale: Array | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(NormalisationKind):
            raise OptionError(
                f"normalisation {self.kind!r} is not known.", nearest(self.kind, get_args(NormalisationKind))
            )
        if (self.kind == "standard") != (self.mean is not None and self.scale is not None):
            raise OptionError(
                f"normalisation {self.kind!r} and its arrays do not fit together.",
                "Give mean and scale for 'standard', and for nothing else.",
            )

    @classmethod
    def of(cls, X: Array, kind: NormalisationKind) -> Normalisation:
        """The record that fits training codes ``X`` [n, d].

        A column that never varies gets scale 1, as in scikit-learn's ``StandardScaler``.
        """
        if kind != "standard":
            return cls(kind)
        mean = X.mean(axis=0, dtype=np.float64)
        square = np.zeros_like(mean)
        for start in range(0, len(X), _BLOCK):  # two passes in blocks: exact, and no float64 copy of X
            with np.errstate(over="ignore"):  # said below
                square += np.square(X[start : start + _BLOCK] - mean).sum(axis=0)
        return cls.standard(mean, np.sqrt(square / len(X)))

    @classmethod
    def standard(cls, mean: Array, scale: Array) -> Normalisation:
        """The record of columns with this mean and standard deviation [d]; raises HeadError if that is infinite."""
        require_squares(scale)
        scale[scale <= 1e-7 * np.abs(mean)] = 1.0  # the rounding of a constant column in float32
        scale[scale == 0] = 1.0
        return cls("standard", mean, scale)

    def __call__(self, X: Array, dtype: npt.DTypeLike | None = None) -> Array:
        """Normalised copy of codes ``X`` [n, d], in ``dtype`` or that of ``X``, at least float32.

        Raises HeadError if the number of columns is not that of ``mean``.
        """
        dtype = np.result_type(X.dtype, np.float32) if dtype is None else dtype
        if self.mean is not None and X.shape[1:] != self.mean.shape:
            raise HeadError(
                f"the codes have {X.shape[1]} columns, and the head was fitted on {len(self.mean)}.",
                "Use codes of the same network and stage.",
            )
        result = np.array(X, dtype=dtype)  # a copy, so that the arithmetic below can be in place
        if self.kind == "l2":
            for start in range(0, len(result), _BLOCK):
                block = result[start : start + _BLOCK]
                length = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
                large = length > np.finfo(dtype).max  # the length overflows, not the row
                if large.any():
                    block[large] /= np.abs(block[large]).max(axis=1, keepdims=True)
                    length[large] = np.sqrt(
                        np.einsum("ij,ij->i", block[large], block[large], dtype=np.float64)
                    )
                block /= np.where(length > 0, length, 1.0).astype(dtype)[:, None]
        elif self.kind == "standard":
            result -= np.asarray(self.mean, dtype)
            result /= np.asarray(self.scale, dtype)
        return result

    def arrays(self) -> dict[str, Array]:
        """The arrays that a model file must hold: ``mean`` and ``scale``, or none."""
        both = {"mean": self.mean, "scale": self.scale}
        return {name: array for name, array in both.items() if array is not None}


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on the codes of one stage.

    Two classes also have two rows of weights, so that scores have one column per class: for "svm" they are
    ``-w`` and ``w``, for "softmax" ``-w/2`` and ``w/2``, where ``w`` is what scikit-learn calls ``coef_[0]``.
    """

    kind: HeadKind
    weight: Array  # float [K, d], acts on normalised codes
    bias: Array  # float [K]
    normalisation: Normalisation  # of raw codes
    C: float  # inverse strength of the penalty that was used
    classes: tuple[str, ...]
    #: softmax(scores / temperature) are the probabilities; None where no images were held out to fit it: then
    #: softmax(scores) are those of "softmax", and "svm" has none.
    temperature: float | None = None

    def __post_init__(self) -> None:
        K = len(self.classes)
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise ModelError(
                f"temperature {self.temperature} cannot be used.", "It must be a positive number."
            )
        if self.kind not in get_args(HeadKind):
            raise ModelError(f"head kind {self.kind!r} is not known.", "Use 'svm' or 'softmax'.")
        if K < 2 or self.weight.ndim != 2 or self.weight.shape[0] != K or self.bias.shape != (K,):
            raise ModelError(
                f"weights {self.weight.shape} and bias {self.bias.shape} do not fit {K} classes.",
                "A head has one row of weights and one bias per class, and at least two classes.",
            )

    def scores(self, X: Array) -> Array:
        """Scores [n, K] of raw codes ``X`` [n, d]: the largest is the predicted class.

        Raises HeadError if ``X`` has another number of columns than the weights.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.weight.shape[1]:
            raise HeadError(
                f"the codes have shape {X.shape}, and the head needs [n, {self.weight.shape[1]}].",
                "Use codes of the same network and stage, one row per image.",
            )
        scores: Array = self.normalisation(X) @ self.weight.T + self.bias
        return scores

    def predict(self, X: Array) -> npt.NDArray[np.int64]:
        """Index of the predicted class [n] for raw codes ``X`` [n, d]."""
        predicted: npt.NDArray[np.int64] = self.scores(X).argmax(axis=1)
        return predicted

    @property
    def scale(self) -> float | None:
        """The temperature, 1 of a softmax head without one; None where scores give no probabilities."""
        return 1.0 if self.temperature is None and self.kind == "softmax" else self.temperature

    def probabilities(self, X: Array) -> Array | None:
        """Probabilities [n, K] of raw codes ``X`` [n, d]; None of an SVM without a temperature."""
        return None if self.scale is None else np.exp(log_softmax(self.scores(X), self.scale))

    def arrays(self) -> dict[str, Array]:
        """All arrays by name: weight, bias, and mean and scale where the normalisation has them."""
        return {"weight": self.weight, "bias": self.bias, **self.normalisation.arrays()}

    def record(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON has it."""
        return {
            "kind": self.kind,
            "normalisation": {"kind": self.normalisation.kind},
            "C": self.C,
            "temperature": self.temperature,
            "classes": list(self.classes),
        }

    @classmethod
    @reading("the head in this file", ModelError)
    def from_arrays(cls, arrays: dict[str, Array], record: dict[str, Any]) -> Head:
        """Inverse of :meth:`arrays` and :meth:`record`; raises ModelError if one is missing, or shapes do not fit together."""
        kind = record["normalisation"]["kind"]
        columns = (arrays.get("mean"), arrays.get("scale")) if kind == "standard" else ()
        return cls(
            kind=record["kind"],
            weight=arrays["weight"],
            bias=arrays["bias"],
            normalisation=Normalisation(kind, *columns),
            C=float(record["C"]),
            classes=tuple(str(name) for name in record["classes"]),
            temperature=None if record.get("temperature") is None else float(record["temperature"]),
        )


def check_codes(
    X: Array, labels: Array, classes: Sequence[str], *, all_classes: bool = True, columns: int | None = None
) -> tuple[Array, Array]:
    """Codes [n, d] and int64 labels [n] that can be fitted to, or with so many ``columns`` tested on; else raises HeadError.

    With ``all_classes`` each of at least two classes must have a row.
    """
    X, labels = np.asarray(X), np.asarray(labels)
    if X.ndim != 2 or labels.shape != X.shape[:1] or not X.size:
        raise HeadError(
            f"codes of shape {X.shape} and labels of shape {labels.shape} do not fit together.",
            "Give codes [n, d] of one stage and one label per row, at least one.",
        )
    if columns is not None and X.shape[1] != columns:
        raise HeadError(
            f"the held-out codes have {X.shape[1]} columns, and the training codes {columns}.",
            "Use codes of the same network and stage.",
        )
    if X.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise HeadError(
            f"codes of type {X.dtype} and labels of type {labels.dtype} cannot be used.",
            "Give codes as floating point numbers and labels as integers.",
        )
    for start in range(0, len(X), _BLOCK):
        require_finite(X[start : start + _BLOCK], start)
    check_labels(labels, classes, all_classes=all_classes)
    return X, labels.astype(np.int64, copy=False)


def check_labels(labels: Array, classes: Sequence[str], *, all_classes: bool = True) -> None:
    """The part of :func:`check_codes` that concerns labels [n], at least one."""
    if labels.min() < 0 or labels.max() >= len(classes):
        raise HeadError(
            f"labels run from {labels.min()} to {labels.max()}, and there are {len(classes)} classes.",
            f"Leave out images without a label, and use labels 0 to {len(classes) - 1}.",
        )
    counts = np.bincount(labels, minlength=len(classes))
    if all_classes and np.count_nonzero(counts) < 2:
        raise HeadError(
            f"all {len(labels)} images are of one class, {classes[int(counts.argmax())]!r}.",
            "Give images of at least two classes: a head tells classes apart.",
        )
    if all_classes and not counts.all():
        missing = classes[int(counts.argmin())]
        raise HeadError(
            f"class {missing!r} has no image to train on ({np.count_nonzero(counts == 0)} such classes).",
            "Put images of it into the train split, or remove the class.",
        )


def require_finite(X: Array, first: int) -> None:
    """Raise HeadError if a row of a block of codes is not finite; ``first`` is the number of its first row."""
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise HeadError(
            f"row {first + bad[0]} of the codes has values that are not finite (the first of such rows).",
            "Leave out the rows of images that could not be read, and extract again if others remain.",
        )


def require_squares(sums: Array) -> None:
    """Raise HeadError if sums of squares of codes have overflowed: nothing could be fitted to them."""
    if not np.isfinite(sums).all():
        raise HeadError(
            "the codes are so large that their squares overflow.",
            "Normalise them (--normalize l2), and look at the weights: codes of trained networks are far smaller.",
        )
