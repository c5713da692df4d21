"""A network and its classifier as modules that can be hooked, and the one door to captum, which hooks them.

captum changes what a backward pass does by hooks on ``nn.ReLU`` modules. The network itself has none (its
nonlinearity is a function), so every ReLU gets one of its own here, those of the fully connected stages too: where
one module serves several places, guided backpropagation silently is not guided there. Hooks land here, never on the
network, whose parameters are used where they are.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnncodes.networks import Stage, channel_axis
from cnncodes.networks.library import LibraryModule

if TYPE_CHECKING:
    from cnncodes.pictures.classifier import Classifier


class Step(nn.Module):
    """One function as a module, so that its result can be hooked; it owns no parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, value: Tensor) -> Tensor:
        """What the function gives."""
        return self._function(value)


class Hookable(nn.Module):
    """Scores of a classifier, ``[batch, classes]``, by modules of its own: the same numbers as ``Classifier.scores``."""

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
        if not self.stages:
            return self.classifier.scores(pixels)
        scores: Tensor = self.steps(pixels)
        return scores

    def result_of(self, stage: str) -> nn.Module:
        """The module that gives what the stage gives, its ReLU included; raises KeyError."""
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


def library_gradcam(
    classifier: Classifier, network: LibraryModule, pixels: Tensor, place: int, layer: str
) -> Tensor:
    """As :func:`gradcam`, for a layer of a library's network: maps, or tokens that are a grid behind those for the whole image.

    Not captum's, which takes the first axis for the channels.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, value: Tensor) -> Tensor:
        kept.append(value)
        return value.clone()  # what works on it in place changes the copy

    handle = network.model.get_submodule(network.network.layers()[layer].path).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            score = classifier.scores(pixels.detach().clone().requires_grad_())[0, place]
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


def gradcam(hookable: Hookable, pixels: Tensor, place: int, stage: str) -> Tensor:
    """The positive part of a stage's maps, weighed by their mean gradients, ``[height, width]``."""
    from captum.attr import LayerGradCam

    if isinstance(hookable.library, LibraryModule):
        return library_gradcam(hookable.classifier, hookable.library, pixels, place, stage)

    asked = pixels.detach().clone().requires_grad_()
    method = LayerGradCam(hookable, hookable.result_of(stage))
    found: Tensor = method.attribute(asked, target=place, relu_attributions=True)
    return found.detach()[0, 0]


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
