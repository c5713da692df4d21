"""Which pixels speak for a class: saliency, guided backpropagation, deconvolution, Grad-CAM. The door to captum.

All follow the gradient of the class's *score* (the logit, or what an SVM gives), not of its probability: a probability also
rises when other classes fall, and its gradient vanishes where the network is sure (Simonyan et al. 2014, section 3).
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from cnncodes.core.errors import NetworkError, OptionError, StageError, nearest
from cnncodes.networks import Convolution, Linear, Stage, channel_axis, receptive_fields
from cnncodes.networks.library import LibraryModule
from cnncodes.pictures import drawing
from cnncodes.pictures.classifier import Question, ask, crop_words
from cnncodes.pictures.drawing import SMALL, TEXT, add_ends_bar, limit, show_heat_over, show_image, wrapped

if TYPE_CHECKING:
    from cnncodes.networks import Network
    from cnncodes.pictures.classifier import Classifier, SeenImage
    from cnncodes.pictures.drawing import Array, Axes, Figure

Method = Literal["saliency", "guided", "deconv", "gradcam"]
METHODS: tuple[Method, ...] = get_args(Method)
COUNTS = "how much the score depends on a pixel"
CELL, BELOW = 3.8, 0.6  # inches: width of a panel, and room for the legend below it
#: How each is read, for the free place among all of them.
HINTS = {
    "saliency": "Saliency: single pixels; noisy, and no sign.",
    "guided": "Guided backpropagation: clear patterns, but much the same for every class.",
    "deconv": "Deconvolution: patterns that the network likes; hardly where, or for which class.",
    "gradcam": "Grad-CAM: regions; coarse, but it can tell classes apart.",
}


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the pixels of one image have to do with the score of one class."""

    method: Method
    question: Question
    #: Change of the score per grey level (of 255) of each pixel's red, green and blue, signed, [side, side, 3]. Of
    #: "gradcam" one number per pixel, [side, side], not negative: its map, laid on the centres of receptive fields.
    values: Array
    layer: str | None = None  # the stage of "gradcam"
    map: Array | None = None  # of "gradcam": one number for each place of the layer

    @property
    def strength(self) -> Array:
        """One number per pixel, ``[side, side]``: the largest magnitude of its channels (Simonyan et al. 2014)."""
        strongest: Array = np.abs(self.values).max(axis=2) if self.values.ndim == 3 else self.values
        return strongest


