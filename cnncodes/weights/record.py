"""The weights record, and the network that computes with it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from cnncodes.networks import Network, get_network
from cnncodes.weights.keys import LeftOut, fit_network
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

    from cnncodes.networks import TorchNetwork

#: Where numbers come from: a publisher (also the starter weights), a file, a generator of random numbers, a training.
Origin = Literal["published", "file", "random", "trained"]


@dataclass(frozen=True, eq=False)
class Weights:
    """The numbers of one network, with what must travel with them.

    The tensors may be mapped from a file and are shared with :func:`build_network`: treat them as read-only.
    """

    network: str  # one of networks.NETWORKS, or of a library: torchvision/resnet18
    name: str  # imagenet, random:0, or the path of a file: load_weights reads it again
    tensors: dict[
        str, torch.Tensor
    ]  # float32 and contiguous, with the keys and shapes of Network.tensor_shapes()
    preprocessing: Preprocessing  # how an image becomes the input of these weights
    classes: (
        tuple[str, ...] | None
    )  # names of the logits, where they are known without cost; class_names() knows more
    source: str  # for people: an address or a file with its sha256, or the generator and its seed
    seen: tuple[
        int, ...
    ] = ()  # digests of the images that a training learned from, which no evaluation may use
    left_out: LeftOut | None = (
        None  # what of the file is not used; the architecture ends where the numbers end
    )
    watched: tuple[
        int, ...
    ] = ()  # digests of the images that chose the epoch of a training: they are no test
    evidence: dict[str, Any] = field(default_factory=dict)  # split and test of the training, as JSON
    origin: Origin = "file"  # the kind of source; "random" numbers are untrained

    @cached_property
    def architecture(self) -> Network:
        """The network record, with as many classes as these weights have; raises WeightsMismatchError."""
        shapes = {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}
        return fit_network(shapes, self.name, network=self.network)

    @property
    def whole(self) -> Network:
        """The network with all its stages, also those that the file lacks: what can be trained."""
        whole = get_network(self.network)
        return whole if len(whole.stages) > len(self.architecture.stages) else self.architecture

    @cached_property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`."""
        return fingerprint(self.tensors)

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the logits, None where unknown; imports torchvision for ``imagenet`` (10 s cold)."""
        theirs = "/" in self.network and self.name.startswith("IMAGENET1K")
        if self.classes is None and (self.name == "imagenet" or theirs):
            from cnncodes.weights.published import imagenet_classes

            return imagenet_classes()
        return self.classes


AnyWeights = Weights | str | os.PathLike[str]
"""Loaded weights, or their name, file or folder, as :func:`cnncodes.load_weights` reads them."""


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) over sorted ``key dtype shape`` lines, each followed by its little-endian numbers."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        array = tensors[key].detach().contiguous().numpy()
        if sys.byteorder == "big":
            array = array.byteswap()
        digest.update(f"{key} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def build_network(weights: AnyWeights) -> TorchNetwork:
    """The network of these weights (or of a name or file), ready to compute: evaluation mode, no gradients.

    The parameters are ``weights.tensors`` themselves, not copies. Code that trains must copy the module first
    (``copy.deepcopy``), or the tensors no longer match the fingerprint. Raises WeightsMismatchError if the tensors do not have
    the keys and shapes of the network.
    """
    import torch

    from cnncodes.networks import TorchNetwork
    from cnncodes.networks.library import LibraryModule, LibraryNetwork
    from cnncodes.weights.resolve import load_weights

    weights = load_weights(weights)
    network = weights.architecture
    if isinstance(network, LibraryNetwork):
        module: TorchNetwork = LibraryModule(network)  # some of its buffers are in no file
    else:
        with torch.device("meta"):  # no memory, no random initialisation
            module = TorchNetwork(network)
    module.load_state_dict(weights.tensors, assign=True)
    module.eval()
    module.requires_grad_(False)
    return module
