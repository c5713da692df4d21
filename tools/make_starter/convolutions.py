"""The first part: the student's convolutions learn to answer as the teacher's do, at every place of every view."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tools.make_starter.pixels import INSIDE, Photographs, batches, centre_view
from tools.make_starter.student import TARGETS, Imitation
from tools.make_starter.work import Course, Part, Work, descend, optimizer_of


@torch.no_grad()
def measure_targets(
    imitation: Imitation, teacher: nn.Module, photographs: Photographs, count: int = 512
) -> None:
    """Set mean and deviation of each channel of the teacher, over all places of some images."""
    sums = {name: (torch.zeros(()), torch.zeros(()), 0) for name in TARGETS}
    rows = np.random.default_rng(0).choice(
        photographs.learned, min(count, len(photographs.learned)), replace=False
    )
    for start in range(0, len(rows), 64):
        views = torch.stack([centre_view(photographs[row]) for row in rows[start : start + 64]])
        for name, answer in zip(TARGETS, teacher((views.float() / 255).bfloat16()), strict=True):
            values = answer.double()
            total, squares, number = sums[name]
            places = values.numel() // values.shape[1]
            sums[name] = (
                total + values.sum((0, 2, 3)),
                squares + values.square().sum((0, 2, 3)),
                number + places,
            )
    for name, (total, squares, number) in sums.items():
        mean = total / number
        deviation = (squares / number - mean.square()).sqrt().clamp_min(1e-3)
        imitation.get_buffer(f"mean_{name}").copy_(mean.float().view(1, -1, 1, 1))
        imitation.get_buffer(f"deviation_{name}").copy_(deviation.float().view(1, -1, 1, 1))


@torch.no_grad()
def explained(imitation: Imitation, teacher: nn.Module, photographs: Photographs) -> dict[str, float]:
    """Explained variance of each target on images that nothing was learned from, mean of the channels."""
    imitation.eval()
    lost, there = dict.fromkeys(TARGETS, 0.0), dict.fromkeys(TARGETS, 0.0)
    for start in range(0, len(photographs.watched), 64):
        rows = photographs.watched[start : start + 64]
        views = torch.stack([centre_view(photographs[row]) for row in rows]).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            guesses = imitation(views[:, :, INSIDE, INSIDE].contiguous(memory_format=torch.channels_last))
        for name, guess, answer in zip(TARGETS, guesses, teacher(views.bfloat16()), strict=True):
            target = imitation.target(name, answer)
            mean = imitation.get_buffer(f"mean_{name}") / imitation.get_buffer(f"deviation_{name}")
            lost[name] += float((guess.float().relu() - target).square().sum())
            there[name] += float((target - mean).square().sum())
    imitation.train()
    return {name: round(1 - lost[name] / there[name], 4) for name in TARGETS}


def learn_convolutions(
    work: Work, part: Part, photographs: Photographs, teacher: nn.Module, start: str = ""
) -> Imitation | None:
    """Train the convolutions, or go on, or read what was finished; None if stopped before the end.

    Parameters
    ----------
    start : str
        File of a checkpoint to begin with instead of random numbers, such as the ``before-fall.pt`` of a shorter training.
    """
    imitation = Imitation().to(memory_format=torch.channels_last)
    finished = work.load("convolutions-done.pt")
    if finished:
        imitation.load_state_dict(finished["imitation"])
        return imitation
    optimizer = optimizer_of(imitation, part)
    state = work.load("convolutions.pt")
    course = Course(work, part, state["step"], state["minutes"]) if state else Course(work, part)
    earlier = state or (torch.load(start, weights_only=True) if start else None)
    if earlier:
        imitation.load_state_dict(earlier["imitation"])
        optimizer.load_state_dict(earlier["optimizer"])
    else:
        measure_targets(imitation, teacher, photographs)

    def everything() -> dict[str, object]:
        return {
            "imitation": imitation.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": course.step,
            "minutes": course.minutes,
        }

    seed = 1 if not start else 1 + int(earlier["step"] if earlier else 0)
    views_of = batches(photographs, photographs.learned, part.batch, seed, course.step, part.area)
    before_fall = work.folder / "before-fall.pt"
    for (_, rate), (_, views) in zip(course, views_of, strict=False):
        if course.share >= 1 - part.fall and not before_fall.exists():
            work.save(before_fall.name, everything())
        if course.due(300, "save"):
            work.save("convolutions.pt", everything())
        if course.due(120, "tell"):
            work.tell(
                "convolutions", {**course.line(), "explained": explained(imitation, teacher, photographs)}
            )
        answers = teacher(views.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            guesses = imitation(views[:, :, INSIDE, INSIDE])
        course.losses.append(descend(imitation.hints(guesses, answers), imitation, optimizer, rate))
    work.save("convolutions.pt", everything())
    if work.stopped:
        return None
    work.save("convolutions-done.pt", {"imitation": imitation.state_dict()})
    return imitation
