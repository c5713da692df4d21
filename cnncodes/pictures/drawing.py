"""How every picture of this project looks, and the one door to matplotlib.

Figures are made without pyplot: no global state, no window, no backend to choose.
"""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import CnnCodesError
from cnncodes.weights.content import remove_left, replacing

if TYPE_CHECKING:  # "as" hands the types on to the other modules of this room
    from matplotlib.axes import Axes as Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.cm import ScalarMappable as ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure as Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Transform

Array = npt.NDArray[Any]
#: Colours that stay apart in print and for most colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS_PER_INCH = 144
NOTE, QUIET = 0.72, "#444444"  # size of a note below a sheet, of the title's, and its colour
#: Fonts with scripts and signs that matplotlib's lacks, as Linux, Windows and macOS have them.
MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo",
    "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS",
    "Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Symbola",
)  # fmt: skip


def new_figure(
    width: float = 7.0, height: float = 4.5, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its axes, row by row, with the house's look."""
    figure = _written()(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.set_prop_cycle(color=list(COLOURS))
        place.grid(visible=True, axis="y", alpha=0.3, linewidth=0.5)
    return figure, axes


def new_panels(
    rows: int = 1, columns: int = 1, cell: float = 2.6, title: str | None = None, aspect: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """A figure for images, ``rows`` x ``columns`` panels of ``cell`` inches (``cell * aspect`` high), without ticks.

    Axes come row by row; the title stands above all of them, at the left, broken into lines that fit.
    """
    lines = wrapped(title, int(12 * columns * cell)) if title else []
    head = 0.21 + 0.19 * len(lines) if lines else 0.0
    width, height = columns * cell, rows * (cell * aspect + 0.3) + head
    figure = _written()(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - head / height))
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for place in axes:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    if lines:
        # In the room kept for it, so that there is air between it and the titles of the panels.
        text = figure.suptitle(
            "\n".join(lines), fontsize=11, x=0.04 / width, y=1 - 0.05 / height, ha="left", parse_math=False
        )
        text.set_in_layout(False)
    return figure, axes


def new_sheet(
    width: int, height: int, title: str, foot: float = 0.0, note: str = ""
) -> tuple[Figure, Axes, float]:
    """A figure around one picture of ``width`` x ``height`` pixels that is drawn dot for dot, not resampled.

    Parameters
    ----------
    width, height : int
        Pixels of the picture; data coordinates of the axes are pixels, y downwards.
    title : str
        Above the picture, at the left, broken into lines that fit.
    foot : float, default 0
        Lines of text that find place below the picture, such as a legend's.
    note : str, default ""
        In small letters at the very bottom: what a reader asks second, such as settings.

    Returns
    -------
    tuple of Figure, Axes and float
        The size of the text in points (:func:`text_size`) besides.
    """
    margin = 0.12  # inches
    wide, size = text_size(width)
    line = 1.4 * size / 72
    lines = wrapped(title, int(wide * 72 / (0.52 * size)))
    small = max(NOTE * size, 8.0)
    step = 1.4 * small / 72
    notes = wrapped(note, int(wide * 72 / (0.52 * small))) if note else []
    head, below = len(lines) * line + margin, foot * line + (margin if foot else 0)
    below += len(notes) * step + (margin if notes and not foot else 0)
    total_width, total_height = wide + 2 * margin, height / DOTS_PER_INCH + 2 * margin + head + below
    figure = _written()(figsize=(total_width, total_height), dpi=DOTS_PER_INCH)
    across, upwards = DOTS_PER_INCH * total_width, DOTS_PER_INCH * total_height
    # On whole dots: half a dot would blur every line of the picture.
    left, bottom = round(DOTS_PER_INCH * margin), round(DOTS_PER_INCH * (margin + below))
    axes = figure.add_axes((left / across, bottom / upwards, width / across, height / upwards))
    axes.set_axis_off()
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    for place, text in enumerate(lines):
        y = 1 - (margin + (place + 0.5) * line) / total_height
        figure.text(margin / total_width, y, text, fontsize=size, va="center", parse_math=False)
    for place, text in enumerate(notes):
        y = (margin + (len(notes) - place - 0.5) * step) / total_height
        figure.text(margin / total_width, y, text, fontsize=small, va="center", color=QUIET, parse_math=False)
    return figure, axes, size


def wrapped(text: str, characters: int) -> list[str]:
    """The text in lines of at most so many characters, as it can be drawn; a number keeps its per cent sign.

    Where the last line would hold a few words only, all lines are made shorter.
    """
    held = drawable(plain(text)).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(held, characters)
    for fewer in range(characters - 1, characters // 2, -1):
        shorter = textwrap.wrap(held, fewer)
        if len(lines) < 2 or len(lines[-1]) >= characters / 3 or len(shorter) > len(lines):
            break
        lines = shorter
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def text_size(width: int) -> tuple[float, float]:
    """Inches across, and points of the text, of a sheet around a picture of ``width`` pixels: in proportion, so that
    all sheets read alike when they fill a screen."""
    inches = max(width / DOTS_PER_INCH, 6.0)
    return inches, min(max(10.0, 1.05 * inches), 18.0)


@functools.cache
def _written() -> type[Figure]:
    """The class of all figures: text is drawn as it is written, whatever a person calls a file or a class.

    A ``$`` begins no formula, and what cannot be drawn is escaped (:func:`plain`). Tick labels are left alone: powers
    of ten on a logarithmic axis are formulas; where ticks are names, they are made plain as they are set.
    """
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class Written(Figure):
        def draw(self, renderer: RendererBase) -> None:
            ticks = {
                label
                for axes in self.axes
                for axis in (axes.xaxis, axes.yaxis)
                for label in axis.get_ticklabels(which="both")
            }
            for text in self.findobj(Text):
                if isinstance(text, Text) and text not in ticks and text.get_text():
                    text.set_parse_math(False)
                    text.set_text("\n".join(drawable(plain(line)) for line in text.get_text().split("\n")))
                    _complete_font(text)
            for axes in self.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    names = [label.get_text() for label in axis.get_majorticklabels()]
                    shown = [drawable(name) for name in names]
                    if shown != names:
                        axis.set_ticklabels(shown)
                    for label in axis.get_majorticklabels():
                        _complete_font(label)
            super().draw(renderer)

    return Written


def plain(text: str) -> str:
    """Text that can be shown on one line, in a picture or a page.

    Undecodable bytes, control characters and those that turn the direction of writing become visible escapes.
    """
    text = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def legend_name(name: str) -> str:
    """A name as the label of what a legend names: one that begins with an underscore would be left out of it."""
    return f" {name}" if name.startswith("_") else name


def drawable(text: str) -> str:
    """Text in which no character becomes an empty box: those that no font at hand has are escaped, as ``\\u732b``."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() or _font_with(c) else c.encode("unicode_escape").decode() for c in text)


def _complete_font(text: Text) -> None:
    """Let a text be drawn with more fonts where its own lacks a character."""
    more = dict.fromkeys(_font_with(c) for c in text.get_text() if not c.isascii())
    families = [*text.get_fontfamily(), *(family for family in more if family)]
    if len(families) > len(text.get_fontfamily()):
        text.set_fontfamily(list(dict.fromkeys(families)))


@functools.cache
def _font_with(character: str) -> str | None:
    """The family that has a character: matplotlib's own if it has it, else the first at hand that does, or None."""
    from matplotlib import font_manager

    for family in _families():
        font = font_manager.get_font(font_manager.findfont(family))
        if font.get_char_index(ord(character)):
            return family
    return None


@functools.cache
def _families() -> tuple[str, ...]:
    """matplotlib's font, which comes with it, and those of :data:`MORE_FONTS` that this computer has."""
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(family for family in MORE_FONTS if family in known))


def add_colour_bar(figure: Figure, image: ScalarMappable, axes: Axes | list[Axes], label: str) -> Colorbar:
    """A colour bar beside the axes with the unit of its numbers."""
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(label, fontsize=9, parse_math=False)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return bar


def add_change_bar(
    figure: Figure, image: ScalarMappable, axes: Axes, label: str, middle: float, unit: str
) -> None:
    """A colour bar around a value that means "no change", which is named; probabilities end at 0 and 100 %."""
    bar = add_colour_bar(figure, image, axes, label)
    low, high = bar.ax.get_ylim()
    if unit == "probability":
        low, high = max(low, 0.0), min(high, 1.0)
        bar.ax.set_ylim(low, high)
    near = 0.08 * (high - low)
    ticks = [tick for tick in bar.get_ticks() if low <= tick <= high and abs(tick - middle) > near]
    words = [f"{100 * tick:.3g} %" if unit == "probability" else f"{tick:.3g}" for tick in ticks]
    bar.set_ticks([*ticks, middle], labels=[*words, "no\npatch"])
    bar.ax.tick_params(labelsize=10)
    bar.ax.yaxis.label.set_fontsize(10)
    bar.ax.yaxis.labelpad = 8


def _below(figure: Figure, axes: Axes) -> Transform:
    """From parts of the axes' width and inches above their lower edge to dots."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    inches = figure.dpi_scale_trans + ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]
    return blended_transform_factory(axes.transAxes, inches)


def faded(image: ScalarMappable, strength: Callable[[Array], Array], paper: float = 0.8) -> ScalarMappable:
    """The scale of an image that is drawn over a grey one, its colours as they look there.

    Parameters
    ----------
    image : ScalarMappable
    strength : callable
        From parts of the scale, 0 to 1, to the opacity of the colours.
    paper : float, default 0.8
        The grey below.
    """
    from matplotlib.colors import ListedColormap

    parts = np.linspace(0, 1, 256)
    opacity = strength(parts)[:, None]
    colours = opacity * image.get_cmap()(parts)[:, :3] + (1 - opacity) * paper
    low, high = image.get_clim()
    return scale(float(low or 0), float(high or 1), ListedColormap(colours))


def scale(low: float, high: float, colours: str | Colormap) -> ScalarMappable:
    """A scale of colours for a legend, where a picture has its colours already."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), colours)


def add_ends_bar(
    figure: Figure, image: ScalarMappable, axes: Axes, label: str, ends: dict[float, str]
) -> None:
    """A colour bar below, with words in place of numbers that mean nothing to a reader.

    Parameters
    ----------
    figure, image, axes
    label : str
        What the colours stand for.
    ends : dict of float to str
        Words by the number that they stand at, such as ``{0: "nothing", 3.2: "most"}``.
    """
    place = axes.inset_axes((0, -0.22, 1, 0.14), transform=_below(figure, axes))  # as wide as the picture
    place.set_in_layout(False)
    bar = figure.colorbar(image, cax=place, orientation="horizontal")
    bar.set_ticks(list(ends), labels=[plain(word) for word in ends.values()])
    # As the label of the picture's axes, so that room is kept for all of it.
    axes.set_xlabel(label, fontsize=10, labelpad=32, parse_math=False)
    bar.ax.tick_params(labelsize=10, length=0)
    labels = bar.ax.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
    bar.outline.set_visible(False)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, whole or not at all; raises CnnCodesError if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    remove_left(path.parent, "*.png")  # of a command that was killed, whatever its picture was to be called
    with replacing(path, overwrite=True, error=CnnCodesError) as partial:
        figure.savefig(partial, format="png")
    return path
