"""The network while it learns: its start, what is frozen, dropout, and the rates of its stages."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncodes.errors import OptionError
from cnncodes.networks import Convolution, Linear, Network, Stage, TorchNetwork
from cnncodes.training.settings import Initialisation, TrainingSettings
from cnncodes.weights import Weights

PAPER_ONES = ("conv2", "conv4", "conv5")  # and the hidden fully connected stages


class Learner(nn.Module):
    """A network with dropout whose frozen stages neither learn nor keep anything for the backward pass.

    Parameters
    ----------
    module : TorchNetwork
    settings : TrainingSettings

    Attributes
    ----------
    frozen : tuple of str
        Stages that do not learn.
    first : int
        Place of the first stage that learns; everything before runs without gradients.
    """

    def __init__(self, module: TorchNetwork, settings: TrainingSettings) -> None:
        super().__init__()
        self.module = module
        self.dropout = settings.dropout
        network = module.network
        self.frozen = network.select(settings.freeze)
        for name in self.frozen:
            stage = network.stage(name)
            if isinstance(stage, Convolution | Linear):
                module.get_submodule(stage.prefix).requires_grad_(False)
        learning = [place for place, stage in enumerate(network.stages) if self._learns(stage)]
        if not learning:
            raise OptionError(
                f"freeze '{settings.freeze}' leaves no stage of {network.name} to learn.",
                "Freeze fewer, such as conv1-5.",
            )
        self.first = learning[0]

    def _learns(self, stage: Stage) -> bool:
        return isinstance(stage, Convolution | Linear) and stage.name not in self.frozen

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``[batch, classes]`` of preprocessed pixels ``[batch, 3, height, width]``."""
        with torch.no_grad():
            value = self.before(pixels)
        return self.after(value)

    def before(self, pixels: Tensor) -> Tensor:
        """What the frozen stages before the first learning one give."""
        for stage in self.module.network.stages[: self.first]:
            pixels = self.module.compute(stage, pixels)
        return pixels

    def after(self, value: Tensor) -> Tensor:
        """Logits from the value that enters the first learning stage."""
        for stage in self.module.network.stages[self.first :]:
            value = self.module.compute(stage, value)
            if isinstance(stage, Linear) and stage.relu:
                value = F.dropout(value, self.dropout, self.training)
        return value

    def groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Parameter groups with their part of the learning rate: new, middle and early layers; biases do not decay."""
        network = self.module.network
        groups: list[dict[str, object]] = []
        for stage in network.stages:
            if not self._learns(stage):
                continue
            layer = self.module.get_submodule(stage.prefix)
            new = stage is network.stages[-1]
            rate = 1.0 if new else settings.early_rate if stage.kind == "conv" else settings.middle_rate
            for name, decay in (("weight", settings.weight_decay), ("bias", 0.0)):
                groups.append({"params": [layer.get_parameter(name)], "rate": rate, "weight_decay": decay})
        return groups


def start_from(
    weights: Weights, classes: int, settings: TrainingSettings, *, keep_head: bool = False
) -> TorchNetwork:
    """The network of some weights, copied, with a new last stage for ``classes``.

    Parameters
    ----------
    weights : Weights
    classes : int
    settings : TrainingSettings
    keep_head : bool, default False
        Keep the last stage, which then must have that many classes.

    Raises
    ------
    OptionError
        If the last stage cannot be kept.
    """
    there = weights.architecture.classes
    if keep_head and there != classes:
        raise OptionError(
            f"the last layer of '{weights.name}' has {there} classes and the data have {classes}.",
            "Leave out --keep-head, so that it is replaced.",
        )
    network = weights.architecture if keep_head else weights.architecture.with_classes(classes)
    module = TorchNetwork(network)
    new = () if keep_head else (network.stages[-1].prefix,)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if not key.startswith(tuple(f"{prefix}." for prefix in new)):
                parameter.copy_(weights.tensors[key])
    initialise(module, [stage for stage in network.stages if stage.prefix in new], settings)
    return module


def from_scratch(network: Network, settings: TrainingSettings) -> TorchNetwork:
    """A network with new numbers in all stages."""
    module = TorchNetwork(network)
    initialise(module, network.stages, settings)
    return module


def initialise(module: TorchNetwork, stages: Iterable[Stage], settings: TrainingSettings) -> None:
    """New numbers for some stages, drawn by the seed: Kaiming's (He et al. 2015) or the paper's (section 5)."""
    generator = torch.Generator().manual_seed(settings.seed)
    kind: Initialisation = settings.initialisation
    with torch.no_grad():
        for stage in stages:
            if not isinstance(stage, Convolution | Linear):
                continue
            layer = module.get_submodule(stage.prefix)
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            if kind == "paper":
                weight.normal_(0.0, 0.01, generator=generator)
                ones = stage.name in PAPER_ONES or (isinstance(stage, Linear) and stage.relu)
                bias.fill_(1.0 if ones else 0.0)
            else:
                gain = 2.0 if stage.relu else 1.0
                fan_in = math.prod(weight.shape[1:])
                weight.normal_(0.0, math.sqrt(gain / fan_in), generator=generator)
                bias.zero_()
