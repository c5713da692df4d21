"""Which pixels speak for a class: saliency, guided backpropagation, deconvolution, Grad-CAM. The door to captum.

All four follow the gradient of the class's *score* (the logit, or what an SVM gives), not of its probability: a
probability also rises when other classes fall, and its gradient vanishes where the network is sure (Simonyan et
al. 2014, section 3).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from cnncodes.errors import NetworkError, OptionError, StageError, nearest
from cnncodes.networks import Convolution, Linear, receptive_fields
from cnncodes.pictures.chain import Chain
from cnncodes.pictures.question import Question, ask

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.networks import Network, Stage
    from cnncodes.pictures.subject import Subject, View

Array = npt.NDArray[Any]
Method = Literal["saliency", "guided", "deconv", "gradcam"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the pixels of one image have to do with the score of one class.

    Parameters
    ----------
    method : {"saliency", "guided", "deconv", "gradcam"}
    question : Question
    values : float32 array [side, side, 3] or [side, side]
        Change of the score per grey level (of 255) of each pixel's red, green and blue, signed, as the method has
        it. For "gradcam" one number per pixel, not negative: the map of ``layer``, laid on the centres of its units'
        receptive fields and interpolated between them.
    layer : str or None
        The stage of "gradcam".
    map : float32 array [height, width] or None
        Of "gradcam": one number for each place of the layer.
    """

    method: Method
    question: Question
    values: Array
    layer: str | None = None
    map: Array | None = None

    @property
    def strength(self) -> Array:
        """One number per pixel, ``[side, side]``: the largest magnitude of its channels (Simonyan et al. 2014)."""
        strongest: Array = np.abs(self.values).max(axis=2) if self.values.ndim == 3 else self.values
        return strongest


def attribute(
    subject: Subject,
    view: View,
    method: Method,
    *,
    class_name: str | int | None = None,
    layer: str | None = None,
) -> Attribution:
    """Ask which pixels speak for a class.

    Parameters
    ----------
    subject : Subject
        Stays as it is: captum's hooks go to a chain of its own.
    view : View
    method : {"saliency", "guided", "deconv", "gradcam"}
        "saliency" is the gradient itself (Simonyan et al. 2014). On the way back through a ReLU, "guided" also stops
        what is negative (Springenberg et al. 2015), "deconv" stops only that (Zeiler and Fergus 2014). "gradcam"
        weighs the maps of one layer by their mean gradient (Selvaraju et al. 2017, equations 1 and 2).
    class_name : str or int, optional
        The predicted class by default.
    layer : str, optional
        For "gradcam": a stage with height and width, not deeper than the classifier reads. By default the last
        convolution (with its ReLU) that the classifier stands on; where it reads a convolution, that one.

    Raises
    ------
    OptionError, StageError
        For a class, a method or a layer that is not there.
    NetworkError
        For "guided" and "deconv" of a network without ReLUs.
    """
    if method not in METHODS:
        raise OptionError(f"method '{method}' is not known.", nearest(method, METHODS))
    chain = Chain(subject)
    stage = gradcam_layer(subject, chain, layer) if method == "gradcam" else None
    if method in ("guided", "deconv") and subject.network.network.activation == "tanh":
        raise NetworkError(
            f"'{method}' changes what ReLUs let back, and network '{subject.weights.network}' has tanh instead.",
            "Use saliency or gradcam, which any nonlinearity allows.",
        )
    question = ask(subject, view, class_name)
    if stage is not None:
        small = _gradcam(chain, view.pixels, question.place, stage)
        side = len(view.rgb)
        centres = field_centres(subject.network.network, stage, side)
        return Attribution(method, question, spread(small, centres, side), stage, small)
    gradient = _gradient(chain, view.pixels, question.place, method)
    return Attribution(method, question, _per_grey_level(gradient, subject))


