"""Decide: few, small or large, similar or different; why, how close it was, and what else it could have been."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from cnncodes.advice.evidence import Evidence
from cnncodes.advice.facts import Fact
from cnncodes.advice.thresholds import Thresholds
from cnncodes.core.errors import HeadError

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
    """The answers to the two questions of CS231n's transfer learning notes, and why.

    Parameters
    ----------
    evidence : Evidence
        What was measured.
    thresholds : Thresholds
        The numbers that decided.
    amount : {"few", "small", "large"}
        "few": up to 10 images to fit in a typical class.
    similarity : {"similar", "different"} or None
        To the images that the weights were trained on; None of few images, which say nothing about it.
    """

    evidence: Evidence
    thresholds: Thresholds
    amount: Amount
    similarity: Similarity | None

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
        """What else it could easily have been, and how to compare; None where the case is clear, and of few images.

        Either the figures are near the other side of the closer of the two decisions, or the second judge, the five
        nearest images, contradicts the first.
        """
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
            other = values["compare"] = f"{self.amount}-different"
            of_best = {"recipe": other, "best": best.stage, "best_right": best.neighbours}
            values["neighbours"] = {**of_best, "late": late.stage, "late_right": late.neighbours}
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
        """Standard errors between the figures and the other answer to similar or different; infinite where unknown.

        Images are similar if two things hold: the last stages know something, and are not behind an earlier one.
        """
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
    """Few, small or large; similar or different.

    Raises
    ------
    HeadError
        If hardly any of the images can be read, though there are many.
    """
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
