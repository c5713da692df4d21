"""The picture of a probe: accuracy over depth, and accuracy over the number of images per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.pictures.drawing import COLOURS, legend_name, new_figure, save_png

if TYPE_CHECKING:
    from cnncodes.advice.probe_result import Probe, ProbeResult
    from cnncodes.pictures.drawing import Axes

_SHORT = 14  # characters of a source's name in a legend
_THIN = 1.1  # points, of a line without bars
_STYLES = ("-", "--", ":", "-.")


def draw_probe(result: ProbeResult, path: str | os.PathLike[str]) -> Path:
    """Write the two panels as PNG.

    Left: accuracy by layer, one line for each source with the most images per class, and the first source with
    fewer images as well (with three numbers at most). What has a single layer is a level line. Right: accuracy by images per class, the best
    layer of each source; if there is one source, all its layers, of which only the best has bars, so that it can be
    seen. Bars are one standard deviation over the draws.
    """
    figure, (depth, learning) = new_figure(11.5, 5.2, columns=2)
    _depth(depth, result)
    _learning(learning, result)
    top = max(probe.mean + probe.sd for probe in result.probes)
    bottom = min(result.chance, *(probe.mean - probe.sd for probe in result.probes))
    for axes in (depth, learning):
        axes.axhline(100 * result.chance, color="grey", linestyle=(0, (1, 3)), linewidth=1.2)
        axes.annotate(
            "chance", (1, 100 * result.chance), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=8, color="grey",
        )  # fmt: skip
        axes.set_ylim(max(0, 100 * bottom - 4), min(101.5, 100 * top + 4))
        axes.set_ylabel("accuracy, mean of the classes (%)")
    return save_png(figure, path)


def _depth(axes: Axes, result: ProbeResult) -> None:
    """One line per source over its layers."""
    deep = [name for name in result.sources if len(result.layers(name)) > 1]
    flat = [name for name in result.sources if name not in deep]
    places: dict[str, int] = {}
    for name in deep:
        for layer in result.layers(name):
            places.setdefault(layer, len(places))
    numbers = result.shots if len(deep) == 1 else result.shots[-1:]
    if len(numbers) > 3:  # more lines would hide each other
        numbers = (numbers[0], numbers[len(numbers) // 2], numbers[-1])
    lines_each = len(numbers)
    lines = len(deep) * lines_each
    drawn = 0
    for name in deep:
        for turn, shots in enumerate(reversed(numbers)):
            entries = [result.of(name, layer, shots) for layer in result.layers(name)]
            axes.errorbar(
                [places[entry.layer] + 0.07 * (drawn - (lines - 1) / 2) for entry in entries],
                [100 * entry.mean for entry in entries],
                [100 * entry.sd for entry in entries],
                color=_colour(result, name), linestyle=_STYLES[turn % len(_STYLES)], marker="o", markersize=4,
                capsize=2.5, linewidth=1.6 if turn == 0 else 1.1, alpha=1 if turn == 0 else 0.7,
                label=_short(name) + (f", {_per_class(entries[0])}" if lines_each > 1 else ""),
            )  # fmt: skip
            drawn += 1
    for name in flat:
        entry = result.best(name)
        axes.axhline(
            100 * entry.mean,
            color=_colour(result, name),
            linestyle=(0, (5, 3)),
            linewidth=1.3,
            label=_short(name) + (f", {_per_class(entry)}" if lines_each > 1 else ""),
        )
    axes.set_xticks(list(places.values()), list(places), rotation=0 if len(places) <= 8 else 45)
    axes.set_xlim(-0.4, max(len(places) - 0.6, 0.4))
    axes.set_xlabel("layer, from the pixels upwards")
    most = result.best()
    axes.set_title(
        f"How deep? {_per_class(most)}" if lines_each == 1 else "How deep?", loc="left", fontsize=11
    )
    _legend(axes)


def _learning(axes: Axes, result: ProbeResult) -> None:
    """Accuracy over images per class."""
    if len(result.sources) == 1:
        (name,) = result.sources
        best = result.best(name).layer
        lines = [
            (name, layer, layer, COLOURS[place % len(COLOURS)], 2.2 if layer == best else _THIN)
            for place, layer in enumerate(result.layers(name))
        ]
    else:
        lines = []
        for name in result.sources:
            layer = result.best(name).layer
            label = f"{_short(name)}, {layer}" if len(result.layers(name)) > 1 else _short(name)
            lines.append((name, layer, label, _colour(result, name), 1.6))
    count = len(lines)
    for place, (name, layer, label, colour, width) in enumerate(lines):
        entries = [result.of(name, layer, shots) for shots in result.shots]
        shift = 1 + 0.012 * (place - (count - 1) / 2)  # so that bars do not hide one another
        axes.errorbar(
            [entry.images * shift for entry in entries],
            [100 * entry.mean for entry in entries],
            [100 * entry.sd for entry in entries] if width > _THIN else None,
            color=colour, marker="o", markersize=4, capsize=2.5, linewidth=width, label=label,
            linestyle="--" if len(result.layers(name)) == 1 else "-",
        )  # fmt: skip
    first = [result.of(lines[0][0], lines[0][1], shots) for shots in result.shots]
    axes.set_xscale("log", base=2)
    ticks = [entry.images for entry in first]
    kept = [x for place, x in enumerate(ticks) if place + 1 == len(ticks) or ticks[place + 1] > 1.12 * x]
    axes.set_xticks(kept, [f"{x:.0f}" for x in kept])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
    axes.set_xlabel("images per class to learn from")
    title = "Would more pictures help?" + ("" if len(result.sources) == 1 else " The best layer of each")
    axes.set_title(title, loc="left", fontsize=11)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Below the panel, where it hides no line."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False, fontsize=8)


def _colour(result: ProbeResult, name: str) -> str:
    return COLOURS[result.sources.index(name) % len(COLOURS)]


def _per_class(entry: Probe) -> str:
    return f"{entry.images:.0f} per class"


def _short(name: str) -> str:
    """A source's name: the end of it, if it is a long path."""
    last = "/".join(name.split("/")[-2:])  # runs are told apart by their folder: run/model.safetensors
    return legend_name(last if len(last) <= 2 * _SHORT else f"...{last[-2 * _SHORT :]}")
