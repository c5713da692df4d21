"""What was found out, as records: a kind with its numbers; and the English of every kind, made where it is shown."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnncodes.core.records import to_value
from cnncodes.core.words import counted, percent
from cnncodes.images.readers import NOTES as FILE_NOTES

if TYPE_CHECKING:
    from cnncodes.advice.decision import Option
    from cnncodes.advice.findings import Stray
    from cnncodes.advice.probe_result import Learning
    from cnncodes.training import RangeTest

Values = dict[str, Any]
WHITE = 65_535  # of 16 bits


@dataclass(frozen=True)
class Fact:
    """Why something was chosen, or what to know about a result."""

    kind: str  # of ``REASONS``, ``NOTES`` or ``FINDINGS``; "text" in records of earlier versions
    values: Values = field(default_factory=dict)  # numbers and names, as JSON has them


@dataclass(frozen=True)
class Case:
    """What a finding is about: an image, several that belong together, or a class."""

    names: tuple[str, ...] = ()  # of the images in the catalog, or of the class
    rows: tuple[int, ...] = ()  # of the images in the catalog
    values: Values = field(default_factory=dict)  # what is known about it


@dataclass(frozen=True)
class Finding(Fact):
    """Something about the data that a person should look at."""

    cases: tuple[Case, ...] = ()  # the clearest first

    @property
    def names(self) -> tuple[str, ...]:
        """Of all cases."""
        return tuple(name for case in self.cases for name in case.names)

    @property
    def rows(self) -> tuple[int, ...]:
        """Of all cases."""
        return tuple(row for case in self.cases for row in case.rows)


@dataclass(frozen=True)
class Reason:
    """The sentences of a reason."""

    conclusion: str  # one sentence that says it all
    figures: str = ""  # sentences with the numbers behind it; may be empty
    compare: str = ""  # of a close decision, the recipe to compare with; its conclusion is a clause

    @property
    def short(self) -> str:
        """Without the figures."""
        if self.compare:
            return f"Close: {self.conclusion}; try --recipe {self.compare} to compare."
        return self.conclusion

    def __str__(self) -> str:
        return f"{self.short} {self.figures}".rstrip()


def upgraded(value: Any) -> Any:
    """The values of a fact or a finding as an earlier version wrote it, with its sentence, as those of one with kind and values."""
    if isinstance(value, str):
        return {"kind": "text", "values": {"text": value}}
    if "values" in value:
        return value
    if "conclusion" in value:
        return {"kind": "text", "values": value}
    texts, files, rows = value["names"], value.get("files", ()), value.get("rows", ())
    single = len(rows) in (0, len(texts))  # else several of one text: they are told together
    cases = [
        {
            "names": list(files[place : place + 1]),
            "rows": list(rows[place : place + 1] if single else () if place else rows),
            "values": {"text": text},
        }
        for place, text in enumerate(texts)
    ]
    return {"kind": value["kind"], "values": {"text": value["text"]}, "cases": cases}


#: What values of another version, or damaged ones, lead to.
_OTHER = (LookupError, TypeError, ValueError, AttributeError)


class _English(string.Formatter):
    """Templates with values: ``{right:%}`` is a percentage, ``{count:is|are}`` the first word of 1, the second of others."""

    def format_field(self, value: Any, spec: str) -> str:
        one, bar, many = spec.partition("|")
        if bar:
            return one if value == 1 else many
        return percent(value) if spec == "%" else str(super().format_field(value, spec))


def _words(template: str, values: Values) -> str:
    return _English().vformat(template, (), values)


def _said(table: dict[str, str | Callable[[Values], str]], fact: Fact) -> str:
    """The sentence of a fact; empty of another version's."""
    try:
        said = table[fact.kind]
        return _words(said, fact.values) if isinstance(said, str) else said(fact.values)
    except _OTHER:
        return ""


# --- findings


def finding_text(finding: Finding) -> str:
    """One sentence on a finding, such as "3 files are damaged at the end."."""
    if "text" in finding.values:  # of an earlier version, without capital and full stop
        text = str(finding.values["text"])
        return f"{text[:1].upper()}{text[1:]}."
    return _said(FINDINGS, finding) or f"{finding.kind}: {counted(len(finding.cases), 'case')}."


