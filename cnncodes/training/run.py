"""`finetune` and `train`: from a catalog to a run folder with the trained network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.compute import Device
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.files import MODEL, parse_json
from cnncodes.core.records import to_value
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.heads.splits import Split, SplitRule
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import catalog_digests, digest_of, file_digests
from cnncodes.networks import TANH, Network, get_network
from cnncodes.training.callbacks import Callback, ShowProgress
from cnncodes.training.device import resources
from cnncodes.training.folder import Epoch, Tested, held, keep, keep_last, open_run, result_of
from cnncodes.training.inputs import Task, choose_task
from cnncodes.training.learner import Learner, from_scratch, learner_of, put_head, start_from
from cnncodes.training.loop import Training
from cnncodes.training.range_test import RangeTest
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights import AnyWeights, Weights, load_weights, save_weights
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
    unreadable: dict[str, str] = field(default_factory=dict)  # name and reason
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
    weights, head = load_weights(weights), None if head is None else load_model(head)
    job = _Job(
        catalog, weights.preprocessing, settings or TrainingSettings(), Path(folder), weights, resume, keep_checkpoints,
        tuple(callbacks), notes or _no_notes, head, keep_head,
    )  # fmt: skip
    return job.run(split, Compute(device, workers, progress=progress))


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
        catalog, preprocessing, settings, Path(folder), network, resume, keep_checkpoints, tuple(callbacks), notes or _no_notes
    )  # fmt: skip
    return job.run(split, Compute(device, workers, progress=progress))


def _no_notes(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What is trained, on which images, and where it is saved; how it starts, and what is called meanwhile."""

    catalog: Catalog
    preprocessing: Preprocessing
    settings: TrainingSettings
    folder: Path
    start: Weights | Network  # a network begins with new numbers
    resume: bool
    keep_checkpoints: bool
    callbacks: tuple[Callback, ...]
    notes: Callable[[str], None]
    head: LinearModel | None = None
    keep_head: bool = False

    @property
    def source(self) -> str:
        """Where the trained weights are from."""
        if isinstance(self.start, Weights):
            given = f"{self.start.name} ({self.start.fingerprint[:16]})"
            return f"fine-tuned from {given}, freeze {self.settings.freeze}"
        return f"trained from new numbers ({self.settings.initialisation}, seed {self.settings.seed})"

    def run(self, rule: SplitRule | Split, compute: Compute) -> TrainingResult:
        """Train, or return the result of a finished run; called in each of several processes."""
        settings, measured = self.settings, None
        if self.resume and settings.learning_rate == "auto":
            measured = RangeTest.load(self.folder)
        if measured is not None:
            settings = replace(settings, learning_rate=measured.rate)
        with resources(compute) as given:
            together = given.processes
            task = choose_task(self.catalog, self.preprocessing, rule, settings.seed)
            task = replace(task, split=self._untouched(task.split))
            learner = self._learner(task, given.device)
            record = self._record(task, learner, settings) if together.leads else {}
            with held(self.folder) if together.leads else nullcontext():
                if together.leads:
                    if measured is not None:
                        measured.save(self.folder)  # a kill may have come between its two files
                    open_run(self.folder, record, self.resume)
                together.wait()
                found = result_of(self.folder) if self.resume else None
                already = found is not None
                if found is None:
                    hooks = (*self.callbacks, ShowProgress(given.progress))
                    found = self._train(
                        task, Training(learner, task, settings, self.folder, given, hooks, self.notes, record)
                    )
                if together.leads:
                    keep_last(self.folder, 1 if self.keep_checkpoints else 0)
                together.wait()
        return TrainingResult(
            self.folder, self.folder / MODEL, tuple(Epoch(**line) for line in found["epochs"]), task.split, task.classes,
            together.leads, found["unreadable"], already, None if found["test"] is None else Tested(**found["test"]),
        )  # fmt: skip

    def _train(self, task: Task, training: Training) -> dict[str, Any]:
        """Run the training and save the model; epochs, test and split as JSON."""
        leads = training.processes.leads
        if self.resume and not training.resume() and leads:
            self.notes(f"there is no checkpoint in '{self.folder}': the training begins at epoch 1.")
        epochs = training.run()
        found = {
            "split": task.split.how,
            "split_record": task.split.record(self.catalog),
            "test": to_value(training.test()),
            "temperature": training.temperature(),
            "epochs": to_value(epochs),
            "unreadable": training.inputs.unreadable(),
        }
        if leads:
            self._save(task, training, found)
            keep(self.folder, result=found)
        return found

    def _save(self, task: Task, training: Training, found: dict[str, Any]) -> None:
        """Save the weights with the digests of all images that had a part in them, and the test."""
        learned, watched = training.inputs.digests()
        seen, watched = self._digests("seen") | learned, self._digests("watched") | watched
        weights = Weights(
            network=training.learner.module.network.name,
            name=str(self.folder / MODEL),
            tensors=training.learner.plain(),
            preprocessing=self.preprocessing,
            classes=task.classes,
            source=self.source,
            origin="trained",
            seen=tuple(sorted(seen)),
            watched=tuple(sorted(watched - seen)),
            evidence={name: found[name] for name in ("split", "split_record", "test", "temperature")},
        )
        save_weights(weights, self.folder / MODEL, overwrite=True)

    def _untouched(self, split: Split) -> Split:
        """The split without the test images that had a part in the initial weights or head."""
        had = self._digests("seen", "watched")
        if not had or not len(split.test):
            return split
        digests = file_digests(self.catalog.subset(split.test))
        known = np.isin(digests, np.array(sorted(had), np.uint64)) & (digests != 0)
        if not known.any():
            return split
        how = f"{split.how}; {int(known.sum()):,} are left out of the test, since the initial weights learned from them or were chosen by them"
        return replace(split, test=split.test[~known], how=how)

    def _digests(self, *names: str) -> set[int]:
        """Digests under these names of the initial weights and the initial head."""
        records = [record for record in (self.start, self.head) if isinstance(record, Weights | LinearModel)]
        return {int(digest) for record in records for name in names for digest in getattr(record, name)}

    def _learner(self, task: Task, device: Device) -> Learner:
        """The initial network, with the head as its last stage if there is one."""
        if not isinstance(self.start, Weights):
            module = from_scratch(self.start.with_classes(len(task.classes)), self.settings)
            return learner_of(module, self.settings)
        module = start_from(self.start, task.classes, self.settings, keep_head=self.keep_head)
        if self.head is not None:
            images = self.catalog.subset(task.split.train)
            put_head(module, self.head, self.start, task.classes, images, device)
        return learner_of(module, self.settings)

    def _record(self, task: Task, learner: Learner, settings: TrainingSettings) -> dict[str, Any]:
        """What must be the same when the run is resumed, as JSON."""
        parts = (task.split.train, task.split.choose, task.split.test)
        return {
            "settings": to_value(settings),
            "source": self.source,
            "classes": list(task.classes),
            "preprocessing": parse_json(self.preprocessing.to_json()),
            "network": learner.module.network.name,
            "start of the last stage": "kept" if self.keep_head else "a fitted head" if self.head else "new",
            **catalog_digests(self.catalog),
            "split into images to learn from, to watch and to test": digest_of(
                *(np.ascontiguousarray(rows, "<i8").tobytes() for rows in parts)
            ),
        }
