"""Readers of the weights of other programs: torch's (`.pth`, `.pt`, `.ckpt`), Caffe's (`.caffemodel`), caffe-tensorflow's (`.npy`).

Nothing in a file is run, and no file takes more memory than it has bytes. All raise WeightsError for a file that is damaged,
holds something else, or tries to run code.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from cnncodes.core.errors import WeightsError
from cnncodes.networks import get_network
from cnncodes.weights.content import FileContent, damaged, first_line, require_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING

if TYPE_CHECKING:
    import numpy as np
    import torch

NESTED = ("state_dict", "model_state_dict", "model")
#: Classes in checkpoints beside tensors. None of them is used: a stand-in takes its place.
HARMLESS = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    "argparse.Namespace",
    *(
        f"pathlib{inner}.{kind}Path"
        for inner in ("", "._local")
        for kind in ("Posix", "Windows", "PurePosix")
    ),
)


def read_torch_file(path: Path) -> FileContent:
    """The state dict in a file of ``torch.save``, in today's format or the one before 2020.

    The file holds the state dict itself, or a dictionary with it under ``state_dict``, ``model_state_dict``, ``model``, or
    under another name if there is only one.
    """
    _check_archive(path, require_file(path))
    loaded = _load(path)
    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates += [loaded[name] for name in NESTED if name in loaded]
        others = [value for value in loaded.values() if _is_state_dict(value)]
        candidates += others if len(others) == 1 else []
    found = next(filter(_is_state_dict, candidates), None)
    if found is None:
        raise WeightsError(
            f"the weights file '{path}' holds no state dict, but a {type(loaded).__name__}.",
            f"Expected is a dictionary of tensors, or one under {', '.join(repr(name) for name in NESTED)}.",
        )
    return FileContent(dict(found))


def _check_archive(path: Path, size: int) -> None:
    """Refuse archives whose parts claim to be larger than the file: torch allocates what they declare."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(2) == b"PK":
                    raise damaged(path, "it ends before its zip directory")
            return  # the format before 2020, one pickle after another
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise damaged(path, f"its zip directory is broken ({error})") from error
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    if not stored or sum(part.file_size for part in parts) > size:
        raise damaged(path, "its parts claim to be larger than the file")


def _stand_in(name: str) -> type:
    """A class that takes any arguments and state, and ignores them."""
    module, _, last = name.rpartition(".")
    ignored = dict.fromkeys(("__init__", "__setstate__"), lambda *_: None)
    return type(last, (), {"__module__": module, "__new__": lambda cls, *_: object.__new__(cls)} | ignored)


def _load(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*map(_stand_in, HARMLESS)]):
            warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user could act on
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]{1,80})", str(error)):
            remedy = (
                "Ask its author for a state dict (torch.save(model.state_dict(), FILE)) or for safetensors."
            )
            raise _refused(path, f"'{named[1]}'", remedy) from error
        raise damaged(path, "its pickle is broken") from error
    except MemoryError as error:
        raise damaged(path, "it declares more memory than there is") from error
    except Exception as error:  # a broken pickle can raise anything
        raise damaged(path, f"{type(error).__name__}: {first_line(error)}") from error


def _refused(path: Path, asks_for: object, remedy: str) -> WeightsError:
    return WeightsError(
        f"the weights file '{path}' asks for {asks_for}: loading it could run code, so it was not loaded.",
        remedy,
    )


def _is_state_dict(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(entry, torch.Tensor) for key, entry in value.items())
    )


# Field numbers in caffe.proto. Of a layer: name and blobs.
NET_NAME = 1
LAYERS = {100: (1, 7), 2: (4, 6)}  # today's, and V1LayerParameter of 2014
BLOB_DIMENSIONS, BLOB_SHAPE, SHAPE_DIMENSIONS = (1, 2, 3, 4), 7, 1  # four numbers until 2014, then a message
BLOB_VALUES = {5: "<f4", 8: "<f8"}

Value: TypeAlias = (
    int | bytes | memoryview
)  # of a field: an integer, a number of fixed width, or as many bytes as it says

NETWORKS_BY_NAME = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}  # as BVLC's prototxt files name them
MOST_DIMENSIONS = 32  # Caffe's kMaxBlobAxes
MOST_FIELDS = 100_000  # in one file, their lengths counted, too; published files have thousands


