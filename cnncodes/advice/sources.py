"""Where the numbers that a probe compares come from: weights, a codes file, raw pixels, another program's features."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.advice.sample import average_pool, pooled_side
from cnncodes.codes.extraction import run_extraction
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.planning import plan_extraction
from cnncodes.core.compute import Compute
from cnncodes.core.errors import CodesFileError, OptionError, ResumeError
from cnncodes.images.catalog import Catalog
from cnncodes.images.loader import Loader
from cnncodes.networks import Network
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

PIXELS = "pixels"  # in place of weights: what codes must beat
PIXELS_LAYER = "32 x 32 RGB"
_PIXEL_SIDE = 32
_READ = 256  # rows at a time


@dataclass(frozen=True, eq=False)
class Source:
    """Numbers for every image of a catalog, in one or several layers.

    Parameters
    ----------
    name : str
        "imagenet", "random:0", "pixels", a file: as a person named it.
    layers : tuple of str
        In the order of the network.
    usable : bool array [N]
        Images that have numbers.
    read : callable(layer) -> float32 array [N, numbers]
    numbers : dict of str to int
        How many numbers a layer had before a coarser grid was laid over it.
    problems : dict of str to str
        Unreadable images and why.
    fingerprint : str
        sha256 of the weights; empty for what has none.
    seen : uint64 array
        Digests of the images that the weights were trained on, as far as that is known.
    """

    name: str
    layers: tuple[str, ...]
    usable: Array
    read: Callable[[str], Array]
    numbers: dict[str, int]
    problems: dict[str, str]
    fingerprint: str = ""
    seen: Array = field(default_factory=lambda: np.zeros(0, np.uint64))


def depth_stages(network: Network) -> tuple[str, ...]:
    """Each numbered layer once, after the normalisation and pooling that belong to it, without the classifier.

    >>> from cnncodes.networks import get_network
    >>> depth_stages(get_network("alexnet"))
    ('pool1', 'pool2', 'conv3', 'conv4', 'pool5', 'fc6', 'fc7')

    These are the rows of Zeiler and Fergus (2014), table 7, and the layers of Yosinski et al. (2014).
    """
    if not network.stages:
        return network.codes_layers
    last = {}
    for name in network.stage_names[: -1 if network.classes is not None else None]:
        number = re.search(r"\d+", name)
        last[number[0] if number else name] = name
    return tuple(last.values())


def _place(network: Network, stage: str) -> int:
    names = list(network.output_shapes())
    return names.index(stage.partition(":")[0])


def from_weights(
    weights: Weights, catalog: Catalog, layers: str | Sequence[str], folder: Path, compute: Compute
) -> Source:
    """Extract the layers of all images once, into a codes file in ``folder``; a file that is there is continued."""
    network = weights.architecture
    stages = depth_stages(network) if layers == "all" else network.select(layers)
    what = "\0".join([*catalog.names, *stages, str(catalog.root)]).encode("utf-8", "surrogateescape")
    label = re.sub(r"[^\w.-]+", "-", Path(weights.name).name)
    path = folder / f"{label}-{weights.fingerprint[:12]}-{hashlib.sha256(what).hexdigest()[:12]}.h5"
    options: dict[str, Any] = {"layers": stages, "device": compute.device, "workers": compute.workers}
    try:
        plan = plan_extraction(catalog, path, weights, **options)
    except ResumeError:  # the images changed since: the file is of no use any more
        plan = plan_extraction(catalog, path, weights, overwrite=True, **options)
    run_extraction(plan, lambda _, *where: compute.progress(f"codes of {weights.name}", *where))
    return from_codes(path, np.arange(len(catalog)), stages, name=weights.name)


def from_codes(path: Path, rows: Array, layers: str | Sequence[str], *, name: str | None = None) -> Source:
    """Layers of some rows of a codes file."""
    with CodesFile(path) as file:
        network = file.settings.architecture
        stages = file.stages if layers == "all" else network.select(layers)
        numbers = {stage: int(np.prod(file.stage_shape(stage))) for stage in stages}
        problems = file.problems()
        names = {file.catalog.names[row] for row in rows}
        return Source(
            name or file.settings.weights,
            tuple(sorted(stages, key=lambda stage: _place(network, stage))),
            file.state[rows] == DONE,
            lambda stage: _read_pooled(path, stage, rows),
            numbers,
            {image: reason for image, reason in problems.items() if image in names},
            file.settings.weights_sha256,
            file.weights_seen(),
        )


def from_pixels(catalog: Catalog, workers: int | None = None) -> Source:
    """All images squeezed to 32 x 32 RGB, 3,072 numbers from -1 (black) to 1 (white); zeros where one cannot be read."""
    batches = [range(start, min(start + _READ, len(catalog))) for start in range(0, len(catalog), _READ)]
    squeezed = Preprocessing(resize=_PIXEL_SIDE, crop=_PIXEL_SIDE, fit="squash")
    parts, problems = [], {}
    for batch in Loader(catalog, batches, squeezed, workers=workers or 2):
        parts.append((batch.pixels.reshape(len(batch.pixels), -1) / np.float32(127.5) - 1).astype(np.float32))
        problems.update(batch.problems)
    features, usable = np.concatenate(parts), np.ones(len(catalog), np.bool_)
    usable[list(problems)] = False
    return Source(
        PIXELS,
        (PIXELS_LAYER,),
        usable,
        lambda _: features,
        {PIXELS_LAYER: features.shape[1]},
        {catalog.names[row]: reason for row, reason in problems.items()},
    )


def from_features(path: Path, catalog: Catalog) -> Source:
    """All layers of a codes file of the same images, or what another program computed, matched by name.

    See :func:`cnncodes.codes.features.read_features` for files of other programs. Raises CodesFileError if the file
    cannot be read, or has not all the images.
    """
    try:
        with CodesFile(path) as file:
            there = {name: row for row, name in enumerate(file.catalog.names)}
            file.require_complete()
    except CodesFileError:
        return _other_program(path, catalog)
    missing = [name for name in catalog.names if name not in there]
    if missing:
        raise CodesFileError(
            f"'{path}' has no codes of {len(missing):,} of the {len(catalog):,} images, such as '{missing[0]}' "
            f"(its own first image is '{next(iter(there), '')}').",
            "Extract both from the same folder, so that the names are the same.",
        )
    return from_codes(path, np.array([there[name] for name in catalog.names]), "all", name=path.name)


def _other_program(path: Path, catalog: Catalog) -> Source:
    from cnncodes.codes.features import read_features

    values = read_features(path, catalog)
    return Source(
        path.name,
        ("features",),
        np.isfinite(values).all(axis=1),
        lambda _: values.astype(np.float32),
        {"features": values.shape[1]},
        {},
    )


def check_against(name: str) -> None:
    """Refuse before the work what can be no baseline: a word that is neither one nor weights nor a file."""
    known = (PIXELS, "imagenet", "starter")
    if name not in known and ":" not in name and not Path(name).exists():
        raise OptionError(
            f"'{name}' is nothing to compare with.",
            f"Use {PIXELS}, random:0, other weights, or an HDF5 file of features.",
        )


def _read_pooled(path: Path, stage: str, rows: Array) -> npt.NDArray[np.float32]:
    """Codes [rows, numbers] of one stage, at most MOST_NUMBERS each; kept crops are averaged."""
    with CodesFile(path) as file:
        shape = file.stage_shape(stage)
        grid, parts = pooled_side(shape), []
        for start in range(0, len(rows), _READ):
            part = file.read(stage, rows[start : start + _READ]).astype(np.float32, copy=False)
            rows_of = np.asarray(part.mean(axis=1) if part.ndim == 3 else part)
            parts.append(average_pool(rows_of, shape, grid) if grid else rows_of)
    return np.concatenate(parts)