class Step(nn.Module):
    """One function as a module, so that its result can be hooked; it owns no parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, value: Tensor) -> Tensor:
        return self._function(value)


class Hookable(nn.Module):
    """Scores of a classifier, ``[batch, classes]``, by modules that captum can hook: the same numbers as ``Classifier.scores``.

    captum changes what a backward pass does by hooks on ``nn.ReLU`` modules. The network itself has none, so every ReLU gets
    one of its own here: where one module serves several places, guided backpropagation silently is not guided there. Hooks
    land here, never on the network, whose parameters are used where they are.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network = classifier.network
        record = network.network
        self.stages: tuple[Stage, ...] = ()
        self.classifier = classifier
        self.library = network if isinstance(network, LibraryModule) else None
        if self.library is not None:
            return
        last = record.stages.index(record.stage(classifier.stage))
        self.stages = record.stages[: last + 1]  # up to the one that the classifier reads
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for place, stage in enumerate(self.stages):
            steps[stage.name] = Step(partial(network.linear, stage))
            if stage.relu and not (place == last and classifier.stage.endswith(":linear")):
                tanh = record.activation == "tanh"
                steps[f"{stage.name}_relu"] = nn.Tanh() if tanh else nn.ReLU(inplace=False)
        steps["classifier"] = Step(classifier.classify)
        self.steps = nn.Sequential(steps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores ``[batch, classes]`` of preprocessed pixels ``[batch, 3, height, width]``."""
        scores: Tensor = self.steps(pixels) if self.stages else self.classifier.scores(pixels)
        return scores

    def result_of(self, stage: str) -> nn.Module:
        """The module that gives what the stage gives, its ReLU included; raises KeyError."""
        if self.library is not None:
            return self.library.model.get_submodule(self.library.network.layers()[stage].path)
        modules: dict[str, Any] = dict(self.steps.named_children())
        found: nn.Module = modules.get(f"{stage}_relu") or modules[stage]
        return found


def gradient(hookable: Hookable, pixels: Tensor, place: int, method: str) -> Tensor:
    """The gradient of a class's score for the pixels, ``[1, 3, side, side]``, changed by "guided" and "deconv"."""
    from captum.attr import Deconvolution, GuidedBackprop, Saliency

    asked = pixels.detach().clone().requires_grad_()
    with warnings.catch_warnings():  # captum says that it sets hooks, which is what is wanted
        warnings.simplefilter("ignore", UserWarning)
        if method == "saliency":
            found: Tensor = Saliency(hookable).attribute(asked, target=place, abs=False)
        else:
            kind = GuidedBackprop if method == "guided" else Deconvolution
            found = kind(hookable).attribute(asked, target=place)
    return found.detach()


def gradcam(hookable: Hookable, pixels: Tensor, place: int, stage: str) -> Tensor:
    """The positive part of a stage's maps, weighed by their mean gradients, ``[height, width]``.

    Not by captum, which takes the first axis for the channels: tokens have them last.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, value: Tensor) -> Tensor:
        kept.append(value)
        return value.clone()  # what works on it in place changes the copy

    handle = hookable.result_of(stage).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            score = hookable(pixels.detach().clone().requires_grad_())[0, place]
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        handle.remove()
    axis = 1 + channel_axis(tuple(kept[-1].shape[1:]))
    others = [each for each in range(1, gradient.dim()) if each != axis]
    return as_maps((kept[-1] * gradient.mean(others, keepdim=True)).detach()[0]).sum(0).relu()


def as_maps(value: Tensor) -> Tensor:
    """A layer's value for one image as ``[channels, height, width]``: tokens are a grid behind those for the whole image."""
    value = value.movedim(channel_axis(tuple(value.shape)), 0)
    if value.dim() == 2:
        side = math.isqrt(value.shape[1])
        value = value[:, value.shape[1] - side * side :].reshape(-1, side, side)
    return value.reshape(len(value), *(value.shape[1:] or (1, 1)))


def occlusion(
    answer: Callable[[Tensor], Tensor], pixels: Tensor, patch: int, stride: int, batch_size: int
) -> Tensor:
    """How much one number loses where a pixel is covered, the mean over the patches that cover it, ``[side, side]``.

    ``answer`` gives this number, ``[batch]``, for pixels ``[batch, 3, side, side]``: first for the image, then for it
    with a patch of zeros at each place, column by column.
    """
    from captum.attr import Occlusion

    with torch.no_grad():
        found: Tensor = Occlusion(answer).attribute(
            pixels, (3, patch, patch), (3, stride, stride), baselines=0, perturbations_per_eval=batch_size
        )
    return found[0, 0]


def attribute(
    classifier: Classifier,
    image: SeenImage,
    method: Method,
    *,
    class_name: str | int | None = None,
    layer: str | None = None,
) -> Attribution:
    """Ask which pixels speak for a class; the classifier stays as it is.

    Parameters
    ----------
    classifier : Classifier
    image : SeenImage
    method : {"saliency", "guided", "deconv", "gradcam"}
        "saliency" is the gradient itself (Simonyan et al. 2014). On the way back through a ReLU, "guided" also stops
        what is negative (Springenberg et al. 2015), "deconv" stops only that (Zeiler and Fergus 2014). "gradcam"
        weighs the maps of one layer by their mean gradient (Selvaraju et al. 2017, equations 1 and 2).
    class_name : str or int, optional
        The predicted class by default.
    layer : str, optional
        For "gradcam": a stage with height and width, not deeper than the classifier reads; see :func:`gradcam_layer`.

    Raises
    ------
    OptionError, StageError
        For a class, a method or a layer that is not there.
    NetworkError
        For "guided" and "deconv" of a network without ReLUs.
    """
    if method not in METHODS:
        raise OptionError(f"method '{method}' is not known.", nearest(method, METHODS))
    record = classifier.network.network
    stage = gradcam_layer(classifier, layer) if method == "gradcam" else None
    if method in ("guided", "deconv") and not record.stages:
        raise NetworkError(
            f"'{method}' changes what each ReLU lets back, and the modules of '{record.name}' are not single steps.",
            "Use saliency or gradcam, which any network allows.",
        )
    if method in ("guided", "deconv") and record.activation == "tanh":
        raise NetworkError(
            f"'{method}' changes what ReLUs let back, and network '{record.name}' has tanh instead.",
            "Use saliency or gradcam, which any nonlinearity allows.",
        )
    hookable, question = Hookable(classifier), ask(classifier, image, class_name)
    if stage is not None:
        small = gradcam(hookable, image.pixels, question.place, stage).cpu().numpy()
        side = len(image.rgb)
        values = spread(small, field_centres(record, stage, side), side)
        return Attribution(method, question, values, stage, small)
    found = gradient(hookable, image.pixels, question.place, method)
    std = found.new_tensor(classifier.preprocessing.std)[:, None, None]
    levels = (found[0] / (std * classifier.preprocessing.scale)).permute(1, 2, 0).cpu().numpy()
    rgb = levels if classifier.preprocessing.channels == "RGB" else levels[..., ::-1]
    return Attribution(method, question, np.ascontiguousarray(rgb))


def attribute_all(
    classifier: Classifier, image: SeenImage, *, class_name: str | int | None = None, layer: str | None = None
) -> tuple[Attribution, ...]:
    """All methods that the network allows, in the order of :data:`METHODS`: without ReLUs saliency and Grad-CAM."""
    record = classifier.network.network
    relu = record.activation == "relu" and bool(record.stages)
    methods = [method for method in METHODS if relu or method in ("saliency", "gradcam")]
    return tuple(attribute(classifier, image, m, class_name=class_name, layer=layer) for m in methods)


def map_layers(classifier: Classifier) -> tuple[str, ...]:
    """Layers with places, the shallowest first, none deeper than what the classifier reads."""
    network = classifier.weights.architecture
    if not network.stages:
        shapes = network.output_shapes(classifier.preprocessing.crop)
        spatial = [name for name in network.codes_layers if len(shapes[name]) > 1]
        return tuple(name for name in spatial if math.prod(shapes[name]) > shapes[name][0])
    read, _, before_relu = classifier.stage.partition(":")
    until = network.stages[: network.stage_names.index(read) + (0 if before_relu else 1)]
    return tuple(stage.name for stage in until if not isinstance(stage, Linear))


def gradcam_layer(classifier: Classifier, layer: str | None = None) -> str:
    """The layer whose maps Grad-CAM weighs: the named one, else the last with places (of stages: convolution with its ReLU)."""
    network, names = classifier.weights.architecture, map_layers(classifier)
    if layer is not None:
        name = network.select_one(layer)
        shapes = {} if network.stages else network.output_shapes(classifier.preprocessing.crop)
        if name in names or len(shapes.get(name, ())) > 1:
            return name
        reason = f"'{classifier.name}' reads {classifier.stage}, and Grad-CAM needs maps before or at it"
        raise StageError(f"Grad-CAM cannot use layer '{name}': {reason}.", f"Use one of {', '.join(names)}.")
    if network.stages:
        names = tuple(name for name in names if isinstance(network.stage(name), Convolution))
    if not names:
        raise StageError(
            f"'{classifier.name}' reads {classifier.stage}, and no convolution with its ReLU stands before that.",
            "Use saliency, which needs no layer.",
        )
    return names[-1]


def field_centres(network: Network, stage: str, side: int) -> Array:
    """Centres of the receptive fields of a stage's units along one side of an image of ``side`` pixels, ``[n]``.

    Of a library's network they are not known: the units are taken to lie evenly.
    """
    if network.stages:
        return np.array(receptive_fields(network, side)[stage].centres)
    shape = network.output_shapes(side)[stage]
    count = math.isqrt(math.prod(shape) // shape[channel_axis(shape)])
    return (np.arange(count) + 0.5) * side / count


def spread(small: Array, centres: Array, side: int) -> Array:
    """A layer's map ``[n, n]`` over the image ``[side, side]``: linear between the centres, constant beyond them."""
    pixels = np.arange(side)
    rows = np.stack([np.interp(pixels, centres, column) for column in small.T], axis=1)  # [side, n]
    return np.stack([np.interp(pixels, centres, row) for row in rows]).astype(np.float32)


def draw_attribution(attribution: Attribution) -> Figure:
    """One method beside the image, with a legend of its colours; saliency over the image, too."""
    question = attribution.question
    saliency = attribution.method == "saliency"
    figure, axes = _panels(1, 3 if saliency else 2, question)
    _draw(figure, axes[1], attribution)
    if saliency:
        top = limit(attribution.strength)
        over = show_heat_over(axes[2], question.rgb, attribution.strength, "the same over the image", top)
        add_ends_bar(figure, drawing.faded(over), axes[2], COUNTS, {0.0: "not at all", top: "most"})
    return figure


def draw_attributions(attributions: Sequence[Attribution]) -> Figure:
    """Several methods, three panels in a row, about one class in one image; each has its own scale. OptionError for none."""
    if not attributions:
        raise OptionError("there is no attribution to draw.", "Give at least one.")
    count = len(attributions) + 1
    columns = min(count, 3)
    figure, axes = _panels(-(-count // columns), columns, attributions[0].question)
    for place, attribution in zip(axes[1:], attributions, strict=False):
        _draw(figure, place, attribution)
    if len(axes) > count:
        axes[count].set_title("How to read them", fontsize=TEXT, loc="left")
        hints = ["\n".join(wrapped(HINTS[found.method], int(11 * CELL))) for found in attributions]
        axes[count].text(
            0, 0.97, "\n\n".join(hints), transform=axes[count].transAxes, va="top", fontsize=TEXT
        )
    return figure


def _panels(rows: int, columns: int, question: Question) -> tuple[Figure, list[Axes]]:
    """Panels with room for a legend below each, the image in the first; images start at one height."""
    aspect = (CELL + BELOW) / CELL
    figure, axes = drawing.new_panels(rows, columns, CELL, question.title, question.note, aspect)
    for place in axes:
        place.set_anchor("N")
    show_image(axes[0], question.rgb, crop_words(question.seen))
    return figure, axes


def _draw(figure: Figure, axes: Axes, attribution: Attribution) -> None:
    """One method with its legend below."""
    method, values = attribution.method, attribution.values
    name = drawing.short(attribution.question.name, 24)
    if method == "saliency":
        heat, top = attribution.strength, limit(attribution.strength)
        drawing.set_title(axes, "saliency: |gradient| of the score")
        image = axes.imshow(heat, cmap=drawing.HEAT, vmin=0, vmax=top, interpolation="nearest")
        add_ends_bar(figure, image, axes, COUNTS, {0.0: "not at all", top: "most"})
    elif method == "gradcam":
        title = f"Grad-CAM of {attribution.layer}" + ("" if values.any() else ": nothing speaks for it")
        title = "\n".join(wrapped(title, int(10 * CELL)))
        top = float(values.max()) or 1.0
        over = drawing.faded(show_heat_over(axes, attribution.question.rgb, values, title, top))
        add_ends_bar(figure, over, axes, f"speaks for '{name}'", {0.0: "not at all", top: "most here"})
    else:
        around_grey = (128 + 127 * np.clip(values / limit(values), -1, 1)).round().astype(np.uint8)
        show_image(axes, around_grey, "guided backpropagation" if method == "guided" else "deconvolution")
        # Both are nearly the same whichever class is asked for: the words promise no more.
        legend = f"grey: no influence; contrast or colour:\na pattern behind '{name}'\nand other classes"
        axes.set_xlabel(legend, fontsize=SMALL + 1, loc="left")
