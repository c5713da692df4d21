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
from cnncodes.codes.file import Provenance
from cnncodes.codes.lock import locked
from cnncodes.errors import HeadError, OptionError, OutputExistsError
from cnncodes.heads.linear_model import LinearModel
from cnncodes.heads.splits import Split, SplitRule, split_rows
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS
from cnncodes.networks import TANH, Network, TorchNetwork, get_network
from cnncodes.training.checkpoints import checkpoints
from cnncodes.training.frozen import FILE
from cnncodes.training.head_start import check_head, put_head, typical_length
from cnncodes.training.learner import Learner, from_scratch, start_from
from cnncodes.training.loop import Progress, Training
from cnncodes.training.processes import processes
from cnncodes.training.range_test import with_kept_rate
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Epoch
from cnncodes.training.teacher import Teacher, load_teacher
from cnncodes.weights import Weights, save_weights
from cnncodes.weights.preprocessing import Preprocessing

MODEL = "model.safetensors"
WATCHED = 0.05  # of the images, where a teacher alone is imitated


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training left: the run folder, the weights file in it, every epoch, and the split that was used.

    ``leads`` is false in all but one of several processes: that one writes and tells. ``unreadable`` has the name and the
    reason of each image that this process could not read.
    """

    folder: Path
    model: Path
    epochs: tuple[Epoch, ...]
    split: Split
    classes: tuple[str, ...]
    leads: bool = True
    unreadable: dict[str, str] = field(default_factory=dict)

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


def _rows(catalog: Catalog, rule: SplitRule, seed: int) -> tuple[Split, np.ndarray, tuple[str, ...]]:
    """The split, labels as places in the classes that can be learned, and these classes."""
    split = split_rows(catalog, np.ones(len(catalog), np.bool_), rule, seed)
    present = np.unique(catalog.labels[split.train])
    if len(present) < 2:
        raise HeadError(
            "there is only one class to learn.", "Give images of two classes or more, a folder each."
        )
    labels = np.full(len(catalog), -1, dtype=np.int64)
    for place, label in enumerate(present):
        labels[catalog.labels == label] = place
    train, watched = split.train, split.choose if len(split.choose) else split.test
    if (
        catalog.splits[watched] == SPLITS.index("test")
    ).any():  # nothing is chosen on the data's own test images
        inner = dataclasses.replace(catalog.subset(train), splits=np.zeros(len(train), np.uint8))
        held = split_rows(inner, np.ones(len(train), np.bool_), "auto", seed)
        train, watched = train[held.train], train[held.test]
    watched = watched[labels[watched] >= 0]
    return (
        Split(train, watched, split.test, split.how),
        labels,
        tuple(catalog.classes[k] for k in present),
    )


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
    settings = with_kept_rate(job.settings, job.folder) if resume else job.settings
    with processes(device) as (together, place):
        teacher = _teacher(job, place)
        if teacher is not None and settings.teacher is not None and not settings.teacher.labels:
            split, labels = (
                _rows_of_any(job.catalog, rule, settings.seed),
                np.array(job.catalog.labels, np.int64),
            )
            classes = _classes_of(teacher, settings, job)
        else:
            split, labels, classes = _rows(job.catalog, rule, settings.seed)
        sets = _sets_of(job, classes)
        module = job.start(classes)
        if job.head is not None:
            numbers, head = job.head
            check_head(head, numbers, classes)
            length = typical_length(head, numbers, job.catalog, split.train, place)
            put_head(module, head, classes, length)
        learner = Learner(module, settings, *_imitated(settings, teacher))
        record = {
            "settings": json.loads(settings.to_json()),
            "source": job.source,
            "classes": list(classes),
            "preprocessing": json.loads(job.preprocessing.to_json()),
            "images": len(job.catalog),
            "data": _data_digest(job, split),
            "network": learner.module.network.name,
        }
        if together.leads:
            _open_run(job.folder, record, resume)
        together.wait()
        with locked(job.folder / "run") if together.leads else nullcontext():
            training = Training(
                learner, job.catalog, labels, split, job.preprocessing, settings, job.folder, place,
                workers or max(1, place.cores // together.count), teacher=teacher, processes=together,
                notes=notes if together.leads else None, class_sets=sets,
            )  # fmt: skip
            if resume and not training.resume() and notes and together.leads:
                notes(f"there is no checkpoint in '{job.folder}' yet: this begins at epoch 1.")
            if ready and together.leads:
                ready(training)
            epochs = training.run(progress if together.leads else None)
            weights = Weights(
                network=learner.module.network.name,
                name=str(job.folder / MODEL),
                tensors=learner.plain(),
                preprocessing=job.preprocessing,
                classes=classes,
                source=job.source,
                seen=_seen(job, training) if together.leads else (),
            )
            if together.leads:
                save_weights(weights, job.folder / MODEL, overwrite=True)
            together.wait()
    unreadable = training.inputs.unreadable()
    return TrainingResult(
        job.folder, job.folder / MODEL, tuple(epochs), split, classes, together.leads, unreadable
    )


def _seen(job: _Job, training: Training) -> tuple[int, ...]:
    """Digests of all images that had a part in the weights: now, before, and in the head that was the start."""
    head = () if job.head is None else job.head[1].seen.tolist()
    return tuple(sorted({*job.seen, *head, *training.inputs.seen()}))


def _differences(there: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """What a run was started with otherwise: settings one by one, with both values."""
    old, new = there.get("settings", {}), record["settings"]
    changed = [
        f"train.{name} ({old.get(name)} then, {new[name]} now)" for name in new if old.get(name) != new[name]
    ]
    return changed + [
        name for name, value in record.items() if name != "settings" and there.get(name) != value
    ]


def _classes_of(teacher: Teacher, settings: TrainingSettings, job: _Job) -> tuple[str, ...]:
    """Names of the logits where the last stage imitates a teacher; raises OptionError for what cannot be learned so."""
    if not teacher.logits or settings.teacher is None or not settings.teacher.logits:
        raise OptionError(
            "the teacher's features alone leave nothing for the last stage to learn.",
            "Set teacher.labels = 1, so that it learns the labels beside them.",
        )
    if settings.class_weight != "none" or job.class_sets is not None or job.head is not None:
        raise OptionError(
            "class weights, heads for each data set and a head to start from need labels, and teacher.labels is 0.",
            "Set teacher.labels, or leave them out.",
        )
    if teacher.classes is not None and len(teacher.classes) != teacher.logits:
        raise OptionError(
            f"the teacher has {teacher.logits} logits and {len(teacher.classes)} class names.",
            "Give as many names, or none.",
        )
    return teacher.classes or tuple(map(str, range(teacher.logits)))


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


def _sets_of(job: _Job, classes: tuple[str, ...]) -> np.ndarray | None:
    """The data set of each class that is learned."""
    if job.class_sets is None:
        return None
    if job.settings.label_smoothing or job.settings.mixup:
        raise OptionError(
            "label smoothing and mixup spread a label over classes, and with a head for each data set not all are possible.",
            "Set train.label_smoothing and train.mixup to 0, or join the classes by name.",
        )
    return np.array([job.class_sets[job.catalog.classes.index(name)] for name in classes])


def _teacher(job: _Job, place: Device) -> Teacher | None:
    if job.settings.teacher is None:
        return None
    half = job.settings.precision == "bfloat16"
    return load_teacher(job.settings.teacher, job.catalog, place, half)


def _imitated(settings: TrainingSettings, teacher: Teacher | None) -> tuple[int, int]:
    """Lengths of a teacher's features and logits that maps beside the network imitate; 0: none."""
    if teacher is None or settings.teacher is None:
        return 0, 0
    beside = settings.teacher.labels and settings.teacher.logits
    return teacher.feature_length if settings.teacher.features else 0, teacher.logits if beside else 0


