"""The outcome on a page: the results, and every mistake worth seeing."""

from __future__ import annotations

from collections.abc import Sequence

from cnncodes.evaluation import Evaluation
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.data import picture
from cnncodes.pictures.report.markup import count, escaped, folded, listing, named, percent, section
from cnncodes.pictures.report.record import Answer, RunPage

MOST_CELLS = 30  # classes up to which the confusion matrix is a table; beyond, pairs are listed
BESIDE = 8  # classes up to which the matrix has room beside the list of pairs
FIRST_MISTAKES = 12
MOST_NAMED = 500  # mistakes listed by name after those with their image
#: What the sureness of an answer is, by the unit of the answers.
SURENESS = {
    "probability": "Sureness is the probability that the model gives to its answer.",
    "margin": "This classifier, an SVM, gives scores and no probabilities: sureness is its <em>margin</em>, how far its best "
    "score lies above the second best, with the usual (median) test image as 1.0. At 2.0 it was twice as sure as usual, near 0 "
    "undecided.",
}


def results(page: RunPage) -> str:
    """Accuracy, figures of each class, and which class is taken for which."""
    found = page.report.evaluation
    if found is None:
        return ""
    top5 = ""
    if found.top5_tells and found.top5 is not None:
        top5 = f" The right class was among the five best answers for {percent(found.top5)}."
    lead = (
        f"{round(found.n * found.top1):,} of {count(found.n, 'test image')} right, {percent(found.top1)}. Where every class counts "
        f"the same, however many images it has, it is {percent(found.mean_per_class)} (the mean of the classes).{top5}"
    )
    return section("results", "The results", lead, _confusions(found), _classes(found))


def mistakes(page: RunPage) -> str:
    """The wrong answers with their images, the surest first."""
    if page.answers is None:
        return ""
    answers, wrong = page.answers, page.answers.mistakes
    tested = count(len(answers.answers), "test image")
    if not wrong:
        return section("mistakes", "The mistakes", f"None of the {tested} was named wrongly.", " ")
    with_image = {*(page.cards or {}), *(page.missing or {})}
    shown = [answer for answer in wrong if answer.row in with_image]
    cards = [_card(page, answer) for answer in shown]
    lead = (
        f"{count(len(wrong), 'mistake')} among {tested}, the surest first: these teach the most. Sometimes a label is wrong, or the "
        f"picture shows two things. {SURENESS[answers.unit]}"
    )
    more = f'<div class="cards">{"".join(cards[FIRST_MISTAKES:])}</div>' if cards[FIRST_MISTAKES:] else ""
    listed = wrong[len(shown) : len(shown) + MOST_NAMED]
    return section(
        "mistakes",
        "The mistakes",
        lead,
        f'<div class="cards">{"".join(cards[:FIRST_MISTAKES])}</div>',
        folded(f"{len(cards) - FIRST_MISTAKES:,} more", more),
        folded(f"{len(listed):,} more by name", _named(page, listed)),
    )


def _named(page: RunPage, listed: Sequence[Answer]) -> str:
    """Mistakes as a table; nothing for none."""
    if not listed:
        return ""
    rows = "".join(
        f"<tr><td><code>{escaped(page.name(answer.row))}</code></td><td>{named(answer.true)}</td>"
        f'<td>{named(answer.predicted)}</td><td class="number">{_sureness(page, answer)}</td></tr>'
        for answer in listed
    )
    return (
        '<div class="scroll"><table class="plain-table"><tr><th scope="col">image</th><th scope="col">is</th>'
        f'<th scope="col">taken for</th><th scope="col">sureness</th></tr>{rows}</table></div>'
    )


def _card(page: RunPage, answer: Answer) -> str:
    words = f"{plain(answer.true)}, taken for {plain(answer.predicted)}"
    return (
        f'<figure class="card">{picture(page, answer.row, words)}<figcaption><span class="is">is <strong>{named(answer.true)}</strong></span>'
        f'<span class="taken">taken for <strong>{named(answer.predicted)}</strong></span><span class="sure">sureness {_sureness(page, answer)}</span>'
        f'<span class="file">{escaped(page.name(answer.row))}</span></figcaption></figure>'
    )


def _sureness(page: RunPage, answer: Answer) -> str:
    margin = page.answers is not None and page.answers.unit == "margin"
    return f"{answer.sureness:.1f}" if margin else f"{100 * answer.sureness:.0f} %"


def _confusions(found: Evaluation) -> str:
    worst = found.worst_confusions(8)
    if not worst:
        return ""
    pairs = [
        f"<strong>{named(pair.true)}</strong> taken for <strong>{named(pair.predicted)}</strong>: {pair.count:,} "
        f"({100 * pair.share:.0f} % of {named(pair.true)})"
        for pair in worst
    ]
    most = f"<h3>Most frequent confusions</h3>{listing(pairs, 'plain')}"
    if len(found.classes) > MOST_CELLS:
        return most
    matrix = f"<div><h3>Which class is taken for which</h3>{_matrix(found)}</div>"
    beside = len(found.classes) <= BESIDE
    return f'<div class="{"pair" if beside else ""}">{matrix}<div>{most}</div></div>'


def _matrix(found: Evaluation) -> str:
    """The confusion matrix as a table: rows are true classes, a cell as dark as its share of the row."""
    long = len(found.classes) > 6 or max(len(name) for name in found.classes) > 12
    heads = "".join(
        f'<th scope="col" title="{escaped(name)}"><span>{escaped(name)}</span></th>' for name in found.classes
    )
    rows = []
    for true, counts in zip(found.classes, found.confusion, strict=True):
        total = sum(counts)
        cells = []
        for predicted, number in zip(found.classes, counts, strict=True):
            share = number / total if total else 0.0
            kind = "right" if true == predicted else "wrong"
            words = f"{number:,} of {total:,} images of {plain(true)} answered {plain(predicted)}"
            dark = " dark" if share > 0.5 else ""
            cells.append(
                f'<td class="{kind}{dark}" style="--share:{share:.3f}" title="{escaped(words)}">{number or ""}</td>'
            )
        rows.append(f'<tr><th scope="row" title="{escaped(true)}">{escaped(true)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="confusion matrix"><table class="matrix{" long" if long else ""}">'
        f"<caption>rows: what it is; columns: the answer</caption><tr><td></td>{heads}</tr>{''.join(rows)}</table></div>"
    )


def _classes(found: Evaluation) -> str:
    """Recall and precision of each class, the worst first."""
    ordered = sorted(found.per_class, key=lambda figures: (figures.recall is None, figures.recall or 0.0))
    rows = "".join(
        f'<tr><th scope="row">{named(figures.name)}</th><td class="number">{figures.support:,}</td>'
        f'<td class="number">{_share(figures.recall)}</td><td class="number">{_share(figures.precision)}</td></tr>'
        for figures in ordered
    )
    table = (
        '<div class="scroll"><table class="plain-table"><tr><th scope="col">class</th><th scope="col">test images</th>'
        '<th scope="col">of these found (recall)</th><th scope="col">right when it says so (precision)</th></tr>'
        f"{rows}</table></div>"
    )
    heading = "<h3>Class by class, the hardest first</h3>"
    return heading + (table if len(ordered) <= 12 else folded(f"all {len(ordered):,} classes", table))


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)
