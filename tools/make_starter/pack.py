"""From a checkpoint of the training to weights of ``alexnet``: normalisation folded away, the teacher's scales put back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cnncodes.weights import Preprocessing, Weights
from cnncodes.weights.safetensors_file import save_weights
from tools.make_starter.student import Classifier, Imitation

PLACES = (0, 3, 6, 8, 10)  # of torchvision's convolutions in ``features``
#: Stage -> exponent of two that its values are multiplied by, and the next stage's weights divided: all stages then vary by about 1,
#: which fine-tuning needs. It changes no answer.
SCALES = {"features.6": -4, "features.8": 2, "features.10": -2, "classifier.1": 1, "classifier.4": 2}


def folded(weight: Tensor, norm: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """A weight without bias and its batch normalisation as one weight and bias."""
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return weight * factor.view(-1, *[1] * (weight.dim() - 1)), norm.bias - norm.running_mean * factor


@torch.no_grad()
def tensors_of(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """State dict under torchvision's keys; without a classifier its stages are zero."""
    imitation = Imitation()
    imitation.load_state_dict(state["imitation"])
    student = imitation.student
    found: dict[str, Tensor] = {}
    for stage, place in enumerate(PLACES):
        weight, bias = folded(student.conv[stage].weight.double(), student.norm[stage].double())
        if stage == 3:
            weight = weight / imitation.deviation_conv3.view(1, -1, 1, 1)
        for name, at in (("conv3", 2), ("conv5", 4)):
            if (
                stage == at
            ):  # codes with the teacher's own deviations: some channels count for more than others
                deviation = imitation.get_buffer(f"deviation_{name}").flatten()
                weight, bias = weight * deviation.view(-1, 1, 1, 1), bias * deviation
        found[f"features.{place}.weight"], found[f"features.{place}.bias"] = weight, bias
    shapes = {1: (4096, 9216), 4: (4096, 4096), 6: (1000, 4096)}
    if "classifier" not in state:
        found |= {f"classifier.{k}.weight": torch.zeros(s) for k, s in shapes.items()}
        found |= {f"classifier.{k}.bias": torch.zeros(s[0]) for k, s in shapes.items()}
    else:
        rank = state["classifier"]["fc6.right.weight"].shape[0]
        classifier = Classifier(rank, 0.0)
        classifier.load_state_dict(state["classifier"])
        classifier.double()
        for place, stage in ((1, classifier.fc6), (4, classifier.fc7), (6, classifier.fc8)):
            left, right, bias = stage.left.weight, stage.right.weight, stage.left.bias
            if place != 6:
                left, bias = folded(left, stage.norm)
            if place == 1:
                right = right / imitation.deviation_conv5.flatten().repeat_interleave(36).double()
            found |= {
                f"classifier.{place}.{end}": v
                for end, v in (("left", left), ("right", right), ("bias", bias))
            }
    before = 0
    for layer in dict.fromkeys(key.rpartition(".")[0] for key in found):
        own = SCALES.get(layer, 0)
        reads, gives = ("right", "left") if f"{layer}.left" in found else ("weight", "weight")
        found[f"{layer}.{reads}"] = found[f"{layer}.{reads}"] * 2.0**-before
        for end in (gives, "bias"):
            found[f"{layer}.{end}"] = found[f"{layer}.{end}"] * 2.0**own
        before = own
    return {key: value.float().contiguous() for key, value in found.items()}


def pack(
    state: dict[str, dict[str, Tensor]], ids: tuple[str, ...], preprocessing: Preprocessing, path: Path
) -> None:
    """Write the weights of a checkpoint as safetensors, its classes named by their WordNet ids."""
    weights = Weights(
        network="alexnet",
        name=str(path),
        tensors=tensors_of(state),
        preprocessing=preprocessing,
        classes=ids,
        source="trained by this project (tools/make_starter) from random numbers: imitates the convolutions of an ImageNet "
        "AlexNet (BVLC) and the answers of MobileNet v2 (Google, Apache-2.0) on photographs of research image sets",
    )
    save_weights(weights, path, overwrite=True, int8="classifier" in state)
