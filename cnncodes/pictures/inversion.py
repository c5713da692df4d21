"""An image rebuilt from its code: what a stage keeps of an image, and what it forgets (Mahendran and Vedaldi 2015)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnncodes.codes.compute import exact_and_side_by_side
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import OptionError
from cnncodes.core.records import to_value
from cnncodes.pictures.classifier import (
    SCORE_MEANS,
    Classifier,
    SeenImage,
    crop_caution,
    crop_words,
    note_of,
    number,
    to_rgb,
)
from cnncodes.pictures.codes_source import evenly
from cnncodes.pictures.drawing import COLOURS, new_panels, set_title, short, show_image, wrapped

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.networks import Network
    from cnncodes.pictures.drawing import Array, Axes, Bytes, Figure

ALPHA = 6  # the paper's norm
RANGE = 0.002  # weight of the alpha-norm: pictures stay in the range of photographs
MEASURED = 25  # times that the error is measured on the way
FIRST_WAVES = 0.02  # cycles in a pixel: what a descent from coarse to fine begins with
#: Luminance, red against blue, and green against magenta; photographs vary along the first most.
COLOUR_AXES = ((1, 1, 1), (1, 0, -1), (1, -2, 1))
USUAL = ("pool1", "conv3", "pool5", "fc6", "fc7")  # of an AlexNet
CELL, MOST_ACROSS = 3.6, 4  # inches, panels in a row
SMALL = 10  # points


@dataclass(frozen=True)
class Way:
    """How one descends to a code. All numbers were found by looking at what becomes of photographs."""

    rate: float  # Adam's first step
    variation: float  # weight of total variation, which smooths noise away
    falling: float  # the spectrum is scaled by frequency ** -falling: 1 as photographs, with more a step changes areas
    colours: tuple[float, float, float]  # lengths of the axes of colour: how easily each changes
    coarse: bool  # whether coarse waves come first, so that plain areas get their colour
    jitter: int  # largest shift in pixels at each step


def way_to(side: int, places: int | None) -> Way:
    """The way to the code of a stage with ``places`` x ``places`` places; None for a fully connected one."""
    if places is None:
        return Way(0.45, 0.5, 1.5, (1.4, 0.5, 0.25), coarse=False, jitter=side // 24)
    step = side / places  # pixels from place to place
    # A fine grid says enough of single pixels; the coarser, the more must be smoothed.
    if step < 32:
        return Way(1.0, min(0.2, 0.003 * step**2), 1.0, (1.4, 0.8, 0.7), coarse=True, jitter=0)
    return Way(0.6, 0.1, 1.5, (1.4, 1.0, 1.0), coarse=False, jitter=side // 48)


@dataclass(frozen=True, eq=False)
class Inversion:
    """An image rebuilt from what one stage gives for it.

    All errors are squared distances from the code, in parts of that of a plain grey image's code: 0 is the same code, and 1
    as far as an image with nothing on it.
    """

    stage: str
    rgb: Bytes  # [side, side, 3]
    steps: Array  # int [n]: steps after which the error was measured, the first 0 and the last all of them
    errors: Array  # [n], of the image as it was then, not shifted
    mirrored: (
        float  # error of the image's own mirror image: small where the stage cannot tell left from right
    )
    answer: tuple[str, float] | None = None  # the class for it, and its value; None without a classifier

    @property
    def error(self) -> float:
        """Error of the rebuilt image."""
        return float(self.errors[-1])


@dataclass(frozen=True, eq=False)
class Inversions:
    """An image, and what is rebuilt from its codes."""

    model: str  # name of the network or model
    image: str
    rgb: Bytes  # [side, side, 3], as the network sees it
    parts: tuple[Inversion, ...]  # one per stage
    seed: int
    unit: str = "probability"  # of the answers, or "score"
    answer: tuple[str, float] | None = None  # for the image itself
    seen: float = 1.0  # share of the photograph's area that the network sees

    @property
    def iterations(self) -> int:
        """Steps of each descent."""
        return int(self.parts[0].steps[-1])

    def meaning(self) -> str:
        """How the errors are counted, and what the mirror image says about what a stage forgets."""
        mirrored = ", ".join(f"{part.stage} {as_share(part.mirrored)}" for part in self.parts)
        return (
            "Error: squared distance from the photograph's code; 100 % is as far as a plain grey image. Of the mirror image: "
            f"{mirrored}; where that is little, the layer hardly tells left from right."
        )

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it."""
        stages = {
            part.stage: {"error": part.error, "mirrored_error": part.mirrored, "answer": part.answer}
            for part in self.parts
        }
        named = ("model", "image", "seed", "iterations", "unit", "answer", "seen")
        return {**to_value(self, *named), "stages": stages}


