"""Networks so small that a picture's numbers can be computed by hand, and a record of what a network was before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cnncodes.codes.compute import choose_device
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.heads import Head, LinearModel, Normalisation
from cnncodes.networks import NETWORKS, Network
from cnncodes.pictures.classifier import Classifier, SeenImage
from cnncodes.weights import Preprocessing, Weights


def weights_of(monkeypatch: Any, network: Network, seed: int = 0, **preprocessing: Any) -> Weights:
    """Random weights of a network that only this test knows; ``preprocessing`` changes its record."""
    monkeypatch.setitem(NETWORKS, network.name, lambda: network)
    random = np.random.default_rng(seed)
    tensors = {}
    for key, shape in network.tensor_shapes().items():
        spread = 0.3 if key.endswith("bias") else 1.5 / np.sqrt(np.prod(shape[1:]))
        tensors[key] = torch.from_numpy(random.normal(0, spread, shape).astype(np.float32))
    side = network.input_size
    record = Preprocessing(**{"resize": side, "crop": side, **preprocessing})
    return Weights(network.name, "small", tensors, record, None, "a test")


def subject_of(weights: Weights, head: LinearModel | None = None) -> Classifier:
    return Classifier("small", weights, choose_device("cpu"), head)


def view_for(subject: Classifier, side: int, seed: int = 1) -> SeenImage:
    """Noise that fits the network."""
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels = random.normal(0, 1, (1, 3, side, side)).astype(np.float32)
    return SeenImage("noise.png", rgb, torch.from_numpy(pixels))


def in_double(subject: Classifier, view: SeenImage) -> SeenImage:
    """The subject's own network and the view in float64, so that finite differences mean something."""
    subject.network.double()
    return SeenImage(view.name, view.rgb, view.pixels.double())


def linear_model(
    weights: Weights,
    stage: str,
    normalisation: str = "l2",
    kind: str = "softmax",
    classes: tuple[str, ...] = ("ant", "bee", "cow"),
) -> LinearModel:
    """A random head on one stage."""
    shape = weights.architecture.output_shapes(weights.preprocessing.crop)[stage.partition(":")[0]]
    random = np.random.default_rng(3)
    length = int(np.prod(shape))
    standard = (random.normal(0, 1, length), random.uniform(0.5, 2, length))
    how = Normalisation(normalisation, *(standard if normalisation == "standard" else ()))  # type: ignore[arg-type]
    scale = 5 if normalisation == "l2" else 1 / np.sqrt(length)
    head = Head(
        kind, scale * random.normal(0, 1, (len(classes), length)), random.normal(0, 1, len(classes)), how, 1.0, classes
    )  # type: ignore[arg-type]  # fmt: skip
    settings = ExtractionSettings(weights.network, (stage,), weights.name, "0" * 64, weights.preprocessing)
    return LinearModel(head, settings)


def state_of(network: torch.nn.Module) -> list[Any]:
    """Everything about a network that a picture must leave as it was."""
    modules = [
        (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks),
         len(module._backward_pre_hooks), getattr(module, "inplace", None))
        for name, module in network.named_modules()
    ]  # fmt: skip
    parameters = [
        (name, value.data_ptr(), value.requires_grad, value.grad is None, value.detach().sum().item())
        for name, value in network.named_parameters()
    ]
    return [*modules, *parameters]
