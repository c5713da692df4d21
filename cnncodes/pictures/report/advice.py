"""The advice on the page of a run: which of four situations this is, what was measured, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnncodes.advice.decision import Advice
from cnncodes.advice.evidence import Evidence
from cnncodes.advice.reasons import first_sentence
from cnncodes.pictures.report.charts import Line, line_chart
from cnncodes.pictures.report.markup import command, escaped, folded, section, sentence
from cnncodes.pictures.report.overview import weights_of, why
from cnncodes.pictures.report.record import RunPage

if TYPE_CHECKING:
    from cnncodes.advice.run_record import RunReport

#: The four situations of CS231n's transfer learning notes: amount, similarity, recipe.
SITUATIONS = (
    ("small", "similar", "small-similar", "a linear classifier on the last codes"),
    ("small", "different", "small-different", "a linear classifier on earlier codes, if they serve better"),
    ("large", "similar", "large-similar", "fine-tune the later stages"),
    ("large", "different", "large-different", "fine-tune every stage"),
)


def advice(page: RunPage) -> str:
    """Which of the four situations this is, and what was measured to say so."""
    found = page.report.advice
    if found is None:
        return ""
    followed = ""
    if page.report.recipe != found.recipe:
        followed = f" <strong>{escaped(page.report.recipe)}</strong> was asked for, and followed."
    if weights_of(page).startswith("random"):
        followed += " But this network has learned from nothing: nothing is like what it knows, and the second answer means little."
    amount = {"small": "few images", "large": "many images"}[found.amount]
    alike = {"similar": "like those it knows", "different": "unlike those it knows"}[found.similarity]
    lead = (
        "Two questions decide how to learn: are there many images, and are they like those that the network was trained on? "
        f"Here: <strong>{amount}, {alike}</strong>, so the recipe <strong>{escaped(found.recipe)}</strong>.{followed}"
    )
    parts = f'<div class="pair"><div>{_depths(found.evidence)}</div><div>{_why(found)}</div></div>'
    return section("advice", "The advice", lead, _square(found, page.report), parts)


def _square(found: Advice, report: RunReport) -> str:
    """The four situations, with this one and the next best marked, and what was read where a stage was chosen."""
    late = [depth.stage for depth in found.evidence.depths if depth.late]
    cells = []
    for amount, similarity, recipe, what in SITUATIONS:
        kind, mark = "", ""
        if (amount, similarity) == (found.amount, found.similarity):
            kind, mark = "here", "your images"
        elif recipe == found.runner_up.recipe:
            kind, mark = "next", "nearly your images" if found.close else "the next best"
        if recipe == report.recipe != found.recipe:
            mark = f"{mark}; asked for" if mark else "asked for"
        tag = f'<span class="tag">{mark}</span>' if mark else ""
        if recipe == report.recipe and report.stage:
            served = ", one of the last, was best after all" if report.stage in late else " was best"
            what += f". Here {escaped(report.stage)}{served if recipe == 'small-different' else ' was read'}"
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
    """The reasons, how close it was or what is the next best, and the figures for those who want them."""
    runner = f"<strong>{escaped(found.runner_up.recipe)}</strong>"
    if found.close:
        first, rest = first_sentence(found.close.removeprefix("Close: "))
        other = f'<p class="beware"><strong>Close:</strong> {_options(sentence(first, upper=False))}</p>'
    else:
        first, rest = first_sentence(found.runner_up_reason)
        other = f"<p>The next best would have been {runner}: {escaped(sentence(first, upper=False))}</p>"
    figures = f"<p>{escaped(sentence(rest))}</p>" if rest else ""
    how = folded(f"how to try {runner}", figures + command(found.runner_up.command))
    return f"<h3>Why</h3>{why(found.reasons, 'the figures')}{other}{how}"


def _options(text: str) -> str:
    """Text as HTML in which an option of a command stays on one line."""
    return re.sub(r"--[a-z]+ [\w-]+", r'<span class="option">\g<0></span>', escaped(text))
