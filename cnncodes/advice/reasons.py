"""Why a recipe is advised: which figures decided, how close it was, and what else it could have been."""

from __future__ import annotations

import math
from typing import Any

from cnncodes.advice.evidence import Evidence
from cnncodes.advice.facts import Fact
from cnncodes.advice.thresholds import Thresholds

# Nearer to the other answer than this, a decision is called close. Another set of images of this size would fall on
# the other side in about one of seven cases (two draws of a normal figure, 1.5 standard errors apart).
CLOSE_STANDARD_ERRORS = 1.5
CLOSE_FACTOR = 1.25  # of the number of images: a rule of thumb

_OPPOSITE = {"small": "large", "large": "small", "similar": "different", "different": "similar"}


def opposite(answer: str) -> str:
    """The other answer to one of the two questions."""
    return _OPPOSITE[answer]


def size_reason(evidence: Evidence, thresholds: Thresholds, amount: str) -> Fact:
    """Why the set counts as small or large."""
    size = evidence.size
    values = {"amount": amount, "train": size.train, "median": size.median_per_class}
    large = {"large_images": thresholds.large_images, "large_per_class": thresholds.large_per_class}
    return Fact("size", values | large)


def similarity_reason(evidence: Evidence, thresholds: Thresholds, similarity: str) -> Fact:
    """Why the images count as similar to those that the network was trained on, or as different from them."""
    late, earlier = evidence.best_late, evidence.best_earlier
    values: dict[str, Any] = {"judged": evidence.judged, "majority": evidence.majority}
    values |= {"late": late.stage, "late_right": late.linear}
    values["last"] = [depth.stage for depth in evidence.depths if depth.late]
    if knows_little(evidence, thresholds):
        return Fact("knows-little", values)
    if earlier is None:
        return Fact("alone", values)
    values |= {"earlier": earlier.stage, "earlier_right": earlier.linear}
    values |= {"behind": earlier.behind, "behind_se": earlier.behind_se}
    values["tie_errors"] = thresholds.similar_standard_errors
    return Fact("earlier-better" if similarity == "different" else "last-best", values)


def close_reason(evidence: Evidence, thresholds: Thresholds, amount: str, similarity: str) -> Fact | None:
    """What else it could easily have been, and what to compare with; None where the case is clear.

    Either the figures are near the other side of the closer of the two decisions, or the second judge, the five
    nearest images, contradicts the first.
    """
    values: dict[str, Any] = {}
    if size_is_closer(evidence, thresholds, similarity):
        factor = 2.0 ** abs(doublings(evidence, thresholds))
        if factor < CLOSE_FACTOR:
            values["compare"] = f"{opposite(amount)}-{similarity}"
            change = factor - 1 if amount == "small" else 1 / factor - 1
            values["size"] = {"change": change, "recipe": values["compare"]}
    elif (errors := errors_to_the_other(evidence, thresholds, similarity)) < CLOSE_STANDARD_ERRORS:
        values["compare"] = f"{amount}-{opposite(similarity)}"
        values["similarity"] = {"errors": errors, "recipe": values["compare"]}
    late, best = evidence.best_late, max(evidence.depths, key=lambda depth: depth.neighbours)
    if similarity == "similar" and late.neighbours < best.neighbours - best.neighbours_se:
        values["compare"] = f"{amount}-different"
        values["neighbours"] = {
            "recipe": values["compare"],
            "best": best.stage,
            "best_right": best.neighbours,
        }
        values["neighbours"] |= {"late": late.stage, "late_right": late.neighbours}
    return Fact("close", values) if values else None


def runner_up_reason(evidence: Evidence, thresholds: Thresholds, amount: str, similarity: str) -> Fact:
    """Why the recipe beyond the closer decision is the next best."""
    if size_is_closer(evidence, thresholds, similarity):
        factor = 2.0 ** abs(doublings(evidence, thresholds))
        return Fact("closer-size", {"factor": factor, "other": opposite(amount)})
    errors = errors_to_the_other(evidence, thresholds, similarity)
    return Fact("closer-similarity", {"errors": errors if math.isfinite(errors) else None})


def knows_little(evidence: Evidence, thresholds: Thresholds) -> bool:
    """Whether the last stages are not clearly better than always naming the largest class."""
    late = evidence.best_late
    return late.linear <= evidence.majority + thresholds.knowing_standard_errors * late.linear_se


def size_is_closer(evidence: Evidence, thresholds: Thresholds, similarity: str) -> bool:
    """Whether the number of images is the closer of the two decisions.

    Doublings of the images count like standard errors of similarity, which is a rule of thumb.
    """
    return abs(doublings(evidence, thresholds)) < errors_to_the_other(evidence, thresholds, similarity)


def doublings(evidence: Evidence, thresholds: Thresholds) -> float:
    """How many doublings of the images lie between the set and the threshold of size; negative for a small set."""
    size = evidence.size
    return min(
        math.log2(size.train / thresholds.large_images),
        math.log2(max(size.median_per_class, 1) / thresholds.large_per_class),
    )


def errors_to_the_other(evidence: Evidence, thresholds: Thresholds, similarity: str) -> float:
    """Standard errors between the figures and the other answer to similar or different; infinite where unknown.

    Images are similar if two things hold: the last stages know something, and are not behind an earlier one.
    """
    late, earlier = evidence.best_late, evidence.best_earlier
    knowing = behind = -math.inf  # how far each of the two is from failing: negative where it fails
    if late.linear_se > 0:
        above = (late.linear - evidence.majority) / late.linear_se
        knowing = above - thresholds.knowing_standard_errors
    if earlier is not None and earlier.behind_se > 0:
        behind = thresholds.similar_standard_errors - earlier.behind / earlier.behind_se
    known = [value for value in (knowing, behind) if math.isfinite(value)]
    if not known:
        return math.inf
    if similarity == "similar":
        return abs(min(known))
    return max((-value for value in known if value < 0), default=abs(min(known)))
