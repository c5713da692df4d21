"""A fitted linear head as the start of the last layer: a random one would first wreck the features below it."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from cnncodes.codes.compute import Device
from cnncodes.codes.stream import stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import ModelError, WeightsMismatchError
from cnncodes.heads.linear_model import LinearModel
from cnncodes.images.catalog import Catalog
from cnncodes.networks import TorchNetwork
from cnncodes.weights import Weights

SAMPLE = 200  # training images whose codes' typical length is measured


def check_head(model: LinearModel, weights: Weights, classes: tuple[str, ...]) -> None:
    """Raise ModelError or WeightsMismatchError if a head cannot stand for the last layer of these weights."""
    network = weights.whole
    last_hidden = network.stages[-2].name if network.stages else network.usual_layer
    if model.stage != last_hidden:
        raise ModelError(
            f"the head reads layer {model.stage}, and the last layer of {network.name} reads {last_hidden}.",
            f"Fit one on it: cnncodes fit-linear codes.h5 --layer {last_hidden}.",
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
    """Give the last layer of a network the scores of a head, with the data's order of classes.

    A head on standardised codes ``W (x - m) / s + b`` becomes exactly ``(W / s) x + b - W (m / s)``. One on codes of length
    1 depends on each row's length and no layer does: ``W / L`` with the typical length ``L`` stands for it.
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
