"""Curves of accuracy and loss: of a training, of its rate test, of the depth of a network, and of a probe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.core.errors import OptionError
from cnncodes.pictures.drawing import COLOURS, legend_name, new_figure, save_figure, set_title

if TYPE_CHECKING:
    from cnncodes.advice.evidence import Evidence
    from cnncodes.advice.probe_result import Probe, ProbeResult
    from cnncodes.pictures.drawing import Axes
    from cnncodes.training.range_test import RangeTest
    from cnncodes.training.state import Epoch

FILE, RATES_FILE = "curves.png", "learning_rate.png"  # in a run's folder
LONGEST = 28  # characters of a source's name in a legend
THIN = 1.1  # points, of a line without bars
STYLES = ("-", "--", ":", "-.")
MOST_MARKED = 40  # epochs: with more, the dots run together


def draw_curves(epochs: Sequence[Epoch], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Write loss, accuracy and learning rate over the epochs as PNG; raises OptionError if there is no epoch.

    The epoch with the least val loss, whose weights a training keeps, is marked (the last, without a val split).
    """
    if not epochs:
        raise OptionError("there is no epoch to draw.", "Train for one epoch at least.")
    figure, (loss, accuracy, rate) = new_figure(10.5, 3.6, columns=3, title=title)
    watched = [epoch for epoch in epochs if epoch.val_loss is not None]
    kept = min(watched, key=lambda epoch: epoch.val_loss or 0.0) if watched else epochs[-1]
    _pair(loss, epochs, "loss", 1.0, kept)
    loss.set_ylabel("loss")
    loss.legend(frameon=False, fontsize=9)
    _pair(accuracy, epochs, "accuracy", 100.0, kept)
    accuracy.set_ylabel("accuracy (%)")
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
    return save_figure(figure, path)


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


