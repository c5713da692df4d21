"""Weights: the numbers of one network, with what must travel with them. Resolve, download, read, write.

Importing this room is quick: torch, numpy and safetensors are loaded by the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING, Preprocessing

if TYPE_CHECKING:
    from cnncodes.weights.changes import (
        read_class_names,
        with_class_names,
        with_input,
    )
    from cnncodes.weights.imagenet import KnownWeights, fetch, list_weights
    from cnncodes.weights.record import AnyWeights, Weights, build_network
    from cnncodes.weights.resolve import WeightsReport, check, convert, load_weights
    from cnncodes.weights.safetensors_file import (
        read_arrays,
        read_tensors,
        save_weights,
        write_arrays,
        write_tensors,
    )

__all__ = [
    "CAFFE_PREPROCESSING",
    "TORCHVISION_PREPROCESSING",
    "AnyWeights",
    "KnownWeights",
    "Preprocessing",
    "Weights",
    "WeightsReport",
    "build_network",
    "check",
    "convert",
    "fetch",
    "list_weights",
    "load_weights",
    "read_arrays",
    "read_class_names",
    "read_tensors",
    "save_weights",
    "with_class_names",
    "with_input",
    "write_arrays",
    "write_tensors",
]

_HOMES = {
    "read_class_names": "changes",
    "with_class_names": "changes",
    "with_input": "changes",
    "KnownWeights": "imagenet",
    "fetch": "imagenet",
    "list_weights": "imagenet",
    "AnyWeights": "record",
    "Weights": "record",
    "build_network": "record",
    "WeightsReport": "resolve",
    "check": "resolve",
    "convert": "resolve",
    "load_weights": "resolve",
    "read_arrays": "safetensors_file",
    "read_tensors": "safetensors_file",
    "save_weights": "safetensors_file",
    "write_arrays": "safetensors_file",
    "write_tensors": "safetensors_file",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"cnncodes.weights.{_HOMES[name]}"), name)
    raise AttributeError(name)
