"""Reader of `bvlc_alexnet.npy` and files like it: a dictionary of arrays that Python 2 pickled.

The format is caffe-tensorflow's: ``{"conv1": [filters, biases], ...}`` with filters ``[height, width, in, out]`` and fully connected
matrices ``[in, out]``. The rows of fc6 are in the order height, width, channel of pool5.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from cnncodes.core.errors import WeightsError
from cnncodes.networks import get_network
from cnncodes.weights.content import FileContent, damaged, first_line, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import torch

MOST_OPCODES = 5_000  # the published file has hundreds
FLOATS = {"f2", "f4", "f8"}


def read_npy_file(path: Path) -> FileContent:
    """Weights in a dictionary that ``np.save`` wrote; no code in the file is run.

    Raises WeightsError if the file is damaged, holds something else, or tries to run code.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # a read never exceeds the file
        _skip_to_pickle(content)
        tensors = dict(_tensors(_Unpickler(content).load(), len(content)))
        return FileContent(tensors, preprocessing=CAFFE_PREPROCESSING)
    except _RefusedError as error:
        raise WeightsError(
            f"the weights file '{path}' asks for {error}: loading it could run code, so it was not loaded.",
            "Use a file of arrays only, such as bvlc_alexnet.npy.",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise damaged(path, first_line(error)) from error


def _skip_to_pickle(content: mmap.mmap) -> None:
    """Read the .npy header; refuse a pickle that would exhaust memory or time before it names any class."""
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
    start = content.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], content))):
        if count > MOST_OPCODES:
            raise ValueError(f"it has over {MOST_OPCODES:,} steps")
        if "PUT" in opcode.name and int(argument or 0) > MOST_OPCODES:  # the memo is an array of that length
            raise ValueError("its memo is too large")
    content.seek(start)


class _RefusedError(Exception):
    """A name that a file of arrays does not need."""


class _Array:
    """State of a pickled array: shape, type and raw bytes, or a list of objects. numpy builds none from a file."""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state


class _Type:
    """State of a pickled dtype: ``f4`` and its byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Unpickler(pickle.Unpickler):
    """Gives the pickle functions that belong to this load alone."""

    def __init__(self, content: mmap.mmap) -> None:
        super().__init__(cast(IO[bytes], content), encoding="latin1")  # keeps the bytes of Python 2's strings
        left = len(content)

        def encode(text: str, encoding: str) -> bytes:
            """Python 3 writes bytes into old pickles as encoded text; no more of it than the file has."""
            nonlocal left
            left -= len(text)
            if encoding not in ("latin1", "latin-1") or left < 0:
                raise pickle.UnpicklingError("it encodes what is no array")
            return text.encode("latin1")

        self._known: dict[tuple[str, str], Callable[..., Any] | None] = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): None,  # an argument of _reconstruct
            ("numpy", "dtype"): lambda *given: _Type(*given),  # never the class, which it could change
            ("_codecs", "encode"): encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise _RefusedError(f"'{module[:60]}.{name[:60]}'")
        return self._known[module, name]


def _tensors(top: Any, size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and tensors in torch's layout; together at most as many bytes as the file has."""
    import torch

    objects = top.raw if isinstance(top, _Array) else None
    layers = objects[0] if isinstance(objects, list) and len(objects) == 1 else None
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
    """Values of a pickled array as float32, in its shape."""
    import numpy as np

    code, order, shape = array.dtype.code, array.dtype.order, array.shape
    if code not in FLOATS or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array has type {str(code)[:20]}, not a floating point one")
    if len(shape) > 4 or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array has an impossible shape")
    raw = array.raw if isinstance(array.raw, bytes) else array.raw.encode("latin1")
    dtype = np.dtype(("<" if order in "=|" else order) + code)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of {len(raw):,} bytes declares the shape {shape}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if array.fortran else "C").astype(np.float32)


def _torch_order(layer: str, values: np.ndarray) -> np.ndarray:
    """``[height, width, in, out]`` to ``[out, in, height, width]``, ``[in, out]`` to ``[out, in]``."""
    import numpy as np

    channels, height, width = get_network("bvlc_alexnet").output_shapes()["pool5"]
    if layer == "fc6" and values.ndim == 2 and len(values) == channels * height * width:
        grid = values.reshape(height, width, channels, -1)  # torch flattens channels first
        values = grid.transpose(2, 0, 1, 3).reshape(len(values), -1)
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(values.ndim, range(values.ndim))
    return np.ascontiguousarray(values.transpose(*order))
