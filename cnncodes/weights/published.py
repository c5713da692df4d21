"""Weights that others publish: where they are, how good they are, which preprocessing they expect, and their download.

The one door to the weights of torchvision and timm. Downloads are resumed after an interruption, and verified before the file
gets its name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import math
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedRandom
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cnncodes.core.errors import (
    CnnCodesError,
    CodesFileError,
    DiskFullError,
    OptionError,
    OutputBusyError,
    WeightsError,
    WeightsMissingError,
    nearest,
)
from cnncodes.core.outputs import locked
from cnncodes.networks import get_network
from cnncodes.weights.content import file_sha256
from cnncodes.weights.preprocessing import TORCHVISION_PREPROCESSING, Preprocessing

Progress = Callable[[int, int], None]  # bytes done, bytes in all

IMAGENET = "imagenet"  # of a library's networks: its own choice among its weights
STARTER = "starter"
#: Comes with the package: trained by this project, small, always here.
STARTER_FILE = Path(__file__).with_name("starter.safetensors")
TIMM_FILE = "model.safetensors"  # of timm's repositories
FEW = 30  # networks of a list that are built, without numbers, to see their size
TIMEOUT = 30.0  # s without a byte before a server counts as silent
BLOCK = 1 << 18  # bytes between two calls of `progress`

_PER_CENT = "ImageNet-1K"
_ADDRESS = "https://download.pytorch.org/models"
_TERMS = "BSD-3-Clause (torchvision); learned from ImageNet, whose terms allow research and teaching"


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
        return self.url.rpartition("/")[2]

    @property
    def sha256_prefix(self) -> str:
        """The first digits of the file's sha256, as its name says."""
        return self.file_name.rpartition(".")[0].rpartition("-")[2]

    @property
    def path(self) -> Path:
        """Where the file is, or would be."""
        return cache_folder() / self.file_name


PUBLISHED = tuple(
    PublishedWeights(IMAGENET, network, f"{_ADDRESS}/{file}", size, top1, top5, TORCHVISION_PREPROCESSING, _TERMS)
    for network, file, size, top1, top5 in (
        ("alexnet", "alexnet-owt-7be5be79.pth", 244_408_911, 56.522, 79.066),
        ("vgg16", "vgg16-397923af.pth", 553_433_881, 71.592, 90.382),
    )
)  # fmt: skip


@dataclass(frozen=True)
class KnownWeights:
    """A line of ``cnncodes weights list``."""

    name: str
    network: str
    path: Path | None  # None for weights that are computed, not read
    present: bool
    size: int | None  # bytes
    top1: float | None  # percent, as in PublishedWeights
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
        return torchvision_weights(name, network)
    entries = {entry.network: entry for entry in PUBLISHED if entry.name == name}
    if not entries:
        raise OptionError(f"no weights named '{name}' can be downloaded.", nearest(name, [IMAGENET]))
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
        ``imagenet``, or the name of one of torchvision's (``IMAGENET1K_V1``).
    progress : callable, optional
        Called with bytes done and bytes in all.
    network : str, optional
        ``alexnet`` (default), ``vgg16``, or one of a library.

    Raises
    ------
    WeightsMissingError, WeightsError
        If the server does not answer; if what arrived does not have the right sha256.
    """
    if network is not None and network.startswith("timm/"):
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
    size, preprocessing = member.meta.get("_file_size", 0), torchvision_preprocessing(member.transforms())
    return PublishedWeights(
        name, network, member.url, int(size * 2**20), accuracy.get("acc@1", 0.0), accuracy.get("acc@5", 0.0), preprocessing,
        terms="BSD-3-Clause (torchvision); see the weights' own page for the data that they learned from",
    )  # fmt: skip


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
    return Preprocessing(
        resize=max(crop, int(crop / float(configuration.crop_pct or 0.875))),
        crop=crop,
        fit="squash" if configuration.crop_mode == "squash" else "shorter",
        interpolation="bicubic" if configuration.interpolation in ("bicubic", "random") else "bilinear",
        mean=tuple(configuration.mean),
        std=tuple(configuration.std),
    )


def timm_file(network: str, *, download: bool = False) -> tuple[Path, str, Preprocessing]:
    """The file of timm's weights in Hugging Face's own cache, where it is from, and the preprocessing."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    configuration = timm.get_pretrained_cfg(network.partition("/")[2])
    repository = configuration.hf_hub_id if configuration is not None else None
    if not repository:
        raise OptionError(f"timm has no weights for {network}.", "Use --weights random:0, or a file.")
    found = try_to_load_from_cache(repository, TIMM_FILE)
    if not isinstance(found, str) and download:
        try:
            found = hf_hub_download(repository, TIMM_FILE)
        except Exception as error:  # the library has a class for each way in which a network fails
            raise WeightsMissingError(
                f"{TIMM_FILE} of huggingface.co/{repository} cannot be fetched: {str(error).splitlines()[0][:120]}.",
                "Try again, or put the file into Hugging Face's cache by its own tool: "
                f"huggingface-cli download {repository} {TIMM_FILE}.",
            ) from error
    if not isinstance(found, str):
        raise WeightsMissingError(
            f"weights 'imagenet' of {network} are not on this machine: {TIMM_FILE} of huggingface.co/{repository} is not in "
            "Hugging Face's cache.",
            f"Fetch it (cnncodes weights fetch imagenet --model {network}), or name another file (--weights FILE).",
        )
    return Path(found), f"https://huggingface.co/{repository}", timm_preprocessing(configuration)


