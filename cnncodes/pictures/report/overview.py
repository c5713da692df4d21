"""The first half of a page: the answer in one sentence, what was asked, the data, the advice."""

from __future__ import annotations

import numpy as np

from cnncodes.images.catalog import SPLITS
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.charts import Line, interval_chart, line_chart
from cnncodes.pictures.report.markup import (
    command,
    count,
    data_uri,
    escaped,
    folded,
    listing,
    percent,
    section,
)
from cnncodes.pictures.report.record import RunPage

BARS = 30  # classes whose counts are shown at once; the others are folded
NAMED = 50  # files listed of what cannot be read

#: The four situations of CS231n's transfer learning notes: amount, similarity, recipe.
SITUATIONS = (
    ("small", "similar", "small-similar", "a linear classifier on the last codes"),
    ("small", "different", "small-different", "a linear classifier on earlier codes"),
    ("large", "similar", "large-similar", "fine-tune the later stages"),
    ("large", "different", "large-different", "fine-tune every stage"),
)


def headline(page: RunPage) -> str:
    """What came out, in one sentence, with how sure that is."""
    report, found = page.report, page.report.evaluation
    when = escaped(page.created[:10])
    eyebrow = f'<p class="eyebrow">{escaped(page.title)} <span>a run of cnncodes{f", {when}" if when else ""}</span></p>'
    if found is None:
        return (
            f'<header>{eyebrow}<h1>A model is there, but nothing was tested</h1><p class="sub">No image could be kept '
            f"apart, so nobody knows how good it is on new ones. Add images, and run again.</p>{facts(page)}</header>"
        )
    right = round(found.n * found.top1)
    largest = max(found.per_class, key=lambda figures: figures.support).name
    low, high = f"{100 * found.top1_low:.0f}", f"{100 * found.top1_high:.0f}"
    if found.top1_low > found.majority:
        verdict = f"Always answering &ldquo;{escaped(largest)}&rdquo; would be right on {percent(found.majority)}, so the model has learned something."
    elif found.top1 > found.majority:
        verdict = (
            f"Always answering &ldquo;{escaped(largest)}&rdquo; would be right on {percent(found.majority)}, which lies within "
            "this uncertainty: it is <strong>not shown</strong> that the model is better than that."
        )
    else:
        verdict = (
            f"Always answering &ldquo;{escaped(largest)}&rdquo; would be right on {percent(found.majority)}: by this "
            "test the model is <strong>no better</strong> than that."
        )
    warned = "".join(
        f'<p class="beware"><strong>Beware:</strong> {escaped(note.rstrip("."))}.</p>'
        for note in report.notes
    )
    return (
        f"<header>{eyebrow}<h1>{percent(found.top1)} of the test images told right</h1>"
        f'<p class="sub">{right:,} of {count(found.n, "image")} that the model had not learned from. On more images '
        f"of this kind, the share would be between {low} and {high} % (with 95 % confidence). {verdict}</p>"
        f"{interval_chart(found.top1, found.top1_low, found.top1_high, found.majority, f'always {plain(largest)}')}"
        f"{warned}{facts(page)}</header>"
    )


def facts(page: RunPage) -> str:
    """Four numbers at a glance."""
    report = page.report
    seconds = sum(report.seconds.values())
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    values = (
        (f"{report.images:,}", "image" if report.images == 1 else "images"),
        (f"{report.classes:,}", "class" if report.classes == 1 else "classes"),
        (escaped(report.recipe), "recipe, advised" if report.chosen_by == "advice" else "recipe, asked for"),
        (took, "of computing"),
    )
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for value, name in values)
    return f'<dl class="facts">{cells}</dl>'


