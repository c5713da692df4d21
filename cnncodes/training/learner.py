"""The network while it learns: frozen layers, dropout, batch normalisation, learning rates by layer, loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncodes.codes.compute import Device
from cnncodes.core.errors import OptionError
from cnncodes.networks import Convolution, Linear, Stage, TorchNetwork
from cnncodes.networks.library import CLASSIFIER, LibraryModule
from cnncodes.training.settings import NetworkSettings, TrainingSettings

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class Learner(nn.Module):
    """A network written stage by stage with dropout and frozen stages; those of libraries: :class:`LibraryLearner`.

    ``module`` becomes part of the learner; :meth:`plain` gives the trained network. All stages before the place ``first``, where learning
    ``begins``, run without gradients.
    """

    def __init__(self, module: TorchNetwork, settings: TrainingSettings) -> None:
        super().__init__()
        self.module, self.dropout = module, settings.dropout
        network = module.network
        self.frozen = network.select(settings.freeze)
        for stage in network.stages:
            if isinstance(stage, Convolution | Linear) and not self._learns(stage):
                module.get_submodule(stage.prefix).requires_grad_(False)
        learning = [place for place, stage in enumerate(network.stages) if self._learns(stage)]
        if not learning:
            raise OptionError(
                f"freeze '{settings.freeze}' leaves no stage of {network.name} to learn.",
                "Freeze fewer, such as conv1-5.",
            )
        self.first, self.begins = learning[0], network.stages[learning[0]].name
        self.norms = nn.ModuleDict()
        for stage in network.stages if settings.network.batch_norm else ():
            if self._learns(stage) and stage.relu:
                kind = nn.BatchNorm2d if isinstance(stage, Convolution) else nn.BatchNorm1d
                self.norms[stage.name] = kind(len(module.get_submodule(stage.prefix).get_parameter("bias")))

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
        for _, result in self.values(value, self.first, mask):
            value = result
        return value

    def values(
        self, value: Tensor, first: int = 0, mask: DropoutMask | None = None
    ) -> Iterator[tuple[Stage, Tensor]]:
        """Each stage from a place on, and what it gives; ``value`` enters the first of them."""
        for stage in self.module.network.stages[first:]:
            value = self.module.linear(stage, value)
            if stage.name in self.norms:
                value = self.norms[stage.name](value)
            if stage.relu:
                value = self.module.activate(value)
            if isinstance(stage, Linear) and stage.relu and self.training and self.dropout:
                value = (mask or DropoutMask())(value, self.dropout)
            yield stage, value

    def groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Parameter groups, each with its part of the learning rate; biases and normalisation have no weight decay."""
        network = self.module.network
        groups: list[dict[str, object]] = []
        for stage in filter(self._learns, network.stages):
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
                norm: Any = self.norms[stage.name]
                scale = (
                    norm.weight.detach().cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
                )
                shift = norm.bias.detach().cpu().double() - norm.running_mean.cpu().double() * scale
                scaled = "left" if "left" in tensors else "weight"
                tensors[scaled] *= scale.view(-1, *[1] * (tensors[scaled].dim() - 1))
                tensors["bias"] = tensors["bias"] * scale + shift
            found |= {f"{stage.prefix}.{name}": value.float().contiguous() for name, value in tensors.items()}
        return found


