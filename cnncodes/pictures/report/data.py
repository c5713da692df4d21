"""The images of a run on its page: how many of each class, what they look like, and what is worth a look."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from cnncodes.images.catalog import SPLITS
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.markup import (
    count,
    data_uri,
    escaped,
    folded,
    listing,
    named,
    section,
    sentence,
)
from cnncodes.pictures.report.record import RunPage

BARS = 30  # classes whose counts are shown at once; the others are folded
NAMED = 50  # files listed of what cannot be read
MOST_PICTURED = 12  # images of a finding
#: What images are for: split, style, words.
KINDS = (
    ("train", "learn", "to learn from"),
    ("val", "choose", "to choose with"),
    ("test", "test", "to test"),
    ("none", "unused", "not used"),
)


def data(page: RunPage) -> str:
    """Counts, samples, and what a person should look at."""
    return section(
        "data",
        "The images",
        f"{_division(page)} Look through the samples: a wrong label or a stray image is seen here first.",
        _problems(page),
        _bars(page),
        _samples(page),
    )


def _division(page: RunPage) -> str:
    """How many images learn, choose and test, and who said so."""
    report = page.report
    parts = [f"{report.train:,} images to learn from"]
    parts += [f"{report.val:,} to choose settings with"] if report.val else []
    parts += [f"{report.test:,} kept apart to test"] if report.test else []
    own = "the data came divided like this"
    drawn = re.sub(
        r": [\d,]+ images to fit, [\d,]+ to test (?=\()", " ", report.split
    )  # the numbers stand before it
    how = own if drawn.startswith("the data's own") else drawn
    return f"{' and '.join([', '.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)}: {escaped(sentence(how, upper=False))}"


def _bars(page: RunPage) -> str:
    """How many images each class has, and for what."""
    table = page.catalog.counts()[:-1]
    largest = max(int(table.sum(axis=1).max()), 1) if len(table) else 1
    order = np.argsort(-table.sum(axis=1), kind="stable")
    rows = [_bar(page.catalog.classes[label], table[label].tolist(), largest) for label in order.tolist()]
    totals = table.sum(axis=0).tolist()
    keys = "".join(
        f'<span class="key {kind}">{what}: {totals[SPLITS.index(split)]:,}</span>'
        for split, kind, what in KINDS
        if totals[SPLITS.index(split)]
    )
    head = '<table class="counts" aria-label="images of each class">'
    rest = f"{head}{''.join(rows[BARS:])}</table>" if len(rows) > BARS else ""
    more = folded(count(len(rows) - BARS, "more class", "more classes"), rest)
    return (
        f'<h3>How many of each class</h3><p class="keys">{keys}</p>{head}{"".join(rows[:BARS])}</table>{more}'
    )


def _bar(name: str, counts: list[int], largest: int) -> str:
    """A class's row: a bar with a part for each use of its images, and their number."""
    parts = [(kind, counts[SPLITS.index(split)], what) for split, kind, what in KINDS]
    bar = "".join(
        f'<span class="{kind}" style="width:{100 * number / largest:.2f}%" title="{number:,} {what}"></span>'
        for kind, number, what in parts
        if number
    )
    words = ", ".join(f"{number:,} {what}" for _, number, what in parts if number)
    return (
        f'<tr><th scope="row">{named(name)}</th><td class="bar"><span class="bars">{bar}</span></td>'
        f'<td class="number">{sum(counts):,}<span class="hidden">: {words}</span></td></tr>'
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


def _named(page: RunPage, names: Sequence[str]) -> str:
    """The images that a finding names, as far as they are known."""
    known = page.named or {}
    rows = list(dict.fromkeys(row for name in names for row in known.get(name, ())))
    images = "".join(picture(page, row, plain(page.name(row))) for row in rows[:MOST_PICTURED])
    return f'<div class="named">{images}</div>' if images else ""


def _problems(page: RunPage) -> str:
    """Findings about the data, each with its files; a word if there are none."""
    report = page.report
    items = []
    for finding in report.problems:
        if finding.kind == "unreadable":
            continue
        strip = _named(page, finding.names)
        files = listing([f"<code>{escaped(name)}</code>" for name in finding.names], "files")
        items.append(
            f"<strong>{escaped(sentence(finding.text))}</strong>{strip}{folded('which, and what is said of each' if strip else 'which', files)}"
        )
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
