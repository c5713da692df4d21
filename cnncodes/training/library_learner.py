"""A network of torchvision or timm while it learns: the library's module with frozen layers.

Dropout and batch normalisation are the library's; those of frozen parts stay in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from cnncodes.core.errors import OptionError
from cnncodes.networks import Network, TorchNetwork
from cnncodes.networks.library import CLASSIFIER, LibraryModule, LibraryNetwork
from cnncodes.training.learner import DropoutMask, Learner, from_scratch, order_of_kept, start_from
from cnncodes.training.settings import NetworkSettings, TrainingSettings
from cnncodes.weights import Weights, load_weights

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class LibraryLearner(Learner):
    """See :class:`Learner`. Parts outside named layers (a normalisation between them, a class token) freeze with the layer before."""

    module: LibraryModule

    def __init__(self, module: LibraryModule, settings: TrainingSettings) -> None:
        nn.Module.__init__(self)
        network = module.network
        if settings.network != NetworkSettings():
            raise OptionError(
                f"{network.name} is built by its library, and its activation, batch normalisation and rank cannot be changed.",
                "Leave these options out.",
            )
        self.module, self.dropout, self.first, self.norms = module, 0.0, 0, nn.ModuleDict()
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
        self.learning = tuple(dict.fromkeys(layer for layer, _ in self._learning_parameters()))
        if not self.learning:
            raise OptionError(
                f"freeze '{settings.freeze}' leaves no layer of {network.name} to learn.", "Freeze fewer."
            )
        if torch.distributed.is_initialized() and any(
            isinstance(part, _BATCH_NORMS)
            for path, part in module.model.named_modules()
            if path not in self._frozen_paths
        ):
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

    @property
    def begins(self) -> str:
        """The first layer that learns."""
        return self.learning[0]

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
        alone = [
            part
            for part in self.module.modules()
            if len(value) == 1 and part.training and isinstance(part, _BATCH_NORMS)
        ]
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
        rates = dict.fromkeys(names, settings.early_rate)
        rates |= dict.fromkeys(names[len(names) // 2 :], settings.middle_rate) | {CLASSIFIER: 1.0}
        groups: list[dict[str, object]] = []
        for layer, parameter in self._learning_parameters():
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            rate = rates.get(layer, settings.early_rate)
            groups.append({"params": [parameter], "rate": rate, "weight_decay": decay})
        return groups

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


def make_learner(module: TorchNetwork, settings: TrainingSettings) -> Learner:
    """The learner of any network."""
    if isinstance(module, LibraryModule):
        return LibraryLearner(module, settings)
    return Learner(module, settings)


def begin(
    weights: Weights, classes: tuple[str, ...], settings: TrainingSettings, *, keep_head: bool = False
) -> TorchNetwork:
    """:func:`start_from` for any network."""
    whole = weights.whole
    if not isinstance(whole, LibraryNetwork):
        return start_from(weights, classes, settings, keep_head=keep_head)
    network = whole.with_classes(len(classes))
    if CLASSIFIER not in network.layers():
        raise OptionError(
            f"network '{network.name}' has no classifier that can be replaced.",
            "Use another network, or fit a head to its codes: cnncodes extract, then fit-linear.",
        )
    order = order_of_kept(weights, classes) if keep_head else None
    module = LibraryModule(network)
    start = f"{network.layers()[CLASSIFIER].path}."
    generator = torch.Generator().manual_seed(settings.seed)
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
    module.load_state_dict(tensors)
    return module


def begin_from_scratch(network: Network, settings: TrainingSettings) -> TorchNetwork:
    """:func:`from_scratch` for any network."""
    if not isinstance(network, LibraryNetwork):
        return from_scratch(network, settings)
    weights = load_weights(f"random:{settings.seed}", network=network.name)
    return begin(weights, tuple(str(place) for place in range(network.classes or 0)), settings)
