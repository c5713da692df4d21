"""Smaller weights: fully connected matrices as two factors, numbers as 8-bit integers with a scale; and back.

An integer times a scale is one multiplication, which rounds alike on every processor: the fingerprint is the same
wherever the file is read. The network computes with the factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cnncodes.core.errors import OptionError
from cnncodes.networks import Linear
from cnncodes.weights.record import Weights

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ".scale"  # ends the key of the scales of an int8 tensor
TOP = 127


def with_rank(weights: Weights, rank: int) -> Weights:
    """The weights with fully connected matrices, and factors of a larger rank, as the nearest product of two factors.

    Raises
    ------
    OptionError
        If the rank is below 1, or the network is a library's, whose modules have no factors.
    """
    from cnncodes.networks.torch_network import factors

    if rank < 1:
        raise OptionError(f"a rank of {rank} is not possible.", "Use 1 or more, such as 128.")
    if not weights.architecture.stages:
        raise OptionError(
            f"network '{weights.network}' is built by its library, and its fully connected modules have no factors.",
            "Leave out the rank; --int8 makes its file smaller.",
        )
    if any(key.endswith(".left") and tensor.shape[1] > rank for key, tensor in weights.tensors.items()):
        weights = expanded(weights)
    tensors: dict[str, Tensor] = {}
    stages = {f"{stage.prefix}.": stage for stage in weights.architecture.stages if isinstance(stage, Linear)}
    for key, tensor in weights.tensors.items():
        prefix = key.removesuffix("weight")
        if prefix in stages and prefix != key and rank < min(tensor.shape):
            tensors[f"{prefix}left"], tensors[f"{prefix}right"] = factors(tensor, rank)
        else:
            tensors[key] = tensor
    return replace(weights, tensors=tensors)


def expanded(weights: Weights) -> Weights:
    """The weights with all factors multiplied out: the keys and shapes of other programs."""
    tensors: dict[str, Tensor] = {}
    for key, tensor in weights.tensors.items():
        prefix, _, end = key.rpartition(".")
        if end == "left":
            product = tensor.double() @ weights.tensors[f"{prefix}.right"].double()
            tensors[f"{prefix}.weight"] = product.float()
        elif end != "right":
            tensors[key] = tensor
    return replace(weights, tensors=tensors)


def as_integers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8, each with float32 scales: one per output, of a right factor one per input. Biases stay."""
    import torch

    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.dim() < 2:
            found[key] = tensor
            continue
        others = [0] if key.endswith(".right") else list(range(1, tensor.dim()))
        scale = tensor.abs().amax(others, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / TOP
        found[key] = (tensor / scale).round().to(torch.int8)
        found[key + SCALE] = scale
    return found


def from_integers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`as_integers`; what has no scales stays. Raises ValueError if scales do not fit."""
    import torch

    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        scale = tensors.get(key + SCALE)
        if tensor.dtype == torch.int8 and scale is not None:
            if scale.dtype != torch.float32 or scale.dim() != tensor.dim():
                raise ValueError(f"the scales of '{key[:80]}' do not fit it")
            found[key] = tensor.float() * scale
        elif not (key.endswith(SCALE) and key.removesuffix(SCALE) in tensors):
            found[key] = tensor
    return found
