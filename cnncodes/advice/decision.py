"""Decide: from the evidence to one of five recipes, with the reasons, the runner-up and the command to run.

The two questions are those of CS231n's transfer learning notes: are there many images, and are they like those
that the weights were trained on? The answers come from the figures and from ``thresholds.toml``.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cnncodes.advice.evidence import Evidence, Fits, judge, measure_fits, measure_size
from cnncodes.advice.facts import Fact, Finding, finding_value, reason_of, upgraded
from cnncodes.advice.findings import find_problems
from cnncodes.advice.recipe import Recipe, load_recipe
from cnncodes.advice.sample import MOST_IMAGES, Gathered, Sample, extract_sample
from cnncodes.advice.thresholds import Thresholds, load_thresholds
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError, HeadError
from cnncodes.core.files import parse_json, reading
from cnncodes.core.records import from_value, to_value
from cnncodes.heads.splits import SplitRule
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_files
from cnncodes.images.preprocess import CROPS
from cnncodes.networks import stage_table
from cnncodes.weights.preprocessing import Fit, fit_word

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights, Weights


Amount = Literal["few", "small", "large"]
Similarity = Literal["similar", "different"]

FEW_SHOT = "few-shot"  # the recipe
# Nearer to the other answer than this, a decision is called close. Another set of images of this size would fall on
# the other side in about one of seven cases (two draws of a normal figure, 1.5 standard errors apart).
CLOSE_STANDARD_ERRORS = 1.5
CLOSE_FACTOR = 1.25  # of the number of images: a rule of thumb

_OPPOSITE = {"small": "large", "large": "small", "similar": "different", "different": "similar"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answers to the two questions of CS231n's transfer learning notes, and why."""

    evidence: Evidence
    thresholds: Thresholds
    amount: Amount  # "few": up to 10 images to fit in a typical class
    similarity: Similarity | None  # to the images that the weights were trained on; None of few images

    @property
    def recipe(self) -> str:
        """Name of the advised recipe."""
        return FEW_SHOT if self.similarity is None else f"{self.amount}-{self.similarity}"

    @property
    def next_best(self) -> str:
        """Name of the recipe on the other side of the closer of the two decisions; of few images, the one that tries most."""
        if self.similarity is None:
            return "small-different"
        if self._size_is_closer:
            return f"{_OPPOSITE[self.amount]}-{self.similarity}"
        return f"{self.amount}-{_OPPOSITE[self.similarity]}"

    @property
    def reasons(self) -> tuple[Fact, ...]:
        """Why the set is small or large, and why the images are similar or different; of few images, what they cannot tell."""
        size, numbers = self.evidence.size, self.thresholds
        values: dict[str, Any] = {"train": size.train, "median": size.median_per_class}
        if self.similarity is None:
            values["few"] = numbers.few_shot_per_class
            return Fact(FEW_SHOT, values), self._noise()
        values |= {"amount": self.amount}
        values |= {"large_images": numbers.large_images, "large_per_class": numbers.large_per_class}
        return Fact("size", values), self._similarity_reason()

    @property
    def close(self) -> Fact | None:
        """What else it could easily have been: the closer decision is close, or a second judge contradicts. None: clear, or few."""
        if self.similarity is None:
            return None
        values: dict[str, Any] = {}
        if self._size_is_closer:
            factor = 2.0 ** abs(self._doublings)
            if factor < CLOSE_FACTOR:
                values["compare"] = self.next_best
                change = factor - 1 if self.amount == "small" else 1 / factor - 1
                values["size"] = {"change": change, "recipe": self.next_best}
        elif self._errors_to_the_other < CLOSE_STANDARD_ERRORS:
            values["compare"] = self.next_best
            values["similarity"] = {"errors": self._errors_to_the_other, "recipe": self.next_best}
        late, best = self.evidence.best_late, max(self.evidence.depths, key=lambda depth: depth.neighbours)
        if self.similarity == "similar" and late.neighbours < best.neighbours - best.neighbours_se:
            values["compare"] = f"{self.amount}-different"
            values["neighbours"] = {
                "recipe": values["compare"],
                "best": best.stage,
                "best_right": best.neighbours,
                "late": late.stage,
                "late_right": late.neighbours,
            }
        return Fact("close", values) if values else None

    @property
    def runner_up_reason(self) -> Fact:
        """Why it is the next best, and what would make it the best."""
        if self.similarity is None:
            return Fact("tries-layers")
        if self._size_is_closer:
            values = {"factor": 2.0 ** abs(self._doublings), "other": _OPPOSITE[self.amount]}
            return Fact("closer-size", values)
        errors = self._errors_to_the_other
        return Fact("closer-similarity", {"errors": errors if math.isfinite(errors) else None})

    def _noise(self) -> Fact:
        """By how much chance moves the accuracy of few images, as far as they can be judged."""
        values: dict[str, Any] = {"few": self.thresholds.few_shot_per_class, "judged": self.evidence.judged}
        if self.evidence.depths:
            late = self.evidence.best_late
            values |= {"late": late.stage, "late_right": late.linear, "late_se": late.linear_se}
        return Fact("noise", values)

    def _similarity_reason(self) -> Fact:
        evidence = self.evidence
        late, earlier = evidence.best_late, evidence.best_earlier
        values: dict[str, Any] = {"judged": evidence.judged, "majority": evidence.majority}
        values |= {"late": late.stage, "late_right": late.linear}
        values["last"] = [depth.stage for depth in evidence.depths if depth.late]
        if knows_little(evidence, self.thresholds):
            return Fact("knows-little", values)
        if earlier is None:
            return Fact("alone", values)
        values |= {"earlier": earlier.stage, "earlier_right": earlier.linear}
        values |= {"behind": earlier.behind, "behind_se": earlier.behind_se}
        values["tie_errors"] = self.thresholds.similar_standard_errors
        return Fact("earlier-better" if self.similarity == "different" else "last-best", values)

    @property
    def _size_is_closer(self) -> bool:
        """Doublings of the images count like standard errors of similarity, which is a rule of thumb."""
        return abs(self._doublings) < self._errors_to_the_other

    @property
    def _doublings(self) -> float:
        """How many doublings of the images lie between the set and the threshold of size; negative for a small set."""
        size = self.evidence.size
        return min(
            math.log2(size.train / self.thresholds.large_images),
            math.log2(max(size.median_per_class, 1) / self.thresholds.large_per_class),
        )

    @property
    def _errors_to_the_other(self) -> float:
        """Standard errors to the other answer; infinite where unknown. Similar: the last stages know something, and lead."""
        late, earlier = self.evidence.best_late, self.evidence.best_earlier
        known = []  # how far each of the two is from failing: negative where it fails
        if late.linear_se > 0:
            above = (late.linear - self.evidence.majority) / late.linear_se
            known.append(above - self.thresholds.knowing_standard_errors)
        if earlier is not None and earlier.behind_se > 0:
            known.append(self.thresholds.similar_standard_errors - earlier.behind / earlier.behind_se)
        if not known:
            return math.inf
        if self.similarity == "similar":
            return abs(min(known))
        return max((-value for value in known if value < 0), default=abs(min(known)))


