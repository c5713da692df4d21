"""A linear head: weights, bias, and everything needed to use them on raw codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, ModelError
from cnncodes.core.files import reading
from cnncodes.heads.calibration import log_softmax
from cnncodes.heads.normalise import Normalisation

HeadKind = Literal["svm", "softmax"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on the codes of one stage.

    Two classes also have two rows of weights, so that scores have one column per class: for "svm" they are
    ``-w`` and ``w``, for "softmax" ``-w/2`` and ``w/2``, where ``w`` is what scikit-learn calls ``coef_[0]``.

    Parameters
    ----------
    kind : {"svm", "softmax"}
    weight : float array [K, d]
        Acts on normalised codes.
    bias : float array [K]
    normalisation : Normalisation
        Applied to raw codes before the weights.
    C : float
        The inverse strength of the penalty that was used.
    classes : tuple of K str
    temperature : float or None
        softmax(scores / temperature) are the probabilities (:mod:`cnncodes.heads.calibration`); None where no images were held
        out to fit it: then softmax(scores) are those of "softmax", and "svm" has none.
    """

    kind: HeadKind
    weight: Array
    bias: Array
    normalisation: Normalisation
    C: float
    classes: tuple[str, ...]
    temperature: float | None = None

    def __post_init__(self) -> None:
        K = len(self.classes)
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise ModelError(
                f"temperature {self.temperature} cannot be used.", "It must be a positive number."
            )
        if self.kind not in ("svm", "softmax"):
            raise ModelError(f"head kind {self.kind!r} is not known.", "Use 'svm' or 'softmax'.")
        if K < 2 or self.weight.ndim != 2 or self.weight.shape[0] != K or self.bias.shape != (K,):
            raise ModelError(
                f"weights {self.weight.shape} and bias {self.bias.shape} do not fit {K} classes.",
                "A head has one row of weights and one bias per class, and at least two classes.",
            )

    def scores(self, X: Array) -> Array:
        """Scores [n, K] of raw codes ``X`` [n, d]: the largest is the predicted class.

        Raises
        ------
        HeadError
            If ``X`` has another number of columns than the weights.
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
