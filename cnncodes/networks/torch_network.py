"""A network with room for weights: the one module of this room that computes, with torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncodes.networks.network import Network
from cnncodes.networks.stages import Convolution, Linear, LocalResponseNorm, MaxPool, Stage


class LowRankLinear(nn.Module):
    """A fully connected layer whose weight is a product: ``left [out, rank] @ right [rank, in]``."""

    def __init__(self, incoming: int, outgoing: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(outgoing, rank))
        self.right = nn.Parameter(torch.empty(rank, incoming))
        self.bias = nn.Parameter(torch.empty(outgoing))

    @property
    def weight(self) -> Tensor:
        """The product."""
        return self.left @ self.right

    def forward(self, value: Tensor) -> Tensor:
        """``[batch, in]`` to ``[batch, out]``."""
        return F.linear(F.linear(value, self.right), self.left, self.bias)


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two matrices of a rank whose product is as near to a matrix as possible (by a sketch): left and right."""
    with torch.random.fork_rng(devices=[]):  # the sketch is random, and must not be
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(weight.detach(), min(rank, *weight.shape), niter=2)
    return (u * s.sqrt()).contiguous(), (v * s.sqrt()).T.contiguous()


class TorchNetwork(nn.Module):
    """A :class:`Network` as a torch module, with torchvision's state-dict keys where torchvision has the network.

    Nothing is done in place, so what a stage gives never depends on what else was asked.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for stage, incoming in zip(network.stages, network.incoming_shapes(), strict=True):
            if isinstance(stage, Convolution):
                size = incoming[0], stage.channels, stage.kernel, stage.stride
                layer: nn.Module = nn.Conv2d(*size, groups=stage.groups)
            elif isinstance(stage, Linear):
                sizes = stage.weight_shape(incoming)[1], stage.features
                layer = nn.Linear(*sizes) if stage.rank is None else LowRankLinear(*sizes, stage.rank)
            else:
                continue
            container, _, place = stage.prefix.rpartition(".")
            if container and not hasattr(self, container):
                self.add_module(container, nn.ModuleDict())
            owner = self.get_submodule(container) if container else self
            owner.add_module(place, layer)

    def forward(self, pixels: Tensor) -> Tensor:
        """What the last stage gives for preprocessed pixels ``[batch, 3, height, width]``: of a whole network logits ``[batch, classes]``."""
        last = self.network.stages[-1].name
        return self.activations(pixels, [last])[last]

    def activations(self, pixels: Tensor, stages: str | Iterable[str]) -> dict[str, Tensor]:
        """Activations of all asked stages (:func:`cnncodes.networks.parse_stages`) in one pass, which stops after the deepest of them.

        ``pixels`` are ``[batch, 3, height, width]``, preprocessed. Returns ``[batch, channels, height, width]`` or ``[batch,
        features]`` for each stage, in the order asked; after the ReLU, or before it for ``fc7:linear``. Raises StageError.
        """
        wanted = self.network.select(stages)
        left = set(wanted)
        found: dict[str, Tensor] = {}
        value = pixels
        for stage in self.network.stages:
            if not left:
                break
            linear = self.linear(stage, value)
            value = self.activate(linear) if stage.relu else linear
            for name, result in ((f"{stage.name}:linear", linear), (stage.name, value)):
                if name in left:
                    found[name] = result
                    left.remove(name)
        return {name: found[name] for name in wanted}

    def classifier_module(self) -> nn.Module:
        """The module that gives the logits."""
        return self.get_submodule(self.network.stages[-1].prefix)

    def matrix(self, stage: Stage) -> Tensor:
        """The weight of a convolution or a fully connected stage, multiplied out where it is a product."""
        weight: Tensor = self.get_submodule(stage.prefix).weight  # type: ignore[assignment]
        return weight

    def compute(self, stage: Stage, value: Tensor) -> Tensor:
        """What one stage gives, its ReLU included, for what enters it: ``[batch, ...]``."""
        linear = self.linear(stage, value)
        return self.activate(linear) if stage.relu else linear

    def activate(self, linear: Tensor) -> Tensor:
        """The network's nonlinearity: ReLU, or tanh for the comparison of Krizhevsky et al. 2012, figure 1."""
        return torch.tanh(linear) if self.network.activation == "tanh" else F.relu(linear)

    def linear(self, stage: Stage, value: Tensor) -> Tensor:
        """What a stage gives before its ReLU, for what enters it: ``[batch, ...]``."""
        match stage:
            case Convolution():
                layer = self.get_submodule(stage.prefix)
                weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
                top, bottom = stage.pads(value.shape[2])
                left, right = stage.pads(value.shape[3])
                if (top, left) == (bottom, right):
                    padding = (top, left)
                else:  # TensorFlow's SAME can need one pixel more on the right and below
                    value, padding = F.pad(value, (left, right, top, bottom)), (0, 0)
                return F.conv2d(value, weight, bias, stage.stride, padding, groups=stage.groups)
            case MaxPool():
                return F.max_pool2d(value, stage.kernel, stage.stride, ceil_mode=stage.ceil)
            case LocalResponseNorm():
                return local_response_norm(value, stage)
            case Linear():
                if value.dim() == 4:
                    if stage.pool_to is not None and value.shape[2:] != (stage.pool_to, stage.pool_to):
                        value = F.adaptive_avg_pool2d(value, stage.pool_to)
                    value = value.flatten(1)  # channels, then rows, then columns
                result: Tensor = self.get_submodule(stage.prefix)(value)
                return result
        raise TypeError(f"no arithmetic for a stage of type {type(stage).__name__}")


def local_response_norm(value: Tensor, stage: LocalResponseNorm) -> Tensor:
    """``a / (k + alpha * sum of a^2 over n channels)^beta`` (Krizhevsky et al. 2012, section 3.3).

    ``value`` is ``[batch, channels, height, width]``; so is the result. Squares are summed in float32 at
    least: in half precision they would overflow.
    """
    wide = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    before = (stage.n - 1) // 2
    squares = F.pad(wide * wide, (0, 0, 0, 0, before, stage.n - 1 - before))
    channels = value.shape[1]
    total = squares[:, :channels]
    for shift in range(1, stage.n):
        total = total + squares[:, shift : shift + channels]
    return (wide * (stage.k + stage.alpha * total).pow(-stage.beta)).to(value.dtype)