def finding_value(finding: Finding) -> Values:
    """A finding as JSON has it, with its sentences."""
    names = [case_text(finding.kind, case) for case in finding.cases]
    return {**to_value(finding), "text": finding_text(finding), "names": names}


def _one_colour(v: Values) -> str:
    """With the cause, if some of the images are dark ones of 16 bits, and what can be done."""
    text = _words("{count:,} {count:image is|images are} nearly one colour", v)
    dark, listed = v["dark"], v["listed"]
    if not dark:
        return f"{text}."
    which = f"{dark} of the {listed} listed are 16-bit images" if listed > 1 else "it is a 16-bit image"
    factor = 2 ** (16 - v["highest"].bit_length())
    return (
        f"{text}; {which} with values only up to {v['highest']:,} of {WHITE:,}, so nearly black: multiply all images by "
        f"{factor} first, for example with Pillow: Image.open(old).point(lambda value: value * {factor}).save(new)"
    )


FINDINGS: dict[str, str | Callable[[Values], str]] = {
    **{kind: f"{{count:,}} {{count:file is|files are}} {words}." for kind, words in FILE_NOTES.items()},
    "unreadable": "{count:,} of the {looked:,} {looked:image|images} checked cannot be read.",
    "classes-not-learned": "{count:,} {count:class to test has|classes to test have} no training images.",
    "classes-not-tested": "{count:,} {count:class has|classes have} training images but no test images.",
    "classes-alike": "Some class names may mean the same class.",
    "few": "{count:,} {count:class has|classes have} fewer than {least:g} training images.",
    "imbalance": "The classes are unbalanced: {largest!r} has {most:,} training images and {smallest!r} {least:,}. "
    "Look at the mean accuracy per class, not at the accuracy alone.",
    "identical-labels": "{count:,} {count:file occurs|files occur} twice with different labels.",
    "identical": "{count:,} {count:file is|files are} in both the training set and the test set.",
    "near": "{count:,} {count:pair|pairs} of nearly identical images {count:has|have} one for training and one for testing.",
    "one-colour": _one_colour,
    "far": "{count:,} {count:image is|images are} unlike all the others: check that they belong in the set.",
    "labels": "{count:,} {count:label|labels} may be wrong: a classifier that was not trained on the image is sure of another class.",
}


def case_text(kind: str, case: Case) -> str:
    """What a finding of this kind says about one of its cases: names, and why."""
    try:
        return _case(kind, case)
    except _OTHER:
        return ", ".join(case.names)


def _case(kind: str, case: Case) -> str:
    v, name = case.values, case.names[0] if case.names else ""
    if "text" in v:
        return str(v["text"])
    match kind:
        case "unreadable":
            return f"{name}: {v['reason']}"
        case "classes-alike":
            return " and ".join(map(repr, case.names))
        case "few":
            return f"{name}: {v['images']}"
        case "identical" | "identical-labels":
            return " = ".join(case.names)
        case "near":
            return f"{' ~ '.join(case.names)} ({v['distance']:.3f} of the usual distance)"
        case "labels":
            return f"{name}: looks like {v['seems']!r} ({100 * v['certainty']:.0f} %), not {v['label']!r}"
        case "one-colour" | "far":
            return f"{name}: {_look(kind, v)}"
    return name


def stray_text(stray: Stray) -> str:
    """What is said of an image to look at, without its name."""
    v = stray.values
    match stray.kind:
        case "labels":
            return f"{v['votes']} of its 10 nearest are {v['other']!r}, its label is {v['label']!r}"
        case "identical" | "near":
            what = "the same file as" if stray.kind == "identical" else "nearly the same picture as"
            labelled = f"labelled {' and '.join(map(repr, v['labels']))}"
            differ = labelled if v["labels"] else f"in {' and '.join(v['splits'])}"
            return f"{what} {', '.join(v['others'])}, {differ}"
    return _look(stray.kind, v)


def _look(kind: str, v: Values) -> str:
    if kind == "far":
        return f"{v['ratio']:.1f} times as far from its 10 nearest images as usual"
    words = f"{100 * v['share']:.0f} % of it is one colour"
    highest = v.get("highest")
    return words if highest is None else f"{words}, a 16-bit image with values up to {highest:,} of {WHITE:,}"