def download(
    entry: PublishedWeights, path: Path, progress: Progress | None = None, *, url: str | None = None
) -> Path:
    """Download ``entry`` to ``path`` (from ``url``: tests and mirrors) and verify it; a verified file that is there is left alone.

    The bytes collect in ``path`` + ``.part``. An interrupted download continues by an HTTP range request, and a broken
    connection is opened again as long as each attempt brings bytes.
    """

    def is_there() -> bool:
        return path.is_file() and file_sha256(path).startswith(entry.sha256_prefix)

    if is_there():
        return path
    partial, url = path.with_name(path.name + ".part"), url or entry.url
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(partial), partial.open("a+b") as file:
            if is_there():  # another process finished it since we looked
                return path
            transfer = _Transfer(entry, url, file, progress)
            resumed = file.seek(0, 2) > 0
            transfer.receive()
            if resumed and not transfer.digest().startswith(entry.sha256_prefix):
                file.truncate(0)  # the start was of another file, or damaged
                transfer.receive()
            if not (digest := transfer.digest()).startswith(entry.sha256_prefix):
                file.truncate(0)
                raise WeightsError(
                    f"what {urlsplit(url).netloc} sent for weights '{entry.name}' is not {entry.file_name}: its sha256 "
                    f"starts with {digest[:8]}, not {entry.sha256_prefix}.",
                    f"Nothing was kept. Try again, or put the file into {path.parent} by hand.",
                )
            partial.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(entry, path.parent) from error
        raise WeightsError(
            f"weights '{entry.name}' cannot be written to {path.parent}: {error.strerror or error}.",
            "Check the folder's permissions, or choose another one by setting TORCH_HOME.",
        ) from error
    return path


@contextlib.contextmanager
def _only_one(partial: Path) -> Iterator[None]:
    """Two processes must not append to the same file."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(partial))
        except OutputBusyError:
            busy = f"another process is downloading {partial.stem}."
            raise OutputBusyError(busy, "Wait until it has finished.") from None
        except CodesFileError as error:  # the disk has no locks
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from error
        yield


@dataclass(eq=False)
class _Transfer:
    """Bytes of a URL that are appended to an open file."""

    entry: PublishedWeights
    url: str
    file: BufferedRandom
    progress: Progress | None

    def receive(self) -> None:
        """Append what is missing, over as many connections as it takes while each brings bytes."""
        while True:
            before = self.file.seek(0, 2)
            try:
                if self._append():
                    return
                broken: Exception = http.client.IncompleteRead(b"")
            except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
                broken = error  # the network; any other OSError is the disk's
            if self.file.seek(0, 2) <= before:
                server, reason = urlsplit(self.url).netloc, getattr(broken, "reason", broken)
                also = f", and {server} does not answer ({reason})"
                raise missing(self.entry, Path(self.file.name).parent, also) from broken

    def digest(self) -> str:
        self.file.flush()
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()

    def _append(self) -> bool:
        """Append the answer to one request; whether the file has all bytes now."""
        answer = self._ask(self.file.seek(0, 2))
        if answer is None:
            return True
        body, done = answer
        with body:
            total = done + int(body.headers.get("Content-Length") or self.entry.size - done)
            self.file.truncate(done)
            folder = Path(self.file.name).parent
            if shutil.disk_usage(folder).free < total - done:
                raise _no_room(self.entry, folder)
            while done < total and (block := body.read(min(BLOCK, total - done))):
                self.file.write(block)
                done += len(block)
                if self.progress is not None:
                    self.progress(done, total)
            self.file.flush()
            return done == total

    def _ask(self, have: int) -> tuple[http.client.HTTPResponse, int] | None:
        """The answer to a request for the bytes from ``have`` on, and the byte it starts at; None if no byte is missing."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "cnncodes"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            body = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                    raise
                return None if error.headers.get("Content-Range") == f"bytes */{have}" else self._ask(0)
        if body.status != http.client.PARTIAL_CONTENT:  # a server without ranges sends everything
            return body, 0
        span = str(body.headers.get("Content-Range"))
        if not span.startswith(f"bytes {have}-"):
            body.close()
            raise http.client.HTTPException(f"unusable range '{span}'")
        return body, have


def _no_room(entry: PublishedWeights, folder: Path) -> DiskFullError:
    free = shutil.disk_usage(folder).free
    return DiskFullError(
        f"weights '{entry.name}' need {entry.size / 2**20:.0f} MB in {folder}, and {free / 2**20:.0f} MB are free.",
        "Free some space, or choose another folder by setting TORCH_HOME.",
    )