def draw_rates(test: RangeTest, path: str | os.PathLike[str]) -> Path:
    """Write the loss of each step of a range test over its rate as PNG, and the rate that was taken."""
    figure, (axes,) = new_figure(7.0, 4.2)
    axes.plot(test.rates, test.losses, color="0.75", linewidth=1, label="each step")
    axes.plot(test.rates, test.smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    axes.set_xscale("log")
    low, high = min(test.smoothed), max(test.smoothed)
    room = 0.15 * (high - low) or 0.1
    axes.set_ylim(low - room, high + room)  # single steps may be far outside
    for rate, label in ((test.steepest, "steepest fall"), (test.level, "down to guessing")):
        if rate is not None:
            axes.axvline(rate, color=COLOURS[2], linestyle="--", label=f"{label}: {rate:.2g}")
    end = "diverges" if test.blew_up else "end of the range"
    axes.axvline(test.blow_up, color=COLOURS[1], linestyle="--", label=f"{end}: {test.blow_up:.2g}")
    axes.axvline(test.rate, color="black", linewidth=1.5, label=f"taken: {test.rate:g}")
    axes.set_xlabel("learning rate (of new layers)")
    axes.set_ylabel("training loss")
    set_title(axes, "Range test: the loss at rising learning rates", 10)
    legend_below(axes)
    return save_figure(figure, path)


def save_depth(evidence: Evidence, path: str | os.PathLike[str]) -> Path:
    """Write accuracy by stage, how much each knows about the classes of some images, with standard errors, as PNG."""
    figure, (axes,) = new_figure(7.5, 4.2)
    depths = evidence.depths
    places = list(range(len(depths)))
    for label, values in (
        ("linear (ridge), each image left out", "linear"),
        ("5 nearest neighbours", "neighbours"),
    ):
        mean, error = ([100 * getattr(depth, name) for depth in depths] for name in (values, f"{values}_se"))
        axes.errorbar(places, mean, error, marker="o", markersize=4, capsize=3, linewidth=1.5, label=label)
    guess = 100 * evidence.majority
    axes.axhline(guess, color="0.4", linestyle="--", linewidth=1, label="always the largest class")
    axes.set_xticks(places, [depth.stage for depth in depths], rotation=45 if len(depths) > 12 else 0)
    axes.set_xlabel("stage of the network")
    axes.set_ylabel("accuracy (%)")
    title = f"Accuracy by stage: {evidence.judged:,} images, {evidence.size.classes:,} classes; bars: how far chance moves a point"
    set_title(axes, title, 10)
    legend_below(axes)
    return save_figure(figure, path)


def legend_below(axes: Axes, size: float = 9) -> None:
    """A legend below the panel, where it hides no line."""
    axes.legend(frameon=False, fontsize=size, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def draw_chance(axes: Axes, percent: float) -> None:
    """A dotted line where guessing is."""
    axes.axhline(percent, color="grey", linestyle=(0, (1, 3)), linewidth=1.2)
    axes.annotate("chance", (1, percent), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  fontsize=8, color="grey")  # fmt: skip


def draw_probe(result: ProbeResult, path: str | os.PathLike[str]) -> Path:
    """Write the two panels as PNG.

    Left: accuracy by layer, one line for each source with the most images per class, and the first source with
    fewer images as well (with three numbers at most). What has a single layer is a level line. Right: accuracy by
    images per class, the best layer of each source; if there is one source, all its layers, of which only the best
    has bars, so that it can be seen. Bars are one standard deviation over the draws.
    """
    figure, (depth, learning) = new_figure(11.5, 5.2, columns=2)
    _depth(depth, result)
    _learning(learning, result)
    top = max(probe.mean + probe.sd for probe in result.probes)
    bottom = min(result.chance, *(probe.mean - probe.sd for probe in result.probes))
    for axes in (depth, learning):
        draw_chance(axes, 100 * result.chance)
        axes.set_ylim(max(0, 100 * bottom - 4), min(101.5, 100 * top + 4))
        axes.set_ylabel("accuracy, mean of the classes (%)")
        legend_below(axes, 8)
    return save_figure(figure, path)


def _depth(axes: Axes, result: ProbeResult) -> None:
    """One line per source over its layers."""
    deep = [name for name in result.sources if len(result.layers(name)) > 1]
    flat = [name for name in result.sources if name not in deep]
    layers = list(dict.fromkeys(layer for name in deep for layer in result.layers(name)))
    numbers = result.shots if len(deep) == 1 else result.shots[-1:]
    if len(numbers) > 3:  # more lines would hide each other
        numbers = (numbers[0], numbers[len(numbers) // 2], numbers[-1])
    lines = [(name, turn, shots) for name in deep for turn, shots in enumerate(reversed(numbers))]
    several = len(numbers) > 1
    for drawn, (name, turn, shots) in enumerate(lines):
        entries = [result.of(name, layer, shots) for layer in result.layers(name)]
        x = [layers.index(entry.layer) + 0.07 * (drawn - (len(lines) - 1) / 2) for entry in entries]
        label = _short(name) + (f", {_per_class(entries[0])}" if several else "")
        style = STYLES[turn % len(STYLES)]
        width, alpha = (1.6, 1.0) if turn == 0 else (THIN, 0.7)
        _line(axes, x, entries, _colour(result, name), label, linestyle=style, linewidth=width, alpha=alpha)
    for name in flat:
        entry = result.best(name)
        label = _short(name) + (f", {_per_class(entry)}" if several else "")
        colour = _colour(result, name)
        axes.axhline(100 * entry.mean, color=colour, linestyle=(0, (5, 3)), linewidth=1.3, label=label)
    axes.set_xticks(range(len(layers)), layers, rotation=0 if len(layers) <= 8 else 45)
    axes.set_xlim(-0.4, max(len(layers) - 0.6, 0.4))
    axes.set_xlabel("layer, from the pixels upwards")
    set_title(axes, "Accuracy by layer" + ("" if several else f", {_per_class(result.best())}"))


def _learning(axes: Axes, result: ProbeResult) -> None:
    """Accuracy over images per class."""
    if len(result.sources) == 1:
        (name,) = result.sources
        best = result.best(name).layer
        lines = [
            (name, layer, layer, COLOURS[place % len(COLOURS)], 2.2 if layer == best else THIN)
            for place, layer in enumerate(result.layers(name))
        ]
    else:
        lines = []
        for name in result.sources:
            layer = result.best(name).layer
            label = f"{_short(name)}, {layer}" if len(result.layers(name)) > 1 else _short(name)
            lines.append((name, layer, label, _colour(result, name), 1.6))
    for place, (name, layer, label, colour, width) in enumerate(lines):
        entries = [result.of(name, layer, shots) for shots in result.shots]
        shift = 1 + 0.012 * (place - (len(lines) - 1) / 2)  # so that bars do not hide one another
        style = "--" if len(result.layers(name)) == 1 else "-"
        x = [entry.images * shift for entry in entries]
        _line(axes, x, entries, colour, label, bars=width > THIN, linestyle=style, linewidth=width)
    ticks = [result.of(lines[0][0], lines[0][1], shots).images for shots in result.shots]
    kept = [x for place, x in enumerate(ticks) if place + 1 == len(ticks) or ticks[place + 1] > 1.12 * x]
    axes.set_xscale("log", base=2)
    axes.set_xticks(kept, [f"{x:.0f}" for x in kept])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
    axes.set_xlabel("images per class to learn from")
    set_title(
        axes, "Accuracy by images per class" + ("" if len(result.sources) == 1 else ", best layer of each")
    )


def _line(
    axes: Axes, x: list[float], entries: list[Probe], colour: str, label: str, bars: bool = True, **style: Any
) -> None:
    """Accuracies with their standard deviations."""
    mean = [100 * entry.mean for entry in entries]
    error = [100 * entry.sd for entry in entries] if bars else None
    axes.errorbar(x, mean, error, color=colour, label=label, marker="o", markersize=4, capsize=2.5, **style)


def _colour(result: ProbeResult, name: str) -> str:
    return COLOURS[result.sources.index(name) % len(COLOURS)]


def _per_class(entry: Probe) -> str:
    return f"{entry.images:.0f} per class"


def _short(name: str) -> str:
    """A source's name: the end of it, if it is a long path."""
    last = "/".join(name.split("/")[-2:])  # runs are told apart by their folder: run/model.safetensors
    return legend_name(last if len(last) <= LONGEST else f"...{last[-LONGEST:]}")
