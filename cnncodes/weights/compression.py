"""Weights made small: low rank for the fully connected stages, a few bits per number, entropy-coded.

After Han, Mao and Dally 2016 ("Deep compression"), who prune, share values and code them. Here the numbers
are factors of the matrices (singular value decomposition), rounded to a uniform grid per output channel. At equal
size a grid loses no more than shared values once the integers are entropy-coded, and only
integers can be multiplied out exactly on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import OptionError, WeightsError
from cnncodes.weights.compressed_file import BITS, SUFFIX, CompressedWeights, to_bytes
from cnncodes.weights.quantise import (
    LARGEST_SCALE,
    Factors,
    Plain,
    Stored,
    largest_rank,
    quantise_factors,
    quantise_rows,
)
from cnncodes.weights.record import Weights, build_network

if TYPE_CHECKING:
    import torch

DEFAULT_BITS = 8
AUTOMATIC = (160, 512)  # the largest ranks that are looked for, one after the other: the first is quick
NEGLIGIBLE = 1e-4  # of the largest singular value: below it is rounding, not rank
SMALL = 2**16  # tensors of fewer numbers, conv1 among them, always have 8 bits: they are the most sensitive
OVERSAMPLING, POWER_STEPS = 16, 2  # Halko, Martinsson and Tropp 2011, sections 4.2 and 4.5


@dataclass(frozen=True)
class CompressedTensor:
    """What became of one tensor.

    Parameters
    ----------
    key : str
    shape : tuple of int
    rank : int or None
        Of the two factors it is stored as; None where it is stored whole.
    bits : int
        Per number before entropy coding; 32 for biases, which are kept as they are.
    bytes : int
        In the file.
    error : float
        Frobenius norm of the difference, relative to that of the tensor.
    """

    key: str
    shape: tuple[int, ...]
    rank: int | None
    bits: int
    bytes: int
    error: float


@dataclass(frozen=True)
class CompressionReport:
    """Size of compressed weights, and what was lost.

    Parameters
    ----------
    bits : int
    rank : int or None
        What was asked for; None for automatic.
    bytes : int
        Of the file.
    original_bytes : int
        Of the tensors as float32.
    fingerprint : str
        Of the decoded tensors.
    tensors : tuple of CompressedTensor
        In the order of the network.
    """

    bits: int
    rank: int | None
    bytes: int
    original_bytes: int
    fingerprint: str
    tensors: tuple[CompressedTensor, ...]

    def to_json(self) -> str:
        """JSON object with one entry per field, and the ratio."""
        return json.dumps({**asdict(self), "ratio": self.ratio})

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the float32 tensors."""
        return self.original_bytes / self.bytes


def compress(weights: Weights, *, rank: int | None = None, bits: int = DEFAULT_BITS) -> CompressedWeights:
    """Weights as integers and scales, to be written by :func:`save_compressed`.

    Parameters
    ----------
    weights : Weights
    rank : int, optional
        Of the fully connected matrices, cut off by singular value decomposition, where two factors are
        smaller than the matrix. Left out, the rank each matrix has, if it is at most 512 (networks trained with
        ``rank`` have it; others keep whole matrices).
    bits : int, default 8
        4 to 8 per number. Tensors of fewer than 65,536 numbers keep 8; biases are kept as they are.

    Returns
    -------
    CompressedWeights
        ``.weights`` is the record that a file of it gives back, bit for bit.

    Raises
    ------
    OptionError
        If ``bits`` or ``rank`` is out of range: products of factors are exact up to rank 1,040 at 8 bits.
    WeightsError
        If the weights hold numbers that are not finite.
    """
    _check_options(rank, bits)
    stored: dict[str, Stored] = {}
    used: dict[str, int] = {}
    for key, tensor in weights.tensors.items():
        _check_numbers(weights.name, key, tensor)
        if tensor.dim() < 2:
            stored[key], used[key] = Plain(tensor.detach().numpy().copy()), 32
            continue
        used[key] = 8 if tensor.numel() < SMALL else bits
        stored[key] = _quantise(tensor, rank, used[key])
    ranks = sorted({len(entry.left) for entry in stored.values() if isinstance(entry, Factors)})
    how = f"{bits} bits" + (f", rank {', '.join(map(str, ranks))}" if ranks else "")
    decoded = replace(
        weights,
        tensors={key: entry.decode() for key, entry in stored.items()},
        classes=weights.class_names(),
        source=f"{weights.source}; compressed: {how}",
        evidence={},  # of the numbers before
    )
    return CompressedWeights(stored, used, decoded)


def compression_report(
    original: Weights, compressed: CompressedWeights, *, rank: int | None = None, bits: int = DEFAULT_BITS
) -> CompressionReport:
    """Sizes and errors of what :func:`compress` gave for ``original`` with this rank and these bits."""
    streams = compressed.streams
    return CompressionReport(
        bits=bits,
        rank=rank,
        bytes=len(to_bytes(compressed)),
        original_bytes=sum(4 * tensor.numel() for tensor in original.tensors.values()),
        fingerprint=compressed.weights.fingerprint,
        tensors=tuple(
            CompressedTensor(
                key=key,
                shape=tuple(tensor.shape),
                rank=len(entry.left) if isinstance(entry := compressed.stored[key], Factors) else None,
                bits=compressed.bits[key],
                bytes=sum(map(len, streams[key])),
                error=relative_error(tensor, compressed.weights.tensors[key]),
            )
            for key, tensor in original.tensors.items()
        ),
    )


