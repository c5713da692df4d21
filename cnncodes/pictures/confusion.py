"""The confusion matrix as a picture: which class is taken for which."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.errors import OptionError, OutputExistsError
from cnncodes.pictures.drawing import drawable, new_figure, plain, save_png

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
    """Draw the confusion matrix and write it as PNG.

    Parameters
    ----------
    evaluation : Evaluation
    path : path
        Ends in ``.png``.
    title : str, optional
        By default the number of images and the accuracy.
    overwrite : bool, default False

    Raises
    ------
    OptionError
        If the name ends otherwise.
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    """
    path = Path(path)
    check_name(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")
    figure = confusion_figure(evaluation, title)
    return save_png(figure, path)


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise OptionError if the name is not that of a PNG."""
    if Path(path).suffix.lower() != ".png":
        raise OptionError(f"a picture ends in .png, not '{Path(path).name}'.", "Rename the output.")


def confusion_figure(evaluation: Evaluation, title: str | None = None) -> Figure:
    """The confusion matrix: a row for each true class, a column for each predicted one.

    The colour is the share of the true class, so that large classes do not hide small ones; a class without
    images has a grey row. Counts stand in the cells up to 25 classes; beyond, the scale of the colours is that
    of the square root, in which also a confusion of one per cent can be seen.
    """
    counts = np.array(evaluation.confusion)
    K = len(counts)
    names = [plain(name) for name in evaluation.classes]
    side = min(K * _cell(K), LARGEST)  # inches
    margin = 1.0
    if K <= NAMED_CLASSES:
        margin += _name_size(K) / 72 * 0.55 * min(LONGEST_NAME, max(map(len, names)))
    figure, (axes,) = new_figure(max(4.6, 1.08 * side + margin + 1.0), max(3.4, side + margin))
    draw_confusion(axes, counts, names)
    text = title or f"{evaluation.n:,} images, top-1 {100 * evaluation.top1:.1f} %"
    figure.suptitle(plain(text), fontsize=_text_size(side) + 1, parse_math=False)
    return figure


def draw_confusion(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """Draw ``counts`` ``[K, K]`` (true x predicted) with the names of the classes and a colour bar."""
    K = len(counts)
    counted = K <= COUNTED_CLASSES
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    axes.grid(visible=False)
    axes.spines[:].set_visible(not counted)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_facecolor("#dddddd")
    image = axes.imshow(
        shares if counted else np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest"
    )
    size = _text_size(min(K * _cell(K), LARGEST))
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, shrink=0.8, aspect=30)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0] if counted else [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0]
    drawn = ticks if counted else [math.sqrt(share) for share in ticks]
    bar.set_ticks(drawn, labels=[f"{100 * share:.0f} %" for share in ticks])
    bar.set_label("share of the true class", fontsize=size)
    bar.ax.tick_params(labelsize=size)
    bar.outline.set_visible(False)
    number = "" if K <= NAMED_CLASSES else " (number of the class, from 0)"
    axes.set_xlabel(f"predicted{number}", fontsize=size)
    axes.set_ylabel(f"true{number}", fontsize=size)
    axes.tick_params(length=0)
    if K <= NAMED_CLASSES:
        short = shortened(names, LONGEST_NAME)
        upright = K <= 6 and max(map(len, short)) <= 8
        small = _name_size(K)
        axes.set_xticks(range(K), short, rotation=0 if upright else 90, fontsize=small, parse_math=False)
        axes.set_yticks(range(K), short, fontsize=small, parse_math=False)
    if counted:
        _write_counts(axes, counts, shares)


def shortened(names: Sequence[str], length: int) -> list[str]:
    """Names of at most ``length`` characters: the middle of longer ones is left out, for both ends tell classes apart.

    What no font has is escaped before: the escapes are longer, and they are what is drawn.
    """
    names = [drawable(plain(name)) for name in names]
    head, tail = (length - 2) // 2, (length - 2) - (length - 2) // 2
    return [name if len(name) <= length else f"{name[:head]}..{name[-tail:]}" for name in names]


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """Counts in the cells, and white lines between these."""
    K = len(counts)
    size = float(np.clip(_cell(K) * 72 / max(len(f"{counts.max()}"), 2), 4, 11))
    for row, column in np.argwhere(counts):
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if shares[row, column] > DARK else "black",
        )
    for minor in (axes.set_xticks, axes.set_yticks):
        minor(np.arange(K + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)


def _cell(K: int) -> float:
    """Side of a cell in inches."""
    return float(np.clip(9 / K, 0.13, 0.75))


def _name_size(K: int) -> float:
    """Size of the classes' names in points: as large as the cells allow."""
    return float(np.clip(_cell(K) * 72 * 0.8, 5.5, 10))


def _text_size(side: float) -> float:
    """Size of all other text in points, in proportion to the matrix (``side`` inches)."""
    return float(np.clip(1.1 * side, 9, 15))
