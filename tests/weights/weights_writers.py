"""Writers of the foreign formats, made from their specifications and used by tests only."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from cnncodes.networks import Convolution, Linear, LocalResponseNorm, MaxPool, Network

V1_TYPES = {"conv": 4, "fc": 14}  # V1LayerParameter.LayerType
V2_TYPES = {"conv": "Convolution", "fc": "InnerProduct"}


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def nested(field: int, *content: bytes) -> bytes:
    return b"".join(parts(field, *content))


def parts(field: int, *content: bytes) -> list[bytes]:
    """A nested message in pieces, so that 240 MB are joined once and not at every level."""
    return [varint(field << 3 | 2), varint(sum(map(len, content))), *content]


def blob(values: np.ndarray, *, legacy: bool, packed: bool = True, double: bool = False) -> list[bytes]:
    """BlobProto, its shape as four numbers (until 2014) or as a BlobShape message."""
    if legacy:
        dims = [1] * (4 - values.ndim) + list(values.shape)
        shape = b"".join(number(1 + place, size) for place, size in enumerate(dims))
    else:
        shape = nested(7, nested(1, b"".join(varint(size) for size in values.shape)))
    field, dtype, wire = (8, "<f8", 1) if double else (5, "<f4", 5)
    data = np.ascontiguousarray(values, dtype)
    if packed:
        return [shape, *parts(field, data.tobytes())]
    tag, code = varint(field << 3 | wire), {"<f4": "<f", "<f8": "<d"}[dtype]
    return [shape, b"".join(tag + struct.pack(code, value) for value in data.ravel())]


def caffemodel(
    name: str, network: Network, tensors: Mapping[str, np.ndarray], *, v1: bool, **options: bool
) -> bytes:
    """NetParameter with the layers of ``network`` that ``tensors`` has, among layers without numbers."""
    pieces = [nested(1, name.encode())]
    for stage in network.stages:
        if f"{stage.name}.weight" not in tensors:
            continue
        blobs = [blob(tensors[f"{stage.name}.{end}"], legacy=v1, **options) for end in ("weight", "bias")]
        if v1:
            layer = [nested(2, b"data"), nested(3, stage.name.encode()), nested(4, stage.name.encode())]
            layer += [number(5, V1_TYPES[stage.kind]), *(piece for b in blobs for piece in parts(6, *b))]
            layer += [varint(8 << 3 | 5) + struct.pack("<f", 1.0)] * 2  # blobs_lr
            relu = [nested(4, b"relu_" + stage.name.encode()), number(5, 18)]
            pieces += [*parts(2, *layer), nested(2, *relu)]
        else:
            layer = [nested(1, stage.name.encode()), nested(2, V2_TYPES[stage.kind].encode())]
            layer += [*(piece for b in blobs for piece in parts(7, *b)), number(10, 0)]
            relu = [nested(1, b"relu_" + stage.name.encode()), nested(2, b"ReLU")]
            pieces += [*parts(100, *layer), nested(100, *relu)]
    return b"".join(pieces)


def prototxt(network: Network, upto: str) -> str:
    """The network as Caffe's text format, every stage's output under the stage's own name."""
    size = network.input_size
    lines = [f'name: "test"\ninput: "data"\ninput_shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }}']
    bottom = "data"
    for stage in network.stages:
        linear = f"{stage.name}_linear" if stage.relu else stage.name
        match stage:
            case Convolution():
                kind, options = (
                    "Convolution",
                    (
                        f"convolution_param {{ num_output: {stage.channels} kernel_size: {stage.kernel} "
                        f"stride: {stage.stride} pad: {stage.padding} group: {stage.groups} }}"
                    ),
                )
            case LocalResponseNorm():  # Caffe divides alpha by the local size
                kind, options = (
                    "LRN",
                    (
                        f"lrn_param {{ local_size: {stage.n} alpha: {stage.alpha * stage.n} beta: {stage.beta} "
                        f"k: {stage.k} }}"
                    ),
                )
            case MaxPool():
                kind, options = (
                    "Pooling",
                    (f"pooling_param {{ pool: MAX kernel_size: {stage.kernel} stride: {stage.stride} }}"),
                )
            case Linear():
                kind, options = "InnerProduct", f"inner_product_param {{ num_output: {stage.features} }}"
        lines.append(
            f'layer {{ name: "{stage.name}" type: "{kind}" bottom: "{bottom}" top: "{linear}" {options} }}'
        )
        if stage.relu:
            lines.append(
                f'layer {{ name: "relu_{stage.name}" type: "ReLU" bottom: "{linear}" top: "{stage.name}_out" }}'
            )
        bottom = f"{stage.name}_out" if stage.relu else linear
        if stage.name == upto:
            break
    return "\n".join(lines)