class LibraryLearner(Learner):
    """A network of torchvision or timm with frozen layers; dropout and batch normalisation are the library's own.

    Those of frozen parts stay in evaluation mode. Parts outside named layers (a normalisation between them, a class token)
    freeze with the layer before.
    """

    module: LibraryModule

    def __init__(self, module: LibraryModule, settings: TrainingSettings) -> None:
        nn.Module.__init__(self)
        network = module.network
        if settings.network != NetworkSettings():
            raise OptionError(
                f"{network.name} is built by its library, and its activation, batch normalisation and rank cannot be changed.",
                "Leave these options out.",
            )
        self.module, self.first, self.norms = module, 0, nn.ModuleDict()
        self.frozen = network.select(settings.freeze)
        self._layers = layers_of_modules(module)
        paths = [network.layers()[name].path for name in self.frozen if name in network.layers()]
        self._frozen_paths = [
            path
            for path, layer in self._layers.items()
            if layer in self.frozen or any(f"{path}.".startswith(f"{found}.") for found in paths if found)
        ]
        for path in self._frozen_paths:
            for parameter in module.model.get_submodule(path).parameters(recurse=False):
                parameter.requires_grad_(False)
        self.begins = next((layer for layer, _ in self._learning_parameters()), "")
        if not self.begins:
            raise OptionError(
                f"freeze '{settings.freeze}' leaves no layer of {network.name} to learn.", "Freeze fewer."
            )
        learning = (part for path, part in module.model.named_modules() if path not in self._frozen_paths)
        if torch.distributed.is_initialized() and any(isinstance(part, _BATCH_NORMS) for part in learning):
            raise OptionError(
                f"batch normalisation of {network.name} needs whole batches, and several processes share them.",
                "Train with one process.",
            )

    def _learning_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Layer and parameter, in the order of computing."""
        for path, layer in self._layers.items():
            for parameter in self.module.model.get_submodule(path).parameters(recurse=False):
                if parameter.requires_grad:
                    yield layer, parameter

    def train(self, mode: bool = True) -> LibraryLearner:
        """Training mode except for frozen parts, whose normalisation keeps its statistics."""
        super().train(mode)
        for path in self._frozen_paths:
            self.module.model.get_submodule(path).training = False
        return self

    def before(self, pixels: Tensor) -> Tensor:
        """The pixels: frozen layers compute in each pass."""
        return pixels

    def after(self, value: Tensor, mask: DropoutMask | None = None) -> Tensor:
        """Logits; for a single image, which has no batch statistics, by the running statistics."""
        norms = [part for part in self.module.modules() if isinstance(part, _BATCH_NORMS) and part.training]
        alone = norms if len(value) == 1 else []
        for part in alone:
            part.training = False
        logits: Tensor = self.module(value)
        for part in alone:
            part.training = True
        return logits

    def groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Parameter groups: the classifier at the full rate, the second half of the other layers at the middle one.

        Biases, normalisations and other vectors have no weight decay.
        """
        names = [name for name in self.module.network.stage_names if name != CLASSIFIER]
        rates = dict.fromkeys(names[len(names) // 2 :], settings.middle_rate) | {CLASSIFIER: 1.0}
        return [
            {
                "params": [parameter],
                "rate": rates.get(layer, settings.early_rate),
                "weight_decay": settings.weight_decay if parameter.dim() > 1 else 0.0,
            }
            for layer, parameter in self._learning_parameters()
        ]

    def plain(self) -> dict[str, Tensor]:
        """The library's state dict, running statistics too."""
        return {
            key: value.detach().cpu().float().clone(memory_format=torch.contiguous_format)
            for key, value in self.module.state_dict().items()
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """All of the library's module."""
        return self.module.model.state_dict()

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """What :meth:`state_dict` gave."""
        return self.module.model.load_state_dict(state_dict, strict=strict, assign=assign)


def layers_of_modules(module: LibraryModule) -> dict[str, str]:
    """The named layer of each module, by the module's path, in the order of computing."""
    layers = module.network.layers()
    usual = {layer.path: name for name, layer in layers.items() if layer.short and layer.path}
    usual |= {layers[CLASSIFIER].path: CLASSIFIER} if CLASSIFIER in layers else {}
    paths = [path for path, _ in module.model.named_modules()]
    order = {layer.path: place for place, layer in enumerate(layers.values())}
    current = next(iter(usual.values()))
    found: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: order.get(path, -1)):
        parents = [path.rsplit(".", cut)[0] for cut in range(path.count(".") + 1)]
        own = next((usual[parent] for parent in parents if parent in usual), None)
        if own is not None and path in order:
            current = own
        found[path] = own or current
    return found


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


def make_optimizer(learner: Learner, settings: TrainingSettings, device: Device) -> torch.optim.Optimizer:
    """The optimizer over everything that learns. Fused, it passes over the weights once instead of four times."""
    groups, fused = learner.groups(settings), device.is_cuda or device.is_cpu
    if settings.optimizer == "adamw":  # each step sets the rate
        return torch.optim.AdamW(groups, lr=0.0, fused=fused)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, fused=fused)


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
