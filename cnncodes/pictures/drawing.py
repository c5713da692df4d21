"""How every picture looks, and the one door to matplotlib: figures without pyplot, so no global state and no window."""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.outputs import remove_left, replacing

if TYPE_CHECKING:  # "as" hands the types on to the other modules of this room
    from matplotlib.axes import Axes as Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.cm import ScalarMappable as ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure as Figure
    from matplotlib.text import Text

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
#: Colours that stay apart in print and for most colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HEAT = "inferno"  # from black (nothing) to light yellow; even in grey print, and for colour-blind readers
CUT = 0.995  # of the numbers: beyond, the scale ends, else a few pixels would make all others dark
DOTS_PER_INCH = 144
FORMATS = (".png", ".svg", ".pdf")  # of a picture's file
TITLE, TEXT, SMALL = 15.0, 12.5, 10.5  # points: of a picture's title, of a panel's, and of notes
NOTE, QUIET = 0.72, "#444444"  # size of a note below a sheet, of the title's, and its colour
#: Fonts with scripts and signs that matplotlib's lacks, as Linux, Windows and macOS have them.
MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo",
    "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS",
    "Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Symbola",
)  # fmt: skip

_TITLE: ContextVar[str | None] = ContextVar("title", default=None)


@contextmanager
def titled(title: str | None) -> Iterator[None]:
    """Pictures drawn inside have this title, and their own in the note; None for their own."""
    token = _TITLE.set(title)
    try:
        yield
    finally:
        _TITLE.reset(token)


