"""Why a recipe is advised, in words that need no textbook: the conclusion first, then the figures that led to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnncodes.advice.evidence import Evidence
from cnncodes.advice.thresholds import Thresholds

# Nearer to the other answer than this, a decision is called close. Another set of images of this size would fall on
# the other side in about one of seven cases (two draws of a normal figure, 1.5 standard errors apart).
CLOSE_STANDARD_ERRORS = 1.5
CLOSE_FACTOR = 1.25  # of the number of images: a rule of thumb


@dataclass(frozen=True)
class Reason:
    """Why something was chosen.

    Parameters
    ----------
    conclusion : str
        One sentence that says it all.
    figures : str
        Sentences with the numbers behind it; may be empty.
    compare : str
        Of a close decision, whose conclusion has neither capital nor full stop, the recipe to compare with.
    """

    conclusion: str
    figures: str = ""
    compare: str = ""

    @property
    def short(self) -> str:
        """Without the figures."""
        if self.compare:
            return f"Close: {self.conclusion}; try --recipe {self.compare} to compare."
        return self.conclusion

    def __str__(self) -> str:
        return f"{self.short} {self.figures}".rstrip()


def opposite(answer: str) -> str:
    """The other answer to one of the two questions."""
    pairs = {"small": "large", "large": "small", "similar": "different", "different": "similar"}
    return pairs[answer]


def size_reason(evidence: Evidence, thresholds: Thresholds, amount: str) -> Reason:
    """Why the set counts as small or large."""
    size = evidence.size
    return Reason(
        f"The set is {amount}: {size.train:,} images to learn from, {size.median_per_class:,} in a typical class.",
        f"Large begins at {thresholds.large_images:,.0f} images with {thresholds.large_per_class:,.0f} in the typical "
        "(median) class, which is a rule of thumb.",
    )


def similarity_reason(evidence: Evidence, thresholds: Thresholds, similarity: str) -> Reason:
    """Why the images count as similar to those that the network was trained on, or as different from them."""
    late, earlier = evidence.best_late, evidence.best_earlier
    images = f"{evidence.judged:,} images"
    if knows_little(evidence, thresholds):
        return Reason(
            "The images count as different from those that the network was trained on: it knows little about these classes.",
            f"A simple classifier on {late.stage}{_among(evidence)} is right for {_percent(late.linear)} of the {images}, and always "
            f"naming the largest class for {_percent(evidence.majority)}.",
        )
    if earlier is None:
        return Reason(
            "The images count as similar to those that the network was trained on: a simple classifier on "
            f"{late.stage} is right for {_percent(late.linear)} of the {images}, always naming the largest class for "
            f"{_percent(evidence.majority)}.",
            "There is no earlier stage to compare with.",
        )
    points = 100 * abs(earlier.behind)
    tie = (
        f"{100 * thresholds.similar_standard_errors * earlier.behind_se:.1f} points "
        f"({thresholds.similar_standard_errors:g} standard errors)"
    )
    if similarity == "different":
        return Reason(
            "The images count as different from those that the network was trained on: an earlier stage of the network serves "
            "them better than its last ones.",
            f"A simple classifier on {earlier.stage} is right for {_percent(earlier.linear)} of "
            f"the {images}, on {late.stage}{_among(evidence)} for {_percent(late.linear)}: {points:.1f} points fewer, and up to "
            f"{tie} would count as a tie.",
        )
    compared = (
        f"for {_percent(earlier.linear)}."
        if earlier.behind <= 0
        else f"for {_percent(earlier.linear)}: {points:.1f} points more, and up to {tie} count as a tie."
    )
    return Reason(
        "The images count as similar to those that the network was trained on: its last stages serve them as well as any before.",
        f"A simple classifier on {late.stage}{_among(evidence)} is right for {_percent(late.linear)} of the {images}, on "
        f"{earlier.stage}, the best of the earlier stages, {compared}",
    )


def close_reason(evidence: Evidence, thresholds: Thresholds, amount: str, similarity: str) -> Reason | None:
    """What else it could easily have been, and what to compare with, then the figures; None where the case is clear.

    Either the figures are near the other side of the closer of the two decisions, or the second judge, the five
    nearest images, contradicts the first.
    """
    reasons, figures, other = [], [], ""
    if size_is_closer(evidence, thresholds, similarity):
        factor = 2.0 ** abs(doublings(evidence, thresholds))
        if factor < CLOSE_FACTOR:
            other = f"{opposite(amount)}-{similarity}"
            change = factor - 1 if amount == "small" else 1 - 1 / factor
            more = "more" if amount == "small" else "fewer"
            reasons.append(f"with {100 * change:.0f} % {more} images it would have been {other}")
    elif (errors := errors_to_the_other(evidence, thresholds, similarity)) < CLOSE_STANDARD_ERRORS:
        other = f"{amount}-{opposite(similarity)}"
        reasons.append(f"with somewhat other images it would have been {other}")
        figures.append(f"Between the figures and that answer lie {errors:.1f} standard errors.")
    late, best = evidence.best_late, max(evidence.depths, key=lambda depth: depth.neighbours)
    if similarity == "similar" and late.neighbours < best.neighbours - best.neighbours_se:
        other = f"{amount}-different"
        reasons.append(f"a second test, by the 5 most alike images, speaks for {other}")
        figures.append(
            f"By these 5, {best.stage} is right for {_percent(best.neighbours)} of the images, {late.stage} for "
            f"{_percent(late.neighbours)}."
        )
    if not reasons:
        return None
    return Reason(" and ".join(reasons), " ".join(figures), other)


def runner_up_reason(evidence: Evidence, thresholds: Thresholds, amount: str, similarity: str) -> Reason:
    """Why the recipe beyond the closer decision is the next best, then the figure."""
    if size_is_closer(evidence, thresholds, similarity):
        factor = 2.0 ** abs(doublings(evidence, thresholds))
        change = f"{factor:.1f} times as many" if amount == "small" else f"1/{factor:.1f} of them"
        return Reason(
            "Of the two questions, few or many images is the closer one.",
            f"With {change} the set would count as {opposite(amount)}.",
        )
    errors = errors_to_the_other(evidence, thresholds, similarity)
    far = f"Between the figures and the other answer lie {errors:.1f} standard errors."
    return Reason(
        "Of the two questions, similar or different is the closer one.", far if math.isfinite(errors) else ""
    )


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


def _among(evidence: Evidence) -> str:
    """`` (the best of its last stages, fc6 and fc7)``."""
    names = [depth.stage for depth in evidence.depths if depth.late]
    return (
        f" (the better of its last stages, {' and '.join(names)})" if len(names) == 2 else " (its last stage)"
    )


def _percent(value: float) -> str:
    """``74.5 %`` of 0.745."""
    return f"{100 * value:.1f} %"
