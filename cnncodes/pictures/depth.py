"""The depth curve: how much each stage of the network knows about the classes of some images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.pictures.drawing import new_figure, save_png

if TYPE_CHECKING:
    from cnncodes.advice.evidence import Evidence
    from cnncodes.pictures.drawing import Axes


def draw_depth(axes: Axes, evidence: Evidence) -> None:
    """Draw accuracy by stage, with standard errors, on the figure's axes.

    Parameters
    ----------
    axes : matplotlib Axes
    evidence : Evidence
    """
    depths = evidence.depths
    places = list(range(len(depths)))
    for name, values, errors in (
        ("linear (ridge), each image left out", "linear", "linear_se"),
        ("5 nearest neighbours", "neighbours", "neighbours_se"),
    ):
        mean = [100 * getattr(depth, values) for depth in depths]
        error = [100 * getattr(depth, errors) for depth in depths]
        axes.errorbar(
            places, mean, yerr=error, marker="o", markersize=4, capsize=3, linewidth=1.5, label=name
        )
    axes.axhline(
        100 * evidence.majority, color="0.4", linestyle="--", linewidth=1, label="always the largest class"
    )
    axes.set_xticks(places, [depth.stage for depth in depths], rotation=45 if len(depths) > 12 else 0)
    axes.set_xlabel("stage of the network")
    axes.set_ylabel("images told right (%)")
    axes.set_title(
        f"What each stage knows: {evidence.judged:,} images, {evidence.size.classes:,} classes, "
        "bars are standard errors",
        fontsize=10,
        loc="left",
    )
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def save_depth(evidence: Evidence, path: str | os.PathLike[str]) -> Path:
    """Write the depth curve as PNG."""
    figure, (axes,) = new_figure(7.5, 4.2)
    draw_depth(axes, evidence)
    return save_png(figure, path)
