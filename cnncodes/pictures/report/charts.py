"""Charts as SVG inside the page: they follow its colours, light and dark, and need no library and no JavaScript."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnncodes.pictures.report.markup import escaped

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 50
LETTER = 6.6  # width of a letter of the labels; names that would touch each other stand upright


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value for each place, None where there is none; errors are half lengths of bars."""

    label: str
    values: Sequence[float | None]
    kind: str = "one"  # one, two, three: the colour
    errors: Sequence[float] = ()


def line_chart(
    title: str,
    places: Sequence[str],
    lines: Sequence[Line],
    *,
    unit: str = "",
    level: tuple[str, float] | None = None,
    logarithmic: bool = False,
    marked: int | None = None,
    below: str = "",
    every: int | None = None,
) -> str:
    """Lines over named places, with a legend.

    Parameters
    ----------
    title : str
        Also what a screen reader says.
    places : sequence of str
        Names along the x axis, evenly spaced.
    lines : sequence of Line
    unit : str
        After the numbers of the y axis.
    level : tuple of str and float, optional
        A dashed horizontal line with its name.
    logarithmic : bool
        Of the y axis; values that are not positive are left out.
    marked : int, optional
        A place that is marked by a vertical line.
    below : str
        What the x axis shows.
    every : int, optional
        Every so many places are named; by default all, or some ten where they are numbers.
    """
    shown = [
        (value, error)
        for line in lines
        for value, error in zip(line.values, line.errors or [0.0] * len(line.values), strict=True)
        if _drawable(value, logarithmic)
    ]
    if not shown:
        return ""
    low = min(float(value or 0) - error for value, error in shown)
    high = max(float(value or 0) + error for value, error in shown)
    if level is not None:
        low, high = min(low, level[1]), max(high, level[1])
    ticks = _decades(low, high) if logarithmic else nice_ticks(low, high)
    scale = _Scale(ticks[0], ticks[-1], logarithmic)
    parts = [_axis(ticks, scale, unit, places, below, every)]
    if marked is not None:
        x = _x(marked, len(places))
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    if level is not None:
        y = scale.y(level[1])
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"><title>{escaped(level[0])}</title></line>'
        )
    parts += [_line(line, scale, len(places), unit, places, logarithmic) for line in lines]
    keys = [f'<span class="key {line.kind}">{escaped(line.label)}</span>' for line in lines]
    keys += [f'<span class="key level">{escaped(level[0])}</span>'] if level is not None else []
    return (
        f'<figure class="chart"><figcaption>{escaped(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">{"".join(parts)}</svg>'
        f'<p class="keys">{"".join(keys)}</p></figure>'
    )


def interval_chart(value: float, low: float, high: float, level: float, level_name: str) -> str:
    """An accuracy on a scale from 0 to 100 %, its interval as a bar, and the level to beat."""
    text = (
        f"{100 * value:.1f} % right; 95 % interval {100 * low:.1f} to {100 * high:.1f} %; "
        f"{level_name}: {100 * level:.1f} %"
    )
    ticks = "".join(
        f'<span class="tick" style="left:{place}%">{place}{" %" if place == 100 else ""}</span>'
        for place in (0, 25, 50, 75, 100)
    )
    return (
        f'<div class="interval" role="img" aria-label="{escaped(text)}"><div class="track">'
        f'<span class="band" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></span>'
        f'<span class="base" style="left:{100 * level:.2f}%"></span>'
        f'<span class="point" style="left:{100 * value:.2f}%"></span></div><div class="ticks">{ticks}</div>'
        f'<p class="keys"><span class="key point-key">accuracy, %</span><span class="key band-key">95 % interval</span>'
        f'<span class="key base-key">{escaped(level_name)}</span></p></div>'
    )


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers around a range: at most ``most`` steps of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _drawable(value: float | None, logarithmic: bool) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or not logarithmic)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool

    def y(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)


def _x(place: int, places: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / places


def _axis(
    ticks: Sequence[float], scale: _Scale, unit: str, places: Sequence[str], below: str, every: int | None
) -> str:
    parts = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{tick:g}{escaped(unit)}</text>'
        )
    every = every or (max(1, math.ceil(len(places) / 10)) if all(name.isdigit() for name in places) else 1)
    room = every * (WIDTH - LEFT - RIGHT) / max(len(places), 1)
    upright = every == 1 and LETTER * (max(map(len, places), default=0) + 1) > room
    for place in range(0, len(places), every):
        x, y = _x(place, len(places)), HEIGHT - BOTTOM + 16
        turn = f' transform="rotate(-60 {x:.1f} {y})" style="text-anchor:end"' if upright else ""
        parts.append(f'<text class="x" x="{x:.1f}" y="{y}"{turn}>{escaped(places[place])}</text>')
    if below and not upright:
        parts.append(
            f'<text class="x" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escaped(below)}</text>'
        )
    return "".join(parts)


def _line(line: Line, scale: _Scale, count: int, unit: str, places: Sequence[str], logarithmic: bool) -> str:
    points = [
        (place, _x(place, count), scale.y(float(value or 0)))
        for place, value in enumerate(line.values)
        if _drawable(value, logarithmic)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in points)
    parts = [f'<polyline points="{path}"/>']
    for place, x, y in points:
        value = float(line.values[place] or 0)
        if line.errors:
            top, bottom = scale.y(value + line.errors[place]), scale.y(value - line.errors[place])
            parts.append(f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        if count <= 60:
            text = f"{line.label}, {places[place]}: {value:.3g}{unit}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escaped(text)}</title></circle>')
    return f'<g class="line {line.kind}">{"".join(parts)}</g>'
