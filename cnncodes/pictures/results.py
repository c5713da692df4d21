"""Figures of results: curves of a training, a rate test and a probe, accuracy by depth and by model, confusion matrices."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.images.decode import decode
from cnncodes.pictures import drawing
from cnncodes.pictures.drawing import (
    COLOURS,
    cut_middle,
    legend_name,
    new_figure,
    plain,
    save_figure,
    set_title,
)

if TYPE_CHECKING:
    from cnncodes.advice.comparing import ModelComparison
    from cnncodes.advice.evidence import Evidence
    from cnncodes.advice.probe_result import Probe, ProbeResult
    from cnncodes.evaluation.evaluating import Comparison
    from cnncodes.evaluation.metrics import Evaluation
    from cnncodes.pictures.drawing import Array, Axes, Figure
    from cnncodes.training.folder import Epoch
    from cnncodes.training.range_test import RangeTest

PathLike = str | os.PathLike[str]
FILE, RATES_FILE = "curves.png", "learning_rate.png"  # in a run's folder
LONGEST = 28  # characters of a source's name in a legend
THIN = 1.1  # points, of a line without bars
STYLES = ("-", "--", ":", "-.")
MOST_MARKED = 40  # epochs: with more, the dots run together
MOST_CLASSES = 12  # beside each other in bars, so that names and examples can be seen
BAR = 0.36  # width, of 1 for a class
COUNTED_CLASSES = 25  # counts stand in the cells of a confusion matrix up to here: more would not be readable
NAMED_CLASSES = 120  # names stand at the axes up to here, beyond only numbers
LONGEST_NAME = 24  # characters
LARGEST = 16.0  # inches, of the matrix alone
DARK = 0.55  # share from which a cell is so dark that its count is white


def draw_curves(epochs: Sequence[Epoch], path: PathLike, *, title: str = "") -> Path:
    """Write loss, accuracy and learning rate over the epochs as PNG; raises OptionError if there is no epoch.

    The epoch with the least val loss, whose weights a training keeps, is marked (the last, without a val split).
    """
    if not epochs:
        raise OptionError("there is no epoch to draw.", "Train for one epoch at least.")
    figure, (loss, accuracy, rate) = new_figure(10.5, 3.6, columns=3, title=title)
    watched = [epoch for epoch in epochs if epoch.val_loss is not None]
    kept = min(watched, key=lambda epoch: epoch.val_loss or 0.0) if watched else epochs[-1]
    mark: dict[str, Any] = {
        "linewidth": 1.5,
        "marker": "o" if len(epochs) <= MOST_MARKED else "",
        "markersize": 3,
    }
    _pair(loss, epochs, "loss", 1.0, kept, mark)
    loss.legend(frameon=False, fontsize=9)
    _pair(accuracy, epochs, "accuracy", 100.0, kept, mark)
    rate.plot(
        [epoch.epoch for epoch in epochs], [epoch.learning_rate for epoch in epochs], color=COLOURS[2], **mark
    )
    if any(epoch.learning_rate > 0 for epoch in epochs):
        rate.set_yscale("log", nonpositive="mask")
    labels = ("loss", "accuracy (%)", "learning rate, end of epoch")
    for axes, label in zip((loss, accuracy, rate), labels, strict=True):
        axes.set_ylabel(label)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.axvline(kept.epoch, color="0.5", linestyle=":", linewidth=1, zorder=0)
        if len(epochs) == 1:
            axes.set_xlim(0.5, 1.5)
    return save_figure(figure, path)


def _pair(
    axes: Axes, epochs: Sequence[Epoch], name: str, scale: float, kept: Epoch, mark: dict[str, Any]
) -> None:
    """What was learned from and what was only watched, and the kept epoch."""
    places = [epoch.epoch for epoch in epochs]
    for entry, label, colour in ((name, "train", COLOURS[0]), (f"val_{name}", "val", COLOURS[1])):
        values = [getattr(epoch, entry) for epoch in epochs]
        if any(value is not None for value in values):
            shown = [float("nan") if value is None else scale * value for value in values]
            axes.plot(places, shown, color=colour, label=label, **mark)
    value = getattr(kept, f"val_{name}")
    at = scale * (getattr(kept, name) if value is None else value)
    axes.plot(
        [kept.epoch], [at], marker="o", markersize=9, markerfacecolor="none", markeredgecolor="0.2",
        linestyle="none", label=f"kept: epoch {kept.epoch}",
    )  # fmt: skip


def draw_rates(test: RangeTest, path: PathLike) -> Path:
    """Write the loss of each step of a range test over its rate as PNG, and the rate that was taken."""
    figure, (axes,) = new_figure(7.0, 4.2)
    axes.plot(test.rates, test.losses, color="0.75", linewidth=1, label="each step")
    axes.plot(test.rates, test.smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    axes.set_xscale("log")
    low, high = min(test.smoothed), max(test.smoothed)
    room = 0.15 * (high - low) or 0.1
    axes.set_ylim(low - room, high + room)  # single steps may be far outside
    end = "diverges" if test.blew_up else "end of the range"
    for rate, label, colour in (
        (test.steepest, "steepest fall", COLOURS[2]),
        (test.level, "down to guessing", COLOURS[2]),
        (test.blow_up, end, COLOURS[1]),
    ):
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle="--", label=f"{label}: {rate:.2g}")
    axes.axvline(test.rate, color="black", linewidth=1.5, label=f"taken: {test.rate:g}")
    axes.set_xlabel("learning rate (of new layers)")
    axes.set_ylabel("training loss")
    set_title(axes, "Range test: the loss at rising learning rates", 10)
    _legend_below(axes)
    return save_figure(figure, path)


def save_depth(evidence: Evidence, path: PathLike) -> Path:
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
    _legend_below(axes)
    return save_figure(figure, path)


def _legend_below(axes: Axes, size: float = 9) -> None:
    """A legend below the panel, where it hides no line."""
    axes.legend(frameon=False, fontsize=size, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _draw_chance(axes: Axes, percent: float) -> None:
    """A dotted line where guessing is."""
    axes.axhline(percent, color="grey", linestyle=(0, (1, 3)), linewidth=1.2)
    axes.annotate("chance", (1, percent), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  fontsize=8, color="grey")  # fmt: skip


def draw_probe(result: ProbeResult, path: PathLike) -> Path:
    """Write accuracy by layer, and by images per class, as PNG. Bars are one standard deviation over the draws.

    Left: one line for each source with the most images per class, and the first source with fewer images as well (with
    three numbers at most). What has a single layer is a level line. Right: the best layer of each source; if there is one
    source, all its layers, of which only the best has bars, so that it can be seen.
    """
    figure, (depth, learning) = new_figure(11.5, 5.2, columns=2)
    _depth(depth, result)
    _learning(learning, result)
    top = max(probe.mean + probe.sd for probe in result.probes)
    bottom = min(result.chance, *(probe.mean - probe.sd for probe in result.probes))
    for axes in (depth, learning):
        _draw_chance(axes, 100 * result.chance)
        axes.set_ylim(max(0, 100 * bottom - 4), min(101.5, 100 * top + 4))
        axes.set_ylabel("accuracy, mean of the classes (%)")
        _legend_below(axes, 8)
    return save_figure(figure, path)


def _depth(axes: Axes, result: ProbeResult) -> None:
    """One line per source over its layers."""
    deep = [name for name in result.sources if len(result.layers(name)) > 1]
    layers = list(dict.fromkeys(layer for name in deep for layer in result.layers(name)))
    numbers = result.shots if len(deep) == 1 else result.shots[-1:]
    if len(numbers) > 3:  # more lines would hide each other
        numbers = (numbers[0], numbers[len(numbers) // 2], numbers[-1])
    lines = [(name, turn, shots) for name in deep for turn, shots in enumerate(reversed(numbers))]

    def label(name: str, entry: Probe) -> str:
        return _short(name) + (f", {_per_class(entry)}" if len(numbers) > 1 else "")

    for drawn, (name, turn, shots) in enumerate(lines):
        entries = [result.of(name, layer, shots) for layer in result.layers(name)]
        x = [layers.index(entry.layer) + 0.07 * (drawn - (len(lines) - 1) / 2) for entry in entries]
        style: dict[str, Any] = {"linestyle": STYLES[turn % len(STYLES)], "alpha": 1.0 if turn == 0 else 0.7}
        style |= {"color": _colour(result, name), "linewidth": 1.6 if turn == 0 else THIN}
        _line(axes, x, entries, label=label(name, entries[0]), **style)
    for name in result.sources:
        if name not in deep:
            entry = result.best(name)
            style = {"color": _colour(result, name), "linestyle": (0, (5, 3)), "linewidth": 1.3}
            axes.axhline(100 * entry.mean, label=label(name, entry), **style)
    axes.set_xticks(range(len(layers)), layers, rotation=0 if len(layers) <= 8 else 45)
    axes.set_xlim(-0.4, max(len(layers) - 0.6, 0.4))
    axes.set_xlabel("layer, from the pixels upwards")
    set_title(axes, "Accuracy by layer" + ("" if len(numbers) > 1 else f", {_per_class(result.best())}"))


def _learning(axes: Axes, result: ProbeResult) -> None:
    """Accuracy over images per class."""
    lines = []
    for name in result.sources:
        layers, best = result.layers(name), result.best(name).layer
        if len(result.sources) > 1:
            label = f"{_short(name)}, {best}" if len(layers) > 1 else _short(name)
            lines.append((name, best, label, _colour(result, name), 1.6))
        else:
            lines += [
                (name, layer, layer, COLOURS[place % len(COLOURS)], 2.2 if layer == best else THIN)
                for place, layer in enumerate(layers)
            ]
    for place, (name, layer, label, colour, width) in enumerate(lines):
        entries = [result.of(name, layer, shots) for shots in result.shots]
        shift = 1 + 0.012 * (place - (len(lines) - 1) / 2)  # so that bars do not hide one another
        x = [entry.images * shift for entry in entries]
        style = "--" if len(result.layers(name)) == 1 else "-"
        _line(
            axes, x, entries, bars=width > THIN, color=colour, label=label, linestyle=style, linewidth=width
        )
    ticks = [result.of(lines[0][0], lines[0][1], shots).images for shots in result.shots]
    kept = [x for place, x in enumerate(ticks) if place + 1 == len(ticks) or ticks[place + 1] > 1.12 * x]
    axes.set_xscale("log", base=2)
    axes.set_xticks(kept, [f"{x:.0f}" for x in kept])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
    axes.set_xlabel("images per class to learn from")
    of_each = "" if len(result.sources) == 1 else ", best layer of each"
    set_title(axes, f"Accuracy by images per class{of_each}")


def _line(axes: Axes, x: list[float], entries: list[Probe], bars: bool = True, **style: Any) -> None:
    """Accuracies with their standard deviations."""
    mean = [100 * entry.mean for entry in entries]
    error = [100 * entry.sd for entry in entries] if bars else None
    axes.errorbar(x, mean, error, marker="o", markersize=4, capsize=2.5, **style)


def _colour(result: ProbeResult, name: str) -> str:
    return COLOURS[result.sources.index(name) % len(COLOURS)]


def _per_class(entry: Probe) -> str:
    return f"{entry.images:.0f} per class"


def _short(name: str) -> str:
    """A source's name: the end of it, if it is a long path."""
    last = "/".join(name.split("/")[-2:])  # runs are told apart by their folder: run/model.safetensors
    return legend_name(last if len(last) <= LONGEST else f"...{last[-LONGEST:]}")


