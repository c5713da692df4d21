"""Several data sets as one catalog: classes of the same name are one class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CatalogError
from cnncodes.images.catalog import Catalog
from cnncodes.images.listing import SPLITS, class_places


def join_catalogs(catalogs: Sequence[Catalog]) -> Catalog:
    """One catalog of several, its names relative to the folder that all roots are in.

    Classes of the same name are one class. Beside sets with splits, a set without any is all train.

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
    classes, place_of = class_places(name for catalog in catalogs for name in catalog.classes)
    labels = [
        np.array(
            [place_of[catalog.classes[label]] if label >= 0 else -1 for label in catalog.labels.tolist()],
            np.int32,
        )
        for catalog in catalogs
    ]
    return Catalog(
        root,
        tuple(name.replace(os.sep, "/") for name in inside),
        np.concatenate(labels),
        _splits(catalogs),
        classes,
        notes=tuple(note for catalog in catalogs for note in catalog.notes),
    )


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
