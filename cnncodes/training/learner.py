"""The network while it learns: initial weights, frozen stages, dropout, batch normalisation, learning rates by stage, loss.

This is for networks written stage by stage; those of libraries have a subclass in `library_learner`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncodes.codes.compute import Device
from cnncodes.codes.stream import stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import ModelError, OptionError, WeightsMismatchError
from cnncodes.heads.linear_model import LinearModel
from cnncodes.images.catalog import Catalog
from cnncodes.networks import Convolution, Linear, Network, Stage, TorchNetwork
from cnncodes.networks.torch_network import LowRankLinear, factors
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights import Weights

PAPER_ONES = ("conv2", "conv4", "conv5")  # and the hidden fully connected stages
SAMPLE = 200  # training images whose codes' typical length is measured


class Learner(nn.Module):
    """A network with dropout and frozen stages.

    Parameters
    ----------
    module : TorchNetwork
        Becomes part of the learner; :meth:`plain` gives the trained network.
    settings : TrainingSettings

    Attributes
    ----------
    frozen : tuple of str
        Stages that do not learn.
    first : int
        Place of the first stage that learns; all before it run without gradients.
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
        self.norms = nn.ModuleDict()
        for stage in network.stages if settings.network.batch_norm else ():
            if self._learns(stage) and stage.relu:
                kind = nn.BatchNorm2d if isinstance(stage, Convolution) else nn.BatchNorm1d
                self.norms[stage.name] = kind(len(module.get_submodule(stage.prefix).get_parameter("bias")))

    @property
    def begins(self) -> str:
        """The first stage that learns."""
        return self.module.network.stages[self.first].name

    def _learns(self, stage: Stage) -> bool:
        return isinstance(stage, Convolution | Linear) and stage.name not in self.frozen

    def forward(self, value: Tensor, mask: DropoutMask | None = None, cached: bool = False) -> Tensor:
        """Logits ``[batch, classes]`` of preprocessed pixels ``[batch, 3, height, width]``, or with ``cached`` of :meth:`before`."""
        if not cached:
            with torch.no_grad():
                value = self.before(value)
        return self.after(value, mask)

    def before(self, pixels: Tensor) -> Tensor:
        """The value that enters the first learning stage."""
        for stage in self.module.network.stages[: self.first]:
            pixels = self.module.compute(stage, pixels)
        return pixels

    def after(self, value: Tensor, mask: DropoutMask | None = None) -> Tensor:
        """Logits of what :meth:`before` gave."""
        for stage in self.module.network.stages[self.first :]:
            value = self.module.linear(stage, value)
            if stage.name in self.norms:
                value = self.norms[stage.name](value)
            if stage.relu:
                value = self.module.activate(value)
            if isinstance(stage, Linear) and stage.relu and self.training and self.dropout:
                value = (mask or DropoutMask())(value, self.dropout)
        return value

    def groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Parameter groups, each with its part of the learning rate; biases and normalisation have no weight decay."""
        network = self.module.network
        groups: list[dict[str, object]] = []
        for stage in network.stages:
            if not self._learns(stage):
                continue
            new = stage is network.stages[-1]
            rate = 1.0 if new else settings.early_rate if stage.kind == "conv" else settings.middle_rate
            for name, parameter in self.module.get_submodule(stage.prefix).named_parameters():
                decay = 0.0 if name == "bias" else settings.weight_decay
                groups.append({"params": [parameter], "rate": rate, "weight_decay": decay})
            if stage.name in self.norms:
                own = list(self.norms[stage.name].parameters())
                groups.append({"params": own, "rate": rate, "weight_decay": 0.0})
        return groups

    @torch.no_grad()
    def plain(self) -> dict[str, Tensor]:
        """State dict of the plain network that computes what this one does in evaluation mode.

        Batch normalisation ``g (x - m) / sqrt(v + e) + b`` of ``x = W y + c`` becomes ``W' = W g / sqrt(v + e)``,
        ``c' = (c - m) g / sqrt(v + e) + b`` (in float64, rounded once); of two factors, the left one is scaled.
        """
        found: dict[str, Tensor] = {}
        for stage in self.module.network.stages:
            if not isinstance(stage, Convolution | Linear):
                continue
            layer = self.module.get_submodule(stage.prefix)
            tensors = {name: value.detach().cpu().double() for name, value in layer.named_parameters()}
            if stage.name in self.norms:
                scale, shift = norm_as_affine(self.norms[stage.name])
                scaled = "left" if "left" in tensors else "weight"
                tensors[scaled] *= scale.view(-1, *[1] * (tensors[scaled].dim() - 1))
                tensors["bias"] = tensors["bias"] * scale + shift
            found |= {f"{stage.prefix}.{name}": value.float().contiguous() for name, value in tensors.items()}
        return found


def norm_as_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A trained batch normalisation as ``scale`` and ``shift`` per channel, float64 on the CPU."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.detach().cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
    shift = norm.bias.detach().cpu().double() - norm.running_mean.cpu().double() * scale
    return scale, shift


@dataclass(frozen=True)
class DropoutMask:
    """Dropout drawn for a whole batch, of which this process has some places: the same for any number of processes."""

    batch: int | None = None
    places: list[int] | None = None

    def __call__(self, value: Tensor, probability: float) -> Tensor:
        """``value [batch, features]`` with units set to zero with a probability, the others scaled up."""
        keep = torch.rand((self.batch or len(value), value.shape[1]), device=value.device) >= probability
        if self.places is not None and len(self.places) < len(keep):
            keep = keep[self.places]
        return value * keep / (1 - probability)


def start_from(
    weights: Weights, classes: tuple[str, ...], settings: TrainingSettings, *, keep_head: bool = False
) -> TorchNetwork:
    """A copy of the network of some weights with a new last stage for ``classes``; stages that their file lacks are new, too.

    With ``keep_head`` the last stage stays, its rows in the order of ``classes``; raises OptionError if it has others.
    """
    order = order_of_kept(weights, classes) if keep_head else None
    network = weights.whole.with_classes(len(classes))
    last = network.stages[-1]
    if order is None:
        network = network.with_ranks({last.name: None})
    network = _with_rank(network, settings)
    module = TorchNetwork(network)
    missing = [stage for stage in network.stages[:-1] if stage.name not in weights.architecture.stage_names]
    new = [*missing, *(network.stages[-1:] if order is None else ())]
    with torch.no_grad():
        for stage in network.stages:
            if not isinstance(stage, Convolution | Linear) or stage in new:
                continue
            layer = module.get_submodule(stage.prefix)
            for name, value in _tensors_of(stage, weights).items():
                rows = stage is network.stages[-1] and order is not None and name != "right"
                layer.get_parameter(name).copy_(value[order] if rows else value)
    initialise(module, new, settings)
    return module


def _with_rank(network: Network, settings: TrainingSettings) -> Network:
    """The network with the settings' rank for fully connected stages that learn and have a larger one."""
    frozen, rank = network.select(settings.freeze), settings.network.rank
    found = {
        stage.name: rank
        for stage, incoming in zip(network.stages, network.incoming_shapes(), strict=True)
        if isinstance(stage, Linear) and stage.rank is None and stage.name not in frozen
        if 0 < rank < min(stage.weight_shape(incoming))
    }
    return network.with_ranks(found)