def new_figure(
    width: float = 7.0, height: float = 4.5, rows: int = 1, columns: int = 1, title: str = "", note: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its axes, row by row; the note stands at the foot."""
    figure = _written()(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.set_prop_cycle(color=list(COLOURS))
        place.grid(visible=True, axis="y", alpha=0.3, linewidth=0.5)
    title, note = _headed(title, note)
    if title:
        figure.suptitle("\n".join(_lines(title, width, TITLE)), fontsize=TITLE, x=0.01, ha="left")
    if note:
        lines = "\n".join(_lines(note, width, SMALL))
        figure.supxlabel(lines, fontsize=SMALL, color=QUIET, x=0.01, ha="left")
    return figure, axes


def new_panels(
    rows: int = 1,
    columns: int = 1,
    cell: float = 2.6,
    title: str = "",
    note: str = "",
    aspect: float | Sequence[float] = 1.0,
) -> tuple[Figure, list[Axes]]:
    """A figure for images, ``rows`` x ``columns`` panels of ``cell`` inches (``cell * aspect`` high), and its axes, row by row.

    The aspect may be one for each row. The title stands above all panels, and the note below it in small letters.
    """
    aspects = [aspect] * rows if isinstance(aspect, float) else list(aspect)
    width = columns * cell
    title, note = _headed(title, note)
    lines, notes = _lines(title, width, TITLE), _lines(note, width, SMALL)
    above = 0.05 + len(lines) * 1.25 * TITLE / 72  # inches
    head = above + len(notes) * 1.25 * SMALL / 72 + 0.16 if lines else 0.0
    height = cell * sum(aspects) + 0.3 * rows + head
    figure = _written()(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - head / height))
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, height_ratios=aspects).flat)
    for place in axes:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    if lines:
        # In the room kept for it, so that there is air between it and the titles of the panels.
        where: dict[str, Any] = {"x": 0.04 / width, "ha": "left", "va": "top"}
        figure.suptitle("\n".join(lines), y=1 - 0.05 / height, fontsize=TITLE, **where).set_in_layout(False)
        small = figure.text(s="\n".join(notes), y=1 - above / height, fontsize=SMALL, color=QUIET, **where)
        small.set_in_layout(False)
    return figure, axes


def _headed(title: str, note: str) -> tuple[str, str]:
    """Title and note; a person's title puts the picture's own, which says what was found, into the note."""
    own = _TITLE.get()
    if not own:
        return title, note
    return own, ". ".join(text for text in (title.rstrip("."), note) if text)


def _lines(text: str, width: float, size: float) -> list[str]:
    """The text in lines of ``width`` inches at ``size`` points."""
    return wrapped(text, int(width * 72 / (0.52 * size))) if text else []


def new_sheet(
    width: int, height: int, title: str, foot: float = 0.0, note: str = ""
) -> tuple[Figure, Axes, float]:
    """A figure around one picture of ``width`` x ``height`` pixels that is drawn dot for dot, not resampled.

    Data coordinates of the axes are pixels, y downwards. Below is room for ``foot`` lines of text, such as a legend's, and
    for the note. Besides figure and axes it gives the size of the text in points (:func:`text_size`).
    """
    margin = 0.12  # inches
    wide, size = text_size(width)
    small = max(NOTE * size, 8.0)
    line, step = 1.4 * size / 72, 1.4 * small / 72
    title, note = _headed(title, note)
    lines, notes = _lines(title, wide, size), _lines(note, wide, small)
    below = foot * line + len(notes) * step + (margin if foot or notes else 0)
    total_width = wide + 2 * margin
    total_height = height / DOTS_PER_INCH + 3 * margin + len(lines) * line + below
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
        figure.text(margin / total_width, y, text, fontsize=size, va="center")
    for place, text in enumerate(notes):
        y = (margin + (len(notes) - place - 0.5) * step) / total_height
        figure.text(margin / total_width, y, text, fontsize=small, va="center", color=QUIET)
    return figure, axes, size


def show_sheet(axes: Axes, sheet: Bytes) -> None:
    """The picture of a :func:`new_sheet`, dot for dot."""
    height, width = sheet.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(sheet, interpolation="none", aspect="auto", extent=extent)


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
    """Inches across, and points of the text, of a sheet around ``width`` pixels: all sheets read alike on a screen."""
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
            both = [axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)]
            ticks = {label for axis in both for label in axis.get_ticklabels(which="both")}
            for text in self.findobj(Text):
                if isinstance(text, Text) and text not in ticks and text.get_text():
                    text.set_parse_math(False)
                    text.set_text("\n".join(drawable(plain(line)) for line in text.get_text().split("\n")))
                    _complete_font(text)
            for axis in both:
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


def drawable(text: str) -> str:
    """Text in which no character becomes an empty box: those that no font at hand has are escaped, as ``\\u732b``."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() or _can_draw(c) else c.encode("unicode_escape").decode() for c in text)


def cut_middle(name: str, length: int) -> str:
    """A name of at most ``length`` characters, as it is drawn: the middle of a longer one is left out."""
    name = drawable(plain(name))
    head, tail = (length - 2) // 2, (length - 2) - (length - 2) // 2
    return name if len(name) <= length else f"{name[:head]}..{name[-tail:]}"


def short(name: str, length: int = 30) -> str:
    """A name on one line, cut in the middle where it would not fit: its beginning and end (a suffix) tell it apart."""
    name, end = plain(name), length // 3
    return name if len(name) <= length else f"{name[: length - end - 3]}...{name[-end:]}"


def legend_name(name: str) -> str:
    """A name as the label of what a legend names: one that begins with an underscore would be left out of it."""
    return f" {name}" if name.startswith("_") else name


def _complete_font(text: Text) -> None:
    """Let a text be drawn with more fonts where its own lacks a character."""
    if not text.get_text().isascii():
        text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *_families()])))


@functools.cache
def _can_draw(character: str) -> bool:
    """Whether matplotlib's own font has a character, or one at hand."""
    from matplotlib import font_manager

    fonts = (font_manager.get_font(font_manager.findfont(family)) for family in _families())
    return any(font.get_char_index(ord(character)) for font in fonts)


@functools.cache
def _families() -> tuple[str, ...]:
    """matplotlib's font, which comes with it, and those of :data:`MORE_FONTS` that this computer has."""
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(family for family in MORE_FONTS if family in known))


def set_title(axes: Axes, title: str, size: float = TEXT) -> None:
    """What a panel shows, above it."""
    axes.set_title(title, fontsize=size, loc="left")


def show_image(axes: Axes, rgb: Bytes, title: str = "", size: float = TEXT) -> None:
    """An image with its title."""
    axes.imshow(rgb, interpolation="nearest")
    set_title(axes, title, size)


def pale(rgb: Bytes) -> Bytes:
    """The image in light grey (ITU-R BT.601), so that colours over it stay what they are; still ``[height, width, 3]``."""
    grey = 85 + rgb @ np.array([0.299, 0.587, 0.114]) * (170 / 255)
    return np.repeat(grey.round().astype(np.uint8)[:, :, None], 3, axis=2)


