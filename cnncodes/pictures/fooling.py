"""The smallest step found in the pixels that makes a classifier sure of another answer: adversarial images.

The fast gradient sign method takes one step of the same size in every pixel (Goodfellow, Shlens and Szegedy 2015), its iterated
form small ones inside the same box (Kurakin, Goodfellow and Bengio 2017). The image stays one of whole grey levels 0..255, so
that it can be written to a file and still fools.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.records import to_value
from cnncodes.images import normalise
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import whole_of
from cnncodes.pictures.classifier import Classifier, SeenImage, as_text, ask, knows_only, note_of, number
from cnncodes.pictures.drawing import add_ends_bar, new_panels, scale, short, show_image

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.images.decode import Source
    from cnncodes.pictures.drawing import Bytes, Figure
    from cnncodes.weights.preprocessing import Preprocessing

CLOSE = 0.5  # of the answer's probability: a class that has as much is as good as the answer
SURE = 0.9  # the probability of the new answer that is gone on to
STEPS = 20  # of the iterated form, at each size of the box


Step = tuple[int, "Tensor"]  # the largest change of a pixel, and the image


class NotFooledError(CnnCodesError):
    """No step within the limit changes the answer as asked."""


@dataclass(frozen=True, eq=False)
class Fooled:
    """An image, and the nearest one found that is taken for something else."""

    model: str  # name of the network or model
    image: str
    rgb: Bytes  # [side, side, 3], the crop that the network sees
    fooled: Bytes  # the same after the step
    classes: tuple[str, str]  # the answer before, and the answer after
    before: tuple[float, float]  # values of these two classes before the step
    after: tuple[float, float]
    unit: str  # "probability" or "score"
    epsilon: int  # largest change of a pixel, in grey levels of 255; none smaller was found to do
    one_step: int | None  # the same for a single step of the fast gradient sign method; None if none does
    doubts: tuple[str, ...] = ()  # what the answers before and after lack; none if both are sure

    @property
    def cautions(self) -> tuple[str, ...]:
        """What makes this change less of a wonder: the network was not sure, or was about to say this anyway."""
        first, second = (as_text(value, self.unit) for value in self.before)
        near = self.unit == "probability" and self.before[1] >= CLOSE * self.before[0]
        close = f"the two were close before, {first} and {second}, so that little had to change"
        return (*self.doubts, *([close] if near else []))

    def describe(self) -> str:
        """``'bee' (probability 90 %) becomes 'ant' (probability 60 %, before 1.2 %)``."""
        old, new = (short(name) for name in self.classes)
        first, after = as_text(self.before[0], self.unit), as_text(self.after[1], self.unit)
        return f"'{old}' ({first}) becomes '{new}' ({after}, before {number(self.before[1], self.unit)})"

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it."""
        values = {"class": self.classes[0], "to": self.classes[1], "one_step_epsilon": self.one_step}
        named = ("model", "image", "unit", "before", "after", "epsilon", "cautions")
        return {**to_value(self, *named), **values}