# --- reasons


def reason_of(fact: Fact) -> Reason:
    """The sentences of a reason."""
    v = fact.values
    if fact.kind == "text":  # of an earlier version
        names = ("conclusion", "figures", "compare")
        said = {name: str(v[name]) for name in names if name in v}
        return Reason(**said) if "conclusion" in said else Reason(str(v.get("text", "")))
    try:
        words = REASONS[fact.kind]
        return words(v) if callable(words) else Reason(*(_words(text, v) for text in words))
    except _OTHER:
        return Reason(f"{fact.kind}.")


def reason_value(fact: Fact) -> Values:
    """A reason as JSON has it, with its sentences."""
    return {**to_value(fact), **to_value(reason_of(fact))}


_SIMILAR = "The images are similar to the network's training images"
_DIFFERENT = "The images are different from the network's training images"
_SIMPLE = "simple classifier on {late} is correct for {late_right:%} of the {judged:,} images"


def _late(v: Values) -> str:
    """``fc6 (the better of the last stages, fc6 and fc7)``."""
    names = v["last"]
    among = f"the better of the last stages, {' and '.join(names)}" if len(names) == 2 else "the last stage"
    return f"{v['late']} ({among})"


def _noise(v: Values) -> Reason:
    error = f", with a standard error of {100 * v['late_se']:.1f} points." if "late" in v else ""
    return Reason(
        "The accuracy of so few images varies: with other images of the same classes it may be several points higher or lower. "
        f"More than {v['few']:g} per class raise it, make it steadier, and let layer and settings be chosen by measurement.",
        f"A {_words(_SIMPLE, v)}{error}" if error else "With one image per class nothing can be judged.",
    )


def _knows_little(v: Values) -> Reason:
    right = _words(_SIMPLE, v | {"late": _late(v)})
    largest = f"always predicting the largest class for {percent(v['majority'])}"
    return Reason(f"{_DIFFERENT}: it knows little about these classes.", f"A {right}, and {largest}.")


def _earlier_better(v: Values) -> Reason:
    right = _words(_SIMPLE, v | {"late": v["earlier"], "late_right": v["earlier_right"]})
    at_last = f"on {_late(v)} for {percent(v['late_right'])}"
    return Reason(
        f"{_DIFFERENT}: the codes of an earlier stage are better for them than those of the last stages.",
        f"A {right}, {at_last}: {_behind(v, 'fewer')} would count as a tie.",
    )


def _last_best(v: Values) -> Reason:
    right = _words(_SIMPLE, v | {"late": _late(v)})
    earlier = f"on {v['earlier']}, the best of the earlier stages, for {percent(v['earlier_right'])}"
    more = "" if v["behind"] <= 0 else f": {_behind(v, 'more')} count as a tie"
    return Reason(
        f"{_SIMILAR}: the codes of its last stages are as good for them as any.",
        f"A {right}, {earlier}{more}.",
    )


def _behind(v: Values, word: str) -> str:
    tie = f"{100 * v['tie_errors'] * v['behind_se']:.1f} points ({v['tie_errors']:g} standard errors)"
    return f"{100 * abs(v['behind']):.1f} points {word}, and up to {tie}"


def _close(v: Values) -> Reason:
    clauses, figures = [], []
    if near := v.get("size"):
        images = f"{100 * abs(near['change']):.0f} % {'more' if near['change'] > 0 else 'fewer'} images"
        clauses.append(f"with {images} it would have been {near['recipe']}")
    if near := v.get("similarity"):
        clauses.append(f"with slightly different images it would have been {near['recipe']}")
        figures.append(f"The figures are {near['errors']:.1f} standard errors from that answer.")
    if near := v.get("neighbours"):
        clauses.append(f"a second test, by the 5 most similar images, favours {near['recipe']}")
        figures.append(
            f"By these 5, {near['best']} is correct for {percent(near['best_right'])} of the images, {near['late']} for "
            f"{percent(near['late_right'])}."
        )
    return Reason(" and ".join(clauses), " ".join(figures), v["compare"])


def _closer_size(v: Values) -> Reason:
    change = f"{v['factor']:.1f} times as many" if v["other"] == "large" else f"1/{v['factor']:.1f} of them"
    return Reason(
        "Of the two questions, few or many images is the closer one.",
        f"With {change} the set would count as {v['other']}.",
    )


