"""Reader of `bvlc_alexnet.npy` and files like it: a dictionary of arrays that Python 2 pickled.

The form is that of caffe-tensorflow: ``{"conv1": [filters, biases], ...}``, filters as
``[height, width, in, out]``, fully connected as ``[in, out]``, the rows of fc6 in the order height, width,
channel of pool5.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from cnncodes.core.errors import WeightsError
from cnncodes.networks import get_network
from cnncodes.weights.content import FileContent, damaged, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import torch

MOST_OPCODES = 5_000  # the real file has hundreds
FLOATS = {"f2", "f4", "f8"}


def read_npy_file(path: Path) -> FileContent:
    """Weights in a dictionary that ``np.save`` wrote; nothing in the file is run.

    Raises
    ------
    WeightsError
        If the file is damaged, holds something else, or tries to run code.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # never reads beyond its end
        _skip_header(content)
        _check_opcodes(content)
        return FileContent(
            dict(_tensors(_unpickle(content), len(content))), preprocessing=CAFFE_PREPROCESSING
        )
    except _RefusedError as error:
        raise WeightsError(
            f"the weights file '{path}' asks for {error}: loading it could run code, so it was not loaded.",
            "Use a file of arrays only; the known one is bvlc_alexnet.npy.",
        ) from error
    except Exception as error:  # a broken pickle can raise anything
        raise damaged(
            path, (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        ) from error


def _skip_header(content: mmap.mmap) -> None:
    """Read the header of the .npy format up to the pickle behind it."""
    from numpy.lib import format as npy

    version = npy.read_magic(content)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its .npy version is {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "created on Python 2": expected
        shape, _, dtype = readers[version](content)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"it holds an array of {dtype} with shape {shape}, not a dictionary of arrays")


def _check_opcodes(content: mmap.mmap) -> None:
    """Refuse pickles that would exhaust memory or time before any class is asked for."""
    start = content.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], content))):
        if count > MOST_OPCODES:
            raise ValueError(f"it has over {MOST_OPCODES:,} steps")
        if "PUT" in opcode.name and int(argument or 0) > MOST_OPCODES:  # the memo is an array of that length
            raise ValueError("it remembers too much")
    content.seek(start)


def _unpickle(content: mmap.mmap) -> Any:
    # latin1 keeps the bytes of Python 2's strings
    return _Unpickler(content, encoding="latin1").load()


class _RefusedError(Exception):
    """A name that a file of arrays does not need."""


class _StandIn:
    """In place of what a pickle names: no numpy code runs, and nothing of ours can be changed."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("its arrays are not arrays")


class _Array(_StandIn):
    """The state of a pickled array: shape, type and raw bytes, or a list of objects."""

    __slots__ = ("dtype", "fortran", "raw", "shape")
    shape: Any
    dtype: Any
    fortran: Any
    raw: Any

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state


class _Type(_StandIn):
    """The state of a pickled dtype: ``f4`` and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: object) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Reconstruct(_StandIn):
    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _MakeType(_StandIn):
    __slots__ = ()

    def __call__(self, code: object, *_: object) -> _Type:
        return _Type(code)


class _Encode(_StandIn):
    """Python 3 writes bytes into old pickles as text to be encoded; no more of them than the file has."""

    __slots__ = ("_left",)

    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self, text: str, encoding: str) -> bytes:
        self._left -= len(text)
        if encoding not in ("latin1", "latin-1") or self._left < 0:
            raise pickle.UnpicklingError("it encodes what is no array")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: mmap.mmap, *, encoding: str) -> None:
        super().__init__(content, encoding=encoding)
        reconstruct = _Reconstruct()
        self._known = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): _StandIn(),
            ("numpy", "dtype"): _MakeType(),
            ("_codecs", "encode"): _Encode(len(content)),
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise _RefusedError(f"'{module[:60]}.{name[:60]}'")
        return self._known[module, name]


def _tensors(top: Any, size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and tensors, laid out as torch has them; together not more bytes than the file has."""
    import torch

    layers = (
        top.raw[0] if isinstance(top, _Array) and isinstance(top.raw, list) and len(top.raw) == 1 else None
    )
    if not isinstance(layers, dict) or not layers:
        raise ValueError("it holds no dictionary of arrays")
    for layer, pair in layers.items():
        if not isinstance(layer, str) or not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("an entry is no pair of filters and biases")
        for end, array in zip(("weight", "bias"), pair, strict=True):
            size -= len(array.raw)
            if size < 0:
                raise ValueError("its arrays are larger than the file")
            yield f"{layer}.{end}", torch.from_numpy(_torch_order(layer, _values(array)))


def _values(array: _Array) -> np.ndarray:
    """The numbers of a pickled array as float32, in its shape."""
    import numpy as np

    code, order = array.dtype.code, array.dtype.order
    if code not in FLOATS or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array has type {str(code)[:20]}, not a floating point one")
    if not all(type(length) is int and length >= 0 for length in array.shape) or len(array.shape) > 4:
        raise ValueError("an array has no possible shape")
    raw = array.raw if isinstance(array.raw, bytes) else array.raw.encode("latin1")
    dtype = np.dtype(("<" if order in "=|" else order) + code)
    if math.prod(array.shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of {len(raw):,} bytes claims the shape {array.shape}")
    return (
        np.frombuffer(raw, dtype).reshape(array.shape, order="F" if array.fortran else "C").astype(np.float32)
    )


def _torch_order(layer: str, values: np.ndarray) -> np.ndarray:
    """``[height, width, in, out]`` to ``[out, in, height, width]``, ``[in, out]`` to ``[out, in]``."""
    import numpy as np

    if values.ndim == 2 and layer == "fc6":
        channels, height, width = get_network("bvlc_alexnet").output_shapes()["pool5"]
        if (
            len(values) == channels * height * width
        ):  # rows by height, width, channel; torch flattens channels first
            values = (
                values.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(len(values), -1)
            )
    if values.ndim == 4:
        values = values.transpose(3, 2, 0, 1)
    elif values.ndim == 2:
        values = values.T
    return np.ascontiguousarray(values)