def read_caffe_file(path: Path) -> FileContent:
    """Weights and biases of every layer of a NetParameter that has them, with layers of either generation.

    Filters are not changed: conv1 expects blue, green, red, as the preprocessing says.
    """
    import torch

    require_file(path)
    tensors: dict[str, torch.Tensor] = {}
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        wire = _Wire()
        net = wire.fields(content)
        layers = [(wire.fields(layer), *LAYERS[number]) for number in LAYERS for layer in net[number]]
        for layer, name, blobs in layers:
            for place, blob in enumerate(layer[blobs]):
                key = f"{_text(layer[name])}.{('weight', 'bias')[place] if place < 2 else place}"
                if key in tensors:
                    raise ValueError(f"it has two tensors '{key}'")
                tensors[key] = torch.from_numpy(_blob(wire, blob, is_bias=place == 1))
        title = _text(net[NET_NAME])
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise damaged(path, str(error)) from error
    if not tensors:
        raise WeightsError(
            f"the weights file '{path}' has no layer with weights.",
            "It is not a .caffemodel, or one of 2013: convert it with Caffe's upgrade_net_proto_binary.",
        )
    hint = title.lower().replace("alexnet", "bvlc_alexnet")  # FlickrStyleCaffeNet, PlacesAlexNet, ...
    return FileContent(tensors, NETWORKS_BY_NAME.get(title), CAFFE_PREPROCESSING, hint=hint)


def _text(values: Sequence[Value]) -> str:
    """The last text of a field; empty where there is none."""
    return "".join(bytes(_as_bytes(value)[:200]).decode(errors="replace") for value in values[-1:])


def _as_bytes(value: Value) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number is not a message")
    return value


def _blob(wire: _Wire, blob: Value, *, is_bias: bool) -> np.ndarray:
    """Values of a blob as float32 in its shape, without the leading ones of the format before 2014."""
    import numpy as np

    fields = wire.fields(blob)
    dims = [
        size
        for number in BLOB_DIMENSIONS
        for value in fields[number][-1:] or [0]
        for size in wire.integers(value)[-1:]
    ]
    for shape in fields[BLOB_SHAPE]:
        dims = [size for part in wire.fields(shape)[SHAPE_DIMENSIONS] for size in wire.integers(part)]
    found = {}
    for number, dtype in BLOB_VALUES.items():
        size = np.dtype(dtype).itemsize
        # Packed numbers, or a single one in a field of its width.
        parts = [
            value
            for value in fields[number]
            if (isinstance(value, memoryview) and len(value) % size == 0)
            or (isinstance(value, bytes) and len(value) == size)
        ]
        if len(parts) < len(fields[number]):
            raise ValueError(f"field {number} holds no numbers of {size} bytes")
        found[number] = np.concatenate([np.empty(0, dtype), *(np.frombuffer(part, dtype) for part in parts)])
    values = next((part for part in found.values() if len(part)), found[5]).astype(np.float32, copy=False)
    if len(dims) > MOST_DIMENSIONS or math.prod(dims) != values.size:
        raise ValueError(f"{values.size:,} numbers do not have the declared shape {dims[:4]}")
    if is_bias and math.prod(dims[:-1]) == 1:
        dims = dims[-1:]
    elif len(dims) == 4 and dims[:2] == [1, 1]:
        dims = dims[2:]
    return values.reshape(dims)


class _Wire:
    """Divides messages into fields, of which a file has a limited number.

    The wire format of https://protobuf.dev/programming-guides/encoding is read here because the protobuf library builds an
    object for every field before the caller can refuse a file that consists of millions of empty ones.
    """

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def fields(self, message: Value) -> defaultdict[int, list[Value]]:
        """The values of each field of a message by its number."""
        message, place = _as_bytes(message), 0
        found: defaultdict[int, list[Value]] = defaultdict(list)
        while place < len(message):
            began = place
            tag, place = self._varint(message, place)
            number, wire = tag >> 3, tag & 7
            value: int | None = None
            if wire == 0:
                value, end = self._varint(message, place)
            elif wire == 2:
                length, place = self._varint(message, place)
                end = place + length
            elif wire in (1, 5):
                end = place + (8 if wire == 1 else 4)
            else:  # groups, which Caffe does not use
                raise ValueError(f"a field has type {wire} at byte {began}")
            if number == 0 or end > len(message):
                raise ValueError(f"a field at byte {began} of its message goes beyond the end")
            part = message[place:end]
            found[number].append(value if value is not None else part if wire == 2 else bytes(part))
            place = end
        return found

    def integers(self, value: Value) -> list[int]:
        """One integer, or packed ones."""
        if isinstance(value, int):
            return [value]
        values, place, value = [], 0, _as_bytes(value)
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