def asked(page: RunPage) -> str:
    """The command, and the steps that it took."""
    report = page.report
    by = (
        "It was advised from what the images are like; the evidence stands below."
        if report.chosen_by == "advice"
        else "It was asked for."
    )
    text = f"<p>The recipe <strong>{escaped(report.recipe)}</strong> was followed: {escaped(report.summary)}. {by}</p>"
    own = report.reasons[:1] if report.chosen_by == "advice" else report.reasons  # the advice says the others
    reasons = listing([escaped(reason) for reason in own], "plain")
    return section(
        "asked",
        "What was asked",
        "This command made everything on this page.",
        command(page.command),
        text,
        reasons,
    )


def data(page: RunPage) -> str:
    """Counts, samples, and what a person should look at."""
    report = page.report
    return section(
        "data",
        "The images",
        f"{escaped(_sentence(report.split))} Look through the samples: a wrong label or a stray image is seen here first.",
        _problems(page),
        _bars(page),
        _samples(page),
    )


def _bars(page: RunPage) -> str:
    """How many images each class has, and for what."""
    catalog = page.catalog
    table = catalog.counts()[:-1]
    order = np.argsort(-table.sum(axis=1), kind="stable")
    largest = max(int(table.sum(axis=1).max()), 1) if len(table) else 1
    rows = []
    for label in order.tolist():
        learn, val, test, unused = (
            int(table[label, SPLITS.index(name)]) for name in ("train", "val", "test", "none")
        )
        parts = [
            ("learn", learn, "to learn from"),
            ("choose", val, "to choose with"),
            ("test", test, "to test"),
            ("unused", unused, "not used"),
        ]
        bar = "".join(
            f'<span class="{kind}" style="width:{100 * number / largest:.2f}%" title="{number:,} {what}"></span>'
            for kind, number, what in parts
            if number
        )
        words = ", ".join(f"{number:,} {what}" for _, number, what in parts if number)
        rows.append(
            f'<tr><th scope="row">{escaped(catalog.classes[label])}</th><td class="bar"><span class="bars">{bar}</span></td>'
            f'<td class="number">{learn + val + test + unused:,}<span class="hidden">: {words}</span></td></tr>'
        )
    totals = table.sum(axis=0)
    kinds = [
        ("train", "learn", "to learn from"),
        ("val", "choose", "to choose with"),
        ("test", "test", "to test"),
        ("none", "unused", "not used"),
    ]
    keys = "".join(
        f'<span class="key {kind}">{what}: {totals[SPLITS.index(split)]:,}</span>'
        for split, kind, what in kinds
        if totals[SPLITS.index(split)]
    )
    head = '<table class="counts" aria-label="images of each class">'
    more = (
        folded(
            f"{count(len(rows) - BARS, 'more class', 'more classes')}",
            f"{head}{''.join(rows[BARS:])}</table>",
        )
        if len(rows) > BARS
        else ""
    )
    return (
        f'<h3>How many of each class</h3><p class="keys">{keys}</p>{head}{"".join(rows[:BARS])}</table>{more}'
    )


def _samples(page: RunPage) -> str:
    parts = []
    for name, rows in (page.samples or {}).items():
        images = "".join(picture(page, row, f"{plain(name)}: {plain(page.name(row))}") for row in rows)
        parts.append(
            f'<figure class="strip"><figcaption>{escaped(name)}</figcaption><div>{images}</div></figure>'
        )
    left = len(page.catalog.classes) - len(parts)
    more = (
        f'<p class="quiet">And {count(left, "more class", "more classes")}.</p>' if left > 0 and parts else ""
    )
    shown = f'<div class="strips">{"".join(parts)}</div>{more}'
    return f"<h3>What they look like</h3>{shown}" if parts else ""


def picture(page: RunPage, row: int, words: str) -> str:
    """A card's image, or a tile that says that it is missing."""
    card = (page.cards or {}).get(row)
    if card is None:
        reason = (page.missing or {}).get(row, "not shown")
        return f'<span class="missing" role="img" aria-label="{escaped(words)}" title="{escaped(page.name(row))}: {escaped(reason)}">cannot be read</span>'
    return f'<img src="{data_uri(card)}" width="176" height="176" alt="{escaped(words)}" title="{escaped(page.name(row))}">'


