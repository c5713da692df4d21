"""What a probe found: accuracy by layer and number of images, and whether more images would help."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cnncodes.advice.facts import learning_text
from cnncodes.core.files import cells
from cnncodes.core.records import from_json, to_value
from cnncodes.heads.fit import OverDraws

Shots = int | Literal["all"]
Verdict = Literal["more help", "hardly", "unclear", "unknown"]

#: A gain that is surely below this (1 point) is called hardly a gain.
SMALL_GAIN = 0.01


@dataclass(frozen=True)
class Probe(OverDraws):
    """Accuracy of a linear SVM on one layer, with one number of images per class."""

    source: str  # the weights, or what else the numbers came from
    layer: str
    shots: Shots  # images per class to learn from
    images: float  # the same as a number: for "all" the mean over the classes
    tested: int  # images that each draw was tested on
    accuracy: tuple[float, ...]  # of each draw, 0..1: the mean of the classes' accuracies
    C: tuple[float, ...]  # the one chosen within each draw


@dataclass(frozen=True)
class Learning:
    """Whether more images per class would help: the most in a probe against half as many or fewer."""

    source: str  # what was judged: the best layer with the most images
    layer: str
    verdict: Verdict
    gain: float | None = None  # of the last doubling, 0..1, with its 95 % interval; None of a single number
    low: float | None = None
    high: float | None = None
    before: tuple[float, float] | None = None  # images per class, accuracy
    after: tuple[float, float] | None = None
    average: bool = False  # the larger number is a mean over the classes
    draws: int = 0
    doubling: float = 0.0  # what twice as many images again would bring at most


@dataclass(frozen=True)
class ProbeResult:
    """All that a probe found."""

    probes: tuple[Probe, ...]  # by source, layer, number of images
    classes: tuple[str, ...]
    against: tuple[str, ...]  # the sources that are there to compare with
    how: str  # which images were drawn and which tested, in words
    notes: tuple[str, ...] = ()  # what a reader must know: what was left out, averaged or skipped
    unreadable: dict[str, str] = field(default_factory=dict)  # name and reason
    seed: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)  # of weights: sha256
    split: dict[str, Any] = field(default_factory=dict)  # of :meth:`cnncodes.heads.Split.record`

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order in which they were named."""
        return tuple(dict.fromkeys(probe.source for probe in self.probes))

    @property
    def shots(self) -> tuple[Shots, ...]:
        """Numbers of images per class, ascending."""
        return tuple(dict.fromkeys(probe.shots for probe in self.probes))

    def layers(self, source: str) -> tuple[str, ...]:
        """Layers of a source, from the pixels upwards."""
        return tuple(dict.fromkeys(probe.layer for probe in self.probes if probe.source == source))

    def of(self, source: str, layer: str, shots: Shots) -> Probe:
        """One entry; raises KeyError."""
        for probe in self.probes:
            if (probe.source, probe.layer, probe.shots) == (source, layer, shots):
                return probe
        raise KeyError((source, layer, shots))

    def best(self, source: str | None = None, shots: Shots | None = None) -> Probe:
        """The best layer of a source with so many images; by default with the most, of what is not to compare."""
        shots = self.shots[-1] if shots is None else shots
        wanted = [name for name in self.sources if name not in self.against] or list(self.sources)
        names = wanted if source is None else [source]
        return max((p for p in self.probes if p.source in names and p.shots == shots), key=lambda p: p.mean)

    def learning(self) -> Learning:
        """Would more images help? Judged on the best layer, by what the last doubling added."""
        best = self.best()
        if len(self.shots) < 2:
            return Learning(best.source, best.layer, "unknown")
        fewer = [self.of(best.source, best.layer, shots) for shots in self.shots[:-1]]
        half_as_many = (p for p in fewer if 2 * p.images <= best.images)
        before = max(half_as_many, key=lambda p: p.images, default=fewer[-1])
        gain, half = best.mean - before.mean, _half_width(before, best)
        low, high = gain - half, gain + half
        verdict: Verdict = "more help" if low > 0 else "hardly" if high < SMALL_GAIN else "unclear"
        doubling = gain / math.log2(best.images / before.images) if best.images > before.images else 0.0
        interval = {"gain": gain, "low": low, "high": high}
        return Learning(
            best.source,
            best.layer,
            verdict,
            **interval,
            before=(before.images, before.mean),
            after=(best.images, best.mean),
            average=best.shots == "all",
            draws=len(best.accuracy),
            doubling=min(doubling, 1 - best.mean),
        )

    def to_csv(self) -> str:
        """CSV with one line for each draw: source, layer, images per class, draw, accuracy 0..1, C, images tested."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = "source layer shots images_per_class draw accuracy mean sd C tested"
        writer.writerow(columns.split())
        for probe in self.probes:
            for place, (accuracy, C) in enumerate(zip(probe.accuracy, probe.C, strict=True)):
                numbers = [f"{value:.6f}" for value in (accuracy, probe.mean, probe.sd)]
                head = [probe.source, probe.layer, probe.shots, f"{probe.images:g}", place]
                writer.writerow(cells(*head, *numbers, f"{C:g}", probe.tested))
        return text.getvalue()

    def to_json(self) -> str:
        """JSON object with one entry per field, the best layer of each source, and the verdict on more images."""
        values = to_value(self)
        for probe, entry in zip(self.probes, values["probes"], strict=True):
            entry |= {"mean": probe.mean, "sd": probe.sd}
        values["chance"] = self.chance
        values["best"] = {name: self.best(name).layer for name in self.sources}
        learning = self.learning()
        values["learning"] = {**to_value(learning), "sentence": learning_text(learning)}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> ProbeResult:
        """Inverse of :meth:`to_json`; raises CnnCodesError for anything else."""
        return from_json(text, cls, "the probe")


def _half_width(before: Probe, after: Probe) -> float:
    """Half of the 95 % interval of the difference.

    Over draws: the draws of a repeat are nested, so the differences of pairs are taken. All share their test images, whose
    sampling error comes on top: of so many images, those that the gain is made of, and at least one. With a single draw,
    the sampling error of the test images is all that is known.
    """
    from scipy.special import stdtrit

    count = len(after.accuracy)
    if count == len(before.accuracy) and count > 1:
        differences = np.subtract(after.accuracy, before.accuracy)
        told = max(abs(float(np.mean(differences))), 1 / after.tested)  # share of images told otherwise
        student = float(stdtrit(count - 1, 0.975))  # 97.5 % quantile of Student's t
        sampling = 1.96**2 * told * (1 - told) / after.tested
        return math.sqrt(student**2 * float(np.var(differences, ddof=1)) / count + sampling)
    variance = sum(
        probe.mean * (1 - probe.mean) / probe.tested + probe.sd**2 / len(probe.accuracy)
        for probe in (before, after)
    )
    return 1.96 * math.sqrt(variance)
