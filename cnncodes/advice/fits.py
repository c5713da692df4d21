"""Measure: is all of a photograph, padded, better for these classes than its centre crop?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from cnncodes.advice import quick_probes
from cnncodes.advice.evidence import mean_and_error
from cnncodes.advice.sample import Sample
from cnncodes.core.compute import Compute
from cnncodes.images.catalog import Catalog
from cnncodes.weights import Weights, with_fit

MOST_IMAGES = 400  # that go through the network once more


@dataclass(frozen=True)
class Fits:
    """Padded photographs against their centre crops: the linear judge of one stage, on the same training images.

    Parameters
    ----------
    seen : float
        Median share of a photograph that the centre crop shows.
    stage : str
    judged : int
        Images.
    crop, pad : float
        Part of them that is classified correctly, each left out once.
    gain, gain_se : float
        How much higher ``pad`` is than ``crop``, and the standard error of this difference, paired over the images.
    """

    seen: float
    stage: str
    judged: int
    crop: float
    pad: float
    gain: float
    gain_se: float

    def better(self, standard_errors: float) -> bool:
        """Whether padded photographs are better by more than so many standard errors."""
        return self.gain > standard_errors * self.gain_se


def measure_fits(catalog: Catalog, weights: Weights, sample: Sample, stage: str, compute: Compute) -> Fits:
    """Compute a stage's codes of at most 400 training images of the sample once more, padded, and judge both."""
    from cnncodes.codes.stream import settings_of, stream

    places = np.flatnonzero(sample.fitted & (sample.labels >= 0))
    if len(places) > MOST_IMAGES:  # every class keeps its share
        ordered = places[np.argsort(sample.labels[places], kind="stable")]
        places = np.sort(ordered[np.linspace(0, len(ordered) - 1, MOST_IMAGES).astype(int)])
    padded = with_fit(weights, "pad")
    settings = settings_of(padded, (stage,), len(places))
    if not weights.architecture.stages:
        settings = dataclasses.replace(settings, pool="mean")
    parts, read = [], []
    for block in stream(catalog.subset(sample.rows[places]), padded, settings, compute):
        read.append(np.asarray(block.rows)[block.readable])
        parts.append(quick_probes.unit_rows(block.codes[stage][block.readable]).astype(np.float16))
        compute.progress("looking at padded images", int(block.rows[-1]) + 1, len(places), "")
    places = places[np.concatenate(read)]
    labels = np.unique(sample.labels[places], return_inverse=True)[1]
    crop, pad = (_right(codes, labels) for codes in (sample.codes[stage][places], np.concatenate(parts)))
    gain, gain_se = mean_and_error(pad.astype(np.float64) - crop)
    return Fits(sample.median_seen, stage, len(places), float(crop.mean()), float(pad.mean()), gain, gain_se)


def _right(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the linear judge is right about each image, which it has not seen."""
    spectrum = quick_probes.spectrum_of(quick_probes.centred(quick_probes.kernel_of(codes)))
    return np.asarray(quick_probes.ridge_left_out(spectrum, labels).argmax(axis=1) == labels)
