"""From a name or file (`imagenet`, `random:0`, `w.pth`) to weights that fit their network."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.core.errors import OptionError, WeightsError, WeightsMismatchError, WeightsMissingError, nearest
from cnncodes.core.files import model_file
from cnncodes.networks import NETWORKS, Network, Shape, get_network
from cnncodes.weights.content import FileContent, damaged, file_sha256, require_finite
from cnncodes.weights.foreign_files import read_caffe_file, read_npy_file, read_torch_file
from cnncodes.weights.keys import LeftOut, fit_network, left_out, unwrapped
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING, Preprocessing, usual_for
from cnncodes.weights.published import (
    PUBLISHED,
    STARTER,
    STARTER_FILE,
    Progress,
    fetch,
    find_published,
    is_published,
    missing,
    timm_file,
)
from cnncodes.weights.record import AnyWeights, Weights
from cnncodes.weights.safetensors_file import read_safetensors_file

if TYPE_CHECKING:
    import torch

READERS: dict[str, Callable[[Path], FileContent]] = {
    ".safetensors": read_safetensors_file,
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".tar": read_torch_file,  # Places365 and others publish .pth.tar
    ".ckpt": read_torch_file,  # Lightning
    ".caffemodel": read_caffe_file,
    ".npy": read_npy_file,
}

#: Loaded weights that are kept in memory, with the state of their tensors; the last one used is the last to go.
_opened: dict[tuple[object, ...], tuple[Weights, tuple[object, ...]]] = {}
OPENED = 3


def load_weights(
    name: AnyWeights, *, network: str | None = None, download: bool = False, progress: Progress | None = None
) -> Weights:
    """Weights by name or file; :class:`Weights` are returned as they are.

    The last three are kept in memory: loaded again, they are neither decoded nor verified again unless their file has
    changed (by path, times and size), or their numbers were changed in place.

    Parameters
    ----------
    name : str, path or Weights
        - ``imagenet``: torchvision's or timm's for the network, from their own cache folders, torchvision's sha256 verified at
          every load; or the name of one of torchvision's (``IMAGENET1K_V1``);
        - ``starter``: the small weights that come with cnncodes, see docs/starter.md;
        - ``random:SEED``: untrained, the same numbers on every machine;
        - a file: ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt``, ``.caffemodel`` or ``.npy``; no code in it is run;
        - the folder of a training, which has its network in ``model.safetensors``.
    network : str, optional
        Name of the network. By default ``alexnet`` for named weights, and for files the network that the file states or
        that its keys and shapes fit.
    download : bool, default False
        Download published weights that are not on this machine.
    progress : callable, optional
        Called with bytes done and bytes in all while downloading.

    Raises
    ------
    WeightsMissingError, WeightsMismatchError, WeightsError
        If the weights are not on this machine; are of another network; or a file is damaged, is refused, or has numbers that
        are NaN or infinite.
    OptionError
        For a bad seed or a network that does not exist.
    """
    if isinstance(name, Weights):
        return _of_network(name, network)
    path, read = _find(name, network, download, progress)
    key = str(name), network, NETWORKS.get(network or "alexnet"), *_identity(path)
    weights, state = _opened.pop(key, (None, ()))
    if weights is None or state != _state(weights):
        weights = read()
    _opened[key] = weights, _state(weights)
    for old in list(_opened)[:-OPENED]:
        _opened.pop(old, None)
    return weights


def _find(
    name: str | os.PathLike[str], network: str | None, download: bool, progress: Progress | None
) -> tuple[Path, Callable[[], Weights]]:
    """The file that a name means (of random numbers: none), and what reads it."""
    text = str(name)
    library = is_published(text, network)
    if library and str(network).startswith("timm/"):
        path, address, expects = timm_file(str(network), download=download)
        return path, lambda: _published(text, path, str(network), address, expects)
    if library or text in {entry.name for entry in PUBLISHED}:
        found = find_published(text, network)
        if not found.path.is_file():
            if not download:
                raise missing(found, found.path.parent)
            fetch(text, progress, network=found.network)
        return found.path, lambda: _published(
            text, found.path, found.network, found.url, found.preprocessing, found.sha256_prefix
        )
    if text == STARTER:
        return STARTER_FILE, lambda: _of_network(
            replace(_from_file(STARTER_FILE, "alexnet"), name=STARTER, origin="published"), network
        )
    if re.match("random(:|$)", text):
        return Path(text), lambda: random_weights(text, network or "alexnet")
    path = model_file(name)
    return path, lambda: _from_file(path, network)


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


def _published(
    name: str, path: Path, network: str, address: str, preprocessing: Preprocessing, sha256_prefix: str = ""
) -> Weights:
    digest = file_sha256(path)
    if not digest.startswith(sha256_prefix):
        raise WeightsError(
            f"the file {path} of weights '{name}' is damaged: its sha256 starts with {digest[:8]}, not "
            f"{sha256_prefix}.",
            f"Delete it and download it again (cnncodes weights fetch {name}).",
        )
    weights = _weights(path, READERS[path.suffix](path), network, f"{address} (sha256 {digest})")
    return replace(weights, name=name, preprocessing=preprocessing, origin="published")


def _from_file(path: Path, network: str | None) -> Weights:
    reader, known = READERS.get(path.suffix.lower()), ", ".join(READERS)
    if reader is None and path.exists():
        raise WeightsError(
            f"the name of the weights file '{path}' does not say its format.",
            f"Known are files that end in {known}.",
        )
    if reader is None:
        names = [STARTER, *dict.fromkeys(entry.name for entry in PUBLISHED), f"{PREFIX}0"]
        raise WeightsMissingError(
            f"'{path}' is neither the name of weights nor a file.",
            nearest(str(path), names) + f" Or a file that ends in {known}.",
        )
    content = reader(path)
    return _weights(path, content, network, content.source or f"{path.name} (sha256 {file_sha256(path)})")


def _weights(path: Path, content: FileContent, network: str | None, source: str) -> Weights:
    """The weights in a file, once its tensors are known to be those of a network."""
    wanted, hints = network or content.network, (path.stem, content.hint)
    keys, others = unwrapped(content.tensors, path.name, wanted)
    shapes: dict[str, Shape] = {name: tuple(content.tensors[key].shape) for name, key in keys.items()}
    record = fit_network(shapes, path.name, network=wanted, hints=hints)
    rest = left_out(record, shapes | {key: tuple(content.tensors[key].shape) for key in others})
    if content.fingerprint and network and content.network != network:
        raise WeightsMismatchError(
            f"'{path.name}' says that it holds weights of network '{content.network}', not of '{network}'.",
            f"Use --model {content.network}, or leave it out.",
        )
    tensors = {name: _as_float32(path, name, content.tensors[keys[name]]) for name in record.tensor_shapes()}
    classes = content.classes if content.classes and len(content.classes) == record.classes else None
    weights = Weights(
        record.name, str(path), tensors, content.preprocessing or usual_preprocessing(record), classes, source,
        content.seen, rest if str(rest) else None, content.watched, content.evidence, content.origin,
    )  # fmt: skip
    if content.fingerprint and content.fingerprint != weights.fingerprint:
        raise WeightsMismatchError(
            f"the numbers in '{path.name}' are not those that were written: their fingerprint starts with "
            f"{weights.fingerprint[:8]}, the file says {content.fingerprint[:8]}.",
            "The file is damaged or was edited: copy or convert it again.",
        )
    arrays = {key: tensor.numpy() for key, tensor in weights.tensors.items()}
    require_finite(f"the weights file '{path}'", arrays, WeightsError)
    return weights


def _as_float32(path: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as float32, contiguous; raises WeightsError for integers, sparse tensors and those without values."""
    import torch

    strided = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not strided or not tensor.is_floating_point():
        reason = f"tensor '{key[:80]}' is {tensor.dtype} on {tensor.device}, not plain floating point"
        raise damaged(path, reason)
    return tensor.detach().to(torch.float32).contiguous()


