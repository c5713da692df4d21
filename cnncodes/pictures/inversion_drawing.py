"""Images rebuilt from the codes of several stages, side by side, and how the error fell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.pictures.drawing import COLOURS, new_panels, plain, wrapped
from cnncodes.pictures.inversion import as_share
from cnncodes.pictures.overlay import set_title, show_image
from cnncodes.pictures.question import as_text, short

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
        f"What does a layer keep of {found.image}? Images rebuilt from its codes alone ({found.subject}, "
        f"{found.iterations} iterations)"
    )
    figure, axes = new_panels(rows=rows, columns=across, cell=CELL, title=title, aspect=1.13)
    answer = _answer(found.answer, found.unit)
    show_image(axes[0], found.rgb, f"the image\n{answer}")
    for place, part in zip(axes[1:], found.parts, strict=False):
        heading = f"from {part.stage}: error {as_share(part.error)}"
        show_image(place, part.rgb, f"{heading}\n{_answer(part.answer, found.unit)}")
    _draw_errors(axes[count - 1], found)
    for place in axes[count:]:
        place.set_visible(False)
    foot = wrapped(found.meaning(), int(12.5 * across * CELL))
    figure.supxlabel("\n".join(foot), fontsize=SMALL, x=0.01, ha="left", parse_math=False)
    return figure


def _answer(answer: tuple[str, float] | None, unit: str) -> str:
    """What the network says of a picture, in a line of its title."""
    if answer is None:
        return ""
    name, value = answer
    return f"network: '{short(plain(name), 20)}' {as_text(value, unit).removeprefix('probability ')}"


def _draw_errors(panel: Axes, found: Inversions) -> None:
    set_title(panel, "error of the code by iteration\n(deep layers swing: shifted at random)")
    panel.set_box_aspect(1)
    axes = panel.inset_axes(
        (0.16, 0.14, 0.82, 0.84)
    )  # its numbers stay inside the panel, as wide as the images
    for number, part in enumerate(found.parts):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(part.steps, part.errors, label=part.stage, color=colour, linewidth=2)
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
    axes.legend(fontsize=SMALL, frameon=False, loc="upper right")