def _closer_similarity(v: Values) -> Reason:
    far = (
        ""
        if v["errors"] is None
        else f"The figures are {v['errors']:.1f} standard errors from the other answer."
    )
    return Reason("Of the two questions, similar or different is the closer one.", far)


def _fit(v: Values) -> Reason:
    verdict = ", and all of it, padded, is no better"
    if v["chosen"]:
        verdict = ", and all of it, padded, is better: --fit pad"
    elif v["gain"] > v["gain_se"]:
        verdict = "; all of it may be better: try --fit pad"
    change = f"{100 * v['gain']:+.1f} points, standard error {100 * v['gain_se']:.1f}"
    return Reason(
        f"The centre crop shows a median of {100 * v['seen']:.0f} % of a photograph{verdict}.",
        f"A simple classifier on {v['stage']} is correct for {percent(v['pad'])} of {v['judged']:,} images with all of each "
        f"photograph, {percent(v['crop'])} with its centre ({change}).",
    )


def _head(v: Values) -> Reason:
    """Of the layer that a head reads, what it is worth there, and what chose both."""
    reads = f"The head, a linear classifier, reads the codes of {v['stage']}"
    if v.get("accuracy") is None:
        return Reason(f"{reads}.")
    held = "in cross-validation" if v["folds"] > 1 else "on held-out images"
    return Reason(
        f"{reads}: {percent(v['accuracy'])} correct {held}.",
        f"Chosen by {v['how']}, with C = {v['C']:g}, which controls how closely the head fits single images.",
    )


def _epoch(v: Values) -> Reason:
    right = v["val_accuracy"]
    watched = "" if right is None else f" ({percent(right)} of the validation images correct)"
    return Reason(f"Of {counted(v['epochs'], 'epoch')} of training, epoch {v['epoch']} is kept{watched}.")


REASONS: dict[str, tuple[str, ...] | Callable[[Values], Reason]] = {
    "size": (
        "The set is {amount}: {train:,} training images, {median:,} in a typical class.",
        "A set is large from {large_images:,.0f} images with {large_per_class:,.0f} in the typical (median) class, a rule of thumb.",
    ),
    "few-shot": (
        "The set is very small: {train:,} training {train:image|images}, {median:,} in a typical class, too few to tell whether they "
        "are similar to the network's training images.",
        "Up to {few:g} per class nothing is chosen by held-out images: layer and C are given, a rule of thumb.",
    ),
    "noise": _noise,
    "knows-little": _knows_little,
    "alone": (
        f"{_SIMILAR}: a {_SIMPLE}, always predicting the largest class for {{majority:%}}.",
        "There is no earlier stage to compare with.",
    ),
    "earlier-better": _earlier_better,
    "last-best": _last_best,
    "close": _close,
    "tries-layers": (
        "It tries earlier layers, too, which suit drawings, scans and satellite images; choosing one by cross-validation needs at "
        "least two images of a class.",
    ),
    "closer-size": _closer_size,
    "closer-similarity": _closer_similarity,
    "fit": _fit,
    "head": _head,
    "epoch": _epoch,
    "requested": ("The recipe was requested; the advice would have been {advised}.",),
}


# --- notes: what makes the figures less certain than they look


def note_text(fact: Fact) -> str:
    """The sentence of a note."""
    return str(fact.values.get("text", "")) if fact.kind == "text" else _said(NOTES, fact) or f"{fact.kind}."


def note_value(fact: Fact) -> Values:
    """A note as JSON has it, with its sentence."""
    return {**to_value(fact), "text": note_text(fact)}


NOTES: dict[str, str | Callable[[Values], str]] = {
    "untested": "No images could be kept for testing, so the accuracy on new images is unknown: add images.",
    "few-tested": lambda v: (
        f"Only {counted(v['tested'], 'test image')}: each one moves the accuracy by {100 / v['tested']:.1f} points."
    ),
    "seen": "The weights were trained on {seen:,} of the {tested:,} test {tested:image|images}: the accuracy says little about "
    "new images.",
    "copies": "{copies:,} {copies:image|images} of the test split {copies:is a copy|are copies} of training images, and left out; "
    "with {copies:it|them} the accuracy would be {top1:%}.",
    "left-out": lambda v: (
        f"{v['images']:,} {'further ' if v['further'] else ''}test images are copies of training images, or have no label, and "
        "were left out."
    ),
    "classes-untested": lambda v: (
        f"{_words('{count:,} {count:class has|classes have}', v)} no test images: {', '.join(map(repr, v['names']))}."
    ),
    "untrained": "The weights are random: they were trained on nothing, so similar and different mean little. Use trained weights.",
}