def usual_preprocessing(network: Network) -> Preprocessing:
    """What weights of this network expect when their file does not say it."""
    if network.name in ("bvlc_alexnet", "caffenet"):
        return CAFFE_PREPROCESSING
    return usual_for(network.input_size)


@dataclass(frozen=True)
class WeightsReport:
    """What ``cnncodes weights check`` shows of weights that were loaded and verified; see :class:`Weights`."""

    name: str
    network: str
    source: str
    fingerprint: str
    parameters: int
    shapes: dict[str, Shape]  # in the order of the network
    preprocessing: Preprocessing
    classes: int | None
    seen: int  # images whose digests the file has
    watched: int
    evidence: dict[str, Any]
    left_out: LeftOut | None


def check(name: AnyWeights, *, network: str | None = None) -> WeightsReport:
    """Load weights and verify digest, keys, shapes and numbers. Raises what :func:`load_weights` raises."""
    found = load_weights(name, network=network)
    shapes = {key: tuple(tensor.shape) for key, tensor in found.tensors.items()}
    return WeightsReport(
        found.name, found.network, found.source, found.fingerprint, sum(map(math.prod, shapes.values())), shapes,
        found.preprocessing, found.architecture.classes, len(found.seen), len(found.watched), found.evidence, found.left_out,
    )  # fmt: skip


