"""The curves of a training: loss, accuracy and learning rate over the epochs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.errors import OptionError
from cnncodes.pictures.drawing import COLOURS, new_figure, save_png

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes
    from cnncodes.training.state import Epoch

FILE = "curves.png"  # in a run's folder
MOST_MARKED = 40  # epochs: with more, the dots run together


def draw_curves(epochs: Sequence[Epoch], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Write loss, accuracy and learning rate over the epochs as PNG.

    Parameters
    ----------
    epochs : sequence of Epoch
        Such as ``TrainingResult.epochs``. The one with the least val loss, whose weights a training keeps, is marked
        (the last, without a val split).
    path : path
    title : str, optional

    Raises
    ------
    OptionError
        If there is no epoch.
    """
    if not epochs:
        raise OptionError("there is no epoch to draw.", "Train for one epoch at least.")
    figure, (loss, accuracy, rate) = new_figure(10.5, 3.6, columns=3)
    watched = [epoch for epoch in epochs if epoch.val_loss is not None]
    kept = min(watched, key=lambda epoch: epoch.val_loss or 0.0) if watched else epochs[-1]
    _pair(loss, epochs, "loss", 1.0, kept)
    loss.set_ylabel("loss")
    loss.legend(frameon=False, fontsize=9)
    _pair(accuracy, epochs, "accuracy", 100.0, kept)
    accuracy.set_ylabel("images told right (%)")
    places = [epoch.epoch for epoch in epochs]
    rate.plot(places, [epoch.learning_rate for epoch in epochs], color=COLOURS[2], **_mark(epochs))
    if any(epoch.learning_rate > 0 for epoch in epochs):
        rate.set_yscale("log", nonpositive="mask")
    rate.set_ylabel("learning rate, end of epoch")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.axvline(kept.epoch, color="0.5", linestyle=":", linewidth=1, zorder=0)
        if len(epochs) == 1:
            axes.set_xlim(0.5, 1.5)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return save_png(figure, path)


def _pair(axes: Axes, epochs: Sequence[Epoch], name: str, scale: float, kept: Epoch) -> None:
    """What was learned from and what was only watched, and the kept epoch."""
    places = [epoch.epoch for epoch in epochs]
    for entry, label, colour in ((name, "train", COLOURS[0]), (f"val_{name}", "val", COLOURS[1])):
        values = [getattr(epoch, entry) for epoch in epochs]
        if all(value is None for value in values):
            continue
        shown = [float("nan") if value is None else scale * value for value in values]
        axes.plot(places, shown, color=colour, label=label, **_mark(epochs))
    value = getattr(kept, f"val_{name}")
    at = scale * (getattr(kept, name) if value is None else value)
    axes.plot(
        [kept.epoch], [at], marker="o", markersize=9, markerfacecolor="none", markeredgecolor="0.2",
        linestyle="none", label=f"kept: epoch {kept.epoch}",
    )  # fmt: skip


def _mark(epochs: Sequence[Epoch]) -> dict[str, Any]:
    few = len(epochs) <= MOST_MARKED
    return {"linewidth": 1.5, "marker": "o" if few else "", "markersize": 3}
