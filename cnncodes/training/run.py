"""`finetune` and `train`: from a catalog to a run folder with the trained network."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.files import parse_json
from cnncodes.core.records import to_value
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.heads.splits import Split, SplitRule
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import catalog_digests, digest_of, file_digests
from cnncodes.networks import TANH, Network, TorchNetwork, get_network
from cnncodes.training.callbacks import Callback, ShowProgress
from cnncodes.training.device import Resources, resources
from cnncodes.training.folder import MODEL, held, keep_result, open_run, result_of
from cnncodes.training.inputs import Task, choose_task
from cnncodes.training.learner import Learner, check_head, put_head, typical_length
from cnncodes.training.library_learner import begin, begin_from_scratch, make_learner
from cnncodes.training.loop import Training
from cnncodes.training.range_test import RangeTest
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Epoch, Tested, keep_last
from cnncodes.weights import AnyWeights, Weights, save_weights
from cnncodes.weights.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training gave."""

    folder: Path
    model: Path  # the weights file in the folder
    epochs: tuple[Epoch, ...]
    split: Split
    classes: tuple[str, ...]
    leads: bool = True  # of several processes, the one that writes and reports
    unreadable: dict[str, str] = field(
        default_factory=dict
    )  # name and reason, also of earlier processes of the run
    already: bool = False  # the run was finished before
    test: Tested | None = None  # on ``split.test``, which had no part in the training; None if it is empty

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept: the least val loss, or the last without a val split."""
        watched = [epoch for epoch in self.epochs if epoch.val_loss is not None]
        return min(watched, key=lambda epoch: epoch.val_loss or 0.0) if watched else self.epochs[-1]


def finetune(
    catalog: Catalog,
    weights: AnyWeights,
    folder: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    keep_head: bool = False,
    head: AnyModel | None = None,
    split: SplitRule | Split = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    keep_checkpoints: bool = False,
    progress: Progress = no_progress,
    callbacks: Sequence[Callback] = (),
    notes: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a pretrained network on other images.

    Parameters
    ----------
    catalog : Catalog
        With labels.
    weights : Weights, name or path
        Of the pretrained network.
    folder : path
        The run, created if it is missing.
    settings : TrainingSettings, optional
    keep_head : bool, default False
        Keep the last layer; by default it is replaced for the new classes.
    head : LinearModel, path or name, optional
        The start of the new last layer, fitted on codes of these weights' last hidden stage.
    split : {"auto", "none"}, float or Split, default "auto"
        Test images, used once at the end, as for :func:`cnncodes.heads.split_rows`: the data's own, else a fifth of each
        class. If the data have no val split, a tenth of the rest is watched, to choose the epoch. In a Split of your own, an
        empty part means that nothing is watched or tested.
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    resume : bool, default False
        Continue the folder's run at the step where it stopped; of a finished run, return the result.
    keep_checkpoints : bool, default False
        Keep the last checkpoint of a finished training.
    progress : callable(step, done, total, word), optional
        Called after each batch.
    callbacks : sequence of Callback, optional
        Hooks into the training, see :class:`cnncodes.training.Callback`.
    notes : callable(text), optional
        Called with what the user should know: a restart after a loss that was not a number, a loss that does not fall.

    Raises
    ------
    OutputExistsError
        If the folder holds a run and ``resume`` is false.
    OutputBusyError
        If another process is training in the folder.
    OptionError
        If the folder's run was started with other settings or weights, another split, or images that have changed since.
    InterruptedTrainingError
        After SIGTERM or SIGINT; everything is saved.
    """
    from cnncodes.weights import load_weights

    weights, head = load_weights(weights), None if head is None else load_model(head)
    settings = settings or TrainingSettings()
    source = f"fine-tuned from {weights.name} ({weights.fingerprint[:16]}), freeze {settings.freeze}"
    job = _Job(
        catalog, weights.whole, weights.preprocessing, settings, Path(folder), source,
        lambda classes: begin(weights, classes, settings, keep_head=keep_head),
        None if head is None else (weights, head), keep_head, weights.seen, weights.watched,
    )  # fmt: skip
    around = _Around(resume, keep_checkpoints, tuple(callbacks), notes or (lambda text: None))
    return _train(job, split, Compute(device, workers, progress=progress), around)


