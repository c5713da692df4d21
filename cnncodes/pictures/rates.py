"""The curve of a range test: loss over the learning rate, and the rate that was taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.pictures.drawing import COLOURS, new_figure, save_png

if TYPE_CHECKING:
    from cnncodes.training.range_test import RangeTest

FILE = "learning_rate.png"  # in a run's folder


def draw_rates(test: RangeTest, path: str | os.PathLike[str]) -> Path:
    """Write the loss of each step of a range test over its rate as PNG, with what was read from it.

    Parameters
    ----------
    test : RangeTest
    path : path
    """
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
    end = "blows up" if test.blew_up else "end of the range"
    axes.axvline(test.blow_up, color=COLOURS[1], linestyle="--", label=f"{end}: {test.blow_up:.2g}")
    axes.axvline(test.rate, color="black", linewidth=1.5, label=f"taken: {test.rate:g}")
    axes.set_xlabel("learning rate (of new layers)")
    axes.set_ylabel("training loss")
    axes.set_title("Range test: the loss at rising learning rates", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return save_png(figure, path)
