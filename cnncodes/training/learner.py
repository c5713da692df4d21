"""The network of a training: what it starts from; while it learns, frozen layers, dropout, rates by layer and the loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
from cnncodes.networks.library import CLASSIFIER, LibraryModule, LibraryNetwork
from cnncodes.networks.torch_network import LowRankLinear, factors
from cnncodes.training.settings import NetworkSettings, TrainingSettings
from cnncodes.weights import Weights, load_weights

PAPER_ONES = ("conv2", "conv4", "conv5")  # and the hidden fully connected stages
SAMPLE = 200  # training images whose codes' typical length is measured
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def start_from(
    weights: Weights, classes: tuple[str, ...], settings: TrainingSettings, *, keep_head: bool = False
) -> TorchNetwork:
    """A copy of the network of some weights; its last layer and stages that their file lacks are new.

    With ``keep_head`` the last layer stays, its rows in the order of ``classes``; raises OptionError if it has others.
    """
    order = _order_of_kept(weights, classes) if keep_head else None
    network = weights.whole.with_classes(len(classes))
    if isinstance(network, LibraryNetwork):
        return _start_library(network, weights, order, settings.seed)
    if order is None:
        network = network.with_ranks({network.stages[-1].name: None})
    network = _with_rank(network, settings)
    module, last = TorchNetwork(network), network.stages[-1]
    new = [stage for stage in network.stages[:-1] if stage.name not in weights.architecture.stage_names]
    new += [last] if order is None else []
    with torch.no_grad():
        for stage in network.stages:
            if not isinstance(stage, Convolution | Linear) or stage in new:
                continue
            start, layer = f"{stage.prefix}.", module.get_submodule(stage.prefix)
            found = {
                key.removeprefix(start): v for key, v in weights.tensors.items() if key.startswith(start)
            }
            if isinstance(stage, Linear) and stage.rank is not None and "weight" in found:
                found["left"], found["right"] = factors(found.pop("weight"), stage.rank)
            for name, value in found.items():
                rows = stage is last and order is not None and name != "right"
                layer.get_parameter(name).copy_(value[order] if rows else value)
    initialise(module, new, settings)
    return module


def _start_library(
    network: LibraryNetwork, weights: Weights, order: list[int] | None, seed: int
) -> LibraryModule:
    if CLASSIFIER not in network.layers():
        raise OptionError(
            f"network '{network.name}' has no classifier that can be replaced.",
            "Use another network, or fit a head to its codes: cnncodes extract, then fit-linear.",
        )
    start = f"{network.layers()[CLASSIFIER].path}."
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in network.tensor_shapes().items():
        value = weights.tensors[key]
        if not key.startswith(start) and tuple(value.shape) == shape:
            tensors[key] = value
        elif order is not None:
            tensors[key] = value[order]
        elif len(shape) > 1:
            tensors[key] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        else:
            tensors[key] = torch.zeros(shape)
    module = LibraryModule(network)
    module.load_state_dict(tensors)
    return module


def from_scratch(network: Network, settings: TrainingSettings) -> TorchNetwork:
    """A network with new weights in all layers."""
    if isinstance(network, LibraryNetwork):
        weights = load_weights(f"random:{settings.seed}", network=network.name)
        return start_from(weights, tuple(str(place) for place in range(network.classes or 0)), settings)
    module = TorchNetwork(_with_rank(network, settings))
    initialise(module, module.network.stages, settings)
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


def _order_of_kept(weights: Weights, classes: tuple[str, ...]) -> list[int]:
    """Rows of the weights' last layer in the order of ``classes``."""
    there, names = weights.architecture.classes, weights.class_names()
    missing = [name for name in classes if name not in names] if names is not None else []
    if there != len(classes):
        problem = f"has {there or 'no'} classes and the data have {len(classes)}"
    elif missing:
        problem = f"does not know class '{missing[0]}' of the data"
    else:
        return list(range(len(classes))) if names is None else [names.index(name) for name in classes]
    raise OptionError(
        f"the last layer of '{weights.name}' {problem}.", "Leave out --keep-head, so that it is replaced."
    )


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
            paper = settings.initialisation == "paper"
            ones = stage.name in PAPER_ONES or (isinstance(stage, Linear) and stage.relu)
            spread = math.sqrt((2.0 if stage.relu else 1.0) / math.prod(weight.shape[1:]))
            weight.normal_(0.0, 0.01 if paper else spread, generator=generator)
            layer.get_parameter("bias").fill_(1.0 if paper and ones else 0.0)
            if isinstance(layer, LowRankLinear):
                left, right = factors(weight, layer.left.shape[1])
                layer.left.copy_(left)
                layer.right.copy_(right)


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
    if missing := sorted(set(classes) ^ set(model.classes)):
        raise ModelError(
            f"the head and the data differ in {len(missing)} classes, such as '{missing[0]}'.",
            "Fit the head on the same data.",
        )


def put_head(
    module: TorchNetwork,
    model: LinearModel,
    weights: Weights,
    classes: tuple[str, ...],
    images: Catalog,
    device: Device,
) -> None:
    """Make a head on codes of some weights the last layer of their network, if it can be one: :func:`check_head`.

    A head on standardised codes ``W (x - m) / s + b`` becomes exactly ``(W / s) x + b - W (m / s)``. A head on codes of length
    1 depends on each row's length, which no layer does: it becomes ``W / L`` with the median length ``L`` of some images' codes.
    """
    check_head(model, weights, classes)
    head, order = model.head, [model.classes.index(name) for name in classes]
    weight, bias = head.weight[order].astype(np.float64), head.bias[order].astype(np.float64)
    if head.normalisation.kind == "standard":
        assert head.normalisation.mean is not None and head.normalisation.scale is not None
        weight = weight / head.normalisation.scale
        bias = bias - weight @ head.normalisation.mean
    elif head.normalisation.kind == "l2":
        weight = weight / _typical_length(model, weights, images, device)
    layer = module.classifier_module()
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.from_numpy(weight))
        layer.get_parameter("bias").copy_(torch.from_numpy(bias))


