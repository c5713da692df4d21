"""Reader of `.caffemodel` files: a NetParameter of caffe.proto, with layers of either generation.

The wire format is that of https://protobuf.dev/programming-guides/encoding. It is read here because the protobuf library builds an
object for every field before the caller can refuse a file that consists of millions of empty ones.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cnncodes.core.errors import WeightsError
from cnncodes.weights.content import FileContent, damaged, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import torch

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
SIZES = {FIXED64: 8, FIXED32: 4}  # bytes
Field: TypeAlias = tuple[int, int, "int | memoryview"]  # number, wire type, value

# Field numbers in caffe.proto. Of a layer: name and blobs.
NET_NAME = 1
LAYERS = {100: (1, 7), 2: (4, 6)}  # today's, and V1LayerParameter of 2014
BLOB_NUM, BLOB_WIDTH, BLOB_SHAPE, SHAPE_DIM = 1, 4, 7, 1
BLOB_VALUES = {5: ("<f4", FIXED32), 8: ("<f8", FIXED64)}

NETWORKS_BY_NAME = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # as BVLC's prototxt files name them
MOST_DIMENSIONS = 32  # Caffe's kMaxBlobAxes
MOST_FIELDS = 100_000  # in one file; published files have thousands
RUN = 4096  # unpacked numbers that count as one field


def read_caffe_file(path: Path) -> FileContent:
    """Weights and biases of every layer that has them; raises WeightsError for anything but a NetParameter.

    Filters are not changed: conv1 expects blue, green, red, as the preprocessing says.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _Reader().net(path, content)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise damaged(path, str(error)) from error


class _Reader:
    """Reads messages; counts their fields."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def net(self, path: Path, net: memoryview) -> FileContent:
        name, tensors = "", {}
        for number, _, value in self._fields(net):
            if number == NET_NAME:
                name = _text(value)
            elif number in LAYERS:
                for key, tensor in self._layer(_message(value), *LAYERS[number]):
                    if key in tensors:
                        raise ValueError(f"it has two tensors '{key}'")
                    tensors[key] = tensor
        if not tensors:
            raise WeightsError(
                f"the weights file '{path}' has no layer with weights.",
                "It is not a .caffemodel, or one of 2013: convert it with Caffe's upgrade_net_proto_binary.",
            )
        return FileContent(
            tensors,
            network=NETWORKS_BY_NAME.get(name),
            preprocessing=CAFFE_PREPROCESSING,
            hint=name.lower().replace("alexnet", "bvlc_alexnet"),  # FlickrStyleCaffeNet, PlacesAlexNet, ...
        )

    def _layer(
        self, layer: memoryview, name_number: int, blobs_number: int
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors of a layer with their keys: ``conv1.weight``, ``conv1.bias``."""
        import torch

        name = ""
        blobs: list[np.ndarray] = []
        for number, _, value in self._fields(layer):
            if number == name_number:
                name = _text(value)
            elif number == blobs_number:
                blobs.append(self._blob(_message(value), bias=len(blobs) == 1))
        for place, blob in enumerate(blobs):
            end = ("weight", "bias")[place] if place < 2 else place
            yield f"{name}.{end}", torch.from_numpy(blob)

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
                dtype, unpacked = BLOB_VALUES[number]
                size = SIZES[unpacked]
                if isinstance(value, int) or wire not in (BYTES, unpacked) or len(value) % size:
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

    def _fields(self, message: memoryview) -> Iterator[Field]:
        """Fields of a message; unpacked numbers that follow each other come as one packed field."""
        place = 0
        while place < len(message):
            self._count()
            began = place
            tag, place = _varint(message, place)
            number, wire = tag >> 3, tag & 7
            value: int | memoryview = 0
            if wire == VARINT:
                value, end = _varint(message, place)
            elif wire == BYTES:
                length, place = _varint(message, place)
                end = place + length
            elif wire in SIZES:
                end = place + SIZES[wire]
            else:  # groups, which Caffe does not use
                raise ValueError(f"a field has type {wire} at byte {began}")
            if number == 0 or end > len(message):
                raise ValueError(f"a field at byte {began} of its message goes beyond the end")
            if wire == BYTES:
                value = message[place:end]
            elif wire in SIZES:
                value, end = _run(message, began, place, end)
            yield number, wire, value
            place = end

    def _integers(self, value: int | memoryview) -> list[int]:
        """One integer, or packed ones."""
        if isinstance(value, int):
            return [value]
        values, place = [], 0
        while place < len(value):
            self._count()
            found, place = _varint(value, place)
            values.append(found)
        return values

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_FIELDS:,} fields")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """An integer of up to 64 bits, seven to a byte, and the place behind it."""
    value = 0
    for shift, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value & (2**64 - 1), place + shift + 1
    raise ValueError(f"an integer at byte {place} of its message does not end")


def _run(data: memoryview, began: int, place: int, end: int) -> tuple[memoryview, int]:
    """Numbers of up to RUN fields with one tag that follow each other, packed, and the place behind them."""
    import numpy as np

    length, tag = end - began, place - began
    rows = min(RUN, (len(data) - began) // length)
    fields = np.frombuffer(data[began : began + rows * length], np.uint8).reshape(rows, length)
    same = (fields[:, :tag] == fields[0, :tag]).all(axis=1)
    count = rows if same.all() else int(same.argmin())
    return memoryview(fields[:count, tag:].tobytes()), began + count * length


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer is not a message")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:200]).decode(errors="replace")
