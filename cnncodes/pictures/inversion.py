"""An image rebuilt from its code: what a stage keeps of an image, and what it forgets (Mahendran and Vedaldi 2015)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.codes.compute import exact_and_side_by_side
from cnncodes.errors import OptionError
from cnncodes.pictures.drawing import COLOURS, new_panels
from cnncodes.pictures.overlay import show_image
from cnncodes.pictures.subject import Bytes, Subject, View, to_rgb

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.pictures.drawing import Figure

Array = npt.NDArray[Any]
ALPHA, BETA = 6, 2  # the paper's norms
#: Weights of the norms, found by looking: pictures stay in the range of photographs, and noise is smoothed away.
RANGE = 0.002
VARIATION = 0.2
FINE_VARIATION = (
    0.003  # times the square of the pixels between a stage's places: a fine grid says enough by itself
)
DEEP_VARIATION = 1.0  # a fully connected code says little of single pixels, so that more must be smoothed
RATE = 0.3
COARSE = 32  # pixels between the places of a stage, from which on the image is shifted
#: Luminance, red against blue, and green against magenta, each as long as it varies in photographs, in proportion.
COLOUR_AXES = ((1, 1, 1), (1, 0, -1), (1, -2, 1))
COLOUR_LENGTHS = (1.4, 0.5, 0.25)


@dataclass(frozen=True, eq=False)
class Inversion:
    """An image rebuilt from what one stage gives for it.

    Parameters
    ----------
    stage : str
    rgb : uint8 array [side, side, 3]
        The rebuilt image.
    errors : float array [iterations + 1]
        Squared error of the code, relative to its squared length: at the start, and after each step.
    error : float
        That of the rebuilt image: the last of ``errors``.
    """

    stage: str
    rgb: Bytes
    errors: Array

    @property
    def error(self) -> float:
        """Relative squared error of the rebuilt image's code."""
        return float(self.errors[-1])


