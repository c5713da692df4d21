"""What a training learns: the images, the label of each, and the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncodes.core.errors import HeadError
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
    """

    split: Split
    labels: np.ndarray
    classes: tuple[str, ...]


def choose_task(catalog: Catalog, rule: SplitRule | Split, seed: int) -> Task:
    """The task that some images ask for.

    Parameters
    ----------
    catalog : Catalog
    rule : SplitRule or Split
        See :func:`cnncodes.heads.split_rows`: the same images test as in every other command, and where no others choose,
        a tenth of those to learn from is watched. Or a split that was made already.
    seed : int

    Raises
    ------
    HeadError
        If there are fewer than two classes to learn.
    """
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
    return Task(with_known_classes(catalog, split, labels), labels, classes)


def _drawn(catalog: Catalog, rule: SplitRule, seed: int) -> Split:
    """The split that every command has by this rule, with images to watch, and no copies of those that learn in its test."""
    same = identical_files(catalog)
    split = split_rows(catalog, np.ones(len(catalog), np.bool_), rule, seed, same=same)
    if split.kind != "none":
        split = with_watched(catalog, split, same=same)
    return without_copies(split, same)
