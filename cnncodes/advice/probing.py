"""The probe: accuracy by layer and by number of images per class, for a person's own data.

The table of Zeiler and Fergus (2014, "Visualizing and Understanding Convolutional Networks", table 7: an SVM on each
layer) under the protocol of Caltech-101 (n images of each class to learn from, the rest to test on, the mean of
the classes' accuracies), and the curve over depth of Yosinski et al. (2014).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cnncodes.advice import probe_data
from cnncodes.advice.probe_data import (
    NOTHING_TESTS,
    Draw,
    Pool,
    Protocol,
    Source,
    check_shots,
    draw,
    find_pool,
)
from cnncodes.advice.probe_result import Probe, ProbeResult, Shots
from cnncodes.advice.sample import MOST_NUMBERS
from cnncodes.codes.file import DONE, CodesFile
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import HeadError, OptionError
from cnncodes.evaluation.scores import is_codes, one_path
from cnncodes.heads.choice import run_in_threads
from cnncodes.heads.fit import fit_head
from cnncodes.heads.head import NormalisationKind
from cnncodes.heads.splits import compact_labels
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.digests import file_digests, identical_contents

if TYPE_CHECKING:
    from cnncodes.weights import Weights

Array = npt.NDArray[Any]
Data = Catalog | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def probe(
    data: Data,
    weights: Sequence[str | Weights] | str | Weights | None = None,
    *,
    layers: str | Sequence[str] = "all",
    shots: Sequence[Shots] = (15, 30),
    repeats: int = 5,
    against: Sequence[str] = (),
    C: float | Literal["auto"] = "auto",
    normalisation: NormalisationKind = "standard",
    limit: int = 2000,
    seed: int = 0,
    keep: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    jobs: int = -1,
    progress: Progress | None = None,
) -> ProbeResult:
    """Accuracy of a linear SVM on every layer, for several numbers of images per class.

    Activations of more than 9216 numbers (AlexNet's pool5) are averaged over a coarser grid before the SVM sees them; the result's
    notes say which. Memory: one layer of the images that are drawn, in float32, twice.

    Parameters
    ----------
    data : Catalog, path or paths of images, or a codes file
        Draws come from the train split and are tested on the test split (on val, if there is no test split), or on
        a fifth of each class, the same as in every command (:func:`cnncodes.heads.split_rows`).
    weights : one or several names or Weights, optional
        Every layer is extracted once. By default "imagenet", or what the codes file has.
    layers : str or sequence of str, default "all"
        Stages as for :func:`cnncodes.extract`. "all": those of :func:`cnncodes.advice.probe_data.depth_stages`; of a codes file,
        all that it has.
    shots : sequence of int or "all", default (15, 30)
        Images per class to learn from; "all" is the whole train split, or four fifths of each class. Of a number that
        the smallest class does not have, all that it has.
    repeats : int, default 5
        Draws for each number.
    against : sequence of str
        To compare with: "pixels" (32 x 32 RGB), other weights, or the path of an HDF5 file with features of the same images
        (a codes file, or see :func:`cnncodes.codes.export.read_features`).
    C : "auto" or float, default "auto"
        Chosen by five folds within each draw, from 0.01 to 1000 divided by the squared length of a row; with
        one image per class, "auto" is a fixed value.
    normalisation : {"l2", "standard", "none"}, default "standard"
        "standard" (mean 0, standard deviation 1 over the images learned from) favours no layer and no source: with rows of length
        1 the codes of random weights, which all point one way, fall behind by several points.
    limit : int, default 2000
        Test on at most so many images, as evenly over the classes as can be.
    seed : int, default 0
        Of the draws, which are the same for everything that is compared.
    keep : path of a folder, optional
        Where codes files stay, so that the next probe need not extract; by default they are temporary.
    device, workers, progress
        As for :func:`cnncodes.extract`.
    jobs : int, default -1
        Fits at a time; -1: as many as cores. The result does not depend on it.

    Raises
    ------
    HeadError
        If fewer than two classes have images to learn from, or none has one to test on.
    OptionError, CodesFileError, WeightsError, CatalogError
        If a value is not allowed, or what was named cannot be read.
    """
    from cnncodes.weights import load_weights

    protocol = Protocol(check_shots(shots, repeats), repeats, limit, seed, C, normalisation, jobs)
    for name in against:
        probe_data.check_against(name)
    catalog, codes, usable, digests = _open(data)
    pool = find_pool(catalog, usable, protocol, None if digests is None else identical_contents(digests))
    rows = pool.rows
    chosen = catalog.subset(rows)
    # What can be missing or of other images is looked at before anything is extracted.
    main = [_loaded(name) for name in _named(weights, codes, against)]
    others = [_other(name, chosen) for name in against]
    compute = Compute(device, workers, seed=seed, progress=progress or no_progress)
    kept = tempfile.TemporaryDirectory(prefix="cnncodes-probe-") if keep is None else nullcontext(str(keep))
    with kept as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        found = [probe_data.from_codes(codes, rows, layers)] if codes and not main else []
        for what in [*main, *others]:
            if isinstance(what, Source):
                found.append(what)
            elif what == probe_data.PIXELS:
                found.append(probe_data.from_pixels(chosen, workers))
            else:
                loaded = load_weights(what)
                found.append(probe_data.from_weights(loaded, chosen, layers, Path(folder), compute))
        digests = file_digests(chosen) if digests is None else digests[rows]
        learn, test = np.searchsorted(rows, pool.learn), np.searchsorted(rows, pool.test)  # places in rows
        pool = replace(pool, learn=learn, test=test)
        result = _judge(found, chosen, pool, digests, protocol, compute.progress)
        return replace(result, against=tuple(source.name for source in found[len(found) - len(against) :]))


def _judge(
    found: Sequence[Source],
    catalog: Catalog,
    pool: Pool,
    digests: Array,
    protocol: Protocol,
    progress: Progress,
) -> ProbeResult:
    """Draw once, and fit every layer of every source on the same draws."""
    for source in found:
        if not source.usable.any():
            name, reason = next(iter(source.problems.items()), ("", "no image has codes"))
            raise HeadError(
                f"{source.name} has numbers for none of the {len(catalog):,} images ({name or 'all'}: {reason}).",
                f"Are the images still in '{catalog.root}'?",
            )
    usable = np.logical_and.reduce([source.usable for source in found])
    pool, notes = _readable(pool, usable, digests)
    labels, classes = compact_labels(catalog, pool.learn)
    if len(classes) < 2:
        raise HeadError("fewer than two classes have images that can be read.", "See 'cnncodes info DATA'.")
    draws, skipped = draw(labels, classes, pool, protocol)
    notes += skipped
    notes += _trained_on_tests(found, digests[np.unique(np.concatenate([each.test for each in draws]))])
    trials = _Trials(labels, classes, draws, protocol)
    probes, done, total = [], 0, sum(len(source.layers) for source in found)
    for source in found:
        coarse = []
        for layer in source.layers:
            X = source.read(layer)
            if source.numbers.get(layer, 0) > X.shape[1]:
                coarse.append(f"{layer} ({source.numbers[layer]:,} to {X.shape[1]:,})")
            probes += trials.run(source.name, layer, X)
            done += 1
            progress("fitting", 0, 0, f"{done} of {total} layers")
        if coarse:
            notes.append(
                f"averaged over a coarser grid to at most {MOST_NUMBERS:,} numbers: {', '.join(coarse)}"
            )
    return ProbeResult(
        probes=tuple(probes),
        classes=classes,
        against=(),
        how=pool.how,
        notes=(*pool.notes, *dict.fromkeys(notes)),
        unreadable={name: reason for source in found for name, reason in source.problems.items()},
        seed=protocol.seed,
        fingerprints={source.name: source.fingerprint for source in found if source.fingerprint},
        split=pool.split,
    )


@dataclass(frozen=True, eq=False)
class _Trials:
    """The draws on which every layer is judged."""

    labels: Array  # int [N]: places in classes
    classes: tuple[str, ...]
    draws: Sequence[Draw]
    protocol: Protocol

    def run(self, source: str, layer: str, X: npt.NDArray[np.float32]) -> list[Probe]:
        """The accuracies of a layer ``[N, numbers]``, for each number of images."""
        found: dict[int, tuple[float, float]] = {}

        def fit_and_test(place: int) -> None:
            item, protocol = self.draws[place], self.protocol
            labels, C = self.labels[item.learn], protocol.candidates(X.shape[1], item.shots)
            options: dict[str, Any] = {"normalisation": protocol.normalisation, "seed": protocol.seed}
            fit = fit_head(X[item.learn], labels, self.classes, C=C, solver="newton", jobs=1, **options)
            found[place] = mean_per_class(self.labels[item.test], fit.head.predict(X[item.test])), fit.head.C

        run_in_threads([partial(fit_and_test, place) for place in range(len(self.draws))], self.protocol.jobs)
        probes = []
        for shots in dict.fromkeys(item.shots for item in self.draws):
            mine = [place for place, item in enumerate(self.draws) if item.shots == shots]
            accuracy, chosen = zip(*(found[place] for place in mine), strict=True)
            one = self.draws[mine[0]]
            images, tested = len(one.learn) / len(self.classes), len(one.test)
            probes.append(Probe(source, layer, shots, images, tested, accuracy, chosen))
        return probes


def mean_per_class(labels: Array, predicted: Array) -> float:
    """Mean of the classes' accuracies, 0..1, over the classes that have labels: the measure of Caltech-101."""
    counts = np.bincount(labels)
    right = np.bincount(labels[labels == predicted], minlength=len(counts))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def _open(data: Data) -> tuple[Catalog, Path | None, Array, Array | None]:
    """Catalog, the codes file if it is one, rows that may be used, digests where they are known."""
    if not isinstance(data, Catalog) and is_codes(data):
        with CodesFile(one_path(data)) as file:
            file.require_complete()
            return file.catalog, file.path, file.state == DONE, file.digests()
    catalog = data if isinstance(data, Catalog) else read_catalog(data)
    return catalog, None, np.ones(len(catalog), np.bool_), None


def _named(
    weights: Sequence[str | Weights] | str | Weights | None, codes: Path | None, against: Sequence[str]
) -> list[str | Weights]:
    """The weights that were named, each once; refuses two sources of one name: nobody could tell their figures apart."""
    named: list[Any] = (
        [] if weights is None else list(weights) if isinstance(weights, list | tuple) else [weights]
    )
    main: list[str | Weights] = list(dict.fromkeys(named)) or ([] if codes else ["imagenet"])
    names = [one if isinstance(one, str) else one.name for one in main]
    if codes and not main:
        with CodesFile(codes) as file:
            names = [file.settings.weights]
    names += [Path(name).name if is_codes(name) else name for name in against]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"'{twice[0]}' is compared with itself.", "Name each thing to compare once.")
    return main


