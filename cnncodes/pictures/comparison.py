"""Models side by side: two with their accuracy on each class, or any number with the interval of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.core.errors import OptionError
from cnncodes.images.decode import decode
from cnncodes.pictures.curves import draw_chance
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
    from cnncodes.evaluation.evaluating import Comparison
    from cnncodes.pictures.drawing import Axes, Figure

MOST_CLASSES = 12  # so that names and examples can be seen
BAR = 0.36  # width, of 1 for a class


def comparison_figure(
    comparison: Comparison, examples: Sequence[str | os.PathLike[str]] = (), title: str | None = None
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
        bars = axes.bar(
            np.arange(count) + (place - 0.5) * (BAR + 0.03), heights, BAR,
            color=COLOURS[place], label=legend_name(f"{name}: {100 * accuracy:.1f} % of all images"),
        )  # fmt: skip
        legible = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # on the line of chance
        axes.bar_label(bars, fmt="%.0f", fontsize=9, padding=2, bbox=legible)
    draw_chance(axes, 100 / count)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlim(-0.6, count - 0.2)  # room for the word at the right
    axes.set_ylabel("accuracy (%)")
    axes.set_xticks(range(count), [plain(name) for name in comparison.classes], fontsize=11, parse_math=False)
    axes.tick_params(axis="x", length=0)
    for place, example in enumerate(examples):
        _show(axes, place, example)
    figure.set_layout_engine("constrained", rect=(0, 0.025, 1, 0.975))  # the examples do not touch the edge
    first, second = comparison.names
    points = f"{100 * comparison.difference:+.1f} points on {comparison.n:,} images"
    axes.set_title(title or f"{first} against {second}: {points}", loc="left", fontsize=12, pad=28)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 0.995), fontsize=10)
    return figure


def _show(axes: Axes, place: int, example: str | os.PathLike[str]) -> None:
    """An image below the name of its class, cut to the square in its middle."""
    pixels = np.asarray(decode(Path(example)).convert("RGB"))
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    below = axes.inset_axes((place - 0.4, -0.48, 0.8, 0.38), transform=axes.get_xaxis_transform())
    below.imshow(pixels[top : top + side, left : left + side])
    below.set_axis_off()


def save_comparison(
    comparison: Comparison,
    path: str | os.PathLike[str],
    examples: Sequence[str | os.PathLike[str]] = (),
    title: str | None = None,
) -> Path:
    """Write :func:`comparison_figure` as PNG."""
    return save_figure(comparison_figure(comparison, examples, title), path)


def save_models(comparison: ModelComparison, path: str | os.PathLike[str]) -> Path:
    """Write the accuracy of each model with its 95 % interval as PNG, the best at the top, a colour for each recipe."""
    models = comparison.models
    figure, (axes,) = new_figure(8.0, 1.5 + 0.42 * len(models))
    for place, recipe in enumerate(dict.fromkeys(model.recipe for model in models)):
        rows = [row for row, model in enumerate(models) if model.recipe == recipe]
        shown = [models[row] for row in rows]
        middle = np.array([100 * model.accuracy for model in shown])
        spread = np.array([[100 * model.low, 100 * model.high] for model in shown]).T
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
