"""Reader of `.caffemodel` files: a NetParameter of caffe.proto, with layers of either generation.

The wire format is that of https://protobuf.dev/programming-guides/encoding. It is read here because the protobuf library builds an
object for every field before the caller can refuse a file that consists of millions of empty ones.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.core.errors import WeightsError
from cnncodes.weights.content import FileContent, damaged, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import torch

VARINT, BYTES = 0, 2  # wire types
SIZES = {1: 8, 5: 4}  # bytes of the two wire types of fixed size

# Field numbers in caffe.proto. Of a layer: name and blobs.
NET_NAME = 1
LAYERS = {100: (1, 7), 2: (4, 6)}  # today's, and V1LayerParameter of 2014
BLOB_NUM, BLOB_WIDTH, BLOB_SHAPE, SHAPE_DIM = 1, 4, 7, 1
BLOB_VALUES = {5: ("<f4", 4), 8: ("<f8", 8)}  # type, and its bytes

NETWORKS_BY_NAME = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # as BVLC's prototxt files name them
MOST_DIMENSIONS = 32  # Caffe's kMaxBlobAxes
MOST_FIELDS = 100_000  # in one file, their lengths counted, too; published files have thousands


def read_caffe_file(path: Path) -> FileContent:
    """Weights and biases of every layer that has them; raises WeightsError for anything but a NetParameter.

    Filters are not changed: conv1 expects blue, green, red, as the preprocessing says.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        name, tensors = _Reader().net(content)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise damaged(path, str(error)) from error
    if not tensors:
        raise WeightsError(
            f"the weights file '{path}' has no layer with weights.",
            "It is not a .caffemodel, or one of 2013: convert it with Caffe's upgrade_net_proto_binary.",
        )
    hint = name.lower().replace("alexnet", "bvlc_alexnet")  # FlickrStyleCaffeNet, PlacesAlexNet, ...
    return FileContent(tensors, NETWORKS_BY_NAME.get(name), CAFFE_PREPROCESSING, hint=hint)


class _Reader:
    """Reads messages; counts their fields."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def net(self, net: memoryview) -> tuple[str, dict[str, torch.Tensor]]:
        """Name and tensors by their keys: ``conv1.weight``, ``conv1.bias``."""
        import torch

        name, tensors = "", {}
        for number, _, value in self._fields(net):
            if number == NET_NAME:
                name = _text(value)
            elif number in LAYERS:
                layer, blobs = self._layer(_message(value), *LAYERS[number])
                for place, blob in enumerate(blobs):
                    key = f"{layer}.{('weight', 'bias')[place] if place < 2 else place}"
                    if key in tensors:
                        raise ValueError(f"it has two tensors '{key}'")
                    tensors[key] = torch.from_numpy(blob)
        return name, tensors

    def _layer(self, layer: memoryview, name_number: int, blobs_number: int) -> tuple[str, list[np.ndarray]]:
        name = ""
        blobs: list[np.ndarray] = []
        for number, _, value in self._fields(layer):
            if number == name_number:
                name = _text(value)
            elif number == blobs_number:
                blobs.append(self._blob(_message(value), bias=len(blobs) == 1))
        return name, blobs

    def _blob(self, blob: memoryview, *, bias: bool) -> np.ndarray:
        """Values of a blob as float32 in its shape, without the leading ones of the format before 2014."""
        import numpy as np

        dims, legacy = None, [0, 0, 0, 0]
        found = {number: [np.empty(0, dtype)] for number, (dtype, _) in BLOB_VALUES.items()}
        for number, wire, value in self._fields(blob):
            if BLOB_NUM <= number <= BLOB_WIDTH:
                legacy[number - BLOB_NUM] = self._integers(value)[-1]
            elif number == BLOB_SHAPE:
                parts = (part for place, _, part in self._fields(_message(value)) if place == SHAPE_DIM)
                dims = [size for part in parts for size in self._integers(part)]
            elif number in BLOB_VALUES:
                dtype, size = BLOB_VALUES[number]
                if isinstance(value, int) or SIZES.get(wire, size) != size or len(value) % size:
                    raise ValueError(f"field {number} holds no numbers of {size} bytes")
                found[number].append(np.frombuffer(value, dtype))
        singles, doubles = (np.concatenate(parts) for parts in found.values())
        values = (singles if len(singles) else doubles).astype(np.float32, copy=False)
        dims = legacy if dims is None else dims
        if len(dims) > MOST_DIMENSIONS or math.prod(dims) != values.size:
            raise ValueError(f"{values.size:,} numbers do not have the declared shape {dims[:4]}")
        if bias and math.prod(dims[:-1]) == 1:
            dims = dims[-1:]
        elif len(dims) == 4 and dims[:2] == [1, 1]:
            dims = dims[2:]
        return values.reshape(dims)

    def _fields(self, message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """Number, wire type and value of each field of a message."""
        place = 0
        while place < len(message):
            began = place
            tag, place = self._varint(message, place)
            number, wire = tag >> 3, tag & 7
            value: int | memoryview = 0
            if wire == VARINT:
                value, end = self._varint(message, place)
            elif wire == BYTES:
                length, place = self._varint(message, place)
                end = place + length
            elif wire in SIZES:
                end = place + SIZES[wire]
            else:  # groups, which Caffe does not use
                raise ValueError(f"a field has type {wire} at byte {began}")
            if number == 0 or end > len(message):
                raise ValueError(f"a field at byte {began} of its message goes beyond the end")
            yield number, wire, value if wire == VARINT else message[place:end]
            place = end

    def _integers(self, value: int | memoryview) -> list[int]:
        """One integer, or packed ones."""
        if isinstance(value, int):
            return [value]
        values, place = [], 0
        while place < len(value):
            found, place = self._varint(value, place)
            values.append(found)
        return values

    def _varint(self, data: memoryview, place: int) -> tuple[int, int]:
        """An integer of up to 64 bits, seven to a byte, and the place behind it."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_FIELDS:,} fields")
        value = 0
        for shift, byte in enumerate(data[place : place + 10]):
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                return value & (2**64 - 1), place + shift + 1
        raise ValueError(f"an integer at byte {place} of its message does not end")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer is not a message")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:200]).decode(errors="replace")
