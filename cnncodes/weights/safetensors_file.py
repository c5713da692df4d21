"""safetensors files: the one module that knows the library. Ours carry a JSON record; others only tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from cnncodes.core.errors import CnnCodesError, OptionError, WeightsError
from cnncodes.core.outputs import replacing
from cnncodes.core.records import Meta, from_value, to_value
from cnncodes.weights.content import FileContent, damaged, first_line, require_file
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.record import Origin

if TYPE_CHECKING:
    import torch

    from cnncodes.weights.record import AnyWeights, Weights

FORMAT = 1
ENTRY = "cnncodes"  # one entry: the library writes several in an order that changes from run to run
SUFFIX = ".safetensors"
SCALE = ".scale"  # ends the key of the scales of an int8 tensor
TOP = 127


@dataclass(frozen=True)
class WeightsRecord:
    """What travels beside the tensors of weights, as JSON: see :class:`~cnncodes.weights.Weights`."""

    format: int
    network: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    source: str
    fingerprint: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    name: str = ""
    seen: bytes = b""  # digests, 8 bytes each
    watched: bytes = b""
    evidence: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None  # not in files of the first version


@dataclass(frozen=True)
class _Test:
    """What ``evidence`` says about the test of a training."""

    images: int
    accuracy: float


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors of a safetensors file, mapped into memory and not copied, and its metadata; raises WeightsError."""
    from safetensors import safe_open

    path = Path(path)
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (
        Exception
    ) as error:  # the library has many kinds: for dtypes that this torch lacks, for empty files
        raise damaged(path, f"{type(error).__name__} {first_line(error)}") from error


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    record: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write tensors and a JSON record (the metadata entry ``cnncodes``), whole or not at all, the same bytes for the same content.

    Raises OutputExistsError if the file exists and ``overwrite`` is false, WeightsError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    places: set[int] = set()
    apart = {}  # contiguous, a copy of each that shares its memory with an earlier one
    for key, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[key] = tensor.clone().contiguous() if place in places else tensor.contiguous()
        places.add(place)
    with replacing(Path(path), overwrite=overwrite, error=WeightsError) as partial:
        mode = partial.stat().st_mode  # by the umask; the library's own files are private
        try:
            save_file(apart, partial, {ENTRY: json.dumps(record)})
        except SafetensorError as error:
            raise OSError(first_line(error)) from error
        partial.chmod(mode)


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """:func:`write_tensors` for numpy arrays."""
    import torch

    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    write_tensors(path, tensors, record, overwrite=overwrite)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays of a safetensors file and the record of :func:`write_tensors`; None in a foreign file. Raises WeightsError."""
    tensors, metadata = read_tensors(path)
    try:
        arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
        record = json.loads(metadata[ENTRY]) if ENTRY in metadata else None
    except TypeError as error:  # bfloat16 and the like
        raise damaged(path, f"its numbers have a type that numpy does not know ({error})") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its record is not JSON: {error}") from error
    return arrays, record if isinstance(record, dict) else None


def save_weights(
    weights: AnyWeights, path: str | Path, *, overwrite: bool = False, int8: bool = False
) -> Weights:
    """Write weights (or those of a name or file) as safetensors, with network, preprocessing, classes and source.

    Raises OptionError if the name does not end in ``.safetensors``, OutputExistsError if the file exists and ``overwrite`` is false.
    """
    from cnncodes.weights.resolve import load_weights

    path = Path(path)
    if path.suffix != SUFFIX:
        raise OptionError(
            f"'{path.name}' does not end in {SUFFIX}.", f"Weights are written as {SUFFIX} files only."
        )
    weights = load_weights(weights)
    stored = dict(weights.tensors)
    if int8:
        stored = as_integers(stored)
        weights = replace(weights, tensors=from_integers(stored))
    seen, watched = (np.array(digests, "<u8").tobytes() for digests in (weights.seen, weights.watched))
    record = WeightsRecord(
        FORMAT, weights.network, weights.preprocessing, weights.class_names(), weights.source, weights.fingerprint,
        weights.name, seen, watched, weights.evidence, weights.origin,
    )  # fmt: skip
    write_tensors(path, stored, to_value(record), overwrite=overwrite)
    return weights


def read_safetensors_file(path: Path) -> FileContent:
    """Weights in a safetensors file: ours with everything they carry, others by keys alone; raises WeightsError."""
    tensors, metadata = read_tensors(path)
    if ENTRY not in metadata:
        return FileContent(tensors)
    try:
        values = json.loads(metadata[ENTRY])
        if "network" not in values:
            raise WeightsError(
                f"'{path}' was written by cnncodes, but holds no weights: {str(values.get('kind', 'other'))[:40]}.",
                "Name a file that 'cnncodes weights convert' wrote, or imagenet, or random:0.",
            )
        if values["format"] != FORMAT:
            raise WeightsError(
                f"the weights file '{path}' has format {str(values['format'])[:40]}; this version reads {FORMAT}.",
                "Install a newer version of cnncodes.",
            )
        require_one_head(f"the weights file '{path}'", values, WeightsError)
        Preprocessing.from_json(json.dumps(values["preprocessing"]))  # refuses unknown entries
        record = from_value(values, WeightsRecord)
        if record.evidence.get("test") is not None:
            from_value(record.evidence["test"], _Test)
        seen, watched = (tuple(np.frombuffer(each, "<u8").tolist()) for each in (record.seen, record.watched))
        before: Origin = "random" if record.source.startswith("random numbers, untrained") else "file"
        return FileContent(
            from_integers(tensors), record.network, record.preprocessing, record.classes, record.source,
            record.fingerprint, seen, watched, record.evidence, record.origin or before,
        )  # fmt: skip
    except WeightsError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise damaged(
            path, f"its record or scales are not those of cnncodes ({first_line(error)})"
        ) from error


def require_one_head(what: str, record: Mapping[str, Any], error: type[CnnCodesError]) -> None:
    """Raise ``error`` for a file of an earlier version with several heads, one for each data set."""
    sets = record.get("class_sets")
    if isinstance(sets, list) and len(set(map(str, sets))) > 1:
        raise error(
            f"{what} has a head for each of several data sets, and this version reads models with one head.",
            "Train a network for each data set, or join them: cnncodes train birds/ --data flowers/.",
        )


def as_integers(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and kernels as int8, each with float32 scales: one per output, of a right factor one per input. Biases stay.

    An integer times a scale is one multiplication, which rounds alike on every processor: so does the fingerprint.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.dim() < 2:
            found[key] = tensor
            continue
        others = [0] if key.endswith(".right") else list(range(1, tensor.dim()))
        scale = tensor.abs().amax(others, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / TOP
        found[key] = (tensor / scale).round().to(torch.int8)
        found[key + SCALE] = scale
    return found


def from_integers(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of :func:`as_integers`; what has no scales stays. Raises ValueError if scales do not fit."""
    import torch

    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        scale = tensors.get(key + SCALE)
        if tensor.dtype == torch.int8 and scale is not None:
            if scale.dtype != torch.float32 or scale.dim() != tensor.dim():
                raise ValueError(f"the scales of '{key[:80]}' do not fit it")
            found[key] = tensor.float() * scale
        elif not (key.endswith(SCALE) and key.removesuffix(SCALE) in tensors):
            found[key] = tensor
    return found
