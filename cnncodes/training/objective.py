"""What a training minimises: cross-entropy to the labels, which may be mixed, smoothed and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should become.

    Parameters
    ----------
    labels : int64 Tensor [batch]
    mix : float32 Tensor [batch] or None
        Part of each view that is the image itself; the rest is the view before it in the batch.
    """

    labels: Tensor
    mix: Tensor | None = None


class Objective:
    """Loss of each image.

    Parameters
    ----------
    settings : TrainingSettings
    class_weight : float32 Tensor [classes], optional
    """

    def __init__(self, settings: TrainingSettings, class_weight: Tensor | None = None) -> None:
        self._settings, self._class_weight = settings, class_weight

    def right(self, logits: Tensor, targets: Targets) -> Tensor:
        """Number of images whose best class is the label."""
        return (logits.argmax(1) == targets.labels).sum()

    def __call__(self, logits: Tensor, targets: Targets) -> Tensor:
        """Loss of each image ``[batch]``, float32."""
        logits = logits.float()

        def loss_to(labels: Tensor) -> Tensor:
            return F.cross_entropy(
                logits,
                labels,
                weight=self._class_weight,
                label_smoothing=self._settings.label_smoothing,
                reduction="none",
            )

        if targets.mix is None:
            return loss_to(targets.labels)
        return targets.mix * loss_to(targets.labels) + (1 - targets.mix) * loss_to(targets.labels.roll(1))


def mixed_views(views: Tensor, mix: Sequence[float] | Tensor) -> Tensor:
    """Each view ``[batch, 3, side, side]`` with the one before it in the batch, in these parts."""
    part = torch.as_tensor(mix, dtype=views.dtype, device=views.device).view(-1, 1, 1, 1)
    return part * views + (1 - part) * views.roll(1, 0)
