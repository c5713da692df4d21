"""The confusion matrix as a picture: which class is taken for which."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.core.errors import OutputExistsError
from cnncodes.pictures.drawing import check_format, cut_middle, new_figure, plain, save_figure

if TYPE_CHECKING:
    from cnncodes.evaluation.metrics import Evaluation
    from cnncodes.pictures.drawing import Axes, Figure

COUNTED_CLASSES = 25  # counts stand in the cells up to here: more would not be readable
NAMED_CLASSES = 120  # names stand at the axes up to here, beyond only numbers
LONGEST_NAME = 24  # characters
LARGEST = 16.0  # inches, of the matrix alone
DARK = 0.55  # share from which a cell is so dark that its count is white


def save_confusion(
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw the confusion matrix and write it; the title is by default the number of images and the accuracy.

    Raises OptionError for a name that is no picture's, OutputExistsError if the file is there and may not be replaced.
    """
    check_format(path)
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
    cell = float(np.clip(9 / K, 0.13, 0.75))  # inches
    side = min(K * cell, LARGEST)
    text, small = float(np.clip(1.1 * side, 9, 15)), float(np.clip(cell * 72 * 0.8, 5.5, 10))  # points
    margin = 1.0
    if K <= NAMED_CLASSES:
        margin += small / 72 * 0.55 * max(map(len, names))
    figure, (axes,) = new_figure(max(4.6, 1.08 * side + margin + 1.0), max(3.4, side + margin))
    counted = K <= COUNTED_CLASSES
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
    number = "" if K <= NAMED_CLASSES else " (number of the class, from 0)"
    axes.set_xlabel(f"predicted{number}", fontsize=text)
    axes.set_ylabel(f"true{number}", fontsize=text)
    axes.tick_params(length=0)
    if K <= NAMED_CLASSES:
        upright = K <= 6 and max(map(len, names)) <= 8
        axes.set_xticks(range(K), names, rotation=0 if upright else 90, fontsize=small, parse_math=False)
        axes.set_yticks(range(K), names, fontsize=small, parse_math=False)
    if counted:
        _write_counts(axes, counts, shares, cell)
    heading = title or f"{evaluation.n:,} images, top-1 {100 * evaluation.top1:.1f} %"
    figure.suptitle(plain(heading), fontsize=text + 1)
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray, cell: float) -> None:
    """Counts in the cells, and white lines between these."""
    size = float(np.clip(cell * 72 / max(len(f"{counts.max()}"), 2), 4, 11))
    for row, column in np.argwhere(counts):
        ink = "white" if shares[row, column] > DARK else "black"
        count = f"{counts[row, column]}"
        axes.text(column, row, count, ha="center", va="center", fontsize=size, color=ink)
    for minor in (axes.set_xticks, axes.set_yticks):
        minor(np.arange(len(counts) + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