def train(
    catalog: Catalog,
    network: Network,
    preprocessing: Preprocessing,
    folder: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    split: SplitRule | Split = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    keep_checkpoints: bool = False,
    progress: Progress = no_progress,
    callbacks: Sequence[Callback] = (),
    notes: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a network from random weights. Parameters as for :func:`finetune`; ``preprocessing`` is saved with the weights."""
    settings = settings or TrainingSettings(middle_rate=1.0, early_rate=1.0)
    if settings.network.activation == "tanh":
        network = get_network(f"{network.name.removesuffix(TANH)}{TANH}", network.classes)
    job = _Job(
        catalog, network, preprocessing, settings, Path(folder),
        f"trained from new numbers ({settings.initialisation}, seed {settings.seed})",
        lambda classes: begin_from_scratch(network.with_classes(len(classes)), settings),
    )  # fmt: skip
    around = _Around(resume, keep_checkpoints, tuple(callbacks), notes or (lambda text: None))
    return _train(job, split, Compute(device, workers, progress=progress), around)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is trained, on which images, and where it is saved."""

    catalog: Catalog
    network: Network
    preprocessing: Preprocessing
    settings: TrainingSettings
    folder: Path
    source: str
    start: Callable[[tuple[str, ...]], TorchNetwork]  # the initial network, for these classes
    head: tuple[Weights, LinearModel] | None = None
    keep_head: bool = False
    seen: tuple[int, ...] = ()  # digests of images that the initial weights learned from
    watched: tuple[int, ...] = ()  # and of those that chose among their epochs


@dataclass(frozen=True, eq=False)
class _Around:
    """How a training is started, and what is called meanwhile."""

    resume: bool
    keep_checkpoints: bool
    callbacks: tuple[Callback, ...]
    notes: Callable[[str], None]


def _train(job: _Job, rule: SplitRule | Split, compute: Compute, around: _Around) -> TrainingResult:
    """Train, or return the result of a finished run; called in each of several processes."""
    resume = around.resume
    measured = RangeTest.load(job.folder) if resume and job.settings.learning_rate == "auto" else None
    if measured is not None:
        job = replace(job, settings=replace(job.settings, learning_rate=measured.rate))
    with resources(compute) as given:
        together = given.processes
        task = choose_task(job.catalog, job.preprocessing, rule, job.settings.seed)
        task = replace(task, split=_untouched(job, task.split))
        learner = _learner(job, task, given)
        record = _record(job, task, learner) if together.leads else {}
        with held(job.folder) if together.leads else nullcontext():
            if together.leads:
                if measured is not None:
                    measured.save(job.folder)  # a kill may have come between its two files
                open_run(job.folder, record, resume)
            together.wait()
            found = result_of(job.folder) if resume else None
            already = found is not None
            if found is None:
                callbacks = (*around.callbacks, ShowProgress(given.progress))
                training = Training(
                    learner, task, job.settings, job.folder, given, callbacks, around.notes, record
                )
                found = _run(job, task, training, around)
            if together.leads:
                keep_last(job.folder, 1 if around.keep_checkpoints else 0)
            together.wait()
    epochs = tuple(Epoch(**line) for line in found["epochs"])
    test = None if found["test"] is None else Tested(**found["test"])
    return TrainingResult(
        job.folder, job.folder / MODEL, epochs, task.split, task.classes, together.leads, found["unreadable"], already, test
    )  # fmt: skip


def _run(job: _Job, task: Task, training: Training, around: _Around) -> dict[str, Any]:
    """Run the training and save the model; epochs, test and split as JSON."""
    leads = training.processes.leads
    if around.resume and not training.resume() and leads:
        around.notes(f"there is no checkpoint in '{job.folder}': the training begins at epoch 1.")
    epochs = training.run()
    found = {
        "split": task.split.how,
        "split_record": task.split.record(job.catalog),
        "test": to_value(training.test()),
        "temperature": training.temperature(),
        "epochs": to_value(epochs),
        "unreadable": training.inputs.unreadable(),
    }
    if leads:
        _save(job, task, training, found)
        keep_result(job.folder, found)
    return found


def _untouched(job: _Job, split: Split) -> Split:
    """The split without the test images that had a part in the initial weights or head."""
    had = _with_head(job, [*job.seen, *job.watched], "seen", "watched")
    if not had or not len(split.test):
        return split
    digests = file_digests(job.catalog.subset(split.test))
    known = np.isin(digests, np.array(sorted(had), np.uint64)) & (digests != 0)
    if not known.any():
        return split
    how = f"{split.how}; {int(known.sum()):,} are left out of the test, since the initial weights learned from them or were chosen by them"
    return replace(split, test=split.test[~known], how=how)


def _with_head(job: _Job, digests: Iterable[int], *names: str) -> set[int]:
    """Digests, with those of the initial head under these names."""
    head = () if job.head is None else (getattr(job.head[1], name).tolist() for name in names)
    return {*digests, *itertools.chain.from_iterable(head)}


def _learner(job: _Job, task: Task, given: Resources) -> Learner:
    """The initial network, with the head as its last stage if there is one."""
    module = job.start(task.classes)
    if job.head is not None:
        weights, head = job.head
        check_head(head, weights, task.classes)
        length = typical_length(head, weights, job.catalog, task.split.train, given.device)
        put_head(module, head, task.classes, length)
    return make_learner(module, job.settings)


def _record(job: _Job, task: Task, learner: Learner) -> dict[str, Any]:
    """What must be the same when the run is resumed, as JSON."""
    parts = (task.split.train, task.split.choose, task.split.test)
    start = "kept" if job.keep_head else "new" if job.head is None else "a fitted head"
    return {
        "settings": to_value(job.settings),
        "source": job.source,
        "classes": list(task.classes),
        "preprocessing": parse_json(job.preprocessing.to_json()),
        "network": learner.module.network.name,
        "start of the last stage": start,
        **catalog_digests(job.catalog),
        "split into images to learn from, to watch and to test": digest_of(
            *(np.ascontiguousarray(rows, "<i8").tobytes() for rows in parts)
        ),
    }


def _save(job: _Job, task: Task, training: Training, found: dict[str, Any]) -> None:
    """Save the weights with the digests of all images that had a part in them, and the test."""
    learner = training.learner
    seen = _with_head(job, [*job.seen, *training.inputs.seen()], "seen")
    watched = _with_head(job, [*job.watched, *training.inputs.watched()], "watched")
    weights = Weights(
        network=learner.module.network.name,
        name=str(job.folder / MODEL),
        tensors=learner.plain(),
        preprocessing=job.preprocessing,
        classes=task.classes,
        source=job.source,
        origin="trained",
        seen=tuple(sorted(seen)),
        watched=tuple(sorted(watched - seen)),
        evidence={name: found[name] for name in ("split", "split_record", "test", "temperature")},
    )
    save_weights(weights, job.folder / MODEL, overwrite=True)
