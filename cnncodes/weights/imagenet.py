"""Published weights: addresses, accuracy and terms. The one door to torchvision."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnncodes.core.errors import OptionError, WeightsMissingError, nearest
from cnncodes.weights.preprocessing import TORCHVISION_PREPROCESSING, Preprocessing

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that anyone can download."""

    name: str  # what a user writes
    network: str
    url: str  # the file's name ends in the first eight digits of its sha256
    size: int  # bytes
    top1: float  # accuracy in percent on the validation images of ILSVRC2012, single crop, as published
    top5: float
    preprocessing: Preprocessing
    terms: str  # licence, in a sentence

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return self.url.rpartition("/")[2]

    @property
    def sha256_prefix(self) -> str:
        """The first digits of the file's sha256, as its name says."""
        return self.file_name.rpartition(".")[0].rpartition("-")[2]

    @property
    def path(self) -> Path:
        """Where the file is, or would be."""
        return cache_folder() / self.file_name


STARTER = "starter"
#: Comes with the package: trained by this project, small, always here.
STARTER_FILE = Path(__file__).with_name("starter.safetensors")

_ADDRESS = "https://download.pytorch.org/models"
_TERMS = "BSD-3-Clause (torchvision); learned from ImageNet, whose terms allow research and teaching"

PUBLISHED = tuple(
    PublishedWeights("imagenet", network, f"{_ADDRESS}/{file}", size, top1, top5, TORCHVISION_PREPROCESSING, _TERMS)
    for network, file, size, top1, top5 in (
        ("alexnet", "alexnet-owt-7be5be79.pth", 244_408_911, 56.522, 79.066),
        ("vgg16", "vgg16-397923af.pth", 553_433_881, 71.592, 90.382),
    )
)  # fmt: skip


@dataclass(frozen=True)
class KnownWeights:
    """A line of ``cnncodes weights list``; ``path`` is None for weights that are computed, not read."""

    name: str
    network: str
    path: Path | None
    present: bool
    size: int | None
    top1: float | None
    top5: float | None
    terms: str


def list_weights() -> tuple[KnownWeights, ...]:
    """Names that :func:`load_weights` knows: where each is, whether it is here, how good it is."""
    starter = KnownWeights(
        STARTER, "alexnet", STARTER_FILE, STARTER_FILE.is_file(), STARTER_FILE.stat().st_size, None, None,
        "BSD-3-Clause; imitates MobileNet v2 (Google, Apache-2.0) on research image sets: see docs/starter.md",
    )  # fmt: skip
    published = (
        KnownWeights(e.name, e.network, e.path, e.path.is_file(), e.size, e.top1, e.top5, e.terms)
        for e in PUBLISHED
    )
    untrained = KnownWeights("random:SEED", "any", None, True, None, None, None, "none: computed, untrained")
    return (starter, *published, untrained)


def cache_folder() -> Path:
    """Torch's own folder for downloads, shared with torchvision; torch is not imported."""
    hub = sys.modules.get("torch.hub")
    if hub is not None:  # somebody may have called torch.hub.set_dir
        return Path(hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def find_published(name: str, network: str | None = None) -> PublishedWeights:
    """The published weights of that name, by default of the first network that has them; raises OptionError."""
    if network is not None and network.startswith("torchvision/"):
        from cnncodes.weights.library import torchvision_weights

        return torchvision_weights(name, network)
    entries = {entry.network: entry for entry in PUBLISHED if entry.name == name}
    if not entries:
        remedy = nearest(name, {entry.name for entry in PUBLISHED})
        raise OptionError(f"no weights named '{name}' can be downloaded.", remedy)
    if network is not None and network not in entries:
        raise OptionError(
            f"there are no weights '{name}' for network '{network}'.",
            f"They exist for {', '.join(entries)}; any network works with random:0 or a file.",
        )
    return entries[network or next(iter(entries))]


def fetch(name: str, progress: Progress | None = None, *, network: str | None = None) -> Path:
    """Download published weights into torch's cache unless they are there; returns the path of the verified file.

    Parameters
    ----------
    name : str
        ``imagenet``.
    progress : callable, optional
        Called with bytes done and bytes in all.
    network : str, optional
        ``alexnet`` (default), ``vgg16``, or one of a library.

    Raises
    ------
    WeightsMissingError
        If the server does not answer.
    WeightsError
        If what arrived does not have the right sha256.
    """
    from cnncodes.weights.download import download

    if network is not None and network.startswith("timm/"):
        from cnncodes.weights.library import timm_file

        return timm_file(network, download=True)[0]
    entry = find_published(name, network)
    return download(entry, entry.path, progress)


def missing(entry: PublishedWeights, folder: Path, also: str = "") -> WeightsMissingError:
    """The error for weights that are not on this machine: file, size, folder, digest and what to do."""
    choice = "" if entry.network == "alexnet" else f" --model {entry.network}"
    return WeightsMissingError(
        f"weights '{entry.name}' are not on this machine: {entry.file_name} "
        f"({entry.size / 1e6:.0f} MB) is not in {folder}{also}.",
        f"Download it (cnncodes weights fetch {entry.name}{choice}), put the file there by hand (sha256 starts "
        f"with {entry.sha256_prefix}), name another file (--weights FILE), or use --weights starter "
        "(comes with cnncodes; smaller, learned from fewer images).",
    )


def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names of ILSVRC2012, in the order of the logits; imports torchvision (10 s cold)."""
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