def _tensors_of(stage: Stage, weights: Weights) -> dict[str, Tensor]:
    """Tensors of a stage by the end of their key; factors of its matrix if the stage has a rank."""
    start = f"{stage.prefix}."
    found = {key.removeprefix(start): v for key, v in weights.tensors.items() if key.startswith(start)}
    if isinstance(stage, Linear) and stage.rank is not None and "weight" in found:
        found["left"], found["right"] = factors(found.pop("weight"), stage.rank)
    return found


def order_of_kept(weights: Weights, classes: tuple[str, ...]) -> list[int]:
    """Rows of the weights' last stage in the order of ``classes``."""
    there, names = weights.architecture.classes, weights.class_names()
    if there != len(classes):
        raise OptionError(
            f"the last layer of '{weights.name}' has {there or 'no'} classes and the data have {len(classes)}.",
            "Leave out --keep-head, so that it is replaced.",
        )
    if names is None:
        return list(range(len(classes)))
    if missing := [name for name in classes if name not in names]:
        raise OptionError(
            f"the last layer of '{weights.name}' does not know class '{missing[0]}' of the data.",
            "Leave out --keep-head, so that it is replaced.",
        )
    return [names.index(name) for name in classes]


def from_scratch(network: Network, settings: TrainingSettings) -> TorchNetwork:
    """A network with new weights in all stages."""
    network = _with_rank(network, settings)
    module = TorchNetwork(network)
    initialise(module, network.stages, settings)
    return module


def initialise(module: TorchNetwork, stages: Iterable[Stage], settings: TrainingSettings) -> None:
    """New weights for some stages, drawn by the seed: He et al. 2015, or Krizhevsky et al. 2012, section 5."""
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        for stage in stages:
            if not isinstance(stage, Convolution | Linear):
                continue
            layer = module.get_submodule(stage.prefix)
            if isinstance(layer, LowRankLinear):
                weight = torch.empty(layer.left.shape[0], layer.right.shape[1])
            else:
                weight = layer.get_parameter("weight")
            bias = layer.get_parameter("bias")
            ones, spread = False, 0.01
            if settings.initialisation == "paper":
                ones = stage.name in PAPER_ONES or (isinstance(stage, Linear) and stage.relu)
            else:
                spread = math.sqrt((2.0 if stage.relu else 1.0) / math.prod(weight.shape[1:]))
            weight.normal_(0.0, spread, generator=generator)
            bias.fill_(1.0 if ones else 0.0)
            if isinstance(layer, LowRankLinear):
                left, right = factors(weight, layer.left.shape[1])
                layer.left.copy_(left)
                layer.right.copy_(right)