def _rows_of_any(catalog: Catalog, rule: SplitRule, seed: int) -> Split:
    """A split where labels do not count: all images learn but those of the val split, or a share of all."""
    rows = np.arange(len(catalog))
    watched = rows[catalog.splits == SPLITS.index("val")]
    if isinstance(rule, float) or (rule == "auto" and not len(watched)):
        share = rule if isinstance(rule, float) else WATCHED
        watched = np.sort(
            np.random.default_rng(seed).choice(rows, max(1, round(share * len(rows))), replace=False)
        )
    elif rule == "none":
        watched = rows[:0]
    train = np.setdiff1d(rows[catalog.splits != SPLITS.index("test")], watched)
    return Split(train, watched, rows[:0], f"{len(train):,} images to learn from, {len(watched):,} to watch")


def _open_run(folder: Path, record: dict[str, Any], resume: bool) -> None:
    """Make the folder, or see that the run in it is the one to be continued."""
    path = folder / "run.json"
    begun = checkpoints(folder) or (folder / MODEL).exists() or (folder / FILE).exists()
    if path.exists() and (begun or resume):
        if not resume:
            raise OutputExistsError(
                f"'{folder}' holds a run already ({len(checkpoints(folder))} checkpoints).",
                "Continue it with --resume, or choose another folder with -o.",
            )
        try:
            there = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"'{path}' cannot be read: {error}.", "Start the training anew in another folder with -o."
            ) from error
        changed = _differences(there, record)
        if changed:
            raise OptionError(
                f"the run in '{folder}' was started otherwise: {', '.join(changed)} changed.",
                "Resume with the same data and settings, or choose another folder with -o.",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    provenance = Provenance.now()
    whole = record | {
        "command": provenance.command,
        "created": provenance.created,
        "versions": provenance.versions,
    }
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(whole, indent=2), encoding="utf-8")
    temporary.replace(path)
