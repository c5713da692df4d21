"""A training on the page of its run: how the rate was chosen, and the curves."""

from __future__ import annotations

import math

from cnncodes.pictures.report.charts import Line, line_chart
from cnncodes.pictures.report.markup import count, escaped, section, sentence
from cnncodes.pictures.report.record import RunPage


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
            "Images named correctly",
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
            logarithmic=all(epoch.learning_rate > 0 for epoch in epochs),
            marked=kept,
            below="epoch",
        ),
    )
    lead = (
        f"{count(len(epochs), 'epoch')}: in each, every image to learn from was seen once. The state after epoch "
        f"{epochs[kept].epoch} (dotted line) was kept{', the best on the validation images, which were not learned from' if watched else ''}. "
        "If the validation curve turns up while the other goes down, the network learns the images by heart."
    )
    return section("curves", "The training", lead, f'<div class="trio">{"".join(charts)}</div>', _rates(page))


def _rates(page: RunPage) -> str:
    """The range test that chose the learning rate, if there was one."""
    test = page.range_test
    if test is None or not test.rates:
        return ""
    nearest = min(range(len(test.rates)), key=lambda place: abs(math.log(test.rates[place] / test.rate)))
    best = min(test.smoothed)
    chart = line_chart(
        "Loss at each learning rate tried",
        [f"{rate:.1g}" for rate in test.rates],
        (Line("loss, smoothed", [min(loss, 3 * best) for loss in test.smoothed], "one"),),
        marked=nearest,
        below="learning rate",
        every=max(1, len(test.rates) // 5),
    )
    text = (
        "<p>How large the steps of learning may be was measured before the training: the rate was raised step by step, and "
        "the loss watched. Too small a rate learns nothing, too large a one makes the loss jump (cut off here). Afterwards the "
        f"network was put back as it was.</p><p>{escaped(sentence(test.explain()))}</p>"
    )
    return f'<h3>How the learning rate was chosen</h3><div class="pair">{chart}<div>{text}</div></div>'


def _pair(train: list[float], val: list[float | None]) -> tuple[Line, ...]:
    lines = (Line("images to learn from", train, "one"), Line("validation images", val, "two"))
    return lines if any(value is not None for value in val) else lines[:1]