def relative_error(exact: torch.Tensor, approximate: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of ``exact``; 0 where both are zero."""
    size = float(exact.norm())
    return float((approximate - exact).norm()) / size if size else 0.0


def stage_outputs(
    weights: Weights, pixels: npt.NDArray[np.float32], stages: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Activations of stages for a few images, on the processor, as arrays ``[batch, ...]``.

    Parameters
    ----------
    weights : Weights
    pixels : array of float32 [batch, 3, height, width]
        Preprocessed.
    stages : sequence of str
    """
    import torch

    with torch.inference_mode():
        found = build_network(weights).activations(torch.from_numpy(pixels), stages)
    return {stage: value.numpy() for stage, value in found.items()}


def default_output(name: str) -> Path:
    """Where compressed weights go when nobody says it: ``model.cnnz`` beside ``model.safetensors``."""
    path = Path(name)
    if path.is_file():
        return (
            path.with_suffix(SUFFIX)
            if path.suffix != SUFFIX
            else path.with_name(f"{path.stem}-again{SUFFIX}")
        )
    return Path(name.replace(":", "-") + SUFFIX)


def _check_options(rank: int | None, bits: int) -> None:
    if bits not in BITS:
        raise OptionError(f"{bits} bits are not possible.", f"Use {BITS[0]} to {BITS[-1]}.")
    if rank is not None and not 1 <= rank <= largest_rank(bits):
        raise OptionError(
            f"rank {rank} is not possible with {bits} bits: the product of the factors is exact up to rank "
            f"{largest_rank(bits):,}.",
            "Choose a smaller rank, or leave it out and keep whole matrices.",
        )


def _check_numbers(name: str, key: str, tensor: torch.Tensor) -> None:
    most = float(tensor.abs().max()) if tensor.numel() else 0.0
    if not most <= LARGEST_SCALE:  # NaN too
        raise WeightsError(
            f"tensor '{key}' of weights '{name}' has numbers that are not finite or beyond {LARGEST_SCALE:.0e}.",
            "Such weights are broken: train or fetch them again.",
        )


def _quantise(tensor: torch.Tensor, rank: int | None, bits: int) -> Stored:
    """A matrix as factors where that is asked for or free and smaller; anything else row by row."""
    if tensor.dim() == 2:
        out, into = tensor.shape
        bound = min(
            (out * into - 1) // (out + into), largest_rank(bits)
        )  # two factors are smaller, and exact
        for most in (rank,) if rank else AUTOMATIC:
            found = low_rank(tensor, min(most, bound), needs_all=rank is None)
            if found is not None:
                return quantise_factors(*found, bits)
    return quantise_rows(tensor, bits)


def low_rank(
    matrix: torch.Tensor, most: int, *, needs_all: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Balanced factors of a matrix, of its numerical rank or of rank ``most``, whichever is smaller.

    The singular vectors come from a random projection and a few power steps (Halko, Martinsson and Tropp
    2011, algorithm 4.4), seconds where a full decomposition takes minutes. Each factor takes the square root of the
    singular values: that makes the sum of both rounding errors smallest.

    Parameters
    ----------
    matrix : Tensor
        float32 ``[out, in]``.
    most : int
        The largest rank.
    needs_all : bool
        Give None unless so much rank holds the whole matrix.

    Returns
    -------
    tuple of arrays of float32 [out, rank], [rank, in], or None
    """
    import torch

    if most < 1 or not bool(matrix.any()):
        return None
    width = min(most + OVERSAMPLING, *matrix.shape)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        basis, _ = torch.linalg.qr(matrix @ torch.randn(matrix.shape[1], width, generator=generator))
        if needs_all and relative_error(matrix, basis @ (basis.T @ matrix)) > NEGLIGIBLE:
            return None
        for _ in range(0 if needs_all else POWER_STEPS):
            other, _ = torch.linalg.qr(matrix.T @ basis)
            basis, _ = torch.linalg.qr(matrix @ other)
        right, triangle = torch.linalg.qr((basis.T @ matrix).T)  # the small one is decomposed
        left_small, values, right_small = torch.linalg.svd(triangle.T)
        rank = min(most, int((values > NEGLIGIBLE * values[0]).sum()))
        if needs_all and int((values > NEGLIGIBLE * values[0]).sum()) > most:
            return None
        root = values[:rank].sqrt()
        left = (basis @ left_small[:, :rank]) * root
        into = (right @ right_small.T[:, :rank]) * root
        left[~matrix.any(1)] = 0  # dead units stay dead: rounding would make noise of their zeros
        into[~matrix.any(0)] = 0
        return left.numpy(), into.T.contiguous().numpy()
