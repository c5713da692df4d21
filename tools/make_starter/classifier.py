"""The second part: fc6 to fc8 learn MobileNet's answers from the convolutions' codes of stored views.

The third: all stages learn together on fresh views, the convolutions from both teachers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from tools.make_starter.convolutions import explained
from tools.make_starter.pixels import INSIDE, Photographs, batches, centre_view, change_colours, random_view
from tools.make_starter.student import Classifier, Imitation, imitate, pool5_of
from tools.make_starter.work import Course, Part, Work, descend, optimizer_of

CHUNK = 128  # views that are stored at once


def known_answers(path: Path, names: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Stored answers [images, 2280] of MobileNet (features, logits) for images by name, and its classes' WordNet ids."""
    with h5py.File(path) as file:
        classes = tuple(name.decode() for name in file["classes"][:])
        place = {name.decode(): row for row, name in enumerate(file["images/name"][:])}
        stored = file["layers/features"]
        features = float(stored.attrs["largest"]) * np.square(stored[:].astype(np.float32) / 255)
        logits = features @ file["logits/weight"][:].T + file["logits/bias"][:]
    rows = [place[name] for name in names]
    return torch.from_numpy(np.concatenate([features, logits], 1)[rows]).half(), classes


@torch.no_grad()
def store(
    photographs: Photographs,
    student: nn.Module,
    teacher: nn.Module,
    work: Work,
    views: int,
    folder: Path | None = None,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Codes [images * views, 9216] and answers [images * views, 2280] of some views of every image, float16.

    The first view of each is the centre. ``known`` [images, 2280] holds answers computed from larger originals: they
    stand for every view of an image, whose crops are larger then. None if stopped before the end.
    """
    folder = folder or work.folder
    done_path = folder / "stored.json"
    count = len(photographs) * views
    mode: Any = "r+" if done_path.exists() else "w+"
    codes = np.memmap(folder / "codes.f16", np.float16, mode, shape=(count, 9216))
    answers = np.memmap(folder / "answers.f16", np.float16, mode, shape=(count, 2280))
    done = json.loads(done_path.read_text()) if done_path.exists() else 0
    area = 0.35 if known is None else 0.6
    for start in range(done, count, CHUNK):
        if work.stopped:
            return None
        places = range(start, min(start + CHUNK, count))
        random = np.random.default_rng([7, start])
        pictures = []
        for place in places:
            view, row = divmod(place, len(photographs))
            pixels = photographs[row]
            pictures.append(centre_view(pixels) if view == 0 else random_view(pixels, random, area))
        values = change_colours(torch.stack(pictures), random, 0.2 if start >= len(photographs) else 0.0)
        inside = values[:, :, INSIDE, INSIDE].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            codes[start : places.stop] = pool5_of(student(inside)[2]).half().numpy()
        if known is None:
            answers[start : places.stop] = torch.cat(teacher(inside.bfloat16()), 1).half().numpy()
        else:
            answers[start : places.stop] = known[[place % len(photographs) for place in places]].numpy()
        if start % (CHUNK * 20) == 0:
            done_path.write_text(json.dumps(start))
            work.tell("store", {"done": start, "of": count})
    done_path.write_text(json.dumps(count))
    return torch.from_numpy(codes), torch.from_numpy(answers)


def watch(
    classifier: Classifier, codes: Tensor, answers: Tensor, photographs: Photographs, ids: tuple[str, ...]
) -> dict[str, object]:
    """Of the watched images: agreement with the teacher's first class, and right ones where the folder is a WordNet id.

    ``codes`` and ``answers`` have a row for each watched image.
    """
    classifier.eval()
    with torch.no_grad():
        found = classifier(codes.float())[0].argmax(1).numpy()
    classifier.train()
    taught = answers[:, 1280:].argmax(1).numpy()
    index = {name: place for place, name in enumerate(ids)}
    names = [photographs.names[row] for row in photographs.watched]
    labels = np.array([index.get(Path(name).parent.name, -1) for name in names])
    known = np.array([name.startswith(("ilsvrc_val", "imagenet_sample")) for name in names]) & (labels >= 0)
    shares = {
        "agreement": found == taught,
        "right": (found == labels)[known],
        "teacher_right": (taught == labels)[known],
    }
    return {name: round(float(values.mean()), 4) for name, values in shares.items()} | {
        "labelled": int(known.sum())
    }


def learn_classifier(
    work: Work,
    part: Part,
    classifier: Classifier,
    sets: list[tuple[Photographs, Tensor, Tensor]],
    ids: tuple[str, ...],
    features: float,
) -> bool:
    """The fully connected stages alone, on stored codes; each batch has a share of every set. False if stopped."""
    optimizer = optimizer_of(classifier, part)
    random = np.random.default_rng(0)
    learned = [
        np.concatenate([images.learned + start for start in range(0, len(codes), len(images))])
        for images, codes, _ in sets
    ]
    per_epoch = sum(map(len, learned)) // part.batch
    photographs, own_codes, own_answers = sets[0]
    watched = photographs.watched
    orders: list[list[np.ndarray]] = []
    course = Course(work, part)
    for step, rate in course:
        if step % per_epoch == 0:
            orders = [np.array_split(random.permutation(places), per_epoch) for places in learned]
            if step // per_epoch % 5 == 1:
                found = watch(classifier, own_codes[watched], own_answers[watched].float(), photographs, ids)
                work.tell("classifier", {**course.line(), **found})
        chosen = [np.sort(order[step % per_epoch]) for order in orders]
        codes = torch.cat([codes[rows] for rows, (_, codes, _) in zip(chosen, sets, strict=True)]).float()
        answers = torch.cat(
            [answers[rows] for rows, (_, _, answers) in zip(chosen, sets, strict=True)]
        ).float()
        with torch.autocast("cpu", torch.bfloat16):
            logits, guess = classifier(codes)
        course.losses.append(descend(imitate(logits, guess, answers, features), classifier, optimizer, rate))
    found = watch(classifier, own_codes[watched], own_answers[watched].float(), photographs, ids)
    work.tell("classifier", {**course.line(), **found})
    return not work.stopped


def learn_together(
    work: Work,
    part: Part,
    imitation: Imitation,
    classifier: Classifier,
    teachers: tuple[nn.Module, nn.Module],
    photographs: Photographs,
    ids: tuple[str, ...],
    features: float,
) -> bool:
    """All stages on fresh views, from both teachers (the AlexNet, MobileNet); false if stopped before the end."""
    alexnet, mobilenet = teachers
    both = nn.ModuleList([imitation, classifier])
    optimizer = optimizer_of(both, part)
    state = work.load("together.pt")
    course = Course(work, part)
    if state:
        both.load_state_dict(state["both"])
        optimizer.load_state_dict(state["optimizer"])
        course = Course(work, part, state["step"], state["minutes"])
    both.train()

    def save() -> None:
        state = {"both": both.state_dict(), "optimizer": optimizer.state_dict()}
        work.save("together.pt", {**state, "step": course.step, "minutes": course.minutes})

    views_of = batches(photographs, photographs.learned, part.batch, 2, course.step, part.area)
    for (_, rate), (_, views) in zip(course, views_of, strict=False):
        if course.due(300, "save"):
            save()
        if course.due(120, "tell"):
            line = {**course.line(), "explained": explained(imitation, alexnet, photographs)}
            work.tell("together", line | watch_now(imitation, classifier, mobilenet, photographs, ids))
        inside = views[:, :, INSIDE, INSIDE]
        answers, taught = alexnet(views.bfloat16()), torch.cat(mobilenet(inside.bfloat16()), 1)
        with torch.autocast("cpu", torch.bfloat16):
            pool2, conv3, conv5 = imitation.student(inside)
            logits, guess = classifier(pool5_of(conv5))
            guesses = (imitation.map(pool2), conv3, conv5)
        loss = imitate(logits, guess, taught, features) + imitation.hints(guesses, answers)
        course.losses.append(descend(loss, both, optimizer, rate))
    save()
    if not work.stopped:
        found = watch_now(imitation, classifier, mobilenet, photographs, ids)
        work.tell(
            "together", {**course.line(), "explained": explained(imitation, alexnet, photographs), **found}
        )
    return not work.stopped


@torch.no_grad()
def watch_now(
    imitation: Imitation,
    classifier: Classifier,
    mobilenet: nn.Module,
    photographs: Photographs,
    ids: tuple[str, ...],
) -> dict[str, object]:
    """:func:`watch` with codes and answers computed at once from the centre views."""
    imitation.eval()
    codes, answers = [], []
    for start in range(0, len(photographs.watched), 64):
        rows = photographs.watched[start : start + 64]
        views = torch.stack([centre_view(photographs[row]) for row in rows]).float() / 255
        inside = views[:, :, INSIDE, INSIDE].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            codes.append(pool5_of(imitation.student(inside)[2]).float())
        answers.append(torch.cat(mobilenet(inside.bfloat16()), 1))
    imitation.train()
    return watch(classifier, torch.cat(codes), torch.cat(answers), photographs, ids)
