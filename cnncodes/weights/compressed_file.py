"""The compressed weights file (.cnnz, format 1): small, exact and without code. Reader and writer.

::

    8 bytes    43 4e 4e 5a 0d 0a 1a 0a   ("CNNZ" and a line end that a transfer as text would change)
    32 bytes   sha256 of all that follows
    4 bytes    length of the header, little-endian
    header     JSON: the record that every weights file of cnncodes carries (network, preprocessing, classes,
               source, fingerprint), and "tensors": for each key, in the order of the network,
               [form, bits, rank, [length of each stream]]
    streams    raw deflate, one after the other

Forms and their streams, row-major and little-endian. Integers are one byte each, within the symmetric range
of ``bits``; a scale is the upper two bytes of a float32:

- ``plain`` (bits 32): the float32 numbers;
- ``rows``: int8 ``[out, ...]``, scales ``[out]``; the tensor is their product;
- ``factors``: int8 ``[rank, out]``, int8 ``[rank, in]``, scales ``[out]``, scales ``[in]``; see
  :mod:`cnncodes.weights.quantise` for the product.

Deflate is told to use Huffman codes only: quantised weights have no repetitions, and come within one per cent of
their entropy so; LZMA makes them no smaller and takes ten times as long to read.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError, OptionError, WeightsError
from cnncodes.core.outputs import replacing
from cnncodes.networks import NETWORKS, Shape
from cnncodes.weights.content import FileContent, damaged, require_file
from cnncodes.weights.file_record import content_of, record_of
from cnncodes.weights.keys import fit_network
from cnncodes.weights.quantise import (
    LARGEST_SCALE,
    SMALLEST_SCALE,
    Factors,
    Plain,
    Rows,
    Stored,
    largest,
    largest_rank,
    pack_scales,
    unpack_scales,
)
from cnncodes.weights.record import Weights

SUFFIX = ".cnnz"
FORMAT = 1
MAGIC = b"CNNZ\r\n\x1a\n"
START = len(MAGIC) + 32 + 4  # bytes before the header
BITS = range(4, 9)
MOST_HEADER = 2**24  # bytes; class names are most of it
MOST_NUMBERS = 2**28  # in all tensors, decoded: four times AlexNet
MOST_BYTES = 4 * MOST_NUMBERS + MOST_HEADER  # of a file
MOST_DEFLATED = 1032  # bytes that one byte of deflate can stand for, zlib's technical notes


@dataclass(frozen=True, eq=False)
class CompressedWeights:
    """Weights as they are stored: integers and scales.

    Parameters
    ----------
    stored : dict of str to Stored
        By key, in the order of the network.
    bits : dict of str to int
        Of the integers of each; 32 for numbers kept as they are.
    weights : Weights
        What they decode to, with what must travel.
    """

    stored: dict[str, Stored]
    bits: dict[str, int]
    weights: Weights

    @cached_property
    def streams(self) -> dict[str, list[bytes]]:
        """The deflated streams of each tensor."""
        return {
            key: [_deflate(array.tobytes()) for array in _arrays(stored)]
            for key, stored in self.stored.items()
        }


def save_compressed(compressed: CompressedWeights, path: str | Path, *, overwrite: bool = False) -> int:
    """Write compressed weights with what must travel; returns the size of the file in bytes.

    Raises
    ------
    OptionError
        If the name does not end in ``.cnnz``.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    WeightsError
        If it cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise OptionError(
            f"'{path.name}' does not end in {SUFFIX}.", "Compressed weights do: rename the output."
        )
    content = to_bytes(compressed)
    with replacing(path, overwrite=overwrite) as partial:
        partial.write_bytes(content)
    return len(content)


