"""Advice: from the images to one of five recipes, with the reasons, the runner-up and the command to run.

The two questions are those of CS231n's transfer learning notes: are there many images, and are they like those
that the weights were trained on? The answers come from the figures and from ``thresholds.toml``.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnncodes.advice.evidence import judge, measure_size
from cnncodes.advice.facts import Fact, Finding, upgraded
from cnncodes.advice.findings import find_problems
from cnncodes.advice.fits import Fits, measure_fits
from cnncodes.advice.reasons import Verdict, decide
from cnncodes.advice.recipe import Recipe, load_recipe
from cnncodes.advice.sample import MOST_IMAGES, Gathered, extract_sample
from cnncodes.advice.sentences import finding_value, reason_of
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError
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

DAMAGED_ADVICE = "The file is damaged, or was written by another version of cnncodes; ask for advice again."


@dataclass(frozen=True)
class Option:
    """A recipe that could be followed.

    Parameters
    ----------
    recipe : str
        Its name.
    summary : str
        Its own line about itself.
    seconds : float
        What following it takes here, expected from the rate that was measured.
    method : str
        Of the recipe; empty in advice of earlier versions.
    command : str
        What to type.
    """

    recipe: str
    summary: str
    seconds: float
    command: str
    method: str = ""


@dataclass(frozen=True, kw_only=True)
class Advice(Verdict):
    """A recipe, and why.

    Parameters
    ----------
    evidence, thresholds, amount, similarity
        See :class:`cnncodes.advice.reasons.Verdict`.
    advised, runner_up : Option
    warnings : tuple of Finding
        What is wrong, or may be wrong, with the data.
    unreadable : dict of str to str
        Every image looked at that cannot be read, with the reason.
    untrained : bool
        Whether the weights are random numbers, of which similar and different say little.
    split : dict
        See :meth:`cnncodes.heads.Split.record`; empty in advice of earlier versions.
    seen : float or None
        Median share of a photograph that the network sees; None in advice of earlier versions.
    fits : Fits or None
        Whether it should see more; None where it sees enough, or a person has chosen.
    fit : {"pad"} or None
        How photographs should become squares; None: as the weights say, or a person.
    """

    advised: Option
    runner_up: Option
    warnings: tuple[Finding, ...]
    unreadable: dict[str, str]
    untrained: bool = False
    split: dict[str, Any] = field(default_factory=dict)
    seen: float | None = None
    fits: Fits | None = None
    fit: Fit | None = None

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
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    seed : int, default 0
    progress : callable(step, done, total, word), optional
    gathered : Gathered, optional
        Of all images, from an extraction that has just read them: they are not decoded again.
    fit : {"crop", "pad", "squash"}, optional
        How photographs become squares, if a person has chosen. By default padded ones are compared with the centre crops where
        these show little.

    Returns
    -------
    Advice

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
    compute = Compute(device, workers, seed=seed, progress=progress or no_progress)
    sample = extract_sample(catalog, rows, weights, images, compute, gathered)
    verdict = decide(judge(sample, size), numbers)
    fits: Fits | None = None
    advised: Fit | None = None
    shorter = fit is None and weights.preprocessing.fit == "shorter"
    if shorter and verdict.similarity and sample.median_seen < numbers.little_seen:
        fits = measure_fits(catalog, weights, sample, verdict.evidence.best_late.stage, compute)
        ten = load_recipe(verdict.recipe).extract.crops.startswith("ten")  # see more, too
        fit = advised = "pad" if fits.better(numbers.fit_standard_errors) and not ten else None
    words = data if data is not None else shlex.quote(str(catalog.root))
    words += f" --fit {fit_word(fit)}" if fit else ""
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


def expected_seconds(recipe: Recipe, verdict: Verdict, weights: Weights) -> float:
    """Time to follow a recipe, from the rate measured on the sample; the fit of a linear head is not counted.

    Linear: one forward pass for each image and crop. Training: each epoch a pass for each image, and the
    gradients' part for what learns, by its share of the multiply-adds. What caching saves is not counted.
    """
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