def attribute_all(
    subject: Subject, view: View, *, class_name: str | int | None = None, layer: str | None = None
) -> tuple[Attribution, ...]:
    """All methods that the network allows, in the order of :data:`METHODS`: without ReLUs saliency and Grad-CAM."""
    relu = subject.network.network.activation == "relu"
    methods = [method for method in METHODS if relu or method in ("saliency", "gradcam")]
    return tuple(attribute(subject, view, m, class_name=class_name, layer=layer) for m in methods)


def gradcam_layer(subject: Subject, chain: Chain, layer: str | None) -> str:
    """The stage whose maps Grad-CAM weighs: the named one, else the last convolution with its ReLU in the chain."""
    spatial = [stage for stage in chain.stages if _has_places(stage)]
    if subject.stage.endswith(":linear") and chain.stages[-1] in spatial:
        spatial.pop()  # its ReLU is not computed
    names = [stage.name for stage in spatial]
    if layer is not None:
        name = subject.network.network.select_one(layer)
        if name not in names:
            reason = f"'{subject.name}' reads {subject.stage}, and Grad-CAM needs maps before or at it"
            raise StageError(
                f"Grad-CAM cannot use layer '{name}': {reason}.", f"Use one of {', '.join(names)}."
            )
        return name
    convolutions = [stage.name for stage in spatial if isinstance(stage, Convolution)]
    if not convolutions:
        raise StageError(
            f"'{subject.name}' reads {subject.stage}, and no convolution with its ReLU stands before that.",
            "Use saliency, which needs no layer.",
        )
    return convolutions[-1]


def field_centres(network: Network, stage: str, side: int) -> Array:
    """Centres of the receptive fields of a stage's units along one side of an image of ``side`` pixels, ``[n]``."""
    return np.array(receptive_fields(network, side)[stage].centres)


def spread(small: Array, centres: Array, side: int) -> Array:
    """A layer's map ``[n, n]`` over the image ``[side, side]``: linear between the centres, constant beyond them."""
    pixels = np.arange(side)
    rows = np.stack([np.interp(pixels, centres, column) for column in small.T], axis=1)  # [side, n]
    return np.stack([np.interp(pixels, centres, row) for row in rows]).astype(np.float32)


def _has_places(stage: Stage) -> bool:
    return not isinstance(stage, Linear)


def _gradient(chain: Chain, pixels: Tensor, place: int, method: Method) -> Tensor:
    """The (changed) gradient of a class's score for the pixels, ``[1, 3, side, side]``."""
    from captum.attr import Deconvolution, GuidedBackprop, Saliency

    asked = pixels.detach().clone().requires_grad_()
    with warnings.catch_warnings():  # captum says that it sets hooks, which is what is wanted
        warnings.simplefilter("ignore", UserWarning)
        if method == "saliency":
            found: Tensor = Saliency(chain).attribute(asked, target=place, abs=False)
        else:
            kind = GuidedBackprop if method == "guided" else Deconvolution
            found = kind(chain).attribute(asked, target=place)
    return found.detach()


def _gradcam(chain: Chain, pixels: Tensor, place: int, stage: str) -> Array:
    """The positive part of a layer's maps, weighed by their mean gradients, ``[height, width]``."""
    from captum.attr import LayerGradCam

    asked = pixels.detach().clone().requires_grad_()
    method = LayerGradCam(chain, chain.result_of(stage))
    found: Tensor = method.attribute(asked, target=place, relu_attributions=True)
    small: Array = found.detach()[0, 0].cpu().numpy()
    return small


def _per_grey_level(gradient: Tensor, subject: Subject) -> Array:
    """A gradient for preprocessed pixels as one for grey levels, ``[side, side, 3]``, channels as RGB."""
    preprocessing = subject.preprocessing
    std = torch.tensor(preprocessing.std, dtype=gradient.dtype, device=gradient.device)[:, None, None]
    values: Array = (gradient[0] / (std * preprocessing.scale)).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(values if preprocessing.channels == "RGB" else values[..., ::-1])
