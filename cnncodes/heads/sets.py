"""Models with a head for each of several data sets (``train --heads each``): one of the heads as a model of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cnncodes.errors import ModelError, nearest
from cnncodes.heads.head import Head
from cnncodes.heads.linear_model import LinearModel


def data_sets(classes: Sequence[str]) -> tuple[str, ...]:
    """The data sets that classes named ``SET/CLASS`` belong to, in their order; none if they are not named so.

    >>> data_sets(["birds/owl", "birds/tit", "flowers/rose", "flowers/iris"])
    ('birds', 'flowers')
    """
    sets = tuple(dict.fromkeys(name.partition("/")[0] for name in classes))
    return sets if len(sets) > 1 and all("/" in name for name in classes) else ()


def head_of(model: LinearModel, name: str) -> LinearModel:
    """The head of one data set: its classes alone, under the names that they have there.

    The heads of a training with ``--heads each`` share the network, and each has learned to tell its own classes
    apart, not from those of the others: scores of two heads cannot be compared.

    Parameters
    ----------
    model : LinearModel
        Whose classes are named ``SET/CLASS``.
    name : str
        The set.

    Raises
    ------
    ModelError
        If the model has no such set.
    """
    sets = data_sets(model.classes)
    if name not in sets:
        has = f"has heads for {', '.join(map(repr, sets))}" if sets else "has one head for all its classes"
        raise ModelError(
            f"the model {has}, and none for a data set {name!r}.",
            nearest(name, sets) if sets else "Leave --of out.",
        )
    rows = [row for row, label in enumerate(model.classes) if label.startswith(f"{name}/")]
    head = Head(
        kind=model.head.kind,
        weight=model.head.weight[rows],
        bias=model.head.bias[rows],
        normalisation=model.head.normalisation,
        C=model.head.C,
        classes=tuple(model.classes[row].removeprefix(f"{name}/") for row in rows),
    )
    return dataclasses.replace(model, head=head)
