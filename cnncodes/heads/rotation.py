"""The exact rotation that makes the choice of C fast.

A linear model with an L2 penalty does not change under a rotation of the codes: with ``A = Z V'`` and
orthonormal columns ``V``, every score ``A w`` is ``Z u`` with ``u = V' w``, and the minimiser lies in the
span of the rows, where ``|u| = |w|``. So n rows of d > n numbers become n rows of n numbers, once for all
values of C, all folds and all classes. Here ``V`` holds the eigenvectors of ``A'A``, so that ``Z'Z`` is
diagonal: the Hessian of any head is then almost diagonal too, and conjugate gradients need few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.heads.head import require_squares

Array = npt.NDArray[Any]

#: Rotated codes are float64 up to this many numbers (512 MB) or GRAM_LIMIT rows, float32 above.
FLOAT64_LIMIT = 2**26

#: With more rows than columns, their Gram matrix is kept up to this many rows (512 MB).
GRAM_LIMIT = 2**13


@dataclass(frozen=True, eq=False)
class Rotation:
    """Codes in the basis of their own principal axes."""

    Z: Array  # [n, r], rotated rows; r is the rank, at most min(n, columns)
    eigenvalues: Array  # [r], of Z'Z, ascending
    Z_single: (
        Array  # float32, Z again (the same array if it is float32), where speed counts for more than digits
    )
    axes: Array | None  # [r, columns], with more rows than columns: orthonormal rows, Z = codes @ axes.T
    codes: (
        Array | None
    )  # [n, columns], with fewer rows than columns: what was rotated; its rows span the weights
    mean: Array | None  # [d], subtracted before the rotation, where the bias is not penalised
    gram: Array | None  # [n, n], Z @ Z.T, where that is no larger than the other matrices

    def for_directions(self, largest_cost: float) -> Array:
        """``Z`` in the precision that conjugate gradients need, who only propose directions.

        That is float32 while the condition number of the Hessian, about ``largest_cost`` times the largest
        eigenvalue, is below the reciprocal of float32's rounding.
        """
        largest = self.eigenvalues.max(initial=0)  # constant codes have none
        return self.Z_single if largest_cost * largest < _SINGLE else self.Z

    def weights(self, U: Array, bias: Array | None = None) -> tuple[Array, Array]:
        """Weights [m, d] and bias [m] for unrotated codes, of solutions ``U`` [r, m], with their bias [m] where ``mean`` was subtracted."""
        # With axes = (Z / eigenvalues).T @ codes, which need not be computed for that.
        W: Array = (
            U.T @ self.axes if self.codes is None else (self.Z @ (U.T / self.eigenvalues).T).T @ self.codes
        )
        if self.mean is None:
            return W[:, :-1], W[:, -1]
        assert bias is not None
        return W, bias - W @ self.mean


def rotate(X: Array, *, penalise_bias: bool) -> Rotation:
    """Rotate normalised codes ``X`` [n, d]; raises HeadError if they are so large that their squares overflow.

    A bias is penalised as the weight of a column of ones (liblinear's ``intercept_scaling=1``); else the mean is subtracted, which
    a free bias makes up for exactly. With fewer rows than columns the n x n Gram matrix is decomposed, otherwise the columns x
    columns one; there is never an n x n matrix for many rows.
    """
    from scipy.linalg import eigh

    n, d = X.shape
    columns = d + 1 if penalise_bias else d
    wide = n < columns
    dtype = np.float64 if wide or n <= GRAM_LIMIT or n * columns <= FLOAT64_LIMIT else np.float32
    A, mean = np.empty((n, columns), dtype), None
    if penalise_bias:
        A[:, :d], A[:, d] = X, 1
    else:
        mean = X.mean(axis=0, dtype=np.float64)
        np.subtract(X, mean, out=A, casting="same_kind")
    with np.errstate(over="ignore", invalid="ignore"):  # said below
        gram = A @ A.T if n <= min(2 * columns, GRAM_LIMIT) or wide else None
        square = gram if wide else A.T @ A
    require_squares(np.asarray(square))
    # float64 throughout: LAPACK's float32 driver is three times slower, for all that it is narrower.
    eigenvalues, vectors = eigh(
        np.array(square, np.float64), overwrite_a=True, check_finite=False, driver="evd"
    )
    del square
    if wide:
        # What is not kept is the rounding of zero, or would be zero as float32.
        least = max(np.finfo(dtype).eps * columns * eigenvalues[-1], np.finfo(np.float32).tiny)
        kept = eigenvalues > least
        eigenvalues, root = eigenvalues[kept], np.sqrt(eigenvalues[kept])
        Z = np.ascontiguousarray(vectors[:, kept] * root)
        return Rotation(Z, eigenvalues, _single(Z), None, A, mean, gram)
    vectors = vectors.astype(dtype, copy=False)
    for start in range(0, n, _BLOCK):  # in place: no second array of this size
        A[start : start + _BLOCK] = A[start : start + _BLOCK] @ vectors
    return Rotation(A, np.maximum(eigenvalues, 0), _single(A), vectors.T, None, mean, gram)


def _single(Z: Array) -> Array:
    """``Z`` as float32; numbers too large for it are infinite, and then :meth:`Rotation.for_directions` takes ``Z``."""
    with np.errstate(over="ignore"):
        return Z.astype(np.float32, copy=False)


_BLOCK = 4096  # rows at a time
_SINGLE = 1 / float(np.finfo(np.float32).eps)