def copy_compressed(weights: Weights, original: Path, path: str | Path, *, overwrite: bool = False) -> int:
    """Copy a compressed file with what travels of ``weights``, whose numbers it must hold: streams stay as they are.

    Returns the size of the new file in bytes.

    Raises
    ------
    WeightsError
        If the original holds other numbers or cannot be read, or the copy cannot be written.
    """
    try:
        record, streams = _split(original.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(original, str(error)[:160].rstrip(".")) from error
    if record.get("fingerprint") != weights.fingerprint:
        raise WeightsError(
            f"'{original}' does not hold the numbers of weights '{weights.name}'.",
            "Compress them: cnncodes weights compress.",
        )
    content = _sealed(
        {**record_of(weights, FORMAT), **{e: record[e] for e in ("shapes", "tensors")}}, streams
    )
    with replacing(Path(path), overwrite=overwrite) as partial:
        partial.write_bytes(content)
    return len(content)


def to_bytes(compressed: CompressedWeights) -> bytes:
    """The content of a file of these weights, the same bytes for the same weights."""
    streams = compressed.streams
    tensors = {
        key: [_FORMS[type(stored)], compressed.bits[key], _rank(stored), [len(part) for part in streams[key]]]
        for key, stored in compressed.stored.items()
    }
    shapes = {key: list(tensor.shape) for key, tensor in compressed.weights.tensors.items()}
    record = {**record_of(compressed.weights, FORMAT), "shapes": shapes, "tensors": tensors}
    return _sealed(record, b"".join(part for parts in streams.values() for part in parts))


def _sealed(record: Mapping[str, Any], streams: bytes | memoryview) -> bytes:
    header = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    rest = b"".join([len(header).to_bytes(4, "little"), header, streams])
    return MAGIC + hashlib.sha256(rest).digest() + rest


def read_compressed_file(path: Path) -> FileContent:
    """Weights in a ``.cnnz`` file, decoded, with all they carry.

    Sizes are checked before memory is taken for them, and every byte of the file is covered by a sha256.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or of another format.
    """
    size = require_file(path)
    if size > MOST_BYTES:
        raise damaged(path, f"it has {size:,} bytes, more than any compressed weights")
    try:
        content = path.read_bytes()
        record, payload = _split(content)
        if record["format"] != FORMAT:
            raise WeightsError(
                f"the weights file '{path}' has format {str(record['format'])[:40]}; this version knows "
                f"format {FORMAT}.",
                "Install a newer version of cnncodes.",
            )
        shapes = _shapes(record, path.name)
        tensors = {key: stored.decode() for key, stored in _stored(record["tensors"], shapes, payload)}
    except WeightsError:
        raise
    except CnnCodesError as error:
        raise damaged(path, error.problem.rstrip(".")) from error
    except OSError as error:
        raise damaged(path, error.strerror or type(error).__name__) from error
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise damaged(path, lines[0][:160].rstrip(".")) from error
    return content_of(path, record, tensors, FORMAT)


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the streams, once the sha256 of both is known to be right."""
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a compressed weights file does")
    if len(content) < START:
        raise ValueError("it ends within its first bytes")
    if hashlib.sha256(content[START - 4 :]).digest() != content[len(MAGIC) : START - 4]:
        raise ValueError("its sha256 is not the one it carries, so bytes are missing or altered")
    length = int.from_bytes(content[START - 4 : START], "little")
    if length > min(MOST_HEADER, len(content) - START):
        raise ValueError(f"its header would be {length:,} bytes long")
    record = json.loads(content[START : START + length].decode("utf-8", "surrogatepass"))
    if not isinstance(record, dict) or not all(
        isinstance(record.get(e), dict) for e in ("shapes", "tensors")
    ):
        raise ValueError("its header is no record of weights")
    return record, memoryview(content)[START + length :]


def _shapes(record: Mapping[str, Any], name: str) -> dict[str, Shape]:
    """The shapes that the header says, once they are those of its network and of bearable size."""
    shapes: dict[str, Shape] = {}
    for key, shape in record["shapes"].items():
        if not (isinstance(shape, list) and len(shape) <= 4 and all(_is_count(size) for size in shape)):
            raise ValueError("its shapes are no positive numbers")
        shapes[str(key)] = tuple(shape)
    if sum(math.prod(shape) for shape in shapes.values()) > MOST_NUMBERS:
        raise ValueError(f"it would decode to over {MOST_NUMBERS:,} numbers")
    if record["network"] not in NETWORKS:
        raise ValueError(f"its network '{str(record['network'])[:40]}' is not known")
    fit_network(shapes, name, network=record["network"])
    if list(record["tensors"]) != list(shapes):
        raise ValueError("its tensors are not those of its shapes")
    return shapes


def _stored(
    tensors: Mapping[str, Any], shapes: Mapping[str, Shape], payload: memoryview
) -> Iterator[tuple[str, Stored]]:
    """Each tensor as it is stored, checked; the streams must fill the rest of the file exactly."""
    place = 0
    for key, shape in shapes.items():
        form, bits, rank, lengths = tensors[key]
        arrays = []
        expected = _expected(key, form, bits, rank, shape)
        if not (isinstance(lengths, list) and len(lengths) == len(expected) and all(map(_is_count, lengths))):
            raise ValueError(f"the streams of tensor '{key}' have no lengths")
        for length, (dtype, size) in zip(lengths, expected, strict=True):
            arrays.append(_inflate(payload[place : place + length], length, np.dtype(dtype), size, key))
            place += length
        yield key, _assemble(key, form, bits, shape, arrays)
    if place != len(payload):
        raise ValueError(f"{len(payload) - place:,} bytes are left over")


def _expected(key: str, form: object, bits: object, rank: object, shape: Shape) -> list[tuple[str, Shape]]:
    """Type and shape of each stream of a tensor."""
    if form == "plain" and bits == 32 and rank == 0:
        return [("<f4", shape)]
    if _is_count(bits) and bits in BITS and isinstance(bits, int):
        if form == "rows" and rank == 0 and shape:
            return [("i1", shape), ("<u2", shape[:1])]
        if form == "factors" and len(shape) == 2 and _is_count(rank) and isinstance(rank, int):
            if rank > min(*shape, largest_rank(bits)):
                raise ValueError(f"tensor '{key}' has rank {rank:,}, more than is exact or its shape allows")
            out, into = shape
            return [("i1", (rank, out)), ("i1", (rank, into)), ("<u2", (out,)), ("<u2", (into,))]
    raise ValueError(f"tensor '{key}' is stored in a form that is not known: {str([form, bits, rank])[:60]}")


def _assemble(key: str, form: str, bits: int, shape: Shape, arrays: list[npt.NDArray[Any]]) -> Stored:
    if form == "plain":
        return Plain(arrays[0].astype(np.float32))
    integers = [array for array in arrays if array.dtype == np.int8]
    if any(abs(int(bound)) > largest(bits) for array in integers for bound in (array.min(), array.max())):
        raise ValueError(f"tensor '{key}' has integers of more than {bits} bits")
    scales = [unpack_scales(array) for array in arrays if array.dtype != np.int8]
    # Written so that NaN fails too.
    if not all(bool(((scale >= SMALLEST_SCALE) & (scale <= LARGEST_SCALE)).all()) for scale in scales):
        raise ValueError(f"tensor '{key}' has scales that are out of range")
    return Rows(integers[0], scales[0]) if form == "rows" else Factors(*integers, *scales)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**40


def _deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(content) + packer.flush()


def _inflate(
    stream: memoryview, length: int, dtype: np.dtype[Any], shape: Shape, key: str
) -> npt.NDArray[Any]:
    """An array out of its stream, which must hold exactly its bytes."""
    size = dtype.itemsize * math.prod(shape)
    if len(stream) != length or size > MOST_DEFLATED * length + 64:
        raise ValueError(f"the file ends within tensor '{key}'")
    unpacker = zlib.decompressobj(-15)
    content = unpacker.decompress(stream, size + 1)
    if len(content) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"tensor '{key}' does not have {size:,} bytes")
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


_FORMS: dict[type[Stored], str] = {Plain: "plain", Rows: "rows", Factors: "factors"}


def _rank(stored: Stored) -> int:
    return len(stored.left) if isinstance(stored, Factors) else 0


def _arrays(stored: Stored) -> list[npt.NDArray[Any]]:
    """What the streams of a tensor hold, little-endian."""
    match stored:
        case Plain():
            return [stored.values.astype("<f4")]
        case Rows():
            return [stored.values, pack_scales(stored.scale).astype("<u2")]
        case Factors():
            scales = [pack_scales(scale).astype("<u2") for scale in (stored.row_scale, stored.column_scale)]
            return [stored.left, stored.right, *scales]
