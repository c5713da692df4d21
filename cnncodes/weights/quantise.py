"""Tensors as small whole numbers and scales, and back: the same bits on every machine.

A matrix is stored as ``integers * scale`` row by row, or as the product of two integer factors:

``W[o, i] = (sum over k of left[k, o] * right[k, i]) * row_scale[o] * column_scale[i]``

The scales stand outside of the sum, so that the sum is one of integers. It stays below 2**24, where float32
represents every integer, so no addition rounds, and the result depends neither on the order of the additions,
nor on the library, the processor or the number of threads. Then come two multiplications per
element, each rounded once as IEEE 754 says. A product of factors would not repeat bit for bit otherwise, and
the fingerprint of weights is taken over these bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

EXACT = 2**24  # below it float32 has every integer
#: Scales within these bounds keep every product of two scales and a sum clear of underflow and overflow.
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-40, 2.0**40
ROWS_AT_A_TIME = 128  # of a product: they stay in the cache for the two multiplications

Integers = npt.NDArray[np.int8]
Scales = npt.NDArray[np.float32]


def largest(bits: int) -> int:
    """The largest integer of a symmetric range: 127 for 8 bits, 7 for 4."""
    return int(2 ** (bits - 1) - 1)


def largest_rank(bits: int) -> int:
    """The largest rank at which a product of factors of so many bits is exact: 1040 for 8 bits."""
    return (EXACT - 1) // largest(bits) ** 2


@dataclass(frozen=True, eq=False)
class Plain:
    """Numbers kept as they are: the biases.

    Parameters
    ----------
    values : array of float32, any shape
    """

    values: npt.NDArray[np.float32]

    def decode(self) -> torch.Tensor:
        """The tensor, float32."""
        import torch

        return torch.from_numpy(self.values.copy())


@dataclass(frozen=True, eq=False)
class Rows:
    """Integers with one scale per row, that is per output channel.

    Parameters
    ----------
    values : array of int8 [out, ...]
    scale : array of float32 [out]
    """

    values: Integers
    scale: Scales

    def decode(self) -> torch.Tensor:
        """The tensor, float32 ``[out, ...]``."""
        import torch

        numbers = torch.from_numpy(self.values).to(torch.float32)
        shape = (-1, *(1 for _ in self.values.shape[1:]))
        return numbers.mul_(torch.from_numpy(self.scale).reshape(shape))


@dataclass(frozen=True, eq=False)
class Factors:
    """A matrix ``[out, in]`` as the product of two integer factors, with scales outside of the sum.

    Parameters
    ----------
    left : array of int8 [rank, out]
        Component by component, the strongest first: equal numbers then stand together, which packs better.
    right : array of int8 [rank, in]
    row_scale : array of float32 [out]
    column_scale : array of float32 [in]
    """

    left: Integers
    right: Integers
    row_scale: Scales
    column_scale: Scales

    def decode(self) -> torch.Tensor:
        """The matrix, float32 ``[out, in]``, the same bits everywhere."""
        import torch

        left = torch.from_numpy(self.left).to(torch.float32).T.contiguous()  # [out, rank]
        right = torch.from_numpy(self.right).to(torch.float32)
        rows = torch.from_numpy(self.row_scale)[:, None]
        columns = torch.from_numpy(self.column_scale)
        matrix = torch.empty(left.shape[0], right.shape[1])
        for start in range(0, matrix.shape[0], ROWS_AT_A_TIME):
            block = matrix[start : start + ROWS_AT_A_TIME]
            torch.mm(left[start : start + ROWS_AT_A_TIME], right, out=block)
            # A sum of nothing but zeros is +0 or -0, as the library likes: adding +0 makes it +0.
            block.mul_(rows[start : start + ROWS_AT_A_TIME]).mul_(columns).add_(0.0)
        return matrix


Stored = Plain | Rows | Factors


def quantise_rows(tensor: torch.Tensor, bits: int) -> Rows:
    """Round each row to integers of so many bits, its largest magnitude becoming the largest integer.

    Parameters
    ----------
    tensor : Tensor
        float32 ``[out, ...]``, finite.
    bits : int
        4 to 8.
    """
    values = tensor.detach().numpy()
    flat = values.reshape(values.shape[0], -1)
    integers, scale = _round(flat, bits)
    return Rows(integers.reshape(values.shape), scale)


def quantise_factors(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32], bits: int) -> Factors:
    """Round the factors of ``left @ right``, with a scale per row of the left and per column of the right.

    Parameters
    ----------
    left : array of float32 [out, rank]
    right : array of float32 [rank, in]
    bits : int
        4 to 8.
    """
    rows, row_scale = _round(left, bits)
    columns, column_scale = _round(right.T, bits)
    return Factors(np.ascontiguousarray(rows.T), np.ascontiguousarray(columns.T), row_scale, column_scale)


def _round(flat: npt.NDArray[np.float32], bits: int) -> tuple[Integers, Scales]:
    """Integers ``[rows, columns]`` and the scale of each row, one that two bytes hold."""
    top = largest(bits)
    needed = np.abs(flat).max(axis=1, initial=0.0).astype(np.float32) / np.float32(top)
    scale = unpack_scales(pack_scales(np.clip(needed, SMALLEST_SCALE, LARGEST_SCALE)))
    integers = np.rint(flat / scale[:, None])
    return np.clip(integers, -top, top).astype(np.int8), scale


def pack_scales(scale: Scales) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded up: 8 bits of precision, the whole range."""
    bits = np.ascontiguousarray(scale, np.float32).view(np.uint32)
    return ((bits + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)


def unpack_scales(packed: npt.NDArray[np.uint16]) -> Scales:
    """Inverse of :func:`pack_scales` for what it gave."""
    return (packed.astype(np.uint32) << np.uint32(16)).view(np.float32)
