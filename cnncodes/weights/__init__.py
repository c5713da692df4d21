"""Weights: the numbers of one network, with what must travel with them. Resolve, download, read, write.

Importing this room is quick: torch, numpy and safetensors are loaded by the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING, Preprocessing

if TYPE_CHECKING:
    from cnncodes.weights.changes import (
        check_changed,
        read_class_names,
        save_changed,
        with_class_names,
        with_input,
    )
    from cnncodes.weights.compressed_file import CompressedWeights, save_compressed
    from cnncodes.weights.compression import (
        CompressionReport,
        compress,
        compression_report,
        default_output,
        stage_outputs,
    )
    from cnncodes.weights.imagenet import KnownWeights, fetch, list_weights
    from cnncodes.weights.random_numbers import RANDOM_SOURCE
    from cnncodes.weights.record import AnyWeights, Weights, build_network
    from cnncodes.weights.resolve import WeightsReport, check, convert, load_weights
    from cnncodes.weights.safetensors_file import (
        read_arrays,
        read_tensors,
        save_weights,
        write_arrays,
        write_tensors,
    )
    from cnncodes.weights.statistics import SourceStatistics

__all__ = [
    "CAFFE_PREPROCESSING",
    "RANDOM_SOURCE",
    "TORCHVISION_PREPROCESSING",
    "AnyWeights",
    "CompressedWeights",
    "CompressionReport",
    "KnownWeights",
    "Preprocessing",
    "SourceStatistics",
    "Weights",
    "WeightsReport",
    "build_network",
    "check",
    "check_changed",
    "compress",
    "compression_report",
    "convert",
    "default_output",
    "fetch",
    "list_weights",
    "load_weights",
    "read_arrays",
    "read_class_names",
    "read_tensors",
    "save_changed",
    "save_compressed",
    "save_weights",
    "stage_outputs",
    "with_class_names",
    "with_input",
    "write_arrays",
    "write_tensors",
]

_HOMES = {
    "SourceStatistics": "statistics",
    "check_changed": "changes",
    "save_changed": "changes",
    "read_class_names": "changes",
    "with_class_names": "changes",
    "with_input": "changes",
    "CompressedWeights": "compressed_file",
    "CompressionReport": "compression",
    "compress": "compression",
    "compression_report": "compression",
    "default_output": "compression",
    "stage_outputs": "compression",
    "save_compressed": "compressed_file",
    "RANDOM_SOURCE": "random_numbers",
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
