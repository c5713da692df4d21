"""A training as a person starts it: from a catalog to a run folder with everything that it left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnncodes.codes.compute import choose_device
from cnncodes.codes.file import Provenance
from cnncodes.codes.lock import locked
from cnncodes.errors import HeadError, OptionError, OutputExistsError
from cnncodes.heads.splits import Split, SplitRule, split_rows
from cnncodes.images.catalog import Catalog
from cnncodes.networks import Network
from cnncodes.training.checkpoints import checkpoints
from cnncodes.training.learner import Learner, from_scratch, start_from
from cnncodes.training.loop import Epoch, Progress, Training
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights import Weights, save_weights
from cnncodes.weights.preprocessing import Preprocessing

MODEL = "model.safetensors"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training left: the run folder, the weights file in it, every epoch, and the split that was used."""

    folder: Path
    model: Path
    epochs: tuple[Epoch, ...]
    split: Split
    classes: tuple[str, ...]

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
    split: SplitRule = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    ready: Callable[[Training], None] | None = None,
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

    Raises
    ------
    OutputExistsError
        If the folder holds a run and ``resume`` is false.
    InterruptedTrainingError
        After SIGTERM or SIGINT, once everything is saved.
    """
    settings = settings or TrainingSettings()
    rows, labels, classes = _rows(catalog, split, settings.seed)
    learner = Learner(start_from(weights, len(classes), settings, keep_head=keep_head), settings)
    source = f"fine-tuned from {weights.name} ({weights.fingerprint[:16]}), freeze {settings.freeze}"
    return _train(
        learner, catalog, labels, classes, rows, weights.preprocessing, settings, Path(folder), source,
        device=device, workers=workers, resume=resume, progress=progress, ready=ready,
    )  # fmt: skip


def train(
    catalog: Catalog,
    network: Network,
    preprocessing: Preprocessing,
    folder: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    split: SplitRule = "auto",
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    ready: Callable[[Training], None] | None = None,
) -> TrainingResult:
    """Train a network from new numbers. Parameters as for :func:`finetune`.

    ``preprocessing`` says how an image becomes its input; it travels with the weights that are saved.
    """
    settings = settings or TrainingSettings(middle_rate=1.0, early_rate=1.0)
    rows, labels, classes = _rows(catalog, split, settings.seed)
    learner = Learner(from_scratch(network.with_classes(len(classes)), settings), settings)
    source = f"trained from new numbers ({settings.initialisation}, seed {settings.seed})"
    return _train(
        learner, catalog, labels, classes, rows, preprocessing, settings, Path(folder), source,
        device=device, workers=workers, resume=resume, progress=progress, ready=ready,
    )  # fmt: skip


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
    watched = split.choose if len(split.choose) else split.test
    watched = watched[labels[watched] >= 0]
    return (
        Split(split.train, watched, split.test, split.how),
        labels,
        tuple(catalog.classes[k] for k in present),
    )


def _train(
    learner: Learner,
    catalog: Catalog,
    labels: np.ndarray,
    classes: tuple[str, ...],
    split: Split,
    preprocessing: Preprocessing,
    settings: TrainingSettings,
    folder: Path,
    source: str,
    *,
    device: str,
    workers: int | None,
    resume: bool,
    progress: Progress | None,
    ready: Callable[[Training], None] | None,
) -> TrainingResult:
    place = choose_device(device)
    record = {
        "settings": json.loads(settings.to_json()),
        "source": source,
        "classes": list(classes),
        "preprocessing": json.loads(preprocessing.to_json()),
        "images": len(catalog),
        "network": learner.module.network.name,
    }
    _open_run(folder, record, resume)
    with locked(folder / "run"):
        training = Training(
            learner, catalog, labels, split, preprocessing, settings, folder, place, workers or place.cores
        )
        if resume:
            training.resume()
        if ready:
            ready(training)
        epochs = training.run(progress)
        weights = Weights(
            network=learner.module.network.name,
            name=str(folder / MODEL),
            tensors={
                key: value.detach().cpu().contiguous() for key, value in learner.module.state_dict().items()
            },
            preprocessing=preprocessing,
            classes=classes,
            source=source,
        )
        save_weights(weights, folder / MODEL, overwrite=True)
    return TrainingResult(folder, folder / MODEL, tuple(epochs), split, classes)


def _open_run(folder: Path, record: dict[str, object], resume: bool) -> None:
    """Make the folder, or see that the run in it is the one to be continued."""
    path = folder / "run.json"
    if path.exists():
        if not resume:
            raise OutputExistsError(
                f"'{folder}' holds a run already ({len(checkpoints(folder))} checkpoints).",
                "Continue it with --resume, or choose another folder with -o.",
            )
        there = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in record.items() if there.get(name) != value]
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
    path.write_text(json.dumps(whole, indent=2), encoding="utf-8")