def comparison_figure(
    comparison: Comparison, examples: Sequence[PathLike] = (), title: str | None = None
) -> Figure:
    """Two bars for each class, in percent of its images, and a dotted line where chance is.

    ``examples`` are one image for each class, in their order; the title is by default both models and the difference of
    their accuracies. Raises OptionError for more than 12 classes, or if examples are not one for each.
    """
    count = len(comparison.classes)
    if count > MOST_CLASSES:
        raise OptionError(
            f"{count} classes are too many for bars.",
            f"Compare up to {MOST_CLASSES}, or use the confusion matrix.",
        )
    if examples and len(examples) != count:
        raise OptionError(f"{len(examples)} examples for {count} classes.", "Give one for each class.")
    figure, (axes,) = new_figure(max(6.5, 1.7 * count), 5.2 if examples else 3.8)
    both = zip(comparison.names, comparison.accuracy, comparison.per_class, strict=True)
    for place, (name, accuracy, shares) in enumerate(both):
        heights = [np.nan if share is None else 100 * share for share in shares]
        label = legend_name(f"{name}: {100 * accuracy:.1f} % of all images")
        left = np.arange(count) + (place - 0.5) * (BAR + 0.03)
        bars = axes.bar(left, heights, BAR, color=COLOURS[place], label=label)
        legible = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # on the line of chance
        axes.bar_label(bars, fmt="%.0f", fontsize=9, padding=2, bbox=legible)
    _draw_chance(axes, 100 / count)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlim(-0.6, count - 0.2)  # room for the word at the right
    axes.set_ylabel("accuracy (%)")
    axes.set_xticks(range(count), [plain(name) for name in comparison.classes], fontsize=11, parse_math=False)
    axes.tick_params(axis="x", length=0)
    for place, example in enumerate(examples):  # the square in its middle, below the name of its class
        pixels = np.asarray(decode(Path(example)).convert("RGB"))
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        below = axes.inset_axes((place - 0.4, -0.48, 0.8, 0.38), transform=axes.get_xaxis_transform())
        below.imshow(pixels[top : top + side, left : left + side])
        below.set_axis_off()
    figure.set_layout_engine("constrained", rect=(0, 0.025, 1, 0.975))  # the examples do not touch the edge
    first, second = comparison.names
    points = f"{100 * comparison.difference:+.1f} points on {comparison.n:,} images"
    axes.set_title(title or f"{first} against {second}: {points}", loc="left", fontsize=12, pad=28)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 0.995), fontsize=10)
    return figure


