"""Normalisation of codes before a linear head sees them: a record that travels with the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import HeadError, OptionError, nearest

NormalisationKind = Literal["none", "l2", "standard"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What happens to a row of codes before the weights.

    Parameters
    ----------
    kind : {"none", "l2", "standard"}
        "l2" divides each row by its Euclidean length (Razavian et al. 2014, 'CNN features off-the-shelf',
        section 3); a row of zeros stays zeros. "standard" subtracts ``mean`` and divides by ``scale``.
    mean, scale : float arrays [d] or None
        Only for "standard": mean and standard deviation of the training rows, in the units of the codes.
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
        """Normalised copy of codes ``X`` [n, d].

        Parameters
        ----------
        X : array [n, d], float16, float32 or float64
        dtype : dtype, optional
            Of the result; by default that of ``X``, at least float32.

        Raises
        ------
        HeadError
            If the number of columns is not that of ``mean``.
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
        if self.mean is None or self.scale is None:
            return {}
        return {"mean": self.mean, "scale": self.scale}


def require_squares(sums: Array) -> None:
    """Raise HeadError if sums of squares of codes have overflowed: nothing could be fitted to them."""
    if not np.isfinite(sums).all():
        raise HeadError(
            "the codes are so large that their squares overflow.",
            "Normalise them (--normalize l2), and look at the weights: codes of trained networks are far smaller.",
        )


_BLOCK = 4096  # rows at a time
