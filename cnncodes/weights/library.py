"""Weights that torchvision and timm publish for their networks, and the preprocessing that these expect, as a record."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnncodes.core.errors import CnnCodesError, OptionError, WeightsMissingError, nearest
from cnncodes.networks import get_network
from cnncodes.weights.imagenet import PUBLISHED, PublishedWeights
from cnncodes.weights.preprocessing import Preprocessing

FEW = 30  # networks of a list that are built, without numbers, to see their size
IMAGENET = "imagenet"  # the library's own choice among its weights
FILE = "model.safetensors"  # of timm's repositories
_PER_CENT = "ImageNet-1K"


@dataclass(frozen=True)
class KnownNetwork:
    """A line of ``cnncodes networks list``; None where it is not known."""

    name: str
    input_size: int | None = None  # side in pixels of the square that its usual weights expect
    parameters: int | None = None
    width: int | None = None  # numbers of its penultimate layer, which codes are by default
    top1: float | None = (
        None  # accuracy in percent on ImageNet of the weights ``imagenet``, as the library states it
    )


def describe_networks(names: Sequence[str]) -> tuple[KnownNetwork, ...]:
    """What is known of networks without their weights; parameters and width of timm's only where at most FEW are named."""
    return tuple(_described(name, build=len(names) <= FEW) for name in names)


def _described(name: str, build: bool) -> KnownNetwork:
    library, _, model = name.partition("/")
    found = KnownNetwork(name)
    if library == "torchvision":
        from torchvision import models

        weights: Any = models.get_model_weights(model).DEFAULT
        size, top1 = int(weights.transforms().crop_size[0]), weights.meta["_metrics"][_PER_CENT]["acc@1"]
        found = replace(found, input_size=size, parameters=int(weights.meta["num_params"]), top1=top1)
    elif library == "timm":
        import timm

        found = replace(found, input_size=int(timm.get_pretrained_cfg(model).input_size[-1]))
    else:
        found = replace(found, top1=next((entry.top1 for entry in PUBLISHED if entry.network == name), None))
    if build or not model:
        with contextlib.suppress(CnnCodesError, RuntimeError):  # a few cannot be built without their weights
            network = get_network(name)
            width = math.prod(network.output_shapes()[network.usual_layer])
            size = found.input_size or network.input_size
            found = replace(found, input_size=size, parameters=network.parameters, width=width)
    return found


def is_published(name: str, network: str | None) -> bool:
    """Whether a name means weights that a library publishes for its network: imagenet, or one of torchvision's."""
    return bool(network and "/" in network and (name == IMAGENET or re.fullmatch("[A-Z][A-Z0-9_]*", name)))


def torchvision_weights(name: str, network: str) -> PublishedWeights:
    """The entry of torchvision's weights: ``imagenet`` is its DEFAULT, else the member's name; raises OptionError."""
    from torchvision import models

    members = models.get_model_weights(network.partition("/")[2]).__members__
    member: Any = members.get("DEFAULT" if name == IMAGENET else name)
    if member is None:
        remedy = nearest(name, [IMAGENET, *members])
        raise OptionError(f"torchvision has no weights '{name}' for {network}.", remedy)
    accuracy = member.meta.get("_metrics", {}).get(_PER_CENT, {})
    return PublishedWeights(
        name=name,
        network=network,
        url=member.url,
        size=int(member.meta.get("_file_size", 0) * 2**20),
        top1=accuracy.get("acc@1", 0.0),
        top5=accuracy.get("acc@5", 0.0),
        preprocessing=torchvision_preprocessing(member.transforms()),
        terms="BSD-3-Clause (torchvision); see the weights' own page for the data that they learned from",
    )


def torchvision_preprocessing(transform: Any) -> Preprocessing:
    """torchvision's preset for classification as a record: the same pixels, which a test compares."""
    kind = {"bilinear": "bilinear", "bicubic": "bicubic"}[transform.interpolation.value]
    return Preprocessing(
        resize=int(transform.resize_size[0]),
        crop=int(transform.crop_size[0]),
        interpolation=kind,  # type: ignore[arg-type]
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def timm_preprocessing(configuration: Any) -> Preprocessing:
    """timm's configuration of pretrained weights as a record: the shorter side is ``input size / crop_pct``, rounded down."""
    crop = int(configuration.input_size[-1])
    share = float(configuration.crop_pct or 0.875)
    return Preprocessing(
        resize=max(crop, int(crop / share)),
        crop=crop,
        fit="squash" if configuration.crop_mode == "squash" else "shorter",
        interpolation="bicubic" if configuration.interpolation in ("bicubic", "random") else "bilinear",
        mean=tuple(configuration.mean),
        std=tuple(configuration.std),
    )


def timm_file(network: str, *, download: bool = False) -> tuple[Path, str, Preprocessing]:
    """The file of timm's weights in Hugging Face's own cache, where it is from, and the preprocessing.

    Raises OptionError if timm has no weights for the network, WeightsMissingError if the file is not on this machine; with
    ``download``, if it cannot be fetched.
    """
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    configuration = timm.get_pretrained_cfg(network.partition("/")[2])
    repository = configuration.hf_hub_id if configuration is not None else None
    if not repository:
        raise OptionError(f"timm has no weights for {network}.", "Use --weights random:0, or a file.")
    found = try_to_load_from_cache(repository, FILE)
    if not isinstance(found, str) and download:
        try:
            found = hf_hub_download(repository, FILE)
        except Exception as error:  # the library has a class for each way in which a network fails
            raise WeightsMissingError(
                f"{FILE} of huggingface.co/{repository} cannot be fetched: {str(error).splitlines()[0][:120]}.",
                "Try again, or put the file into Hugging Face's cache by its own tool: "
                f"huggingface-cli download {repository} {FILE}.",
            ) from error
    if not isinstance(found, str):
        raise WeightsMissingError(
            f"weights 'imagenet' of {network} are not on this machine: {FILE} of huggingface.co/{repository} is not in "
            "Hugging Face's cache.",
            f"Fetch it (cnncodes weights fetch imagenet --model {network}), or name another file (--weights FILE).",
        )
    return Path(found), f"https://huggingface.co/{repository}", timm_preprocessing(configuration)
