"""The advice on the page of a run: which of four situations this is, what was measured, and why."""

from __future__ import annotations

from cnncodes.advice.decision import Advice
from cnncodes.advice.evidence import Evidence
from cnncodes.pictures.report.charts import Line, line_chart
from cnncodes.pictures.report.markup import command, escaped, folded, listing, section, sentence
from cnncodes.pictures.report.record import RunPage

#: The four situations of CS231n's transfer learning notes: amount, similarity, recipe.
SITUATIONS = (
    ("small", "similar", "small-similar", "a linear classifier on the last codes"),
    ("small", "different", "small-different", "a linear classifier on earlier codes"),
    ("large", "similar", "large-similar", "fine-tune the later stages"),
    ("large", "different", "large-different", "fine-tune every stage"),
)


def advice(page: RunPage) -> str:
    """Which of the four situations this is, and what was measured to say so."""
    found = page.report.advice
    if found is None:
        return ""
    followed = "" if page.report.chosen_by == "advice" else " Another recipe was asked for, and followed."
    amount = {"small": "few images", "large": "many images"}[found.amount]
    alike = {"similar": "like those it knows", "different": "unlike those it knows"}[found.similarity]
    lead = (
        "Two questions decide how to learn: are there many images, and are they like those that the network was trained on? "
        f"Here: <strong>{amount}, {alike}</strong>, so the recipe <strong>{escaped(found.recipe)}</strong>.{followed}"
    )
    parts = f'<div class="pair"><div>{_depths(found.evidence)}</div><div>{_why(found)}</div></div>'
    return section("advice", "The advice", lead, _square(found), parts)


def _square(found: Advice) -> str:
    """The four situations, with this one and the next best marked."""
    cells = []
    for amount, similarity, recipe, what in SITUATIONS:
        kind, mark = "", ""
        if (amount, similarity) == (found.amount, found.similarity):
            kind, mark = "here", "your images"
        elif recipe == found.runner_up.recipe:
            kind, mark = "next", "nearly your images" if found.close else "the next best"
        tag = f'<span class="tag">{mark}</span>' if mark else ""
        cells.append(f'<td class="{kind}"><strong>{recipe}</strong><br>{what}{tag}</td>')
    return (
        '<table class="square" aria-label="the four situations">'
        '<tr><td></td><th scope="col">like the images the network knows</th><th scope="col">unlike them</th></tr>'
        f'<tr><th scope="row">few images</th>{cells[0]}{cells[1]}</tr>'
        f'<tr><th scope="row">many images</th>{cells[2]}{cells[3]}</tr></table>'
    )


def _depths(evidence: Evidence) -> str:
    """What each stage knows, as a chart, and how to read it."""
    depths = evidence.depths
    chart = line_chart(
        f"What each stage of the network knows about your classes ({evidence.judged:,} images)",
        [depth.stage for depth in depths],
        (
            Line("linear classifier", [100 * d.linear for d in depths], "one", [100 * d.linear_se for d in depths]),
            Line("5 nearest neighbours", [100 * d.neighbours for d in depths], "two", [100 * d.neighbours_se for d in depths]),
        ),
        unit=" %",
        level=("always the largest class", 100 * evidence.majority),
    )  # fmt: skip
    return (
        f'{chart}<p class="quiet">How to read it: an image passes the stages from left to right, and what a stage makes of it '
        "is a list of numbers, its code. Each point is the share of images whose class a simple classifier finds from that code, "
        "the image itself left out; the vote of the 5 images with the nearest codes is a second opinion. The upright bars "
        "(standard errors) say by how much chance moves a point.</p>"
    )


def _why(found: Advice) -> str:
    """The reasons, how close it was, and the next best."""
    close = (
        f'<p class="beware"><strong>Close:</strong> {escaped(sentence(found.close.removeprefix("Close: ")))}</p>'
        if found.close
        else ""
    )
    other = (
        f"<p>The next best would have been <strong>{escaped(found.runner_up.recipe)}</strong>: "
        f"{escaped(sentence(found.runner_up_reason, upper=False))}</p>{folded('how to try it', command(found.runner_up.command))}"
    )
    reasons = listing([escaped(sentence(reason)) for reason in found.reasons], "plain")
    return f"<h3>Why</h3>{reasons}{close}{other}"