def _problems(page: RunPage) -> str:
    """Findings about the data, each with its files; a word if there are none."""
    report = page.report
    items = []
    for finding in report.problems:
        if finding.kind == "unreadable":
            continue
        files = folded("which", listing([f"<code>{escaped(name)}</code>" for name in finding.names], "files"))
        items.append(f"<strong>{escaped(_sentence(finding.text))}</strong>{files}")
    if report.unreadable:
        named = [
            f"<code>{escaped(name)}</code>: {escaped(reason)}"
            for name, reason in list(report.unreadable.items())[:NAMED]
        ]
        rest = len(report.unreadable) - len(named)
        files = listing(named, "files") + (
            f"<p>and {rest:,} more; report.json lists all.</p>" if rest else ""
        )
        items.append(
            f"<strong>{count(len(report.unreadable), 'image')} could not be read and took no part.</strong>{folded('which', files)}"
        )
    if items:
        return f"<h3>Worth a look</h3>{listing(items, 'problems')}"
    if report.advice is None:
        return ""
    return '<p class="good">The automatic checks found nothing: no broken files, no copies on both sides of the test, no label that the codes contradict, no class far too small. They do not see everything: look through the images yourself.</p>'


def advice(page: RunPage) -> str:
    """Which of the four situations this is, and what was measured to say so."""
    found = page.report.advice
    if found is None:
        return ""
    evidence = found.evidence
    cells = []
    for amount, similarity, recipe, what in SITUATIONS:
        here = (amount, similarity) == (found.amount, found.similarity)
        kinds = [
            *(["here"] if here else []),
            *(["next"] if recipe == found.runner_up.recipe and not here else []),
        ]
        mark = "your images" if here else "the next best" if kinds else ""
        tag = f'<span class="tag">{mark}</span>' if mark else ""
        cells.append(f'<td class="{" ".join(kinds)}"><strong>{recipe}</strong><br>{what}{tag}</td>')
    square = (
        '<table class="square" aria-label="the four situations">'
        '<tr><td></td><th scope="col">like the images the network knows</th><th scope="col">unlike them</th></tr>'
        f'<tr><th scope="row">few images</th>{cells[0]}{cells[1]}</tr>'
        f'<tr><th scope="row">many images</th>{cells[2]}{cells[3]}</tr></table>'
    )
    chart = line_chart(
        f"What each stage of the network knows about your classes ({evidence.judged:,} images, each left out once; bars are standard errors)",
        [depth.stage for depth in evidence.depths],
        (
            Line("linear classifier", [100 * d.linear for d in evidence.depths], "one", [100 * d.linear_se for d in evidence.depths]),
            Line("5 nearest neighbours", [100 * d.neighbours for d in evidence.depths], "two", [100 * d.neighbours_se for d in evidence.depths]),
        ),
        unit=" %",
        level=("always the largest class", 100 * evidence.majority),
    )  # fmt: skip
    other = (
        f"<p>The next best would have been <strong>{escaped(found.runner_up.recipe)}</strong>: "
        f"{escaped(_sentence(found.runner_up_reason, upper=False))}</p>{folded('how to try it', command(found.runner_up.command))}"
    )
    why = f"<h3>Why</h3>{listing([escaped(_sentence(reason)) for reason in found.reasons], 'plain')}{other}"
    followed = "" if page.report.chosen_by == "advice" else " Another recipe was asked for, and followed."
    lead = (
        f"Two questions decide: are there many images, and are they like those that the network was trained on? Here: "
        f"<strong>{found.amount}</strong> and <strong>{found.similarity}</strong>, so <strong>{escaped(found.recipe)}</strong>.{followed}"
    )
    return section("advice", "The advice", lead, square, f'<div class="pair">{chart}<div>{why}</div></div>')


def _sentence(text: str, upper: bool = True) -> str:
    """Text with a capital at its start and a full stop at its end."""
    text = text[:1].upper() + text[1:] if upper else text
    return text if text.endswith((".", "!", "?")) else f"{text}."
