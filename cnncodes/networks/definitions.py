"""The networks, each read top to bottom. Records only: building one costs nothing and needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cnncodes.core.errors import NetworkError, nearest
from cnncodes.networks.network import Network
from cnncodes.networks.stages import Convolution, Linear, LocalResponseNorm, MaxPool, Stage


def alexnet() -> Network:
    """One tower, no normalisation (Krizhevsky 2014, "One weird trick"), with torchvision's keys."""
    return Network(
        "alexnet",
        input_size=224,
        stages=(
            Convolution("conv1", 64, kernel=11, stride=4, padding=2, key="features.0"),
            MaxPool("pool1", kernel=3, stride=2, key="features.2"),
            Convolution("conv2", 192, kernel=5, padding=2, key="features.3"),
            MaxPool("pool2", kernel=3, stride=2, key="features.5"),
            Convolution("conv3", 384, kernel=3, padding=1, key="features.6"),
            Convolution("conv4", 256, kernel=3, padding=1, key="features.8"),
            Convolution("conv5", 256, kernel=3, padding=1, key="features.10"),
            MaxPool("pool5", kernel=3, stride=2, key="features.12"),
            Linear("fc6", 4096, pool_to=6, key="classifier.1"),
            Linear("fc7", 4096, key="classifier.4"),
            Linear("fc8", 1000, relu=False, key="classifier.6"),
        ),
    )


def _two_towers(name: str, norm1: Stage, norm2: Stage, *, pool_first: bool = False) -> Network:
    """The network of Krizhevsky, Sutskever and Hinton 2012; ``groups=2`` are its two GPUs."""
    pool1 = MaxPool("pool1", kernel=3, stride=2, ceil=True)
    pool2 = MaxPool("pool2", kernel=3, stride=2, ceil=True)
    return Network(
        name,
        input_size=227,
        stages=(
            Convolution("conv1", 96, kernel=11, stride=4),
            *((pool1, norm1) if pool_first else (norm1, pool1)),
            Convolution("conv2", 256, kernel=5, padding=2, groups=2),
            *((pool2, norm2) if pool_first else (norm2, pool2)),
            Convolution("conv3", 384, kernel=3, padding=1),
            Convolution("conv4", 384, kernel=3, padding=1, groups=2),
            Convolution("conv5", 256, kernel=3, padding=1, groups=2),
            MaxPool("pool5", kernel=3, stride=2, ceil=True),
            Linear("fc6", 4096),
            Linear("fc7", 4096),
            Linear("fc8", 1000, relu=False),
        ),
    )


def alexnet2012() -> Network:
    """The paper's: normalisation with k = 2 after ReLU, before overlapping pooling; 227 px."""
    return _two_towers("alexnet2012", LocalResponseNorm("norm1"), LocalResponseNorm("norm2"))


def _caffe_norm(name: str) -> LocalResponseNorm:
    return LocalResponseNorm(name, n=5, alpha=1e-4 / 5, beta=0.75, k=1.0)  # Caffe divides alpha by n


def bvlc_alexnet() -> Network:
    """Caffe's reproduction of the paper: as alexnet2012, but k = 1 and alpha divided by n."""
    return _two_towers("bvlc_alexnet", _caffe_norm("norm1"), _caffe_norm("norm2"))


def caffenet() -> Network:
    """Caffe's variant: as bvlc_alexnet, but pooling precedes normalisation."""
    return _two_towers("caffenet", _caffe_norm("norm1"), _caffe_norm("norm2"), pool_first=True)


def vgg16() -> Network:
    """Configuration D of Simonyan and Zisserman 2014, CS231n's worked example, with torchvision's keys."""
    stages: list[Stage] = []
    place = 0  # torchvision numbers convolutions, ReLUs and pools alike
    for block, (channels, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for step in range(1, depth + 1):
            name = f"conv{block}_{step}"
            stages.append(Convolution(name, channels, kernel=3, padding=1, key=f"features.{place}"))
            place += 2
        stages.append(MaxPool(f"pool{block}", kernel=2, stride=2, key=f"features.{place}"))
        place += 1
    stages += [
        Linear("fc6", 4096, pool_to=7, key="classifier.0"),
        Linear("fc7", 4096, key="classifier.3"),
        Linear("fc8", 1000, relu=False, key="classifier.6"),
    ]
    return Network("vgg16", input_size=224, stages=tuple(stages))


def alexnet_tf() -> Network:
    """The network of TensorFlow's alexnet_benchmark.py: cut at pool5, conv1 padded SAME to 56 x 56, with LRN."""
    return Network(
        "alexnet-tf",
        input_size=224,
        stages=(
            Convolution("conv1", 64, kernel=11, stride=4, padding="same"),
            LocalResponseNorm("norm1"),
            MaxPool("pool1", kernel=3, stride=2),
            Convolution("conv2", 192, kernel=5, padding="same"),
            LocalResponseNorm("norm2"),
            MaxPool("pool2", kernel=3, stride=2),
            Convolution("conv3", 384, kernel=3, padding="same"),
            Convolution("conv4", 256, kernel=3, padding="same"),
            Convolution("conv5", 256, kernel=3, padding="same"),
            MaxPool("pool5", kernel=3, stride=2),
        ),
    )


LIBRARIES = ("torchvision", "timm")  # whose networks have names such as torchvision/resnet18
TANH = "-tanh"  # ends the name of a network that has tanh where the other has ReLU
NETWORKS: dict[str, Callable[[], Network]] = {
    "alexnet": alexnet,
    "alexnet2012": alexnet2012,
    "bvlc_alexnet": bvlc_alexnet,
    "caffenet": caffenet,
    "vgg16": vgg16,
    "alexnet-tf": alexnet_tf,
}


def get_network(name: str, classes: int | None = None) -> Network:
    """The network of that name, its last stage widened or narrowed to ``classes`` if given; raises NetworkError.

    ``alexnet-tanh`` is alexnet with tanh for ReLU, ``torchvision/resnet18`` a library's.
    """
    if "/" in name:
        from cnncodes.networks.library import library_network

        return library_network(name, classes)
    base = name.removesuffix(TANH)
    if base not in NETWORKS:
        raise NetworkError(
            f"there is no network '{name}'.",
            f"{nearest(name, NETWORKS)} Networks of torchvision and timm: torchvision/resnet18, timm/convnext_tiny.",
        )
    network = NETWORKS[base]()
    if base != name:
        network = replace(network, name=name, activation="tanh")
    return network if classes is None else network.with_classes(classes)