def limit(values: Array) -> float:
    """Where the scale of magnitudes ends: the largest but for half a percent, and never 0."""
    magnitude = np.abs(values)
    return float(np.quantile(magnitude, CUT)) or float(magnitude.max()) or 1.0


def opacity(parts: Array) -> Array:
    """How much of the image below colours hide, by parts of their scale."""
    return np.clip(1.3 * parts, 0, 0.85)


def show_heat_over(axes: Axes, rgb: Bytes, values: Array, title: str, top: float) -> ScalarMappable:
    """Numbers ``[side, side]`` from 0 to ``top``, over the image in grey, which shows through where they are small."""
    show_image(axes, pale(rgb), title)
    heat = axes.imshow(values, cmap=HEAT, vmin=0, vmax=top, interpolation="nearest")
    heat.set_alpha(opacity(values / top))
    return heat


def add_colour_bar(figure: Figure, image: ScalarMappable, axes: Axes | list[Axes], label: str) -> Colorbar:
    """A colour bar beside the axes with the unit of its numbers."""
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(label, fontsize=SMALL + 1)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return bar


def faded(image: ScalarMappable, paper: float = 0.8) -> ScalarMappable:
    """The scale of an image that is drawn over a grey one (``paper``), its colours as they look there."""
    parts = np.linspace(0, 1, 256)
    strength = opacity(parts)[:, None]
    low, high = image.get_clim()
    colours = strength * image.get_cmap()(parts)[:, :3] + (1 - strength) * paper
    return scale(float(low or 0), float(high or 1), colours)


def scale(low: float, high: float, colours: str | Array) -> ScalarMappable:
    """A scale of colours (a name, or rows of red, green and blue) for a legend."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    chosen = colours if isinstance(colours, str) else ListedColormap(colours)
    return ScalarMappable(Normalize(low, high), chosen)


def add_ends_bar(
    figure: Figure, image: ScalarMappable, axes: Axes, label: str, ends: dict[float, str]
) -> None:
    """A colour bar below, as wide as the picture, with words by their numbers: ``{0: "nothing", 3.2: "most"}``."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    inches = figure.dpi_scale_trans + ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]
    below = blended_transform_factory(axes.transAxes, inches)
    place = axes.inset_axes((0, -0.22, 1, 0.14), transform=below)
    place.set_in_layout(False)
    bar = figure.colorbar(image, cax=place, orientation="horizontal")
    bar.set_ticks(list(ends), labels=[plain(word) for word in ends.values()])
    # As the label of the picture's axes, so that room is kept for all of it.
    axes.set_xlabel(label, fontsize=SMALL + 1, labelpad=34)
    bar.ax.tick_params(labelsize=SMALL + 1, length=0)
    labels = bar.ax.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
    bar.outline.set_edgecolor("0.5")


def check_format(path: str | os.PathLike[str]) -> None:
    """Raise OptionError unless the name is that of a picture that can be written."""
    if Path(path).suffix.lower() not in FORMATS:
        raise OptionError(
            f"a picture ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not '{Path(path).name}'.",
            "Rename the output (-o).",
        )


def save_figure(
    figure: Figure, path: str | os.PathLike[str], *, dpi: float = DOTS_PER_INCH, width: float | None = None
) -> Path:
    """Write a figure, whole or not at all, as PNG, SVG or PDF by the name's suffix.

    Parameters
    ----------
    figure : Figure
    path : path
    dpi : float, default 144
        Dots per inch of a PNG, and of the images in an SVG or PDF.
    width : float, optional
        Inches across of a PNG; the height and the text go with it.

    Raises
    ------
    OptionError, CnnCodesError
        For another suffix; if it cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    check_format(path)
    kind = path.suffix.lower()[1:]
    if width is not None:
        dpi *= width / figure.get_size_inches()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    remove_left(path.parent, f"*{path.suffix}")  # of a command that was killed
    same: dict[Any, Any] = {"svg.hashsalt": "cnncodes"}  # the same picture has the same bytes
    with mpl.rc_context(same), replacing(path, overwrite=True, error=CnnCodesError) as partial:
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(partial, format=kind, dpi=dpi, metadata=dates.get(kind))
    return path