def fool(
    classifier: Classifier,
    image: SeenImage,
    to: str | int | None = None,
    limit: int = 32,
    confidence: float = SURE,
    progress: Progress = no_progress,
) -> Fooled:
    """The smallest change found of an image that makes another answer sure, by bisection over the size of the change.

    A smaller one may exist: each size is tried by one descent, which need not find what is there.

    Parameters
    ----------
    classifier : Classifier
    image : SeenImage
    to : str or int, optional
        The class that is wanted, by name or number; default the most probable one that has less than half of the answer's
        probability, as to swap two that are nearly alike shows nothing; where there is none, and for scores, the second.
    limit : int, default 32
        Largest change of a pixel, in grey levels of 255.
    confidence : float, default 0.9
        Probability of the new answer to go on to; 0 to be content as soon as it is the answer, as for scores in any case.
        Where no change within the limit gets so far, the smallest that changes the answer, with a doubt that says so.
    progress : Progress, optional

    Raises
    ------
    NotFooledError
        If no step within the limit does it.
    OptionError
        If the class does not exist or is the answer already, or a number is out of range.
    """
    if not 0 <= confidence <= 1:
        raise OptionError(f"a confidence of {confidence:g} is not possible.", "Use 0 to 1, such as 0.9.")
    if not 1 <= limit <= 255:
        raise OptionError(f"a limit of {limit} grey levels is not possible.", "Use 1 to 255.")
    names = classifier.classes
    if len(names) < 2:
        raise OptionError(f"'{classifier.name}' has one class only.", "Use a model with two classes or more.")
    attack = _Attack(classifier, image, confidence if classifier.unit == "probability" else 0.0)
    before = attack.values(attack.start)
    old = int(before.argmax())
    new = _usual(before, classifier.unit) if to is None else classifier.class_place(to)
    if new == old:
        raise OptionError(
            f"'{image.name}' is taken for '{names[old]}' already.", "Name another class with --to."
        )
    trials, total = itertools.count(1), 2 * limit.bit_length() + 2  # a guess

    def tell() -> None:
        progress("searching a small step", min(next(trials), total), total, "")

    single, found = attack.search(new, limit, tell)
    question = ask(classifier, image)
    few = knows_only(question.known) if question.doubt else None
    doubts = [*question.cautions, *([few] if few else [])]
    if found is None and attack.confidence:
        doubts.append(f"{100 * confidence:g} % is not reached by {limit} grey levels")
        attack.confidence = 0.0
        single, found = attack.search(new, limit, tell)
    if found is None:
        raise NotFooledError(
            f"no step of at most {limit} grey levels makes '{names[new]}' of '{image.name}' ('{names[old]}').",
            "Allow more with --limit, or name another class with --to.",
        )
    epsilon, pixels = found
    after = attack.values(pixels)
    fooled = pixels[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    fooled = fooled if classifier.preprocessing.channels == "RGB" else fooled[:, :, ::-1]
    pair = [(float(values[old]), float(values[new])) for values in (before, after)]
    return Fooled(
        classifier.name, image.name, image.rgb, np.ascontiguousarray(fooled), (names[old], names[new]), pair[0], pair[1],
        classifier.unit, epsilon, single[0] if single else None, tuple(doubts),
    )  # fmt: skip


def _usual(values: Tensor, unit: str) -> int:
    """The class that an image shall be taken for if nobody says: of values ``[classes]``, the first clearly behind."""
    order = values.argsort(descending=True).tolist()
    least = CLOSE * values[order[0]]
    behind = [place for place in order[1:] if unit == "probability" and values[place] < least]
    return int((behind or order[1:])[0])


class _Attack:
    """Steps from one image, in grey levels of 0..255, until a class has the confidence, or is the answer at least."""

    def __init__(self, classifier: Classifier, image: SeenImage, confidence: float) -> None:
        self.classifier, self.confidence = classifier, confidence
        record = classifier.preprocessing
        rgb = image.rgb if record.channels == "RGB" else image.rgb[:, :, ::-1]
        #: The image, float32 [1, 3, side, side] of whole numbers, channels in the network's order.
        self.start = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32)).to(image.pixels.device)
        self._mean = self.start.new_tensor(record.mean)[:, None, None]
        self._std = self.start.new_tensor(record.std)[:, None, None]

    def scores(self, image: Tensor) -> Tensor:
        """Scores ``[1, classes]`` of grey levels; gradients flow."""
        return self.classifier.scores((image / self.classifier.preprocessing.scale - self._mean) / self._std)

    def values(self, image: Tensor) -> Tensor:
        """Probabilities or scores ``[classes]`` of grey levels."""
        with torch.no_grad():
            return self.classifier.values(self.scores(image))[0]

    def search(self, wanted: int, limit: int, tell: Callable[[], None]) -> tuple[Step | None, Step | None]:
        """What :meth:`smallest` finds by a single step, and the smaller of that and of what it finds by many."""
        single, many = (self.smallest(wanted, steps, limit, tell) for steps in (1, STEPS))
        return single, min(filter(None, (many, single)), key=lambda found: found[0], default=None)

    def step(self, wanted: int, epsilon: int, steps: int) -> Tensor | None:
        """The first image of the way that is taken for the wanted class, or None.

        Each step goes along the sign of the gradient of -log p(wanted), and ends on whole levels inside the box of ``epsilon``.
        """
        size = epsilon if steps == 1 else max(1.0, 2.5 * epsilon / steps)
        image = self.start
        low, high = (self.start - epsilon).clamp_min(0), (self.start + epsilon).clamp_max(255)
        target = torch.tensor([wanted], device=image.device)
        for _ in range(steps):
            free = image.clone().requires_grad_()
            loss = F.cross_entropy(self.scores(free), target)
            (gradient,) = torch.autograd.grad(loss, free)
            moved = image - size * gradient.sign()
            image = torch.minimum(torch.maximum(moved.round(), low), high)
            with torch.no_grad():
                values = self.classifier.values(self._as_read(image))[0]
                sure = not self.confidence or bool(values[wanted] >= self.confidence)
                if sure and int(values.argmax()) == wanted:
                    return image
        return None

    def smallest(self, wanted: int, steps: int, limit: int, tell: Callable[[], None]) -> Step | None:
        """The smallest box in which a way of so many steps leads to the wanted class, and the image there, or None.

        Boxes of 1, 2, 4, ... grey levels until one does it, then bisection below that one. ``tell`` is called before each.
        """

        def tried(size: int) -> Tensor | None:
            tell()
            return self.step(wanted, size, steps)

        low, high = 0, 1
        while (best := tried(high)) is None and high < limit:
            low, high = high, min(2 * high, limit)
        while best is not None and high - low > 1:
            middle = (low + high) // 2
            if (pixels := tried(middle)) is None:
                low = middle
            else:
                best, high = pixels, middle
        return None if best is None else (high, best)

    def _as_read(self, image: Tensor) -> Tensor:
        """Scores of the image as it will be read from a file, by the same arithmetic as every other image."""
        pixels = image[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
        batch = torch.from_numpy(normalise(pixels[None], self.classifier.preprocessing))
        return self.classifier.scores(batch.to(image.device))


def in_whole(found: Fooled, image: Source, preprocessing: Preprocessing) -> Bytes:
    """The resized image with the fooled crop in its place: RGB bytes ``[height, width, 3]``, to be written to a file.

    The crop alone would be resized when it is read again; this picture has the size that preprocessing resizes to.
    """
    whole = whole_of(decode(image, preprocessing), preprocessing)
    if preprocessing.channels == "BGR":
        whole = np.ascontiguousarray(whole[:, :, ::-1])
    side = len(found.fooled)
    top, left = (round((length - side) / 2.0) for length in whole.shape[:2])  # as crops_of
    whole[top : top + side, left : left + side] = found.fooled
    return whole


def draw_fooled(found: Fooled) -> Figure:
    """The image, the amplified difference around grey, and the image that fools, each class with its value."""
    change = found.fooled.astype(int) - found.rgb.astype(int)
    most = int(np.abs(change).max())
    factor = max(1, 127 // max(most, 1))
    old, new = (short(name) for name in found.classes)
    title = f"{found.describe()} by a change of at most {found.epsilon} of 255 grey levels"
    note = note_of(found.image, found.model, cautions=found.cautions)
    figure, axes = new_panels(columns=3, cell=4.2, title=title, note=note, aspect=1.2)
    for place in axes:
        place.set_anchor("N")
    texts = [[as_text(value, found.unit) for value in pair] for pair in (found.before, found.after)]
    show_image(axes[0], found.rgb, f"'{old}' {texts[0][0]}\n('{new}' {texts[0][1]})")
    single = "" if found.one_step is None else f"; a single step needs {found.one_step}"
    mean = f"mean {np.abs(change).mean():.2f} grey levels{single}"
    amplified = (128 + factor * change).clip(0, 255).astype(np.uint8)
    show_image(axes[1], amplified, f"the difference, {factor} times as strong\n{mean}")
    ends = {-128.0: f"{-most} level{'s' if most > 1 else ''}", 0.0: "0", 128.0: f"+{most}"}
    meaning = "change of red, green and blue each, in levels: grey is 0"
    add_ends_bar(figure, scale(-128, 128, "gray"), axes[1], meaning, ends)
    show_image(axes[2], found.fooled, f"'{new}' {texts[1][1]}\n('{old}' {texts[1][0]})")
    return figure
