"""What a training learns: the images, the label of each, and the classes; or a teacher's answers alone, without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncodes.core.errors import HeadError, OptionError
from cnncodes.heads.splits import (
    Split,
    SplitRule,
    split_rows,
    with_known_classes,
    with_watched,
    without_copies,
)
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import identical_files
from cnncodes.images.listing import SPLITS
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.teacher import Teacher

WATCHED = 0.05  # of the images, where a teacher alone is imitated


@dataclass(frozen=True, eq=False)
class Task:
    """What a training learns.

    Parameters
    ----------
    split : Split
        Rows of the catalog: ``train`` learns, ``choose`` is watched, and ``test`` has no part until all is done.
    labels : int64 ndarray [N]
        Places in ``classes``, -1 for none.
    classes : tuple of str
        Those of the last stage.
    class_sets : int ndarray [classes] or None
        The data set of each class, where each set has a head of its own.
    """

    split: Split
    labels: np.ndarray
    classes: tuple[str, ...]
    class_sets: np.ndarray | None = None


def choose_task(
    catalog: Catalog,
    settings: TrainingSettings,
    rule: SplitRule | Split,
    teacher: Teacher | None = None,
    class_sets: np.ndarray | None = None,
    *,
    starts_from_head: bool = False,
) -> Task:
    """The task that some images and settings ask for.

    Parameters
    ----------
    catalog : Catalog
    settings : TrainingSettings
    rule : SplitRule or Split
        See :func:`cnncodes.heads.split_rows`: the same images test as in every other command, and where no others choose,
        a tenth of those to learn from is watched. Or a split that was made already.
    teacher : Teacher, optional
        Where ``settings.teacher.labels`` is 0, its answers are all that is learned.
    class_sets : int ndarray [K], optional
        The data set of each class of the catalog.
    starts_from_head : bool, default False
        Whether the last stage starts from a fitted head, which needs labels.

    Raises
    ------
    HeadError
        If there are fewer than two classes to learn.
    OptionError
        If the settings ask for what cannot be learned from these images.
    """
    if teacher is not None and settings.teacher is not None and not settings.teacher.labels:
        _check_imitation(teacher, settings, labels_needed=class_sets is not None or starts_from_head)
        classes = teacher.classes or tuple(map(str, range(teacher.logits)))
        split = rule if isinstance(rule, Split) else _split_without_labels(catalog, rule, settings.seed)
        return Task(split, np.array(catalog.labels, np.int64), classes)
    split, labels, classes = _split_of_labelled(catalog, rule, settings.seed)
    if class_sets is None:
        return Task(split, labels, classes)
    if settings.label_smoothing or settings.mixup:
        raise OptionError(
            "label smoothing and mixup spread a label over classes, and with a head for each data set not all are possible.",
            "Set train.label_smoothing and train.mixup to 0, or join the classes by name.",
        )
    sets = np.array([class_sets[catalog.classes.index(name)] for name in classes])
    return Task(split, labels, classes, sets)


def _split_of_labelled(
    catalog: Catalog, rule: SplitRule | Split, seed: int
) -> tuple[Split, np.ndarray, tuple[str, ...]]:
    """The split, labels as places in the classes that can be learned, and these classes."""
    split = rule if isinstance(rule, Split) else _drawn(catalog, rule, seed)
    present = np.unique(catalog.labels[split.train])
    if len(present) < 2:
        raise HeadError(
            "there is only one class to learn.", "Give images of two classes or more, a folder each."
        )
    labels = np.full(len(catalog), -1, dtype=np.int64)
    for place, label in enumerate(present):
        labels[catalog.labels == label] = place
    classes = tuple(catalog.classes[label] for label in present)
    return with_known_classes(catalog, split, labels), labels, classes


def _drawn(catalog: Catalog, rule: SplitRule, seed: int) -> Split:
    """The split that every command has by this rule, with images to watch, and no copies of those that learn in its test."""
    same = identical_files(catalog)
    split = split_rows(catalog, np.ones(len(catalog), np.bool_), rule, seed, same=same)
    if split.kind != "none":
        split = with_watched(catalog, split, same=same)
    return without_copies(split, same)


def _split_without_labels(catalog: Catalog, rule: SplitRule, seed: int) -> Split:
    """A split where labels do not count: all images learn but those of the val split, or a share; none of the test split."""
    rows = np.flatnonzero(catalog.splits != SPLITS.index("test"))
    watched = rows[catalog.splits[rows] == SPLITS.index("val")]
    if isinstance(rule, float) or (rule == "auto" and not len(watched)):
        share = rule if isinstance(rule, float) else WATCHED
        count = min(len(rows), max(1, round(share * len(rows))))
        watched = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    elif rule == "none":
        watched = rows[:0]
    train = np.setdiff1d(rows, watched)
    if not len(train):
        raise HeadError(
            f"of {len(catalog):,} images none is left to learn from: they are watched, or of the test split.",
            "Give images to train on, or another --split.",
        )
    return Split(train, watched, rows[:0], f"{len(train):,} images to learn from, {len(watched):,} to watch")


def _check_imitation(teacher: Teacher, settings: TrainingSettings, *, labels_needed: bool) -> None:
    """Raise OptionError for what cannot be learned from a teacher's answers alone."""
    if not teacher.logits or settings.teacher is None or not settings.teacher.logits:
        raise OptionError(
            "the teacher's features alone leave nothing for the last stage to learn.",
            "Set teacher.labels = 1, so that it learns the labels beside them.",
        )
    if settings.class_weight != "none" or labels_needed:
        raise OptionError(
            "class weights, heads for each data set and a head to start from need labels, and teacher.labels is 0.",
            "Set teacher.labels, or leave them out.",
        )
    if teacher.classes is not None and len(teacher.classes) != teacher.logits:
        raise OptionError(
            f"the teacher has {teacher.logits} logits and {len(teacher.classes)} class names.",
            "Give as many names, or none.",
        )
