"""From what the user said (`imagenet`, `random:0`, a file) to weights that fit their network."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnncodes.core.errors import (
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
    nearest,
)
from cnncodes.core.files import model_file
from cnncodes.networks import NETWORKS, Network, Shape
from cnncodes.weights.caffe_file import read_caffe_file
from cnncodes.weights.changes import read_class_names, with_class_names, with_input
from cnncodes.weights.compact import expanded, with_rank
from cnncodes.weights.content import FileContent, as_float32, file_sha256, require_finite
from cnncodes.weights.imagenet import (
    PUBLISHED,
    STARTER,
    STARTER_FILE,
    Progress,
    PublishedWeights,
    fetch,
    find_published,
    missing,
)
from cnncodes.weights.keys import LeftOut, fit_network, left_out, unwrapped
from cnncodes.weights.library import is_published, timm_file, timm_record
from cnncodes.weights.npy_file import read_npy_file
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING, Preprocessing, usual_for
from cnncodes.weights.random_numbers import PREFIX, random_weights
from cnncodes.weights.record import AnyWeights, Weights
from cnncodes.weights.safetensors_file import read_safetensors_file, save_weights
from cnncodes.weights.torch_file import read_torch_file

READERS: dict[str, Callable[[Path], FileContent]] = {
    ".safetensors": read_safetensors_file,
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".tar": read_torch_file,  # Places365 and others publish .pth.tar
    ".ckpt": read_torch_file,  # Lightning
    ".caffemodel": read_caffe_file,
    ".npy": read_npy_file,
}


OPENED = 3  # loaded weights that are kept in memory, with the state of their tensors; the last one used is the last to go
_opened: dict[tuple[object, ...], tuple[Weights, tuple[object, ...]]] = {}


def load_weights(
    name: AnyWeights, *, network: str | None = None, download: bool = False, progress: Progress | None = None
) -> Weights:
    """Weights by name or file; what is loaded already is given back as it is.

    The last three are kept in memory: loaded again, they are neither decoded nor verified again unless their file has
    changed (by path, times and size), or their numbers were changed in place.

    Parameters
    ----------
    name : str, path or Weights
        - ``imagenet``: torchvision's or timm's for the network, from their own cache folders, torchvision's sha256 verified at
          every load; or the name of one of torchvision's (``IMAGENET1K_V1``);
        - ``starter``: the small weights that come with cnncodes, see docs/starter.md;
        - ``random:SEED``: untrained, the same numbers on every machine;
        - a file: ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt``, ``.caffemodel`` or ``.npy``; nothing in it is ever run;
        - the folder of a training, which has its network in ``model.safetensors``.
    network : str, optional
        Name of the network. Left out, ``alexnet`` for the named weights, and for files what the file says or
        what its keys and shapes fit.
    download : bool, default False
        Fetch published weights that are not on this machine. Nothing is downloaded otherwise.
    progress : callable, optional
        Called with bytes done and bytes in all while downloading.

    Raises
    ------
    WeightsMissingError
        If the weights are not on this machine.
    WeightsMismatchError
        If they are of another network; the message has the keys and shapes that differ.
    WeightsError
        If a file is damaged, is refused, or has numbers that are NaN or infinite.
    OptionError
        For a bad seed or a network that does not exist.
    """
    if isinstance(name, Weights):
        return _of_network(name, network)
    text, path = str(name), model_file(name)
    library = is_published(text, network)
    entry, source = None, ""
    if library and str(network).startswith("timm/"):
        path, source = timm_file(str(network), download=download)
    elif library or text in {entry.name for entry in PUBLISHED}:
        entry = find_published(text, network)
    if entry is not None:
        path = entry.path
        if not path.is_file():
            if not download:
                raise missing(entry, path.parent)
            fetch(text, progress, network=entry.network)
    elif text == STARTER:
        path = STARTER_FILE
    key = text, network, NETWORKS.get(network or "alexnet"), *_identity(path)
    kept = _opened.pop(key, None)
    if kept is None or kept[1] != _state(kept[0]):
        if entry is not None:
            found = _published(text, entry)
        elif source:
            content = read_safetensors_file(path)
            found = replace(
                _weights(path, content, network, f"{source} (sha256 {file_sha256(path)})"),
                name=text,
                preprocessing=timm_record(str(network)),
                origin="published",
            )
        elif text == STARTER:
            found = _of_network(
                replace(_from_file(path, "alexnet"), name=STARTER, origin="published"), network
            )
        elif re.match("random(:|$)", text):
            found = random_weights(text, network or "alexnet")
        else:
            found = _from_file(path, network)
        kept = found, _state(found)
    _opened[key] = kept
    for old in list(_opened)[:-OPENED]:
        _opened.pop(old, None)
    return kept[0]


def _of_network(weights: Weights, network: str | None) -> Weights:
    if network not in (None, weights.network):
        raise WeightsMismatchError(
            f"weights '{weights.name}' are of network {weights.network}, not of {network}.",
            "Leave out --model, or use random:0.",
        )
    return weights


def _identity(path: Path) -> tuple[object, ...]:
    """What changes when a file does, and where it is."""
    try:
        found = path.stat()
        return str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    except (OSError, ValueError):
        return ()


def _state(weights: Weights) -> tuple[object, ...]:
    """Which tensors these are, and how often each was changed in place, also through a network that was built of it."""
    return tuple(
        (key, id(tensor), 0 if tensor.is_inference() else tensor._version)
        for key, tensor in weights.tensors.items()
    )


def _published(name: str, entry: PublishedWeights) -> Weights:
    path = entry.path
    digest = file_sha256(path)
    if not digest.startswith(entry.sha256_prefix):
        raise WeightsError(
            f"the file {path} of weights '{name}' is damaged: its sha256 starts with {digest[:8]}, not "
            f"{entry.sha256_prefix}.",
            f"Delete it and fetch it again (cnncodes weights fetch {name}).",
        )
    return replace(
        _weights(path, read_torch_file(path), entry.network, f"{entry.url} (sha256 {digest})"),
        name=name,
        preprocessing=entry.preprocessing,
        origin="published",
    )


def _from_file(path: Path, network: str | None) -> Weights:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        if path.exists():
            raise WeightsError(
                f"the format of the weights file '{path}' is not known by its name.",
                f"Known are files that end in {', '.join(READERS)}.",
            )
        names = [STARTER, *dict.fromkeys(entry.name for entry in PUBLISHED), f"{PREFIX}0"]
        raise WeightsMissingError(
            f"'{path}' is neither the name of weights nor a file.",
            nearest(str(path), names) + f" Or a file that ends in {', '.join(READERS)}.",
        )
    content = reader(path)
    source = content.source or f"{path.name} (sha256 {file_sha256(path)})"
    return _weights(path, content, network, source)


def _weights(path: Path, content: FileContent, network: str | None, source: str) -> Weights:
    """The weights in a file, once its tensors are known to be those of a network."""
    keys, others = unwrapped(content.tensors, path.name, network or content.network)
    shapes: dict[str, Shape] = {name: tuple(content.tensors[key].shape) for name, key in keys.items()}
    record = fit_network(
        shapes, path.name, network=network or content.network, hints=(path.stem, content.hint)
    )
    rest = left_out(record, shapes | {key: tuple(content.tensors[key].shape) for key in others})
    if content.fingerprint and network and content.network != network:
        raise WeightsMismatchError(
            f"'{path.name}' says that it holds weights of network '{content.network}', not of '{network}'.",
            f"Use --model {content.network}, or leave it out.",
        )
    tensors = {name: as_float32(path, name, content.tensors[keys[name]]) for name in record.tensor_shapes()}
    preprocessing = content.preprocessing or usual_preprocessing(record)
    classes = content.classes if content.classes and len(content.classes) == record.classes else None
    weights = Weights(
        network=record.name,
        name=str(path),
        tensors=tensors,
        preprocessing=preprocessing,
        classes=classes,
        source=source,
        seen=content.seen,
        left_out=rest if str(rest) else None,
        watched=content.watched,
        evidence=content.evidence,
        origin=content.origin,
    )
    if content.fingerprint and content.fingerprint != weights.fingerprint:
        raise WeightsMismatchError(
            f"the numbers in '{path.name}' are not those that were written: their fingerprint starts with "
            f"{weights.fingerprint[:8]}, the file says {content.fingerprint[:8]}.",
            "The file is damaged or was edited: copy or convert it again.",
        )
    arrays = {key: tensor.numpy() for key, tensor in weights.tensors.items()}
    require_finite(f"the weights file '{path}'", arrays, WeightsError)
    return weights


def usual_preprocessing(network: Network) -> Preprocessing:
    """What weights of this network expect when their file does not say it."""
    if network.name in ("bvlc_alexnet", "caffenet"):
        return CAFFE_PREPROCESSING
    return usual_for(network.input_size)


def convert(
    name: AnyWeights,
    path: str | Path,
    *,
    network: str | None = None,
    overwrite: bool = False,
    input_size: int | None = None,
    resize: int | None = None,
    class_names: str | Path | None = None,
    rank: int | None = None,
    int8: bool = False,
    expand: bool = False,
) -> Weights:
    """Load weights and write them to ``path`` with everything that must travel.

    Parameters
    ----------
    name : str, path or Weights
        See :func:`load_weights`.
    path : str or Path
        Ends in ``.safetensors``.
    network : str, optional
    overwrite : bool, default False
    input_size, resize : int, optional
        Pixels; another preprocessing, see :func:`cnncodes.weights.changes.with_input`.
    class_names : str or Path, optional
        A text file, see :func:`cnncodes.weights.changes.read_class_names`.
    rank : int, optional
        Fully connected matrices become two factors of this rank, see :func:`cnncodes.weights.compact.with_rank`.
    int8 : bool, default False
        Numbers are stored as 8-bit integers with a scale for each output: a quarter of the size.
    expand : bool, default False
        Factors are multiplied out: torchvision's keys and shapes.

    Raises
    ------
    InputSizeError
        If the network cannot take the input size.
    WeightsMismatchError
        If the class names do not fit the classes.

    And what :func:`load_weights` and :func:`save_weights` raise.
    """
    weights = load_weights(name, network=network)
    if input_size is not None or resize is not None:
        weights = with_input(weights, input_size, resize)
    if class_names is not None:
        weights = with_class_names(weights, read_class_names(class_names, weights))
    if int8 or rank is not None:
        weights = replace(weights, evidence={})  # other numbers, of which nothing is known
    if expand:
        weights = expanded(weights)
    if rank is not None:
        weights = with_rank(weights, rank)
    return save_weights(weights, path, overwrite=overwrite, int8=int8)


@dataclass(frozen=True)
class WeightsReport:
    """What ``cnncodes weights check`` found in weights that could be loaded and verified.

    ``seen`` and ``watched`` are the images whose digests it knows;
    ``shapes`` is in the order of the network, ``left_out`` what the file has beside it or lacks.
    """

    name: str
    network: str
    source: str
    fingerprint: str
    parameters: int
    shapes: dict[str, Shape]
    preprocessing: Preprocessing
    classes: int | None
    seen: int
    watched: int
    evidence: dict[str, Any]
    left_out: LeftOut | None = None


def check(name: AnyWeights, *, network: str | None = None) -> WeightsReport:
    """Load weights: their digest, keys, shapes and numbers are verified.

    Raises what :func:`load_weights` raises for weights that are missing, damaged or of another network.
    """
    weights = load_weights(name, network=network)
    return WeightsReport(
        name=weights.name,
        network=weights.network,
        source=weights.source,
        fingerprint=weights.fingerprint,
        parameters=sum(tensor.numel() for tensor in weights.tensors.values()),
        shapes={key: tuple(tensor.shape) for key, tensor in weights.tensors.items()},
        preprocessing=weights.preprocessing,
        classes=weights.architecture.classes,
        seen=len(weights.seen),
        left_out=weights.left_out,
        watched=len(weights.watched),
        evidence=weights.evidence,
    )