def save_comparison(
    comparison: Comparison, path: PathLike, examples: Sequence[PathLike] = (), title: str | None = None
) -> Path:
    """Write :func:`comparison_figure` as PNG."""
    return save_figure(comparison_figure(comparison, examples, title), path)


def save_models(comparison: ModelComparison, path: PathLike) -> Path:
    """Write the accuracy of each model with its 95 % interval as PNG, the best at the top, a colour for each recipe."""
    models = comparison.models
    figure, (axes,) = new_figure(8.0, 1.5 + 0.42 * len(models))
    for place, recipe in enumerate(dict.fromkeys(model.recipe for model in models)):
        rows = [row for row, model in enumerate(models) if model.recipe == recipe]
        middle = np.array([100 * models[row].accuracy for row in rows])
        spread = np.array([[100 * models[row].low, 100 * models[row].high] for row in rows]).T
        axes.errorbar(
            middle, rows, xerr=np.abs(spread - middle), fmt="o", markersize=6, capsize=4, linewidth=1.5,
            color=COLOURS[place % len(COLOURS)], label=legend_name(recipe),
        )  # fmt: skip
    axes.set_yticks(range(len(models)), [cut_middle(model.name, 48) for model in models], parse_math=False)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", alpha=0.3, linewidth=0.5)
    axes.set_xlabel("accuracy on the test images (%), with 95 % intervals")
    set_title(axes, f"{comparison.n:,} test images, {comparison.classes:,} classes", 10)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return save_figure(figure, path)