PREFIX = "random:"
BLOCK = 1 << 18  # 64-bit draws at a time: 2 MiB, so that the arithmetic stays in the cache


def random_weights(name: str, network: str) -> Weights:
    """Weights of He et al. 2015 (equation 10) for ``random:SEED``: uniform within ``sqrt(6 / fan_in)``, biases zero.

    The variance of the activations stays the same through all ReLUs, so that the codes of any stage serve as a baseline. The
    numbers are the same on every machine and with every version of numpy and torch.
    """
    seed, record = parse_seed(name), get_network(network)
    tensors = {key: _drawn(seed, key, shape) for key, shape in record.tensor_shapes().items()}
    source = f"random numbers, untrained (Philox, Kaiming uniform, seed {seed})"
    usual = usual_for(record.input_size)
    return Weights(network, f"{PREFIX}{seed}", tensors, usual, classes=None, source=source, origin="random")


def parse_seed(name: str) -> int:
    """The seed in ``random:SEED``, from 0 to 2**63 - 1; raises OptionError."""
    text = name.removeprefix(PREFIX)
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise OptionError(
            f"the seed '{text[:40]}' of weights '{name[:60]}' is not a whole number from 0 to 2^63 - 1.",
            "Write random:0, random:1, and so on.",
        )
    return int(text)


def _drawn(seed: int, key: str, shape: Shape) -> torch.Tensor:
    """Matrices and kernels at random; scales and variances 1 and shifts 0: each normalisation is the identity.

    The numbers depend on the seed, the key and the place in the tensor alone. numpy promises never to change Philox's raw
    output, but not its distributions. The upper 24 bits of each 32 become an odd integer between -2^24 and 2^24, which float32
    holds exactly, and one IEEE 754 multiplication makes the number.
    """
    import numpy as np
    import torch

    if len(shape) < 2:
        scales = key.endswith((".weight", ".running_var", ".gamma", "layer_scale"))
        return torch.ones(shape) if scales else torch.zeros(shape)
    scale = np.float32(math.sqrt(6.0 / math.prod(shape[1:])) / 2**24)
    digest = hashlib.sha256(f"cnncodes random {seed} {key}".encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    values = np.empty(math.prod(shape), dtype=np.float32)
    for start in range(0, values.size, 2 * BLOCK):
        block = values[start : start + 2 * BLOCK]
        raw = generator.random_raw((block.size + 1) // 2).astype("<u8", copy=False)
        draws = raw.view("<u4")[: block.size]
        odd = (draws >> np.uint32(8)).astype(np.int32) * np.int32(2) - np.int32(2**24 - 1)
        np.multiply(odd.astype(np.float32), scale, out=block)
    return torch.from_numpy(values.reshape(shape))
