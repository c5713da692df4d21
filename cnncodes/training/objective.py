"""What a training minimises: cross-entropy to labels, likeness to a teacher's answers, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.training.learner import Learner
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.teacher import Answers


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should become.

    Parameters
    ----------
    labels : int64 Tensor [batch]
    answers : Answers or None
        The teacher's.
    mix : float32 Tensor [batch] or None
        Part of each view that is the image itself; the rest is the view before it in the batch. Answers to mixed
        views are mixed already.
    allowed : bool Tensor [batch, classes] or None
        Classes that an image can have: those of its own data set, where each has a head of its own.
    """

    labels: Tensor
    answers: Answers | None = None
    mix: Tensor | None = None
    allowed: Tensor | None = None


class Objective:
    """Loss of each image.

    Parameters
    ----------
    settings : TrainingSettings
    class_weight : float32 Tensor [classes], optional
    scale : (mean, deviation) of the teacher's features, Tensors [D], optional
    """

    def __init__(
        self,
        settings: TrainingSettings,
        class_weight: Tensor | None = None,
        scale: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self._settings, self._class_weight, self._scale = settings, class_weight, scale

    def __call__(self, learner: Learner, hidden: Tensor, logits: Tensor, targets: Targets) -> Tensor:
        """Loss of each image ``[batch]``, float32."""
        settings = self._settings
        teacher = settings.teacher
        logits = logits.float()
        if teacher is None or targets.answers is None:
            return self._label_loss(logits, targets)
        loss = logits.new_zeros(len(logits))
        if teacher.labels:
            loss = loss + teacher.labels * self._label_loss(logits, targets)
        if teacher.logits and targets.answers.logits is not None:
            imitated = learner.to_logits(hidden.float()) if learner.to_logits is not None else logits
            loss = loss + teacher.logits * soft_loss(imitated, targets.answers.logits, teacher.temperature)
        if teacher.features and learner.to_features is not None and self._scale is not None:
            mean, deviation = self._scale
            wanted = (targets.answers.features - mean) / deviation
            guess = learner.to_features(hidden.float())
            if teacher.feature_loss == "cosine":
                loss = loss + teacher.features * (1 - F.cosine_similarity(guess, wanted))
            else:
                loss = loss + teacher.features * (guess - wanted).square().mean(1)
        return loss

    def right(self, logits: Tensor, targets: Targets) -> Tensor:
        """Number of images whose best class is the label, or the teacher's where labels do not count."""
        teacher = self._settings.teacher
        imitates = teacher is not None and not teacher.labels
        if imitates and targets.answers is not None and targets.answers.logits is not None:
            return (logits.argmax(1) == targets.answers.logits.argmax(1)).sum()
        return (_within(logits, targets.allowed).argmax(1) == targets.labels).sum()

    def _label_loss(self, logits: Tensor, targets: Targets) -> Tensor:
        logits = _within(logits, targets.allowed)

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


def _within(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """Logits with no chance for classes that an image cannot have."""
    return logits if allowed is None else logits.masked_fill(~allowed, float("-inf"))


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))`` of each image (Hinton et al. 2015, section 2)."""
    wanted = F.log_softmax(teacher_logits / temperature, dim=1)
    found = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(found, wanted, reduction="none", log_target=True).sum(1)


def mixed_views(views: Tensor, mix: Sequence[float] | Tensor) -> Tensor:
    """Each view ``[batch, 3, side, side]`` with the one before it in the batch, in these parts."""
    part = torch.as_tensor(mix, dtype=views.dtype, device=views.device).view(-1, 1, 1, 1)
    return part * views + (1 - part) * views.roll(1, 0)
