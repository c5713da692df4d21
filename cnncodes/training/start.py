"""The network that a training starts from: a copy of some weights or new numbers; its last layer is new, kept, or a head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from cnncodes.codes.compute import Device
from cnncodes.codes.stream import stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import ModelError, OptionError, WeightsMismatchError
from cnncodes.heads.linear_model import LinearModel
from cnncodes.images.catalog import Catalog
from cnncodes.networks import Convolution, Linear, Network, Stage, TorchNetwork
from cnncodes.networks.library import CLASSIFIER, LibraryModule, LibraryNetwork
from cnncodes.networks.torch_network import LowRankLinear, factors
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights import Weights, load_weights

PAPER_ONES = ("conv2", "conv4", "conv5")  # and the hidden fully connected stages
SAMPLE = 200  # training images whose codes' typical length is measured


def start_from(
    weights: Weights, classes: tuple[str, ...], settings: TrainingSettings, *, keep_head: bool = False
) -> TorchNetwork:
    """A copy of the network of some weights with a new last layer for ``classes``; stages that their file lacks are new, too.

    With ``keep_head`` the last layer stays, its rows in the order of ``classes``; raises OptionError if it has others.
    """
    order = _order_of_kept(weights, classes) if keep_head else None
    network = weights.whole.with_classes(len(classes))
    if isinstance(network, LibraryNetwork):
        return _start_library(network, weights, order, settings.seed)
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


def _start_library(
    network: LibraryNetwork, weights: Weights, order: list[int] | None, seed: int
) -> LibraryModule:
    if CLASSIFIER not in network.layers():
        raise OptionError(
            f"network '{network.name}' has no classifier that can be replaced.",
            "Use another network, or fit a head to its codes: cnncodes extract, then fit-linear.",
        )
    module = LibraryModule(network)
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


def _tensors_of(stage: Stage, weights: Weights) -> dict[str, Tensor]:
    """Tensors of a stage by the end of their key; factors of its matrix if the stage has a rank."""
    start = f"{stage.prefix}."
    found = {key.removeprefix(start): v for key, v in weights.tensors.items() if key.startswith(start)}
    if isinstance(stage, Linear) and stage.rank is not None and "weight" in found:
        found["left"], found["right"] = factors(found.pop("weight"), stage.rank)
    return found


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
            ones, spread = False, 0.01
            if settings.initialisation == "paper":
                ones = stage.name in PAPER_ONES or (isinstance(stage, Linear) and stage.relu)
            else:
                spread = math.sqrt((2.0 if stage.relu else 1.0) / math.prod(weight.shape[1:]))
            weight.normal_(0.0, spread, generator=generator)
            layer.get_parameter("bias").fill_(1.0 if ones else 0.0)
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
