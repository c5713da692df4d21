"""Which images an evaluation may use: labelled, not fitted on, and of the right split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.core.errors import CatalogError, ModelError, OptionError
from cnncodes.evaluation.scores import Data, is_codes, one_path
from cnncodes.heads.linear_model import LinearModel
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.digests import file_digests
from cnncodes.images.listing import SPLITS, class_name


@dataclass(frozen=True, eq=False)
class Asked:
    """What a person asks of an evaluation; see :func:`cnncodes.evaluation.evaluate`."""

    split: str
    rows: np.ndarray | None = None
    copies: np.ndarray | None = None
    crops: str | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Which rows of the catalog are compared."""

    labels: np.ndarray  # [N], places in the models' classes, -1 for none
    seen: np.ndarray  # bool [N], whether a model was fitted on the image
    watched: np.ndarray  # bool [N], whether none was, and something of a model was chosen on it
    fitted: str  # who may have been fitted on an image, with the verb
    rows: np.ndarray
    copied: np.ndarray  # bool [rows], not evaluated
    how: str  # which images these are, in words

    def all_seen(self) -> Sample:
        """All labelled rows, where none is left that was not fitted on."""
        rows = np.flatnonzero(self.labels >= 0)
        how = f"all {len(rows):,} images, on each of which {self.fitted} fitted: this is no test"
        return dataclasses.replace(self, rows=rows, copied=np.zeros(len(rows), np.bool_), how=how)

    def with_caution(self) -> Sample:
        """With what must be said of rows that had a part in a model."""
        learned, chose = int(self.seen[self.rows].sum()), int(self.watched[self.rows].sum())
        words = [f"{self.fitted} fitted on {learned:,} of them"] if learned else []
        words += [f"{chose:,} of them chose the epoch that was kept"] if chose else []
        said = f"; {' and '.join(words)}: this is no test of new images" if words else ""
        return dataclasses.replace(self, how=self.how + said)

    def with_copies(self, copies: np.ndarray) -> Sample:
        """With further rows, which are scored and not evaluated."""
        copied = np.repeat([False, True], [len(self.rows), len(copies)])
        return dataclasses.replace(self, rows=np.concatenate([self.rows, copies]), copied=copied)


def sample_of(models: Sequence[LinearModel], data: Data, catalog: Catalog, asked: Asked) -> Sample:
    """The rows that are asked for, or those of a split; raises OptionError for an unknown one, CatalogError if no image is left."""
    given, split = asked.rows, asked.split
    labels = _labels_for(models[0].classes, catalog, slice(None) if given is None else given)
    digests = _digests_of(data, catalog)
    seen = np.any([model.has_seen(digests) for model in models], axis=0)
    watched = np.any([model.has_watched(digests) for model in models], axis=0) & ~seen
    fitted = "the model was" if len(models) == 1 else "at least one of the models was"
    none = np.zeros(0, np.int64)
    sample = Sample(labels, seen, watched, fitted, none, none, "")
    if given is not None:
        rows = given[labels[given] >= 0]
        copies = none if asked.copies is None else asked.copies[labels[asked.copies] >= 0]
        return dataclasses.replace(sample, rows=rows, how=f"{len(rows):,} images").with_copies(copies)
    copies = none
    if split == "auto":
        rows, copies, how = _unseen(sample, catalog)
        if not len(rows):
            sample = sample.all_seen()
            rows, how = sample.rows, sample.how
    elif split == "all":
        rows = np.flatnonzero(labels >= 0)
        how = f"all {len(rows):,} images"
    elif split in SPLITS[1:]:
        rows = np.flatnonzero((labels >= 0) & (catalog.splits == SPLITS.index(split)))
        how = f"the {len(rows):,} images of the {split} split"
    else:
        raise OptionError(f"split '{split}' is not known.", "Use auto, all, train, val or test.")
    if not len(rows):
        raise CatalogError(f"there are no labelled images in {how}.", "Use --split all, or other data.")
    sample = dataclasses.replace(sample, rows=rows, how=how)
    if not seen[rows].all() or split != "auto":  # else it is said already
        sample = sample.with_caution()
    return sample.with_copies(copies)


def _unseen(sample: Sample, catalog: Catalog) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows that no model was fitted on, those of their split that are left out since one was, and what the rows are in words.

    Rows on which something was chosen are taken only where there are no others.
    """
    labelled, copies = sample.labels >= 0, np.zeros(0, np.int64)
    rows = np.flatnonzero(labelled & ~sample.seen)
    nobody = "the model was not" if sample.fitted == "the model was" else "none of the models was"
    how = f"images that {nobody} fitted on"
    if not sample.watched[rows].all():
        left = int(sample.watched[rows].sum())
        rows = rows[~sample.watched[rows]]
        how += f", without {left:,} that chose an epoch" if left else ""
    for name in ("test", "val"):
        in_split = catalog.splits == SPLITS.index(name)
        if in_split[rows].any():
            copies = np.flatnonzero(labelled & in_split & sample.seen)
            rows, how = rows[in_split[rows]], f"images of the {name} split"
            if len(copies):
                how += f", without {len(copies):,} that were fitted under this or another name"
            break
    return rows, copies, f"the {len(rows):,} {how}"


def catalog_of(data: Data) -> Catalog:
    """The catalog of images or of a codes file."""
    if isinstance(data, Catalog):
        return data
    if is_codes(data):
        with CodesFile(one_path(data)) as codes:
            return codes.catalog
    return read_catalog(data)


def _digests_of(data: Data, catalog: Catalog) -> np.ndarray:
    """What is in each image file: from the codes file, or by reading the images."""
    if not isinstance(data, Catalog) and is_codes(data):
        with CodesFile(one_path(data)) as codes:
            return codes.digests()
    return file_digests(catalog)


def _labels_for(classes: Sequence[str], catalog: Catalog, rows: np.ndarray | slice) -> np.ndarray:
    """Labels of the whole catalog as places in a model's classes, -1 for none.

    Raises ModelError if ``rows`` have other classes, and names each; CatalogError if they have no labels.
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