def decide(evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """Few, small or large; similar or different."""
    size = evidence.size
    amount: Amount = "small"
    similarity: Similarity | None = "similar"
    if size.median_per_class <= thresholds.few_shot_per_class:
        amount, similarity = "few", None
    elif not evidence.depths:
        raise HeadError(
            f"{evidence.judged} readable images to learn from are too few to judge a network by.",
            "Give at least two classes with two images each, those that are kept to test not counted.",
        )
    else:
        if size.train >= thresholds.large_images and size.median_per_class >= thresholds.large_per_class:
            amount = "large"
        earlier = evidence.best_earlier
        if knows_little(evidence, thresholds) or (
            earlier is not None and earlier.behind > thresholds.similar_standard_errors * earlier.behind_se
        ):
            similarity = "different"
    return Verdict(evidence=evidence, thresholds=thresholds, amount=amount, similarity=similarity)


def knows_little(evidence: Evidence, thresholds: Thresholds) -> bool:
    """Whether the last stages are not clearly better than always naming the largest class."""
    late = evidence.best_late
    return late.linear <= evidence.majority + thresholds.knowing_standard_errors * late.linear_se


DAMAGED_ADVICE = "The file is damaged, or was written by another version of cnncodes; ask for advice again."


@dataclass(frozen=True)
class Option:
    """A recipe that could be followed."""

    recipe: str
    summary: str  # its own line about itself
    seconds: float  # to follow it here, from the rate that was measured
    command: str  # what to type
    method: str = ""  # of the recipe; empty in advice of earlier versions


@dataclass(frozen=True, kw_only=True)
class Advice(Verdict):
    """A recipe, and why."""

    advised: Option
    runner_up: Option
    warnings: tuple[Finding, ...]  # what is wrong, or may be wrong, with the data
    unreadable: dict[str, str]  # every image looked at that cannot be read, with the reason
    untrained: bool = False  # the weights are random numbers
    split: dict[str, Any] = field(default_factory=dict)  # of :meth:`cnncodes.heads.Split.record`; old: empty
    seen: float | None = None  # median share of a photograph that the network sees; None in old advice
    fits: Fits | None = None  # None where it sees enough, or a person has chosen
    fit: Fit | None = None  # how photographs should become squares; None: as the weights or a person say

    @property
    def reasons(self) -> tuple[Fact, ...]:
        """Why this recipe, as its verdict says, and whether all of a photograph should be seen."""
        fits = () if self.fits is None else (Fact("fit", to_value(self.fits) | {"chosen": self.fit}),)
        return (*super().reasons, *fits)

    @property
    def command(self) -> str:
        """What to type next."""
        return self.advised.command

    def to_json(self) -> str:
        """JSON object with one entry per field, and what follows from them in sentences."""
        words = {
            "recipe": self.recipe,
            "command": self.command,
            "reasons": [str(reason_of(fact)) for fact in self.reasons],
            "close": "" if self.close is None else str(reason_of(self.close)),
            "runner_up_reason": str(reason_of(self.runner_up_reason)),
            "warnings": [finding_value(finding) for finding in self.warnings],
        }
        return json.dumps({**to_value(self), **words})

    @classmethod
    @reading("the advice", CnnCodesError, DAMAGED_ADVICE)
    def from_json(cls, text: str) -> Advice:
        """Inverse of :meth:`to_json`; raises CnnCodesError for anything else."""
        return cls.from_values(parse_json(text))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Advice:
        """From the plain values of JSON, also of older records; raises ValueError or KeyError."""
        depths = values["evidence"]["depths"]
        for place, depth in enumerate(depths):  # of before fc6 counted among the last stages
            depth.setdefault("late", place == len(depths) - 1)
        values.setdefault("untrained", len(values.get("reasons", ())) > 2)  # once a reason of its own
        values["thresholds"] = to_value(load_thresholds()) | values["thresholds"]  # once there were fewer
        values["warnings"] = [upgraded(finding) for finding in values["warnings"]]
        return from_value(values, cls)


def advise(
    catalog: Catalog,
    weights: AnyWeights,
    *,
    data: str | None = None,
    split: SplitRule = "auto",
    images: int = MOST_IMAGES,
    thresholds: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    gpus_per_worker: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    gathered: Gathered | None = None,
    fit: str | None = None,
) -> Advice:
    """Look at the images, measure, and say which recipe to follow.

    Parameters
    ----------
    catalog : Catalog
        With labels.
    weights : Weights, name or path
        Where the recipe would start.
    data : str, optional
        How the images are named in a command; by default the catalog's folder.
    split : {"auto", "none"} or float, default "auto"
        See :func:`cnncodes.heads.split_rows`. The stages are judged on the images to fit alone.
    images : int, default 2000
        At most so many are decoded, with each class's share.
    thresholds : path, optional
        A TOML file with entries that replace those of ``thresholds.toml``.
    device, workers, processes, ray, gpus_per_worker, seed, progress
        See :class:`~cnncodes.core.compute.Compute`.
    gathered : Gathered, optional
        Of all images, from an extraction that has just read them: they are not decoded again.
    fit : {"crop", "pad", "squash"}, optional
        How photographs become squares, if a person has chosen; else padded ones are tried where the centre crops show little.

    Raises
    ------
    HeadError
        If there are fewer than two classes with images that can be read.
    OptionError
        If the thresholds cannot be used.
    """
    from cnncodes.weights import load_weights, with_fit

    weights, numbers = load_weights(weights), load_thresholds(thresholds)
    weights = weights if fit is None else with_fit(weights, fit)
    size, rows = measure_size(catalog, split, seed)
    compute = Compute(
        device, workers, processes, ray, seed=seed, progress=progress or no_progress, gpus_per_worker=gpus_per_worker
    )  # fmt: skip
    sample = extract_sample(catalog, rows, weights, images, compute, gathered)
    verdict = decide(judge(sample, size), numbers)
    fits = _padded(catalog, weights, sample, verdict, compute) if fit is None else None
    ten = load_recipe(verdict.recipe).extract.crops.startswith("ten")  # crops that see more, too
    advised: Fit | None = "pad" if fits and fits.better(numbers.fit_standard_errors) and not ten else None
    words, chosen = data if data is not None else shlex.quote(str(catalog.root)), fit or advised
    words += f" --fit {fit_word(chosen)}" if chosen else ""
    return Advice(
        **vars(verdict),
        advised=_option(verdict.recipe, verdict, weights, words),
        runner_up=_option(verdict.next_best, verdict, weights, words),
        warnings=find_problems(catalog, rows, identical_files(catalog), sample, verdict.evidence, numbers),
        unreadable=sample.problems,
        untrained=weights.origin == "random",
        split=rows.record(catalog),
        seen=sample.median_seen,
        fits=fits,
        fit=advised,
    )


def _padded(
    catalog: Catalog, weights: Weights, sample: Sample, verdict: Verdict, compute: Compute
) -> Fits | None:
    """Whether all of a photograph is better than its centre crop; None where that shows enough, or the images are few."""
    little = sample.median_seen < verdict.thresholds.little_seen
    if weights.preprocessing.fit != "shorter" or not verdict.similarity or not little:
        return None
    return measure_fits(catalog, weights, sample, verdict.evidence.best_late.stage, compute)


def expected_seconds(recipe: Recipe, verdict: Verdict, weights: Weights) -> float:
    """Time to follow a recipe, by the measured rate: forward passes and gradients of what learns; no fit of a head."""
    size, rate = verdict.evidence.size, verdict.evidence.images_per_second
    if recipe.method == "linear":
        return size.images * CROPS[recipe.extract.crops] / rate
    freeze = recipe.for_network(weights.architecture).training.freeze
    cost = 1.0 + (verdict.thresholds.training_cost - 1.0) * learning_share(weights, freeze)
    return recipe.training.epochs * (size.train * cost + size.val + size.test) / rate


def learning_share(weights: Weights, freeze: str) -> float:
    """Share of the network's multiply-adds in the stages from the first that learns on, 0..1."""
    network = weights.architecture
    if not network.stages:  # by the number of its layers: their work is not known here
        held = network.select(freeze) if freeze != "none" else ()
        return 1.0 - len(held) / len(network.stage_names)
    frozen = set(network.select(freeze)) if freeze != "none" else set()
    work = [(row.name, row.multiply_adds) for row in stage_table(network, weights.preprocessing.crop).rows]
    first = next((place for place, (name, adds) in enumerate(work) if adds and name not in frozen), len(work))
    return sum(adds for _, adds in work[first:]) / max(1, sum(adds for _, adds in work))


def _option(name: str, verdict: Verdict, weights: Weights, data: str) -> Option:
    recipe = load_recipe(name)
    chosen = "" if weights.name == "imagenet" else f" --weights {shlex.quote(weights.name)}"
    command = f"cnncodes run {data} -o run --recipe {name}{chosen}"
    return Option(name, recipe.summary, expected_seconds(recipe, verdict, weights), command, recipe.method)