def _loaded(source: str | Weights) -> str | Weights:
    """Weights by name, read now; but random ones, which cannot be missing, when their turn comes: they take memory."""
    from cnncodes.weights import load_weights

    later = not isinstance(source, str) or source.startswith("random:")
    return source if later else load_weights(source)


def _other(name: str, catalog: Catalog) -> str | Weights | Source:
    """What is compared with: a file of features, raw pixels, or weights."""
    if is_codes(name):
        return probe_data.from_features(Path(name), catalog)
    return name if name == probe_data.PIXELS else _loaded(name)


def _readable(pool: Pool, usable: Array, digests: Array) -> tuple[Pool, list[str]]:
    """The pool without unreadable images and without copies: a copy would test what was learned."""
    order = np.concatenate([pool.learn, pool.test])
    readable = order[usable[order]]
    known = digests[readable] != 0
    _, first = np.unique(digests[readable][known], return_index=True)
    kept = np.concatenate([readable[known][first], readable[~known]])
    notes = []
    if bad := len(order) - len(readable):
        notes.append(f"{bad:,} unreadable image{'s are' if bad > 1 else ' is'} left out")
    if copies := len(readable) - len(kept):
        what = "copies of other images are" if copies > 1 else "copy of another image is"
        notes.append(f"{copies:,} exact {what} left out")
    learn, test = (part[np.isin(part, kept)] for part in (pool.learn, pool.test))
    if not len(test):
        raise HeadError(*NOTHING_TESTS)
    return replace(pool, learn=learn, test=test), notes


def _trained_on_tests(found: Sequence[Source], tested: Array) -> list[str]:
    """A word on each source whose weights were trained on images that test: their accuracy is too good."""
    learned = {source.name: int((np.isin(tested, source.seen) & (tested != 0)).sum()) for source in found}
    return [
        f"the weights of {name} were trained on {count:,} of the {len(tested):,} images that test: "
        "their figures say little about new ones"
        for name, count in learned.items()
        if count
    ]
