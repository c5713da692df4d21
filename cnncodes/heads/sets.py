"""Models with a head for each of several data sets (``train --heads each``): one of the heads as a model of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cnncodes.core.errors import ModelError, nearest
from cnncodes.heads.head import Head
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model


def set_names(classes: Sequence[str], numbers: Sequence[int]) -> tuple[str, ...]:
    """The name of each class's data set: what its classes have before their first '/', else its number.

    Parameters
    ----------
    classes : sequence of K str
    numbers : sequence of K int
        The set of each class, as :func:`cnncodes.images.join_catalogs` gives them.

    Returns
    -------
    tuple of K str
        Empty if all classes are of one set.

    Examples
    --------
    >>> set_names(["birds/owl", "birds/tit", "flowers/rose"], [0, 0, 1])
    ('birds', 'birds', 'flowers')
    """
    before = {
        number: {name.partition("/")[0] if "/" in name else "" for name, of in zip(classes, numbers, strict=True) if of == number}
        for number in dict.fromkeys(numbers)
    }  # fmt: skip
    titles = [next(iter(found)) for found in before.values() if len(found) == 1]
    told = all(titles) and len(set(titles)) == len(before)
    names = {number: next(iter(found)) if told else str(number) for number, found in before.items()}
    return tuple(names[number] for number in numbers) if len(names) > 1 else ()


def data_sets(model: LinearModel) -> tuple[str, ...]:
    """The data sets that each have a head of their own, in their order; none if one head has all classes."""
    return tuple(dict.fromkeys(model.class_sets))


def require_one_head(model: LinearModel) -> None:
    """Raise ModelError for a model with several heads: their scores cannot be compared, so no class is the best."""
    if sets := data_sets(model):
        raise ModelError(
            f"the model has a head for each of {', '.join(map(repr, sets))}, which were not trained to be compared.",
            f"Choose one of them: --of {sets[0]} (Python: cnncodes.heads.head_of(model, {sets[0]!r})).",
        )


def head_of(model: AnyModel, name: str) -> LinearModel:
    """The head of one data set: its classes alone, under the names that they have there.

    The heads of a training with ``--heads each`` share the network, and each has learned to tell its own classes
    apart, not from those of the others: scores of two heads cannot be compared.

    Parameters
    ----------
    model : LinearModel, Weights, path or name
        With :attr:`~cnncodes.heads.LinearModel.class_sets`.
    name : str
        The set.

    Raises
    ------
    ModelError
        If the model has no such set.
    """
    model = load_model(model)
    sets = data_sets(model)
    if name not in sets:
        has = f"has heads for {', '.join(map(repr, sets))}" if sets else "has one head for all its classes"
        raise ModelError(
            f"the model {has}, and none for a data set {name!r}.",
            nearest(name, sets) if sets else "Leave --of out.",
        )
    rows = [row for row, owner in enumerate(model.class_sets) if owner == name]
    head = Head(
        kind=model.head.kind,
        weight=model.head.weight[rows],
        bias=model.head.bias[rows],
        normalisation=model.head.normalisation,
        C=model.head.C,
        classes=tuple(model.classes[row].removeprefix(f"{name}/") for row in rows),
    )
    return dataclasses.replace(model, head=head, class_sets=())
