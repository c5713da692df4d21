"""Reader of `.caffemodel` files: NetParameter of caffe.proto, with layers of either generation."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.core.errors import WeightsError
from cnncodes.weights.content import FileContent, damaged, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING
from cnncodes.weights.protobuf import Message, WireError

if TYPE_CHECKING:
    import numpy as np
    import torch

# Field numbers in caffe.proto.
NET_NAME, NET_V1_LAYERS, NET_LAYERS = 1, 2, 100
LAYER_NAME, LAYER_BLOBS = 1, 7
V1_LAYER_NAME, V1_LAYER_BLOBS = 4, 6
BLOB_NUM, BLOB_WIDTH, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLE_DATA = 1, 4, 5, 7, 8
SHAPE_DIM = 1

NETWORKS_BY_NAME = {
    "AlexNet": "bvlc_alexnet",
    "CaffeNet": "caffenet",
}  # as bvlc's own prototxt files call them
MOST_DIMENSIONS = 32  # Caffe's kMaxBlobAxes


def read_caffe_file(path: Path) -> FileContent:
    """Weights and biases of every layer that has them; raises WeightsError for anything but a NetParameter.

    Filters stay as they are: conv1 expects blue, green, red, which the preprocessing says.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _net(path, Message(content, 0, len(content)))
    except WireError as error:
        raise damaged(path, f"{error}") from error
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise damaged(path, str(error)) from error


def _net(path: Path, net: Message) -> FileContent:
    name, tensors = "", {}
    for field in net.fields():
        if field.number == NET_NAME:
            name = field.message().text()
        elif field.number in (NET_LAYERS, NET_V1_LAYERS):
            for key, tensor in _layer(field.message(), v1=field.number == NET_V1_LAYERS):
                if key in tensors:
                    raise WireError(f"it has two tensors '{key}'")
                tensors[key] = tensor
    if not tensors:
        raise WeightsError(
            f"the weights file '{path}' has no layer with numbers in it.",
            "It is no .caffemodel, or one of 2013, which Caffe's upgrade_net_proto_binary converts.",
        )
    return FileContent(
        tensors,
        network=NETWORKS_BY_NAME.get(name),
        preprocessing=CAFFE_PREPROCESSING,
        hint=name.lower().replace("alexnet", "bvlc_alexnet"),  # FlickrStyleCaffeNet, PlacesAlexNet, ...
    )


def _layer(layer: Message, *, v1: bool) -> list[tuple[str, torch.Tensor]]:
    """Tensors of one layer with their keys: ``conv1.weight``, ``conv1.bias``."""
    import torch

    name_number, blobs_number = (V1_LAYER_NAME, V1_LAYER_BLOBS) if v1 else (LAYER_NAME, LAYER_BLOBS)
    name = ""
    blobs: list[np.ndarray] = []
    for field in layer.fields():
        if field.number == name_number:
            name = field.message().text()
        elif field.number == blobs_number:
            blobs.append(_blob(field.message(), bias=len(blobs) == 1))
    ends = ("weight", "bias")
    return [
        (f"{name}.{ends[place] if place < len(ends) else place}", torch.from_numpy(values))
        for place, values in enumerate(blobs)
    ]


def _blob(blob: Message, *, bias: bool) -> np.ndarray:
    """Numbers of a blob in its shape, without the leading ones that Caffe put before 2014."""
    import numpy as np

    legacy, shape = [0, 0, 0, 0], None
    singles, doubles = [np.empty(0, "<f4")], [np.empty(0, "<f8")]
    for field in blob.fields():
        if BLOB_NUM <= field.number <= BLOB_WIDTH:
            legacy[field.number - BLOB_NUM] = field.integers()[-1]
        elif field.number == BLOB_SHAPE:
            dims = [
                size for dim in field.message().fields() if dim.number == SHAPE_DIM for size in dim.integers()
            ]
            shape = dims
        elif field.number == BLOB_DATA:
            singles.append(field.numbers("<f4"))
        elif field.number == BLOB_DOUBLE_DATA:
            doubles.append(field.numbers("<f8"))
    values = np.concatenate(singles if sum(map(len, singles)) else doubles).astype(np.float32, copy=False)
    dims = legacy if shape is None else shape
    if len(dims) > MOST_DIMENSIONS or math.prod(dims) != values.size:
        raise WireError(f"{values.size:,} numbers do not have the shape {dims[:4]} that is declared")
    if bias and math.prod(dims[:-1]) == 1:
        dims = dims[-1:]
    elif len(dims) == 4 and dims[:2] == [1, 1]:
        dims = dims[2:]
    return values.reshape(dims)
