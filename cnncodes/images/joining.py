"""Several data sets as one catalog."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CatalogError
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS, class_places

JoinRule = Literal["name", "apart"]


def join_catalogs(
    catalogs: Sequence[Catalog], rule: JoinRule = "name"
) -> tuple[Catalog, npt.NDArray[np.int32]]:
    """One catalog of several, its names relative to the folder that all roots are in.

    Parameters
    ----------
    catalogs : sequence of Catalog
    rule : {"name", "apart"}, default "name"
        "name": classes of the same name are one class. "apart": each set keeps its own, named ``SET/CLASS`` by the last part
        of its root (and its place where two are named alike). Beside sets with splits, a set without any is all train.

    Returns
    -------
    Catalog
    int32 ndarray [classes]
        The set that each class belongs to with "apart"; all 0 with "name".

    Raises
    ------
    CatalogError
        If an image is in two of the sets, classes differ only in capitals or blanks, or there is no set.
    """
    if not catalogs:
        raise CatalogError("there is no data set to join.", "Name at least one folder.")
    root = Path(os.path.commonpath([catalog.root for catalog in catalogs]))
    paths = [str(catalog.path(row)) for catalog in catalogs for row in range(len(catalog))]
    if len(set(paths)) < len(paths):
        times = Counter(paths)
        twice = next(path for path in paths if times[path] > 1)
        raise CatalogError(
            f"'{twice}' is in two of the data sets.", "Name folders that do not contain one another."
        )
    inside = [os.path.relpath(path, root) if Path(path).is_relative_to(root) else path for path in paths]
    titles = _titles(catalogs)
    if rule == "name":
        classes, place_of = class_places(name for catalog in catalogs for name in catalog.classes)
        sets = np.zeros(len(classes), np.int32)
        places = [{name: place_of[name] for name in catalog.classes} for catalog in catalogs]
    else:
        own = [
            [f"{title}/{name}" for name in catalog.classes]
            for title, catalog in zip(titles, catalogs, strict=True)
        ]
        classes = tuple(name for names in own for name in names)
        sets = np.repeat(np.arange(len(catalogs), dtype=np.int32), [len(names) for names in own])
        before = np.cumsum([0, *map(len, own)]).tolist()  # classes of the sets before each
        places = [
            {name: first + place for place, name in enumerate(catalog.classes)}
            for first, catalog in zip(before[:-1], catalogs, strict=True)
        ]
    labels = [
        np.array(
            [place[catalog.classes[label]] if label >= 0 else -1 for label in catalog.labels.tolist()],
            np.int32,
        )
        for catalog, place in zip(catalogs, places, strict=True)
    ]
    joined = Catalog(
        root,
        tuple(name.replace(os.sep, "/") for name in inside),
        np.concatenate(labels),
        _splits(catalogs),
        classes,
        notes=tuple(note for catalog in catalogs for note in catalog.notes),
    )
    return joined, sets


def _splits(catalogs: Sequence[Catalog]) -> npt.NDArray[np.uint8]:
    """Splits of all rows; beside sets that have splits, a set without any learns as a whole."""
    if all(not catalog.splits.any() for catalog in catalogs):
        return np.concatenate([catalog.splits for catalog in catalogs])
    train = SPLITS.index("train")
    whole = [
        catalog.splits if catalog.splits.any() else np.full(len(catalog), train, np.uint8)
        for catalog in catalogs
    ]
    return np.concatenate(whole)


def _titles(catalogs: Sequence[Catalog]) -> list[str]:
    """A name for each set that no other has: the last part of its root, with a number where several share it."""
    names = [catalog.root.name or f"set{place + 1}" for place, catalog in enumerate(catalogs)]
    counts, taken = Counter(names), set(names)
    titles = []
    for place, name in enumerate(names):
        title = name
        if counts[name] > 1:
            free = (f"{name}-{number}" for number in count(place + 1))
            title = next(numbered for numbered in free if numbered not in taken)
            taken.add(title)
        titles.append(title)
    return titles