# --- a split of images that have changed


def grown_text(v: Values) -> str:
    """What became of new images, and of known ones that did not keep their side: counts by what they are for now."""
    parts = {
        "for training": v["train"],
        "to test, as copies of test images": v["copies"],
        "to test, for classes without a test image": v["drawn"],
        "left out, as copies of images on both sides": v["left_out"],
    }
    v = v | {"new": sum(parts.values())}
    clauses = ["{new:,} {new:image is|images are} new: {new:it joins|they join} the training set"]
    if not v["new"]:
        clauses = ["no image is new"]
    elif v["new"] != v["train"]:
        listed = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
        clauses = [f"{{new:,}} {{new:image is|images are}} new: {listed}"]
    if v["known_drawn"]:
        clauses.append(
            "{known_drawn:,} training {known_drawn:image tests|images test} now, for classes without a test image"
        )
    if v["known_left_out"]:
        clauses.append(
            "{known_left_out:,} known {known_left_out:is|are} left out, as copies of images on both sides"
        )
    return _words("; ".join([*clauses, "the {stay:,} test images stay"]), v)


def changed_text(gone: int, gone_tests: int, renamed: int, relabelled: int) -> list[str]:
    """What else has changed, a clause each: ``["2 images are gone, 1 of the test"]``."""
    tests = f", {gone_tests:,} of the test" if gone_tests else ""
    clauses = {
        f"{{0:,}} {{0:image is|images are}} gone{tests}": gone,
        "{0:,} {0:image is|images are} renamed": renamed,
        "{0:,} {0:has|have} another label": relabelled,
    }
    return [_English().format(clause, count) for clause, count in clauses.items() if count]


# --- options and probes


def option_text(option: Option) -> str:
    """What the expected seconds of a recipe are for."""
    linear = option.method == "linear"
    return "to extract the codes; the head's fit comes on top" if linear else "to train, at most"


def learning_text(found: Learning) -> str:
    """Whether more images would help, with the figures."""
    if found.before is None or found.after is None:
        return "Whether more images would help cannot be seen from one number of images per class: give two, such as --shots 10,20."
    gain, low, high = found.gain or 0.0, found.low or 0.0, found.high or 0.0
    average = " on average" if found.average else ""
    step = (
        f"from {found.before[0]:.0f} to {found.after[0]:.0f} images per class{average}, {found.layer} of {found.source} went "
        f"from {100 * found.before[1]:.1f} to {100 * found.after[1]:.1f} % ({100 * gain:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}, {counted(found.draws, 'draw')})"
    )
    if found.verdict == "more help":
        return (
            f"More images would help: {step}. Twice as many again would bring up to about {100 * found.doubling:.1f} points; "
            "each doubling usually brings less than the last."
        )
    if found.verdict == "hardly":
        return f"More images of the same kind would hardly help: {step}."
    return f"Whether more images would help is not clear: {step}. More --repeats, or numbers further apart, would tell."


def rate_found(test: RangeTest) -> str:
    """What a range test of the learning rate suggests and why, without a full stop."""
    fall, used = "does not fall beyond its noise", "a tenth of that"
    if test.steepest is not None:
        fall = f"falls fastest at {test.steepest:.2g}"
    elif test.level is not None:
        fall = f"falls to that of guessing at {test.level:.2g}"
    if test.steepest is not None or test.level is not None:
        used = "the first rate, or a tenth of the second if that is less"
    end = f"diverges at {test.blow_up:.2g}" if test.blew_up else f"does not diverge up to {test.blow_up:g}"
    return (
        f"learning rate {test.rate:g}, by a range test of {len(test.rates)} steps: the loss {fall} and {end}; "
        f"the rate is {used} (a rule of thumb)"
    )
