"""The top of a page: the answer at one glance, and what was done to get it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from cnncodes.advice.reasons import first_sentence
from cnncodes.evaluation import Evaluation
from cnncodes.pictures.report.charts import interval_chart
from cnncodes.pictures.report.markup import (
    command,
    count,
    escaped,
    folded,
    listing,
    named,
    percent,
    section,
    sentence,
    shortened,
)
from cnncodes.pictures.report.record import RunPage

ASKED = 4  # classes up to which the question is put in words
#: What a recipe of each method does, in words.
METHODS = {
    "linear": "A linear classifier{kind}, the <em>head</em>, learned to tell the classes apart from these codes. The network itself "
    "was left as it was.",
    "finetune": "The network itself went on learning from your images, with a new last stage for your classes: this is called "
    "<em>fine-tuning</em>. Stages that the recipe freezes were left as they were.",
    "train": "A new network learned from your images alone, starting from random numbers.",
}


#: What a head is called, by the recipe's word for it.
HEADS = {"svm": " (a support vector machine, SVM)", "softmax": " (softmax, that is logistic regression)"}


def headline(page: RunPage) -> str:
    """What came out, how sure that is, and what goes wrong: the first screen."""
    found = page.report.evaluation
    when = escaped(page.created[:10])
    eyebrow = f'<p class="eyebrow">{escaped(page.title)} <span>a run of cnncodes{f", {when}" if when else ""}</span></p>'
    if found is None:
        return (
            f'<header>{eyebrow}<h1>A model is there, but nothing was tested</h1><p class="sub">No image could be kept '
            f"apart, so nobody knows how good it is on new ones. Add images, and run again.</p>{facts(page)}</header>"
        )
    largest = max(found.per_class, key=lambda figures: figures.support).name
    warned = "".join(
        f'<p class="beware"><strong>Beware:</strong> {escaped(note.rstrip("."))}.</p>'
        for note in page.report.notes
    )
    chart = interval_chart(
        found.top1, found.top1_low, found.top1_high, found.majority, f"always {shortened(largest)}"
    )
    return (
        f"<header>{eyebrow}{_question(found)}<h1>{percent(found.top1)} of the test images named correctly</h1>"
        f'<p class="sub">{_how_sure(found, largest)}</p>{chart}{_what_goes_wrong(found)}{_look_at(page)}{warned}{facts(page)}</header>'
    )


def _question(found: Evaluation) -> str:
    """``ants or bees?``, of few classes with names that are not long."""
    names = found.classes
    if len(names) > ASKED or sum(map(len, names)) > 60:
        return ""
    return f'<p class="question">{escaped(", ".join(names[:-1]))} or {escaped(names[-1])}?</p>'


def _how_sure(found: Evaluation, largest: str) -> str:
    """Of how many, between which limits on others, and whether that is more than guessing."""
    low, high = f"{100 * found.top1_low:.0f}", f"{100 * found.top1_high:.0f}"
    guessing = f"Always answering &ldquo;{named(largest)}&rdquo; would be right on {percent(found.majority)}"
    if found.top1_low > found.majority:
        verdict = f"{guessing}, so the model has learned something."
    elif found.top1 > found.majority:
        verdict = (
            f"{guessing}, which lies within this uncertainty: it is <strong>not shown</strong> that the model is better "
            "than that."
        )
    else:
        verdict = f"{guessing}: by this test the model is <strong>no better</strong> than that."
    return (
        f"{round(found.n * found.top1):,} of {count(found.n, 'image')} that the model had not learned from. On more images of "
        f"this kind, expect between {low} and {high} % (with 95 % confidence: {count(found.n, 'image')} cannot say it more "
        f"exactly). {verdict}"
    )


def _what_goes_wrong(found: Evaluation) -> str:
    """The most frequent confusions in one sentence."""
    worst = found.worst_confusions(2)
    worst = tuple(pair for pair in worst if pair.count > 1) or worst[:1]
    if not worst:
        return '<p class="sub">No test image was named wrongly.</p>'
    support = {figures.name: figures.support for figures in found.per_class}
    pairs = [
        f"{named(pair.true)} taken for {named(pair.predicted)} ({pair.count:,} of {support[pair.true]:,})"
        for pair in worst
    ]
    return f'<p class="sub"><strong>What goes wrong most:</strong> {", and ".join(pairs)}. <a href="#mistakes">See the mistakes</a></p>'


def _look_at(page: RunPage) -> str:
    """A word where the checks of the images found something."""
    report = page.report
    texts = [finding.text for finding in report.problems if finding.kind != "unreadable"]
    if report.unreadable:
        texts.append(f"{count(len(report.unreadable), 'image')} could not be read")
    if not texts:
        return ""
    more = f" And {count(len(texts) - 1, 'more thing', 'more things')} about the images." if texts[1:] else ""
    said = f"{escaped(sentence(texts[0]))}{more}"
    return f'<p class="beware"><strong>Worth a look:</strong> {said} <a href="#data">See which</a></p>'


def facts(page: RunPage) -> str:
    """Four numbers at a glance."""
    report = page.report
    seconds = sum(report.seconds.values())
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    values = (
        (
            f"{report.images:,}",
            f"{'image' if report.images == 1 else 'images'}, {report.train:,} to learn from",
        ),
        (f"{report.classes:,}", "class" if report.classes == 1 else "classes"),
        (escaped(report.recipe), f"recipe, {'advised' if report.chosen_by == 'advice' else 'asked for'}"),
        (took, "of computing"),
    )
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for value, name in values)
    return f'<dl class="facts">{cells}</dl>'


def asked(page: RunPage) -> str:
    """The command, the steps that it took, and the words for them."""
    report = page.report
    by = (
        "was advised from what the images are like; the evidence stands below"
        if report.chosen_by == "advice"
        else "was asked for"
    )
    chosen = (
        f"<p>A <em>recipe</em> says how to get from images to a classifier. Here it is "
        f"<strong>{escaped(report.recipe)}</strong> ({escaped(report.summary)}), which {by}.</p>"
    )
    own = report.reasons[:1] if report.chosen_by == "advice" else report.reasons  # the advice says the others
    return section(
        "asked",
        "What was done",
        "This command made everything on this page, in these steps:",
        command(page.command),
        f'<ol class="plain">{"".join(f"<li>{step}</li>" for step in _steps(page))}</ol>',
        chosen,
        why(own, "how that was chosen, with the figures"),
    )


def why(reasons: Sequence[str], title: str) -> str:
    """The first sentence of each reason, and their figures folded."""
    parts = [first_sentence(reason) for reason in reasons]
    figures = listing([escaped(sentence(rest)) for _, rest in parts if rest], "plain")
    return listing([escaped(sentence(first)) for first, _ in parts], "plain") + folded(title, figures)


def weights_of(page: RunPage) -> str:
    """Name of the weights that a run began with; empty for a network trained from new numbers."""
    return str(tomllib.loads(page.report.recipe_text).get("network", {}).get("weights", ""))


def _who(weights: str) -> str:
    """The network that a run began with, and what it had learned from (HTML)."""
    if weights.startswith("random"):
        return "A neural network of random numbers, which has learned from nothing,"
    if weights == "starter":
        return (
            "A small neural network that comes with cnncodes and had learned from some 22,000 small pictures of many kinds (what it "
            "has learned, its <em>weights</em>, is called starter; the weights <code>imagenet</code>, learned from over a "
            "million photographs, can be expected to do better)"
        )
    what = "the photographs of ImageNet, over a million" if weights == "imagenet" else "other images"
    name = f" (its <em>weights</em>, what it has learned, are called {escaped(weights)})" if weights else ""
    return f"A neural network that had learned from {what}{name}"


def _steps(page: RunPage) -> list[str]:
    """From images to a tested model, in words that need no textbook (HTML)."""
    report = page.report
    choose = f", {report.val:,} to choose settings with" if report.val else ""
    apart = f", {report.test:,} kept apart to test" if report.test else ""
    steps = [f"The images were divided: {report.train:,} to learn from{choose}{apart}."]
    recipe = tomllib.loads(report.recipe_text)
    if report.method != "train":
        ends = ""
        if report.advice is not None and len(depths := report.advice.evidence.depths) > 1:
            first, last = escaped(depths[0].stage), escaped(depths[-1].stage)
            ends = f", from {first}, near the pixels, to {last}, near what the picture shows"
        steps.append(
            f"{_who(weights_of(page))} looked at them. It works in <em>stages</em>{ends}; the list of numbers that a stage makes of an image is "
            "the image's <em>CNN code</em>."
        )
    steps.append(METHODS[report.method].format(kind=HEADS.get(recipe.get("head", {}).get("kind", ""), "")))
    if report.evaluation is not None:
        steps.append("The model was tested once, on the images kept apart.")
    return steps
