"""Line charts as numbers: where everything lies in the SVG that ``templates/macros.html`` writes, without library or script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440, 260  # of the SVG's own units
LEFT, RIGHT, TOP, BOTTOM = 46, 428, 14, 210  # of the area of the lines
LETTER = 6.6  # width of a letter of the labels; names that would touch each other stand upright
MOST_POINTS = 60  # of a line; more are drawn as a line only


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value for each place, None where there is none; errors are half lengths of bars."""

    label: str
    values: Sequence[float | None]
    kind: str = "one"  # one, two, three: the colour
    errors: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """A line where it is drawn: its points, ``(x, y, what the pointer reads)``, and bars, ``(x, top, bottom)``."""

    label: str
    kind: str
    path: str
    points: tuple[tuple[float, float, str], ...]
    bars: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A chart where it is drawn.

    Parameters
    ----------
    title : str
    below : str
        What the x axis shows; empty where the names stand upright.
    upright : bool
        Whether the names of the places do not fit side by side.
    ticks, names : tuple of (place, text)
        Of the y axis, and along the x axis.
    curves : tuple of Curve
    marked : float or None
        x of a vertical line.
    level : tuple of float and str, or None
        y of a dashed horizontal line, and its name.
    """

    title: str
    below: str
    upright: bool
    ticks: tuple[tuple[float, str], ...]
    names: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]
    marked: float | None
    level: tuple[float, str] | None


def line_chart(
    title: str,
    places: Sequence[str],
    lines: Sequence[Line],
    *,
    unit: str = "",
    level: tuple[float, str] | None = None,
    logarithmic: bool = False,
    marked: int | None = None,
    below: str = "",
    every: int | None = None,
) -> Chart | None:
    """Lines over named places; None where no value can be drawn.

    Parameters
    ----------
    title : str
        Also what a screen reader says.
    places : sequence of str
        Names along the x axis, evenly spaced.
    lines : sequence of Line
    unit : str
        After the numbers of the y axis.
    level : tuple of float and str, optional
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
    there = [
        [
            (place, value, line.errors[place] if line.errors else 0.0)
            for place, value in enumerate(line.values)
            if value is not None and math.isfinite(value) and (value > 0 or not logarithmic)
        ]
        for line in lines
    ]
    ends = [end for values in there for _, value, error in values for end in (value - error, value + error)]
    if not ends:
        return None
    ends += [] if level is None else [level[0]]
    low, high = min(ends), max(ends)
    ticks = _decades(low, high) if logarithmic else nice_ticks(low, high)
    first, last = (math.log10(tick) if logarithmic else tick for tick in (ticks[0], ticks[-1]))

    def x(place: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * (place + 0.5) / len(places), 1)

    def y(value: float) -> float:
        value = math.log10(value) if logarithmic else value
        return round(BOTTOM - (BOTTOM - TOP) * (value - first) / (last - first), 1)

    def curve(line: Line, values: list[tuple[int, float, float]]) -> Curve:
        path = " ".join(f"{x(place)},{y(value)}" for place, value, _ in values)
        points = [
            (x(place), y(value), f"{line.label}, {places[place]}: {value:.3g}{unit}")
            for place, value, _ in values
        ]
        bars = [(x(place), y(value + error), y(value - error)) for place, value, error in values if error]
        few = len(places) <= MOST_POINTS
        return Curve(line.label, line.kind, path, tuple(points if few else ()), tuple(bars))

    every = every or (max(1, math.ceil(len(places) / 10)) if all(map(str.isdigit, places)) else 1)
    room = every * (RIGHT - LEFT) / len(places)
    upright = every == 1 and LETTER * (max(map(len, places)) + 1) > room
    return Chart(
        title,
        "" if upright else below,
        upright,
        tuple((y(tick), f"{tick:g}{unit}") for tick in ticks),
        tuple((x(place), places[place]) for place in range(0, len(places), every)),
        tuple(map(curve, lines, there)),
        None if marked is None else x(marked),
        None if level is None else (y(level[0]), level[1]),
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
