"""Images rebuilt from the codes of several stages, side by side, and how the error fell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.pictures.drawing import COLOURS, new_panels, plain, wrapped
from cnncodes.pictures.inversion import as_share
from cnncodes.pictures.overlay import set_title, show_image
from cnncodes.pictures.question import SCORE_MEANS, as_text, short, short_file
from cnncodes.pictures.subject import crop_caution, crop_words

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Axes, Figure
    from cnncodes.pictures.inversion import Inversions

CELL, MOST_ACROSS = 3.6, 4  # inches, panels in a row
SMALL = 10  # points


def draw_inversions(found: Inversions) -> Figure:
    """The image and those rebuilt from each stage, in rows of four; the last panel has the errors by iteration."""
    count = len(found.parts) + 2
    rows = -(-count // MOST_ACROSS)
    across = -(-count // rows)
    title = (
        f"What does a layer keep of {short_file(found.image)}? Images rebuilt from its codes alone "
        f"({short_file(found.subject)}, {found.iterations} iterations)"
    )
    caution = crop_caution(found.seen)
    title += f". Beware: {caution}" if caution else ""
    figure, axes = new_panels(rows=rows, columns=across, cell=CELL, title=title, aspect=1.13)
    show_image(axes[0], found.rgb, f"{crop_words(found.seen)}\n{_answer(found.answer, found.unit)}")
    for place, part in zip(axes[1:], found.parts, strict=False):
        show_image(place, part.rgb, f"rebuilt from {part.stage}\n{_answer(part.answer, found.unit)}")
    _draw_errors(axes[count - 1], found, 1 + len(axes) - count)
    for place in axes[count:]:
        place.set_visible(False)
    meaning = found.meaning()
    if found.unit != "probability" and found.answer is not None:
        meaning += f" SVM scores: {SCORE_MEANS}."
    foot = wrapped(meaning, int(13 * across * CELL))
    figure.supxlabel("\n".join(foot), fontsize=SMALL, x=0.04 / (across * CELL), ha="left", parse_math=False)
    return figure


def _answer(answer: tuple[str, float] | None, unit: str) -> str:
    """What the network says of a picture, in a line of its title."""
    if answer is None:
        return ""
    name, value = answer
    return f"network: '{short(plain(name), 20)}' {as_text(value, unit).removeprefix('probability ')}"


def _draw_errors(panel: Axes, found: Inversions, width: int) -> None:
    """Curves with their names at the right, in a panel and ``width - 1`` free ones beside it."""
    set_title(panel, "how far the search came: error of the code\n(deep layers swing: shifted at random)")
    panel.set_box_aspect(1)
    # Its numbers stay inside the panels, and it is as high as the images.
    axes = panel.inset_axes((0.16, 0.14, 0.48 + 0.95 * (width - 1), 0.84))
    axes.set_in_layout(False)
    for number, part in enumerate(found.parts):
        colour = COLOURS[number % len(COLOURS)]
        label = f"{part.stage} {as_share(part.error)}"
        axes.plot(part.steps, part.errors, label=label, color=colour, linewidth=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({0, found.iterations // 2, found.iterations}))
    least = min(float(part.errors.min()) for part in found.parts)
    ticks = [10.0**-power for power in range(5) if power == 0 or 10.0**-power > 0.5 * least]
    axes.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.yaxis.minorticks_off()
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.3, linewidth=0.5)
    axes.set_xlabel("iteration", fontsize=SMALL)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=1)
