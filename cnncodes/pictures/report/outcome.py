"""The middle of a page: the curves of a training, the results, and every mistake worth seeing."""

from __future__ import annotations

from cnncodes.evaluation import Evaluation
from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.charts import Line, line_chart
from cnncodes.pictures.report.markup import count, escaped, folded, listing, percent, section
from cnncodes.pictures.report.overview import picture
from cnncodes.pictures.report.record import Answer, RunPage

MOST_CELLS = 30  # classes up to which the confusion matrix is a table; beyond, pairs are listed
BESIDE = 8  # classes up to which the matrix has room beside the list of pairs
FIRST_MISTAKES = 12
MOST_NAMED = 500  # mistakes listed by name after those with their image


def curves(page: RunPage) -> str:
    """Loss, accuracy and learning rate of a training by epoch."""
    epochs = page.epochs
    if not epochs:
        return ""
    names = [str(epoch.epoch) for epoch in epochs]
    watched = [place for place, epoch in enumerate(epochs) if epoch.val_loss is not None]
    kept = min(watched, key=lambda place: epochs[place].val_loss or 0.0) if watched else len(epochs) - 1
    accuracy = [None if epoch.val_accuracy is None else 100 * epoch.val_accuracy for epoch in epochs]
    charts = (
        line_chart(
            "Loss: how far the answers are from the labels (lower is better)",
            names,
            _pair([epoch.loss for epoch in epochs], [epoch.val_loss for epoch in epochs]),
            marked=kept,
            below="epoch",
        ),
        line_chart(
            "Images told right",
            names,
            _pair([100 * epoch.accuracy for epoch in epochs], accuracy),
            unit=" %",
            marked=kept,
            below="epoch",
        ),
        line_chart(
            "Learning rate at the end of each epoch",
            names,
            (Line("learning rate", [epoch.learning_rate for epoch in epochs], "three"),),
            logarithmic=True,
            marked=kept,
            below="epoch",
        ),
    )
    lead = (
        f"{count(len(epochs), 'epoch')}; the weights after epoch {epochs[kept].epoch} (dotted line) were kept. If the "
        "validation curve turns up while the other goes down, the network learns the images by heart."
    )
    return section("curves", "The training", lead, f'<div class="trio">{"".join(charts)}</div>')


def results(page: RunPage) -> str:
    """Accuracy, figures of each class, and which class is taken for which."""
    found = page.report.evaluation
    if found is None:
        return ""
    top5 = (
        f" One of the five best answers was right on {percent(found.top5)}." if found.top5 is not None else ""
    )
    lead = (
        f"{percent(found.top1)} of {count(found.n, 'test image')} right; the mean of the classes, each counting the same, is "
        f"{percent(found.mean_per_class)}.{top5}"
    )
    return section("results", "The results", lead, _confusions(found), _classes(found))


def mistakes(page: RunPage) -> str:
    """The wrong answers with their images, the surest first."""
    if page.answers is None:
        return ""
    answers, wrong = page.answers, page.answers.mistakes
    if not wrong:
        return section(
            "mistakes",
            "The mistakes",
            f"None of the {count(len(answers.answers), 'test image')} was told wrong.",
            " ",
        )
    shown = [answer for answer in wrong if answer.row in {*(page.cards or {}), *(page.missing or {})}]
    cards = [_card(page, answer) for answer in shown]
    listed = wrong[len(shown) : len(shown) + MOST_NAMED]
    names = "".join(
        f"<tr><td><code>{escaped(page.name(answer.row))}</code></td><td>{escaped(answer.true)}</td>"
        f'<td>{escaped(answer.predicted)}</td><td class="number">{_sureness(page, answer)}</td></tr>'
        for answer in listed
    )
    table = (
        '<div class="scroll"><table class="plain-table"><tr><th scope="col">image</th><th scope="col">is</th>'
        f'<th scope="col">taken for</th><th scope="col">sureness</th></tr>{names}</table></div>'
    )
    how = (
        "Sureness is the probability that the model gives to its answer."
        if answers.unit == "probability"
        else "An SVM gives no probabilities: sureness is the distance between its two best scores, compared with that "
        "of the median test image (1.0)."
    )
    lead = (
        f"{count(len(wrong), 'mistake')} among {count(len(answers.answers), 'test image')}, the surest first: these teach the "
        f"most. Often a label is wrong, or the picture shows two things. {how}"
    )
    return section(
        "mistakes",
        "The mistakes",
        lead,
        f'<div class="cards">{"".join(cards[:FIRST_MISTAKES])}</div>',
        folded(
            f"{len(cards) - FIRST_MISTAKES:,} more",
            f'<div class="cards">{"".join(cards[FIRST_MISTAKES:])}</div>',
        )
        if len(cards) > FIRST_MISTAKES
        else "",
        folded(f"{len(listed):,} more by name", table) if listed else "",
    )


def _card(page: RunPage, answer: Answer) -> str:
    words = f"{plain(answer.true)}, taken for {plain(answer.predicted)}"
    return (
        f'<figure class="card">{picture(page, answer.row, words)}<figcaption><span class="is">is <strong>{escaped(answer.true)}</strong></span>'
        f'<span class="taken">taken for <strong>{escaped(answer.predicted)}</strong></span><span class="sure">sureness {_sureness(page, answer)}</span>'
        f'<span class="file">{escaped(page.name(answer.row))}</span></figcaption></figure>'
    )


def _sureness(page: RunPage, answer: Answer) -> str:
    margin = page.answers is not None and page.answers.unit == "margin"
    return f"{answer.sureness:.1f}" if margin else f"{100 * answer.sureness:.0f} %"


def _pair(train: list[float], val: list[float | None]) -> tuple[Line, ...]:
    lines = (Line("images to learn from", train, "one"), Line("validation images", val, "two"))
    return lines if any(value is not None for value in val) else lines[:1]


def _confusions(found: Evaluation) -> str:
    worst = found.worst_confusions(8)
    if not worst:
        return ""
    pairs = [
        f"<strong>{escaped(pair.true)}</strong> taken for <strong>{escaped(pair.predicted)}</strong>: {pair.count:,} "
        f"({100 * pair.share:.0f} % of {escaped(pair.true)})"
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
        f'<tr><th scope="row">{escaped(figures.name)}</th><td class="number">{figures.support:,}</td>'
        f'<td class="number">{_share(figures.recall)}</td><td class="number">{_share(figures.precision)}</td></tr>'
        for figures in ordered
    )
    table = (
        '<div class="scroll"><table class="plain-table"><tr><th scope="col">class</th><th scope="col">test images</th>'
        '<th scope="col">of these told right</th><th scope="col">right when it says so</th></tr>'
        f"{rows}</table></div>"
    )
    heading = "<h3>Class by class, the hardest first</h3>"
    return heading + (table if len(ordered) <= 12 else folded(f"all {len(ordered):,} classes", table))


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)