def save_confusion(
    evaluation: Evaluation, path: PathLike, *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Draw the confusion matrix and write it; the title is by default the number of images and the accuracy.

    Raises OptionError for a name that is no picture's, OutputExistsError if the file is there and may not be replaced.
    """
    drawing.check_format(path)
    if Path(path).exists() and not overwrite:
        raise OutputExistsError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")
    return save_figure(confusion_figure(evaluation, title), path)


def confusion_figure(evaluation: Evaluation, title: str | None = None) -> Figure:
    """The confusion matrix: a row for each true class, a column for each predicted one.

    The colour is the share of the true class, so that large classes do not hide small ones; a class without
    images has a grey row. Counts stand in the cells up to 25 classes; beyond, the scale of the colours is that
    of the square root, in which also a confusion of one per cent can be seen.
    """
    counts = np.array(evaluation.confusion)
    K = len(counts)
    names = [cut_middle(name, LONGEST_NAME) for name in evaluation.classes]
    counted, named, longest = K <= COUNTED_CLASSES, K <= NAMED_CLASSES, max(map(len, names))
    cell = float(np.clip(9 / K, 0.13, 0.75))  # inches
    side = min(K * cell, LARGEST)
    text, small = float(np.clip(1.1 * side, 9, 15)), float(np.clip(cell * 72 * 0.8, 5.5, 10))  # points
    margin = 1.0 + (small / 72 * 0.55 * longest if named else 0)
    figure, (axes,) = new_figure(max(4.6, 1.08 * side + margin + 1.0), max(3.4, side + margin))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    axes.grid(visible=False)
    axes.spines[:].set_visible(not counted)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_facecolor("#dddddd")
    shown = shares if counted else np.sqrt(shares)
    image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, shrink=0.8, aspect=30)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0] if counted else [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0]
    drawn = ticks if counted else [math.sqrt(share) for share in ticks]
    bar.set_ticks(drawn, labels=[f"{100 * share:.0f} %" for share in ticks])
    bar.set_label("share of the true class", fontsize=text)
    bar.ax.tick_params(labelsize=text)
    bar.outline.set_visible(False)
    number = "" if named else " (number of the class, from 0)"
    axes.set_xlabel(f"predicted{number}", fontsize=text)
    axes.set_ylabel(f"true{number}", fontsize=text)
    axes.tick_params(length=0)
    if named:
        upright = K <= 6 and longest <= 8
        axes.set_xticks(range(K), names, rotation=0 if upright else 90, fontsize=small, parse_math=False)
        axes.set_yticks(range(K), names, fontsize=small, parse_math=False)
    if counted:
        _write_counts(axes, counts, shares, cell)
    heading = title or f"{evaluation.n:,} images, top-1 {100 * evaluation.top1:.1f} %"
    figure.suptitle(plain(heading), fontsize=text + 1)
    return figure


def _write_counts(axes: Axes, counts: Array, shares: Array, cell: float) -> None:
    """Counts in the cells, and white lines between these."""
    size = float(np.clip(cell * 72 / max(len(f"{counts.max()}"), 2), 4, 11))
    for row, column in np.argwhere(counts):
        ink = "white" if shares[row, column] > DARK else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=ink)
    for minor in (axes.set_xticks, axes.set_yticks):
        minor(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
