"""A training as a person starts it: from a catalog to a run folder with everything that it left."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.compute import Device
from cnncodes.codes.lock import locked
from cnncodes.heads.linear_model import LinearModel
from cnncodes.heads.sets import set_names
from cnncodes.heads.splits import Split, SplitRule
from cnncodes.images.catalog import Catalog
from cnncodes.networks import TANH, Network, TorchNetwork, get_network
from cnncodes.training.folder import MODEL, open_run
from cnncodes.training.head_start import check_head, put_head, typical_length
from cnncodes.training.learner import Learner, from_scratch, start_from
from cnncodes.training.loop import Progress, Training
from cnncodes.training.processes import processes
from cnncodes.training.range_test import with_kept_rate
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Epoch
from cnncodes.training.task import Task, choose_task
from cnncodes.training.teacher import Teacher, load_teacher
from cnncodes.weights import Weights, save_weights
from cnncodes.weights.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training left: the run folder, the weights file in it, every epoch, and the split that was used.

    ``leads`` is false in all but one of several processes: that one writes and tells. ``unreadable`` has the name and the
    reason of each image that this process could not read. ``class_sets`` has the data set of each class, where each set has a
    head of its own.
    """

    folder: Path
    model: Path
    epochs: tuple[Epoch, ...]
    split: Split
    classes: tuple[str, ...]
    leads: bool = True
    unreadable: dict[str, str] = field(default_factory=dict)
    class_sets: tuple[str, ...] = ()

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept: the least val loss, or the last without a val split."""
        watched = [epoch for epoch in self.epochs if epoch.val_loss is not None]
        return min(watched, key=lambda epoch: epoch.val_loss or 0.0) if watched else self.epochs[-1]


def finetune(
    catalog: Catalog,
    weights: Weights,
    folder: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    keep_head: bool = False,
    head: LinearModel | None = None,
    class_sets: np.ndarray | None = None,
    split: SplitRule = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    ready: Callable[[Training], None] | None = None,
    notes: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Go on training a network on other images: the second use of CS231n's transfer learning notes.

    Parameters
    ----------
    catalog : Catalog
        With labels; its val (or test) split is watched, else a fifth of each class is held out.
    weights : Weights
        Where the network starts.
    folder : path
        The run, made if it is missing.
    settings : TrainingSettings, optional
    keep_head : bool, default False
        Keep the last layer; by default it is replaced for the new classes.
    head : LinearModel, optional
        Fitted on codes of these weights' last hidden stage: the new last layer starts from it.
    class_sets : int ndarray [classes], optional
        As :func:`cnncodes.images.join_catalogs` gives them with "apart": each data set has a head of its own.
    split : {"auto", "none"} or float, default "auto"
        See :func:`cnncodes.heads.split_rows`.
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    resume : bool, default False
        Continue the folder's run at the very step where it stopped.
    progress : callable(epoch, images, loss), optional
    ready : callable(training), optional
        Called once before the first step.
    notes : callable(text), optional
        Told what a person should know: a restart after a loss that was not a number, a loss that stands still.

    Raises
    ------
    OutputExistsError
        If the folder holds a run and ``resume`` is false.
    InterruptedTrainingError
        After SIGTERM or SIGINT, once everything is saved.
    """
    settings = settings or TrainingSettings()
    source = f"fine-tuned from {weights.name} ({weights.fingerprint[:16]}), freeze {settings.freeze}"
    job = _Job(
        catalog, weights.architecture, weights.preprocessing, settings, Path(folder), source,
        lambda classes: start_from(weights, classes, settings, keep_head=keep_head), class_sets,
        None if head is None else (weights, head), keep_head, weights.seen,
    )  # fmt: skip
    return _train(
        job, split, device=device, workers=workers, resume=resume, progress=progress, ready=ready, notes=notes
    )


