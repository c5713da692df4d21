"""The picture of a probe: accuracy over depth, and accuracy over the number of images per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.pictures.curves import draw_chance, legend_below
from cnncodes.pictures.drawing import COLOURS, legend_name, new_figure, save_figure, set_title

if TYPE_CHECKING:
    from cnncodes.advice.probe_result import Probe, ProbeResult
    from cnncodes.pictures.drawing import Axes

LONGEST = 28  # characters of a source's name in a legend
THIN = 1.1  # points, of a line without bars
STYLES = ("-", "--", ":", "-.")


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