def as_share(share: float) -> str:
    """``0.52 %``, ``12 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def usual_stages(network: Network) -> tuple[str, ...]:
    """Five layers from the first to the last before the classifier."""
    if {*USUAL} <= {*network.stage_names}:
        return USUAL
    layers = network.codes_layers
    return tuple(layers[place] for place in evenly(np.arange(len(layers)), len(USUAL)))


def invert(
    classifier: Classifier,
    image: SeenImage,
    stages: str | Iterable[str] = USUAL,
    iterations: int = 150,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Inversions:
    """Rebuild an image from its codes at several stages.

    Minimises ``|f(x) - f(x0)|^2 / |f(x0)|^2 + a mean |x / s|^6 + b mean |grad x|^2``: equations 2 to 4 of the paper, the
    relative error of the code, the alpha-norm with alpha = 6, and total variation with beta = 2. For deep stages x
    is shifted by a few pixels at random before each step (Mahendran and Vedaldi 2016, section 3.3, jitter). Adam descends
    over the image's spectrum, scaled by a power of the frequency, and over axes of colour (Olah, Mordvintsev and Schubert
    2017, "Preconditioning"): over pixels the descent finds faint patterns that give the same code and show nothing.

    Parameters
    ----------
    classifier : Classifier
    image : SeenImage
    stages : str or iterable of str
        Names and ranges, see :func:`cnncodes.networks.parse_stages`.
    iterations : int, default 150
    seed : int, default 0
        Of the noise that the descent starts from.
    progress : Progress, optional
        In iterations, over all stages; called in the threads that compute.

    Raises
    ------
    StageError, OptionError
        For a stage that the network does not have, or that gives nothing but zeros for this image; or no iteration.
    """
    if iterations < 1:
        raise OptionError(f"{iterations} iterations rebuild nothing.", "Use 1 or more.")
    names = classifier.weights.architecture.select(stages)
    classifier.network  # noqa: B018 - made once, before several threads ask for it
    done = itertools.count(1)  # safe among threads

    def report() -> None:
        progress("rebuilding the image", next(done), len(names) * iterations, "")

    def one(name: str) -> Inversion:
        return _invert_one(classifier, image, name, iterations, seed, report)

    # On a CPU a stage on each core with one thread: these steps are too small to be shared by several.
    side_by_side = classifier.device.cores if classifier.device.is_cpu else 1
    with exact_and_side_by_side(classifier.device), ThreadPoolExecutor(side_by_side, "invert") as pool:
        parts = tuple(pool.map(one, names))
    answer = _answer(classifier, image.pixels)
    return Inversions(
        classifier.name, image.name, image.rgb, parts, seed, classifier.unit, answer, image.seen
    )


def _invert_one(
    classifier: Classifier,
    image: SeenImage,
    stage: str,
    iterations: int,
    seed: int,
    progress: Callable[[], None],
) -> Inversion:
    """Descend from noise to the code of one stage."""

    def code(pixels: Tensor) -> Tensor:
        return classifier.network.activations(pixels, stage)[stage]

    def distance(pixels: Tensor) -> float:
        with torch.no_grad():
            return float((code(pixels) - wanted).square().sum())

    with torch.no_grad():
        wanted = code(image.pixels)
    square = wanted.square().sum()
    if not square > 0:
        raise OptionError(f"'{stage}' gives only zeros for '{image.name}'.", "Name another stage.")
    grey = distance(torch.zeros_like(image.pixels)) or float(square)  # the image may be grey itself
    # All is counted in units of the spread of pixels, so that networks that read 0..255 are treated alike.
    record = classifier.preprocessing
    unit = 64 / record.scale / image.pixels.new_tensor(record.std)[:, None, None]  # 64 grey levels
    way = way_to(image.pixels.shape[2], wanted.shape[2] if wanted.dim() > 2 else None)
    random = torch.Generator().manual_seed(seed)
    spectrum, image_of = _start(image.pixels, random, way)
    optimiser = torch.optim.Adam([spectrum], lr=way.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, eta_min=way.rate / 20)
    every = max(1, iterations // MEASURED)
    steps, errors = [], []
    for step in range(iterations):
        found = image_of(spectrum, step / iterations)
        if step % every == 0:
            steps.append(step)
            errors.append(distance(found * unit) / grey)
        shift = torch.randint(-way.jitter, way.jitter + 1, (2,), generator=random).tolist()
        error = (code(torch.roll(found, shift, (2, 3)) * unit) - wanted).square().sum() / square
        across, down = found.diff(dim=3), found.diff(dim=2)
        roughness = (across.square().mean() + down.square().mean()) * 3
        loss = error + RANGE * (found / 2).abs().pow(ALPHA).mean() + way.variation * roughness
        (spectrum.grad,) = torch.autograd.grad(loss, spectrum)
        optimiser.step()
        schedule.step()
        progress()
    with torch.no_grad():
        found = image_of(spectrum, 1.0) * unit
    return Inversion(
        stage, to_rgb(found, record)[0], np.array([*steps, iterations]), np.array([*errors, distance(found) / grey]),
        distance(image.pixels.flip(3)) / grey, _answer(classifier, found),
    )  # fmt: skip


def _answer(classifier: Classifier, pixels: Tensor) -> tuple[str, float] | None:
    """The class with the largest value, and that value; None for a network without a classifier."""
    if not classifier.has_classes:
        return None
    values = classifier.answer(pixels)
    best = int(values.argmax())
    return classifier.classes[best], float(values[best])


def _start(
    pixels: Tensor, random: torch.Generator, way: Way
) -> tuple[Tensor, Callable[[Tensor, float], Tensor]]:
    """Noise ``[1, 3, side, side // 2 + 1, 2]``, and the function that makes an image like ``pixels`` of such numbers.

    They are the real and imaginary parts of a spectrum, in which each frequency is scaled by its height in photographs, for
    each axis of colour. On a way from coarse to fine, fine waves join in the first half: the function takes the share done.
    """
    side = pixels.shape[2]
    # Made on the CPU, where the random numbers are the same on every machine, and moved once.
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    plain = 1 / frequency.clamp_min(1 / side)
    falling = plain**way.falling
    height = plain.norm() / plain.mean() / falling.norm()  # the same power for any fall
    amplitude = (falling * height * 0.1 * side).to(pixels)
    axes = torch.nn.functional.normalize(torch.tensor(COLOUR_AXES, dtype=torch.float32), dim=1)
    colours = (axes * torch.tensor(way.colours)[:, None]).to(pixels)
    start = 0.02 * torch.randn(1, 3, side, side // 2 + 1, 2, generator=random)
    frequency = frequency.to(pixels)

    def image_of(spectrum: Tensor, done: float) -> Tensor:
        waves = torch.view_as_complex(spectrum) * amplitude
        if way.coarse and done < 0.5:
            finest = FIRST_WAVES * (0.5 / FIRST_WAVES) ** (2 * done)
            waves = waves * torch.exp(-((frequency / finest) ** 2))
        planes = torch.fft.irfft2(waves, s=(side, side))
        return torch.einsum("bkhw,kc->bchw", planes, colours)

    return start.to(pixels).requires_grad_(), image_of


def draw_inversions(found: Inversions) -> Figure:
    """The image and those rebuilt from each stage, in rows of four; the last panel has the errors by iteration."""
    count = len(found.parts) + 2
    rows = -(-count // MOST_ACROSS)
    across = -(-count // rows)
    caution = crop_caution(found.seen)
    note = note_of(found.image, found.model, cautions=[caution] if caution else [])
    title = f"Rebuilt from its codes alone in {found.iterations} iterations"
    figure, axes = new_panels(rows, across, CELL, title, note, aspect=1.13)
    show_image(axes[0], found.rgb, f"{crop_words(found.seen)}\n{_said(found.answer, found.unit)}")
    for place, part in zip(axes[1:], found.parts, strict=False):
        show_image(place, part.rgb, f"rebuilt from {part.stage}\n{_said(part.answer, found.unit)}")
    _draw_errors(axes[count - 1], found, 1 + len(axes) - count)
    for place in axes[count:]:
        place.set_visible(False)
    meaning = found.meaning()
    if found.unit != "probability" and found.answer is not None:
        meaning += f" SVM scores: {SCORE_MEANS}."
    foot = wrapped(meaning, int(13 * across * CELL))
    figure.supxlabel("\n".join(foot), fontsize=SMALL, x=0.04 / (across * CELL), ha="left")
    return figure


def _said(answer: tuple[str, float] | None, unit: str) -> str:
    """What the network says of a picture, in a line of its title."""
    if answer is None:
        return ""
    score = "" if unit == "probability" else f"{unit} "
    return f"network: '{short(answer[0], 20)}' {score}{number(answer[1], unit)}"


def _draw_errors(panel: Axes, found: Inversions, width: int) -> None:
    """Curves with their names at the right, in a panel and ``width - 1`` free ones beside it."""
    set_title(panel, "error of the code by iteration")
    panel.set_box_aspect(1)
    # Its numbers stay inside the panels, and it is as high as the images.
    axes = panel.inset_axes((0.16, 0.14, 0.48 + 0.95 * (width - 1), 0.84))
    axes.set_in_layout(False)
    for place, part in enumerate(found.parts):
        label = f"{part.stage} {as_share(part.error)}"
        axes.plot(part.steps, part.errors, label=label, color=COLOURS[place % len(COLOURS)], linewidth=2)
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