@dataclass(frozen=True, eq=False)
class Inversions:
    """An image, and what is rebuilt from its codes.

    Parameters
    ----------
    subject, image : str
        Names of the network (or model) and of the image.
    rgb : uint8 array [side, side, 3]
        The image as the network sees it.
    parts : tuple of Inversion
        One per stage.
    seed : int
    """

    subject: str
    image: str
    rgb: Bytes
    parts: tuple[Inversion, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it."""
        return {
            "model": self.subject,
            "image": self.image,
            "seed": self.seed,
            "iterations": len(self.parts[0].errors) - 1,
            "relative_squared_error": {part.stage: part.error for part in self.parts},
        }


def invert(
    subject: Subject,
    view: View,
    stages: str | Iterable[str] = ("pool1", "conv3", "pool5", "fc6", "fc7"),
    iterations: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inversions:
    """Rebuild an image from its codes at several stages.

    Minimises ``|f(x) - f(x0)|^2 / |f(x0)|^2 + a mean |x / s|^6 + b mean |grad x|^2``: equations 2 to 4 of the paper, the
    relative error of the code, the alpha-norm with alpha = 6, and total variation with beta = 2. For deep stages x
    is shifted by a few pixels at random before each step (Mahendran and Vedaldi 2016, section 3.3, jitter).

    The paper descends over pixels with momentum; here it is Adam (Kingma and Ba 2015), with a step that falls along a
    cosine, over the image's spectrum divided by frequency, and over colours of which luminance is the largest
    (Olah, Mordvintsev and Schubert 2017, Feature Visualization, "Preconditioning"): a step changes areas as easily as
    fine patterns. Over pixels it finds faint patterns that give the same code and show nothing.

    Parameters
    ----------
    subject : Subject
    view : View
    stages : str or iterable of str
        Names and ranges, see :func:`cnncodes.networks.parse_stages`.
    iterations : int, default 100
    seed : int, default 0
        Of the noise that the descent starts from.
    progress : callable(done, total), optional
        In iterations, over all stages.

    Raises
    ------
    StageError
        For a stage that the network does not have.
    OptionError
        If there is no iteration, or a stage gives nothing but zeros for this image.
    """
    if iterations < 1:
        raise OptionError(f"{iterations} iterations rebuild nothing.", "Use 1 or more.")
    names = subject.weights.architecture.select(stages)
    subject.network  # noqa: B018 - made once, before several threads ask for it
    done = 0
    lock = threading.Lock()

    def report() -> None:
        nonlocal done
        with lock:
            done += 1
            progress(done, len(names) * iterations)

    # On a CPU a stage on each core with one thread: these steps are too small to be shared by several.
    side_by_side = subject.device.cores if subject.device.is_cpu else 1
    with exact_and_side_by_side(subject.device), ThreadPoolExecutor(side_by_side, "invert") as pool:
        parts = list(pool.map(lambda name: _invert_one(subject, view, name, iterations, seed, report), names))
    return Inversions(subject.name, view.name, view.rgb, tuple(parts), seed)


def _invert_one(
    subject: Subject, view: View, stage: str, iterations: int, seed: int, progress: Callable[[], None]
) -> Inversion:
    """Descend from noise to the code of one stage."""

    def code(pixels: Tensor) -> Tensor:
        return subject.network.activations(pixels, stage)[stage]

    with torch.no_grad():
        wanted = code(view.pixels)
    square = wanted.square().sum()
    if not square > 0:
        raise OptionError(f"'{stage}' gives only zeros for '{view.name}'.", "Name another stage.")
    # All is counted in units of the spread of pixels, so that networks that read 0..255 are treated alike.
    record = subject.preprocessing
    unit = 64 / record.scale / view.pixels.new_tensor(record.std)[:, None, None]  # 64 grey levels
    side = view.pixels.shape[2]
    deep = wanted.dim() == 2
    step = side if deep else side / wanted.shape[2]  # pixels between the places of the stage
    variation = DEEP_VARIATION if deep else min(VARIATION, FINE_VARIATION * step**2)
    jitter = side // 24 if deep else side // 48 if step >= COARSE else 0
    random = torch.Generator().manual_seed(seed)
    spectrum, image_of = _start(view.pixels, random)
    optimiser = torch.optim.Adam([spectrum], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, eta_min=RATE / 20)
    errors = []
    for _ in range(iterations):
        image = image_of(spectrum)
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=random).tolist()
        error = (code(torch.roll(image, shift, (2, 3)) * unit) - wanted).square().sum() / square
        across, down = image.diff(dim=3), image.diff(dim=2)
        roughness = (across.square().mean() + down.square().mean()) * 3
        loss = error + RANGE * (image / 2).abs().pow(ALPHA).mean() + variation * roughness
        (spectrum.grad,) = torch.autograd.grad(loss, spectrum)
        optimiser.step()
        schedule.step()
        errors.append(float(error.detach()))
        progress()
    with torch.no_grad():
        found = image_of(spectrum) * unit
        errors.append(float((code(found) - wanted).square().sum() / square))
    return Inversion(stage, to_rgb(found, record)[0], np.array(errors))


def _start(pixels: Tensor, random: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Noise ``[1, 3, side, side // 2 + 1, 2]``, and the function that makes an image like ``pixels`` of such numbers.

    They are the real and imaginary parts of a spectrum in which each frequency was multiplied by its height, for the
    amplitudes of photographs fall with 1 / frequency; three of them, along the axes of colour.
    """
    side = pixels.shape[2]
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    falling = 1 / frequency.clamp_min(1 / side)
    amplitude = (falling / falling.mean() * 0.1 * side).to(pixels)
    axes = torch.nn.functional.normalize(torch.tensor(COLOUR_AXES, dtype=torch.float32), dim=1)
    colours = (axes * torch.tensor(COLOUR_LENGTHS)[:, None]).to(pixels)
    start = 0.02 * torch.randn(1, 3, side, side // 2 + 1, 2, generator=random)

    def image_of(spectrum: Tensor) -> Tensor:
        planes = torch.fft.irfft2(torch.view_as_complex(spectrum) * amplitude, s=(side, side))
        return torch.einsum("bkhw,kc->bchw", planes, colours)

    return start.to(pixels).requires_grad_(), image_of


def draw_inversions(found: Inversions) -> Figure:
    """The image and those rebuilt from each stage; the last panel has the errors over the iterations."""
    columns = len(found.parts) + 2
    title = (
        f"{found.image} rebuilt from its codes ({found.subject}, {len(found.parts[0].errors) - 1} iterations): "
        "what a layer keeps of an image"
    )
    rows = 1 if columns <= 7 else 2
    across = -(-columns // rows)
    figure, axes = new_panels(rows=rows, columns=across, cell=2.7, title=title, aspect=1.12)
    show_image(axes[0], found.rgb, "the image\n")
    for place, part in zip(axes[1:], found.parts, strict=False):
        show_image(place, part.rgb, f"from {part.stage}\nerror {_percent(part.error)}")
    curves = axes[columns - 1]
    for number, part in enumerate(found.parts):
        curves.plot(part.errors, label=part.stage, color=COLOURS[number % len(COLOURS)], linewidth=1.2)
    curves.set_yscale("log")
    last = len(found.parts[0].errors) - 1
    curves.set_xticks(sorted({0, last // 2, last}))
    curves.tick_params(labelsize=7)
    curves.set_box_aspect(1)
    curves.grid(visible=True, axis="y", alpha=0.3, linewidth=0.5)
    curves.set_xlabel("iteration", fontsize=8)
    curves.set_title("squared error of the code,\nrelative to its squared length", fontsize=9, loc="left")
    curves.legend(fontsize=7, frameon=False)
    for place in axes[columns:]:
        place.set_visible(False)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