def _typical_length(model: LinearModel, weights: Weights, catalog: Catalog, device: Device) -> float:
    """Median Euclidean length of the codes that a head reads, over some images of a catalog."""
    chosen = np.unique(np.linspace(0, len(catalog) - 1, SAMPLE).astype(int))
    settings = dataclasses.replace(model.settings, crops="center", batch_size=16)
    lengths = [
        np.linalg.norm(block.codes[model.stage][block.readable].astype(np.float64), axis=1)
        for block in stream(catalog.subset(chosen), weights, settings, Compute(device=device.torch_name))
    ]
    found = np.concatenate(lengths)
    return (float(np.median(found)) if len(found) else 0.0) or 1.0


class Learner(nn.Module):
    """A network written stage by stage with dropout and frozen stages; those of libraries: :class:`LibraryLearner`.

    All stages before the place ``first``, where learning ``begins``, run without gradients.
    """

    def __init__(self, module: TorchNetwork, settings: TrainingSettings) -> None:
        super().__init__()
        self.module, self.dropout = module, settings.dropout
        network = module.network
        frozen = network.select(settings.freeze)
        weighted = [stage for stage in network.stages if isinstance(stage, Convolution | Linear)]
        self.learning = [stage for stage in weighted if stage.name not in frozen]
        for stage in weighted:
            module.get_submodule(stage.prefix).requires_grad_(stage.name not in frozen)
        if not self.learning:
            raise OptionError(
                f"freeze '{settings.freeze}' leaves no stage of {network.name} to learn.",
                "Freeze fewer, such as conv1-5.",
            )
        self.begins = self.learning[0].name
        self.first = network.stage_names.index(self.begins)
        self.norms = nn.ModuleDict()
        for stage in self.learning if settings.network.batch_norm else ():
            if stage.relu:
                kind = nn.BatchNorm2d if isinstance(stage, Convolution) else nn.BatchNorm1d
                self.norms[stage.name] = kind(len(module.get_submodule(stage.prefix).get_parameter("bias")))

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
        groups: list[dict[str, object]] = []
        for stage in self.learning:
            new = stage is self.module.network.stages[-1]
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
                gain, shift, mean, variance = (
                    value.detach().cpu().double()
                    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                )
                scale = gain / (variance + norm.eps).sqrt()
                scaled = "left" if "left" in tensors else "weight"
                tensors[scaled] *= scale.view(-1, *[1] * (tensors[scaled].dim() - 1))
                tensors["bias"] = tensors["bias"] * scale + (shift - mean * scale)
            found |= {f"{stage.prefix}.{name}": value.float().contiguous() for name, value in tensors.items()}
        return found


def learner_of(module: TorchNetwork, settings: TrainingSettings) -> Learner:
    """The learner of a network written here, or of a library's."""
    return (
        LibraryLearner(module, settings) if isinstance(module, LibraryModule) else Learner(module, settings)
    )


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
        self.module, self.first = module, 0
        frozen, self._layers = network.select(settings.freeze), layers_of_modules(module)
        paths = [network.layers()[name].path for name in frozen if name in network.layers()]
        self._frozen_paths = [
            path
            for path, layer in self._layers.items()
            if layer in frozen or any(f"{path}.".startswith(f"{found}.") for found in paths if found)
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

    def after(self, value: Tensor, mask: DropoutMask | None = None) -> Tensor:
        """Logits; for a single image, which has no batch statistics, by the running statistics."""
        norms = [part for part in self.module.modules() if isinstance(part, _BATCH_NORMS) and part.training]
        for part in norms:
            part.training = len(value) > 1
        logits: Tensor = self.module(value)
        for part in norms:
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


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should give. The rest of a mixed view is the view before it in the batch."""

    labels: Tensor  # int64
    mix: Tensor | None = None  # with mixup the part of each view that is the image itself, float32

    def right(self, logits: Tensor) -> Tensor:
        """Number of images whose best class is the label."""
        return (logits.argmax(1) == self.labels).sum()


class Objective:
    """Loss of each image ``[batch]``, float32."""

    def __init__(self, settings: TrainingSettings, class_weight: Tensor | None = None) -> None:
        self._smoothing, self._class_weight = settings.label_smoothing, class_weight

    def __call__(self, logits: Tensor, targets: Targets) -> Tensor:
        def loss_to(labels: Tensor) -> Tensor:
            return F.cross_entropy(
                logits.float(), labels, self._class_weight, reduction="none", label_smoothing=self._smoothing
            )

        if targets.mix is None:
            return loss_to(targets.labels)
        return targets.mix * loss_to(targets.labels) + (1 - targets.mix) * loss_to(targets.labels.roll(1))


def mixed_views(views: Tensor, mix: Sequence[float] | Tensor) -> Tensor:
    """Each view ``[batch, 3, side, side]`` with the one before it in the batch, in these parts."""
    part = torch.as_tensor(mix, dtype=views.dtype, device=views.device).view(-1, 1, 1, 1)
    return part * views + (1 - part) * views.roll(1, 0)
