"""Which images an evaluation may use: labelled, not fitted on, and of the right split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.core.errors import CatalogError, ModelError, OptionError
from cnncodes.evaluation.scores import Data, is_codes, one_path
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.digests import file_digests
from cnncodes.images.listing import SPLITS, class_name


def catalog_of(data: Data) -> Catalog:
    """The catalog of images or of a codes file."""
    if isinstance(data, Catalog):
        return data
    if is_codes(data):
        with CodesFile(one_path(data)) as codes:
            return codes.catalog
    return read_catalog(data)


def digests_of(data: Data, catalog: Catalog) -> np.ndarray:
    """What is in each image file: from the codes file, or by reading the images."""
    if not isinstance(data, Catalog) and is_codes(data):
        with CodesFile(one_path(data)) as codes:
            return codes.digests()
    return file_digests(catalog)


def labels_for(classes: Sequence[str], catalog: Catalog, rows: np.ndarray | slice) -> np.ndarray:
    """Labels of the whole catalog as places in a model's classes, -1 for none; ``rows`` must have known ones.

    Raises
    ------
    ModelError
        If ``rows`` have classes that are not among ``classes``; names each.
    CatalogError
        If they have no labels.
    """
    names, called = (list(map(class_name, given)) for given in (classes, catalog.classes))
    used = [called[label] for label in np.unique(catalog.labels[rows]) if label >= 0]
    unknown = [name for name in used if name not in names]
    if unknown:
        raise ModelError(
            f"the data have classes that the model does not know: {', '.join(map(repr, unknown))} "
            f"(it knows {', '.join(map(repr, classes))}).",
            "Rename these classes as the model has them, leave them out, or fit a model on these data.",
        )
    if not used:
        raise CatalogError(
            "the images have no labels, so there is nothing to compare with.",
            "Use 'cnncodes predict', or put the images into one folder per class.",
        )
    places = [names.index(name) if name in used else -1 for name in called]
    return np.array([places[label] if label >= 0 else -1 for label in catalog.labels.tolist()])


def rows_to_evaluate(
    catalog: Catalog,
    labels: np.ndarray,
    seen: np.ndarray,
    watched: np.ndarray,
    split: str,
    fitted: str = "the model was",
) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows, those of their split that are left out since they were fitted on, and what the rows are in words.

    Parameters
    ----------
    catalog : Catalog
    labels : int ndarray [N]
        -1 for none.
    seen : bool ndarray [N]
        Whether a model was fitted on the image.
    watched : bool ndarray [N]
        Whether something of a model was chosen on it: "auto" takes such images only where there are no others.
    split : {"auto", "all", "train", "val", "test"}
    fitted : str
        Who may have been fitted on an image, with the verb.

    Raises
    ------
    OptionError
        If the split is not known.
    CatalogError
        If no image is left.
    """
    labelled, copies = labels >= 0, np.zeros(0, np.int64)
    if split in SPLITS[1:]:
        rows = np.flatnonzero(labelled & (catalog.splits == SPLITS.index(split)))
        how = f"the {len(rows):,} images of the {split} split"
    elif split == "all":
        rows = np.flatnonzero(labelled)
        how = f"all {len(rows):,} images"
    elif split == "auto":
        rows, how = np.flatnonzero(labelled & ~seen), f"images that {_negated(fitted)} fitted on"
        if not watched[rows].all():
            left = int(watched[rows].sum())
            rows = rows[~watched[rows]]
            how += f", without {left:,} that chose an epoch" if left else ""
        for name in ("test", "val"):
            in_split = catalog.splits == SPLITS.index(name)
            if in_split[rows].any():
                copies = np.flatnonzero(labelled & in_split & seen)
                rows, how = rows[in_split[rows]], f"images of the {name} split"
                if len(copies):
                    how += f", without {len(copies):,} that were fitted under this or another name"
                break
        how = f"the {len(rows):,} {how}"
        if not len(rows):
            rows, how = all_seen(labels, fitted)
    else:
        raise OptionError(f"split '{split}' is not known.", "Use auto, all, train, val or test.")
    if not len(rows):
        raise CatalogError(f"there are no labelled images in {how}.", "Use --split all, or other data.")
    return rows, copies, how


def caution(rows: np.ndarray, seen: np.ndarray, watched: np.ndarray, fitted: str = "the model was") -> str:
    """What must be said of rows that had a part in a model, to stand behind what they are; empty where none had one."""
    learned, chose = int(seen[rows].sum()), int((watched & ~seen)[rows].sum())
    words = [f"{fitted} fitted on {learned:,} of them"] if learned else []
    words += [f"{chose:,} of them chose the epoch that was kept"] if chose else []
    return f"; {' and '.join(words)}: this is no test of new images" if words else ""


def all_seen(labels: np.ndarray, fitted: str = "the model was") -> tuple[np.ndarray, str]:
    """All labelled rows, where none is left that was not fitted on, and a word on it."""
    rows = np.flatnonzero(labels >= 0)
    return rows, f"all {len(rows):,} images, on each of which {fitted} fitted: this is no test"


def _negated(fitted: str) -> str:
    return {"the model was": "the model was not"}.get(fitted, "none of the models was")