MOST_OPCODES = 5_000  # the published .npy file has hundreds
FLOATS = {"f2", "f4", "f8"}


def read_npy_file(path: Path) -> FileContent:
    """Weights in a dictionary of arrays that Python 2 pickled into `bvlc_alexnet.npy`, in caffe-tensorflow's format.

    It is ``{"conv1": [filters, biases], ...}`` with filters ``[height, width, in, out]`` and fully connected matrices
    ``[in, out]``. The rows of fc6 are in the order height, width, channel of pool5.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # a read never exceeds the file
        _skip_to_pickle(content)
        tensors = dict(_tensors(_Unpickler(content).load(), len(content)))
        return FileContent(tensors, preprocessing=CAFFE_PREPROCESSING)
    except _RefusedError as error:
        raise _refused(path, error, "Use a file of arrays only, such as bvlc_alexnet.npy.") from error
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


class _Pickled:
    """An array or a type of numpy as it is pickled: numpy builds none from a file."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Gives the pickle functions that belong to this load alone, never a class, which it could change."""

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

        self._known: dict[str, Callable[..., Any] | None] = {
            "numpy.core.multiarray._reconstruct": lambda *given: _Pickled(*given),
            "numpy._core.multiarray._reconstruct": lambda *given: _Pickled(*given),
            "numpy.ndarray": None,  # an argument of _reconstruct
            "numpy.dtype": lambda *given: _Pickled(*given),
            "_codecs.encode": encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (full := f"{module}.{name}") not in self._known:
            raise _RefusedError(f"'{module[:60]}.{name[:60]}'")
        return self._known[full]


def _tensors(top: Any, size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and tensors in torch's layout; together at most as many bytes as the file has."""
    import torch

    objects = top.state[4] if isinstance(top, _Pickled) else None
    layers = objects[0] if isinstance(objects, list) and len(objects) == 1 else None
    if not isinstance(layers, dict) or not layers:
        raise ValueError("it holds no dictionary of arrays")
    for layer, pair in layers.items():
        if not isinstance(layer, str) or not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("an entry is no pair of filters and biases")
        for end, array in zip(("weight", "bias"), pair, strict=True):
            size -= len(array.state[4])
            if size < 0:
                raise ValueError("its arrays are larger than the file")
            yield f"{layer}.{end}", torch.from_numpy(_torch_order(layer, _values(*array.state)))


def _values(_: Any, shape: Any, kind: Any, columns_first: Any, raw: Any) -> np.ndarray:
    """Values of a pickled array as float32, in its shape."""
    import numpy as np

    code, order = kind.given[0], kind.state[1]
    if code not in FLOATS or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array has type {str(code)[:20]}, not a floating point one")
    if len(shape) > 4 or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array has an impossible shape")
    raw = raw if isinstance(raw, bytes) else raw.encode("latin1")
    dtype = np.dtype(("<" if order in "=|" else order) + code)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of {len(raw):,} bytes declares the shape {shape}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if columns_first else "C").astype(np.float32)


def _torch_order(layer: str, values: np.ndarray) -> np.ndarray:
    """``[height, width, in, out]`` to ``[out, in, height, width]``, ``[in, out]`` to ``[out, in]``."""
    import numpy as np

    channels, height, width = get_network("bvlc_alexnet").output_shapes()["pool5"]
    if layer == "fc6" and values.ndim == 2 and len(values) == channels * height * width:
        grid = values.reshape(height, width, channels, -1)  # torch flattens channels first
        values = grid.transpose(2, 0, 1, 3).reshape(len(values), -1)
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(values.ndim, range(values.ndim))
    return np.ascontiguousarray(values.transpose(*order))
