"""`random:SEED`: untrained weights, the same numbers on every machine and with every version of numpy and torch."""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING

from cnncodes.core.errors import OptionError
from cnncodes.networks import Shape, get_network
from cnncodes.weights.preprocessing import usual_for
from cnncodes.weights.record import Weights

if TYPE_CHECKING:
    import torch

PREFIX = "random:"
BLOCK = 1 << 18  # 64-bit draws at a time: 2 MiB, so that the arithmetic stays in the cache


def random_weights(name: str, network: str) -> Weights:
    """Weights of He et al. 2015 (equation 10): uniform within ``sqrt(6 / fan_in)``, biases zero.

    The variance of the activations stays the same through all ReLUs, so that the codes of any stage serve as a baseline. ``name`` is
    ``random:SEED`` with a seed from 0 to 2**63 - 1; raises OptionError for anything else.
    """
    seed = parse_seed(name)
    record = get_network(network)
    tensors = {key: _drawn(seed, key, shape) for key, shape in record.tensor_shapes().items()}
    return Weights(
        network=network,
        name=f"{PREFIX}{seed}",
        tensors=tensors,
        preprocessing=usual_for(record.input_size),
        classes=None,
        source=f"random numbers, untrained (Philox, Kaiming uniform, seed {seed})",
        origin="random",
    )


def _drawn(seed: int, key: str, shape: Shape) -> torch.Tensor:
    """Matrices and kernels at random; scales and variances 1 and shifts 0: each normalisation is the identity."""
    import torch

    if len(shape) > 1:
        return _uniform(seed, key, shape)
    scale = key.endswith((".weight", ".running_var", ".gamma", "layer_scale"))
    return torch.ones(shape) if scale else torch.zeros(shape)


def parse_seed(name: str) -> int:
    """The seed in ``random:SEED``; raises OptionError."""
    text = name.removeprefix(PREFIX)
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise OptionError(
            f"the seed '{text[:40]}' of weights '{name[:60]}' is not a whole number from 0 to 2^63 - 1.",
            "Write random:0, random:1, and so on.",
        )
    return int(text)


def _uniform(seed: int, key: str, shape: Shape) -> torch.Tensor:
    """Numbers that depend on the seed, the key and the place in the tensor alone.

    numpy promises never to change Philox's raw output, but not its distributions. The upper 24 bits of each 32 become an
    odd integer between -2^24 and 2^24, which float32 holds exactly, and one IEEE 754 multiplication makes the number.
    """
    import numpy as np
    import torch

    fan_in = math.prod(shape[1:])
    scale = np.float32(math.sqrt(6.0 / fan_in) / 2**24)
    digest = hashlib.sha256(f"cnncodes random {seed} {key}".encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    values = np.empty(math.prod(shape), dtype=np.float32)
    for start in range(0, values.size, 2 * BLOCK):
        block = values[start : start + 2 * BLOCK]
        draws = (
            generator.random_raw((block.size + 1) // 2).astype("<u8", copy=False).view("<u4")[: block.size]
        )
        odd = (draws >> np.uint32(8)).astype(np.int32) * np.int32(2) - np.int32(2**24 - 1)
        np.multiply(odd.astype(np.float32), scale, out=block)
    return torch.from_numpy(values.reshape(shape))