def make_optimizer(learner: Learner, settings: TrainingSettings, device: Device) -> torch.optim.Optimizer:
    """The optimizer over everything that learns. Fused, it passes over the weights once instead of four times."""
    groups, fused = learner.groups(settings), device.is_cuda or device.is_cpu
    if settings.optimizer == "adamw":  # each step sets the rate
        return torch.optim.AdamW(groups, lr=0.0, fused=fused)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, fused=fused)


def check_head(model: LinearModel, weights: Weights, classes: tuple[str, ...]) -> None:
    """Raise ModelError or WeightsMismatchError if a head cannot be the last layer of these weights."""
    network = weights.whole
    last_hidden = network.stages[-2].name if network.stages else network.usual_layer
    if model.stage != last_hidden:
        raise ModelError(
            f"the head reads layer {model.stage}, and the last layer of {network.name} reads {last_hidden}.",
            f"Fit one on it: cnncodes fit-linear codes.h5 --layer {last_hidden}.",
        )
    if not network.stages and len(network.output_shapes()[last_hidden]) > 1:
        raise ModelError(
            f"the classifier of {network.name} is a convolution, which a head cannot replace.",
            "Leave out --head, so that it begins with new weights.",
        )
    if model.settings.weights_sha256 != weights.fingerprint:
        raise WeightsMismatchError(
            f"the head was fitted on codes of '{model.settings.weights}' ({model.settings.weights_sha256[:12]}), "
            f"not of '{weights.name}' ({weights.fingerprint[:12]}).",
            "Start from the weights that the head was fitted with.",
        )
    if set(model.classes) != set(classes):
        missing = sorted(set(classes) ^ set(model.classes))
        raise ModelError(
            f"the head and the data differ in {len(missing)} classes, such as '{missing[0]}'.",
            "Fit the head on the same data.",
        )


def put_head(
    module: TorchNetwork, model: LinearModel, classes: tuple[str, ...], typical_length: float
) -> None:
    """Make a head the last layer of a network, with the data's order of classes.

    A head on standardised codes ``W (x - m) / s + b`` becomes exactly ``(W / s) x + b - W (m / s)``. A head on codes of length
    1 depends on each row's length, which no layer does: it becomes ``W / L`` with the typical length ``L``.
    """
    head, order = model.head, [model.classes.index(name) for name in classes]
    weight, bias = head.weight[order].astype(np.float64), head.bias[order].astype(np.float64)
    if head.normalisation.kind == "standard":
        assert head.normalisation.mean is not None and head.normalisation.scale is not None
        weight = weight / head.normalisation.scale
        bias = bias - weight @ head.normalisation.mean
    elif head.normalisation.kind == "l2":
        weight = weight / typical_length
    layer = module.classifier_module()
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.from_numpy(weight))
        layer.get_parameter("bias").copy_(torch.from_numpy(bias))


def typical_length(
    model: LinearModel, weights: Weights, catalog: Catalog, rows: np.ndarray, device: Device
) -> float:
    """Median Euclidean length of the codes that a head reads, over some training images."""
    chosen = np.unique(rows[np.linspace(0, len(rows) - 1, SAMPLE).astype(int)])
    settings = dataclasses.replace(model.settings, crops="center", batch_size=16)
    lengths = [
        np.linalg.norm(block.codes[model.stage][block.readable].astype(np.float64), axis=1)
        for block in stream(catalog.subset(chosen), weights, settings, Compute(device=device.torch_name))
    ]
    found = np.concatenate(lengths)
    return float(np.median(found)) if len(found) and np.median(found) > 0 else 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of a batch (int64), and with mixup the part of each view that is the image itself (float32).

    The rest of a mixed view is the view before it in the batch.
    """

    labels: Tensor
    mix: Tensor | None = None


class Objective:
    """Loss of each image."""

    def __init__(self, settings: TrainingSettings, class_weight: Tensor | None = None) -> None:
        self._smoothing, self._class_weight = settings.label_smoothing, class_weight

    def right(self, logits: Tensor, targets: Targets) -> Tensor:
        """Number of images whose best class is the label."""
        return (logits.argmax(1) == targets.labels).sum()

    def __call__(self, logits: Tensor, targets: Targets) -> Tensor:
        """Loss of each image ``[batch]``, float32."""

        def loss_to(labels: Tensor) -> Tensor:
            options = {"weight": self._class_weight, "label_smoothing": self._smoothing}
            return F.cross_entropy(logits.float(), labels, reduction="none", **options)  # type: ignore[arg-type]

        if targets.mix is None:
            return loss_to(targets.labels)
        return targets.mix * loss_to(targets.labels) + (1 - targets.mix) * loss_to(targets.labels.roll(1))


def mixed_views(views: Tensor, mix: Sequence[float] | Tensor) -> Tensor:
    """Each view ``[batch, 3, side, side]`` with the one before it in the batch, in these parts."""
    part = torch.as_tensor(mix, dtype=views.dtype, device=views.device).view(-1, 1, 1, 1)
    return part * views + (1 - part) * views.roll(1, 0)
