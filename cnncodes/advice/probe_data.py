"""What a probe compares: numbers of weights, of a codes file, raw pixels or another program's features, and the images it draws.

The draws of one repeat are nested (the 15 are among the 30), and all are tested on the images that every command tests on
(:func:`cnncodes.heads.split_rows`), so that the difference between two numbers of images per class is not the difference
between two samples.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.advice.probe_result import Shots
from cnncodes.advice.sample import average_pool, pooled_side
from cnncodes.codes.extraction import run_extraction
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.codes.planning import plan_extraction
from cnncodes.core.compute import Compute
from cnncodes.core.errors import CodesFileError, HeadError, OptionError, ResumeError, nearest
from cnncodes.heads.choice import DEFAULT_CS
from cnncodes.heads.fit import ONE_SHOT_C
from cnncodes.heads.head import NormalisationKind
from cnncodes.heads.splits import split_rows
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS
from cnncodes.images.loader import Loader
from cnncodes.networks import Network
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]

#: What C is chosen from for rows of length 1; beyond, few rows of many numbers give the same head again.
CANDIDATES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
PIXELS = "pixels"  # in place of weights: what codes must beat
PIXELS_LAYER = "32 x 32 RGB"
_PIXEL_SIDE = 32
_READ = 256  # rows at a time
NOTHING_TESTS = ("no image can be used to test.", "Look at the files of the test images, or add images.")


@dataclass(frozen=True)
class Protocol:
    """How layers are compared; the fields are parameters of :func:`cnncodes.advice.probe`."""

    shots: tuple[Shots, ...]
    repeats: int = 1
    limit: int = 2000
    seed: int = 0
    C: float | Literal["auto"] = "auto"
    normalisation: NormalisationKind = "standard"
    jobs: int = -1

    def __post_init__(self) -> None:
        allowed = get_args(NormalisationKind)
        if self.normalisation not in allowed:
            raise OptionError(
                f"normalisation {self.normalisation!r} is not known.", nearest(self.normalisation, allowed)
            )
        if self.limit < 1:
            raise OptionError(f"a limit of {self.limit} test images is not possible.", "Use 1 or more.")

    def candidates(self, numbers: int, shots: Shots) -> float | tuple[float, ...]:
        """What C is chosen from: what matters is C times the squared length of a row, which "standard" makes ``numbers``."""
        if self.C != "auto":
            return self.C
        scale = 1 / numbers if self.normalisation == "standard" else 1.0
        if shots == 1:
            return ONE_SHOT_C * scale
        return tuple(C * scale for C in (DEFAULT_CS if self.normalisation == "none" else CANDIDATES))


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a catalog that a probe may use."""

    learn: Array  # rows to draw from
    test: Array  # rows that test every draw
    how: str  # where both come from, in words
    notes: tuple[str, ...] = ()  # what was left out, and why
    split: dict[str, Any] = field(default_factory=dict)  # see :meth:`cnncodes.heads.Split.record`

    @property
    def rows(self) -> Array:
        """All rows of the pool, ascending."""
        return np.union1d(self.learn, self.test)


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows to learn from and rows to test on, both ascending."""

    shots: Shots
    repeat: int
    learn: Array
    test: Array


def check_shots(shots: Sequence[Shots], repeats: int) -> tuple[Shots, ...]:
    """Numbers of images per class, ascending and each once, "all" last; raises OptionError."""
    numbers = sorted({n for n in shots if n != "all"})
    if not shots or repeats < 1 or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise OptionError(
            f"shots = {list(shots)} and repeats = {repeats} cannot be drawn.",
            "Use whole numbers of at least 1, or 'all' for the whole train split.",
        )
    return (*numbers, "all") if "all" in shots else tuple(numbers)


def find_pool(catalog: Catalog, usable: Array, protocol: Protocol, same: Array | None = None) -> Pool:
    """The images that can be drawn, no more than the draws need; ``usable`` (bool ``[N]``) may be used. Raises HeadError without two classes."""
    seed = protocol.seed
    split = split_rows(catalog, usable, "auto", seed, same=same)
    learn, test, notes = split.train, split.test, []
    labels = catalog.labels
    if not len(test):
        raise HeadError(*NOTHING_TESTS)
    if split.kind == "drawn":
        how = f"drawn from {len(learn):,}, tested on those held out ({100 * split.share:.0f} % of each class, seed {seed})"
        kept, why = np.intersect1d(labels[learn], labels[test]), "a single image"
    else:
        name = SPLITS[int(catalog.splits[test].max())]
        how = f"drawn from train, tested on {name}"
        kept, why = np.unique(labels[learn]), "no train image"
        if others := int((usable & (labels >= 0)).sum()) - len(learn) - len(test):
            notes = [f"{others:,} images that are neither in train nor in {name} are not used"]
    if few := np.setdiff1d(labels[usable & (labels >= 0)], kept).tolist():
        names = ", ".join(repr(catalog.classes[k]) for k in few[:3])
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        notes.append(f"class{'es' if len(few) > 1 else ''} {names}{more} left out: {why}")
    if len(kept) < 2:
        raise HeadError(
            f"{len(kept)} class has enough labelled images, and a probe tells classes apart.",
            "Give images of at least two classes, two or more of each.",
        )
    learn, test = (part[np.isin(labels[part], kept)] for part in (learn, test))
    random = np.random.default_rng([seed, 0])
    if "all" not in protocol.shots:
        each = max(n for n in protocol.shots if isinstance(n, int)) * max(2, protocol.repeats)
        learn = np.sort(np.concatenate(_first(labels, learn, np.full(len(kept), each), random)))
    test = balanced(labels, test, protocol.limit, random)
    return Pool(learn, test, how, tuple(notes), split.record(catalog))


def draw(
    labels: Array, classes: Sequence[str], pool: Pool, protocol: Protocol
) -> tuple[list[Draw], list[str]]:
    """All draws of a pool of readable images, and notes on what was drawn instead; ``labels`` (int ``[N]``) are places in ``classes``."""
    present, counts = np.unique(labels[pool.learn], return_counts=True)
    most, notes = int(counts.min()), []
    if large := [str(n) for n in protocol.shots if n != "all" and n > most]:
        notes.append(
            f"{' and '.join(large)} images per class are more than the smallest class, {classes[present[counts.argmin()]]!r}, "
            f"has to learn from: {most} instead"
        )
    numbers = dict.fromkeys(n if n == "all" else min(n, most) for n in protocol.shots)
    draws = []
    for repeat in range(protocol.repeats):
        random = np.random.default_rng([protocol.seed, 1, repeat])
        shuffled = _first(labels, pool.learn, np.full(len(counts), len(pool.learn)), random)
        for n in numbers:
            if n == "all" and repeat:
                continue  # the same images again
            rows = np.concatenate([part if n == "all" else part[:n] for part in shuffled])
            draws.append(Draw(n, repeat, np.sort(rows), pool.test))
    return draws, notes


def balanced(labels: Array, rows: Array, limit: int, random: np.random.Generator) -> Array:
    """At most ``limit`` of the rows, ascending, the same number of each class as far as it has so many."""
    if len(rows) <= limit:
        return np.sort(rows)
    counts = np.unique(labels[rows], return_counts=True)[1]
    each, left = np.zeros_like(counts), limit
    for place, k in enumerate(np.argsort(counts, kind="stable")):  # small classes leave room to the large
        each[k] = min(counts[k], left // (len(counts) - place))
        left -= each[k]
    return np.sort(np.concatenate(_first(labels, rows, np.maximum(each, 1), random)))


def _first(labels: Array, rows: Array, each: Array, random: np.random.Generator) -> list[Array]:
    """For each class of the rows, ascending: so many of its rows, in random order."""
    return [
        random.permutation(rows[labels[rows] == k])[:count]
        for k, count in zip(np.unique(labels[rows]), each, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Source:
    """Numbers for every image of a catalog, in one or several layers."""

    name: str  # "imagenet", "random:0", "pixels", a file: as a person named it
    layers: tuple[str, ...]  # in the order of the network
    usable: Array  # [N] images that have numbers
    read: Callable[[str], Array]  # [N, numbers]
    numbers: dict[str, int]  # how many numbers a layer had before a coarser grid was laid over it
    problems: dict[str, str]  # unreadable images and why
    fingerprint: str = ""  # sha256 of the weights; empty for what has none
    seen: Array = field(default_factory=lambda: np.zeros(0, np.uint64))  # digests of trained images


def depth_stages(network: Network) -> tuple[str, ...]:
    """Each numbered layer once, after its normalisation and pooling, without the classifier: pool1, pool2, conv3 ... fc7 of AlexNet.

    These are the rows of Zeiler and Fergus (2014), table 7, and the layers of Yosinski et al. (2014).
    """
    if not network.stages:
        return network.codes_layers
    last = {}
    for name in network.stage_names[: -1 if network.classes is not None else None]:
        number = re.search(r"\d+", name)
        last[number[0] if number else name] = name
    return tuple(last.values())


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
        depth = list(network.output_shapes())
        names = {file.catalog.names[row] for row in rows}
        return Source(
            name or file.settings.weights,
            tuple(sorted(stages, key=lambda stage: depth.index(stage.partition(":")[0]))),
            file.state[rows] == DONE,
            lambda stage: _read_pooled(path, stage, rows),
            {stage: int(np.prod(file.stage_shape(stage))) for stage in stages},
            {image: reason for image, reason in file.problems().items() if image in names},
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
    unreadable = {catalog.names[row]: reason for row, reason in problems.items()}
    numbers = {PIXELS_LAYER: features.shape[1]}
    return Source(PIXELS, (PIXELS_LAYER,), usable, lambda _: features, numbers, unreadable)


def from_features(path: Path, catalog: Catalog) -> Source:
    """All layers of a codes file of the same images, or what another program computed, matched by name; raises CodesFileError."""
    try:
        with CodesFile(path) as file:
            there = {name: row for row, name in enumerate(file.catalog.names)}
            file.require_complete()
    except CodesFileError:
        from cnncodes.codes.export import read_features

        X, usable = read_features(path, catalog).astype(np.float32), np.ones(len(catalog), np.bool_)
        return Source(path.name, ("features",), usable, lambda _: X, {"features": X.shape[1]}, {})
    missing = [name for name in catalog.names if name not in there]
    if missing:
        raise CodesFileError(
            f"'{path}' has no codes of {len(missing):,} of the {len(catalog):,} images, such as '{missing[0]}' "
            f"(its own first image is '{next(iter(there), '')}').",
            "Extract both from the same folder, so that the names are the same.",
        )
    return from_codes(path, np.array([there[name] for name in catalog.names]), "all", name=path.name)


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