def train(
    catalog: Catalog,
    network: Network,
    preprocessing: Preprocessing,
    folder: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    class_sets: np.ndarray | None = None,
    split: SplitRule = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    ready: Callable[[Training], None] | None = None,
    notes: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a network from new numbers. Parameters as for :func:`finetune`.

    ``preprocessing`` says how an image becomes its input; it travels with the weights that are saved.
    """
    settings = settings or TrainingSettings(middle_rate=1.0, early_rate=1.0)
    if settings.network.activation == "tanh":
        network = get_network(f"{network.name.removesuffix(TANH)}{TANH}", network.classes)
    job = _Job(
        catalog, network, preprocessing, settings, Path(folder),
        f"trained from new numbers ({settings.initialisation}, seed {settings.seed})",
        lambda classes: from_scratch(network.with_classes(len(classes)), settings), class_sets,
    )  # fmt: skip
    return _train(
        job, split, device=device, workers=workers, resume=resume, progress=progress, ready=ready, notes=notes
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be trained, on what, and where it goes."""

    catalog: Catalog
    network: Network
    preprocessing: Preprocessing
    settings: TrainingSettings
    folder: Path
    source: str
    start: Callable[[tuple[str, ...]], TorchNetwork]  # the network to begin with, for these classes
    class_sets: np.ndarray | None = None
    head: tuple[Weights, LinearModel] | None = None
    keep_head: bool = False
    seen: tuple[int, ...] = ()  # digests of what the weights to begin with have learned from


def _train(
    job: _Job,
    rule: SplitRule,
    *,
    device: str,
    workers: int | None,
    resume: bool,
    progress: Progress | None,
    ready: Callable[[Training], None] | None,
    notes: Callable[[str], None] | None,
) -> TrainingResult:
    if resume:
        job = dataclasses.replace(job, settings=with_kept_rate(job.settings, job.folder))
    with processes(device) as (together, place):
        teacher = _teacher(job, place)
        task = choose_task(
            job.catalog, job.settings, rule, teacher, job.class_sets, starts_from_head=job.head is not None
        )
        learner = _learner(job, task, teacher, place)
        if together.leads:
            open_run(job.folder, _record(job, task, learner), resume)
        together.wait()
        with locked(job.folder / "run") if together.leads else nullcontext():
            training = Training(
                learner, job.catalog, task.labels, task.split, job.preprocessing, job.settings, job.folder, place,
                workers or max(1, place.cores // together.count), teacher=teacher, processes=together,
                notes=notes if together.leads else None, class_sets=task.class_sets,
            )  # fmt: skip
            if resume and not training.resume() and notes and together.leads:
                notes(f"there is no checkpoint in '{job.folder}' yet: this begins at epoch 1.")
            if ready and together.leads:
                ready(training)
            epochs = training.run(progress if together.leads else None)
            if together.leads:
                _save(job, task, training)
            together.wait()
    return TrainingResult(
        job.folder,
        job.folder / MODEL,
        tuple(epochs),
        task.split,
        task.classes,
        together.leads,
        training.inputs.unreadable(),
        _class_sets(task),
    )


def _teacher(job: _Job, place: Device) -> Teacher | None:
    if job.settings.teacher is None:
        return None
    half = job.settings.precision == "bfloat16"
    return load_teacher(job.settings.teacher, job.catalog, place, half)


def _learner(job: _Job, task: Task, teacher: Teacher | None, place: Device) -> Learner:
    """The network to begin with, its last stage as the head where there is one."""
    module = job.start(task.classes)
    if job.head is not None:
        weights, head = job.head
        check_head(head, weights, task.classes)
        length = typical_length(head, weights, job.catalog, task.split.train, place)
        put_head(module, head, task.classes, length)
    return Learner(module, job.settings, *_imitated(job.settings, teacher))


def _imitated(settings: TrainingSettings, teacher: Teacher | None) -> tuple[int, int]:
    """Lengths of a teacher's features and logits that maps beside the network imitate; 0: none."""
    if teacher is None or settings.teacher is None:
        return 0, 0
    beside = settings.teacher.labels and settings.teacher.logits
    return teacher.feature_length if settings.teacher.features else 0, teacher.logits if beside else 0


def _record(job: _Job, task: Task, learner: Learner) -> dict[str, Any]:
    """What must be the same when the run is continued, as JSON."""
    return {
        "settings": json.loads(job.settings.to_json()),
        "source": job.source,
        "classes": list(task.classes),
        "preprocessing": json.loads(job.preprocessing.to_json()),
        "images": len(job.catalog),
        "data": _data_digest(job, task.split),
        "network": learner.module.network.name,
    }


def _data_digest(job: _Job, split: Split) -> str:
    """sha256 of what is learned from and watched: names, labels, rows, and what the last stage starts as."""
    catalog, digest = job.catalog, hashlib.sha256()
    for name in catalog.names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    sets = np.zeros(0, np.int64) if job.class_sets is None else np.asarray(job.class_sets, np.int64)
    for array in (catalog.labels, split.train, split.choose, sets):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"\0")
    digest.update(f"{job.keep_head} {job.head is not None}".encode())
    return digest.hexdigest()


def _class_sets(task: Task) -> tuple[str, ...]:
    return () if task.class_sets is None else set_names(task.classes, task.class_sets.tolist())


def _save(job: _Job, task: Task, training: Training) -> None:
    """The learner's weights as a file like any other, with the digests of all images that had a part in them."""
    learner = training.learner
    head = () if job.head is None else job.head[1].seen.tolist()
    weights = Weights(
        network=learner.module.network.name,
        name=str(job.folder / MODEL),
        tensors=learner.plain(),
        preprocessing=job.preprocessing,
        classes=task.classes,
        source=job.source,
        seen=tuple(sorted({*job.seen, *head, *training.inputs.seen()})),
        class_sets=_class_sets(task),
    )
    save_weights(weights, job.folder / MODEL, overwrite=True)
