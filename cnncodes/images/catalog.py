"""The catalog: which images there are, with their labels and splits, from whatever a person names."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CatalogError, OptionError, nearest
from cnncodes.core.words import counted, visible
from cnncodes.images.listing import SPLITS, SUFFIXES, Listing, Reading, class_places
from cnncodes.images.readers import Reader, image_exists, is_url
from cnncodes.images.sources import CLASSES_ARE, LISTS, has_columns, is_list, read_sources
from cnncodes.images.tables import read_table

__all__ = ["SPLITS", "SUFFIXES", "Catalog", "ImageSource", "read_catalog", "stat_files"]

ImageSource: TypeAlias = str | os.PathLike[str]

FIRST_CLASSES = 8  # that are named in a line for people, with their counts
FIRST_LEFT_OUT = 3  # files that are named in a line for people


@dataclass(frozen=True, eq=False, repr=False)
class Catalog:
    """The images of a data set, one row each. Equal by value; the arrays cannot be written.

    Names are in natural order where a folder or glob was read; lists, CSV files and sequences keep the order in which a person
    wrote them. Raises CatalogError if the lengths differ, or a label or split is out of range.
    """

    root: Path  # folder that names are relative to, absolute
    names: tuple[
        str, ...
    ]  # '/' separated; bytes that are not UTF-8 are surrogates; absolute for a file outside the root
    labels: npt.NDArray[np.int32]  # [N]: index into classes; -1 where there is no label
    splits: npt.NDArray[np.uint8]  # [N]: index into SPLITS (none, train, val, test)
    classes: tuple[str, ...]  # natural order; numeric order if all are integers
    left_out: tuple[
        str, ...
    ] = ()  # files of the folders that do not end as images do; for describe, and kept nowhere
    notes: tuple[str, ...] = ()  # what else a person should know of the reading; likewise

    def __post_init__(self) -> None:
        labels = np.array(self.labels, np.int32)
        splits = np.array(self.splits, np.uint8)
        if not labels.shape == splits.shape == (len(self.names),):
            raise CatalogError(
                f"a catalog of {len(self.names)} names has labels {labels.shape} and splits {splits.shape}.",
                "Give one label and one split for each name.",
            )
        in_range = (labels >= -1) & (labels < len(self.classes)) & (splits < len(SPLITS))
        if not in_range.all():
            row = int(np.argmin(in_range))
            raise CatalogError(
                f"row {row} of the catalog has label {labels[row]} and split {splits[row]}, "
                f"with {len(self.classes)} classes.",
                "Labels are -1 or an index into the classes; splits are 0 to 3.",
            )
        for name, array in (("labels", labels), ("splits", splits)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return (
            f"Catalog({counted(len(self), 'image')}, {_classes(len(self.classes))}, {os.fspath(self.root)!r})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Catalog):
            return NotImplemented
        return (
            self.root == other.root
            and self.names == other.names
            and self.classes == other.classes
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.splits, other.splits)
        )

    __hash__ = None  # type: ignore[assignment]

    def path(self, row: int) -> Path:
        """Path of the image in a row."""
        return self.root / self.names[row]

    def at(self, root: ImageSource | None) -> Catalog:
        """The catalog with its images below another root; None stands for its own."""
        return self if root is None else replace(self, root=Path(root))

    @property
    def reader(self) -> Reader:
        """The way to the bytes of each row, wherever they are; as a sequence, the full paths."""
        return Reader(os.fspath(self.root), self.names)

    @property
    def files(self) -> Sequence[str]:
        """Full paths as text: :attr:`reader`."""
        return self.reader

    def subset(self, rows: npt.ArrayLike) -> Catalog:
        """Catalog of some rows (int ``[M]`` or bool ``[N]``), in the order given, with all classes."""
        chosen = np.asarray(rows)
        indices = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.intp)]
        names = tuple(self.names[i] for i in indices)
        return replace(self, names=names, labels=self.labels[indices], splits=self.splits[indices])

    def counts(self) -> npt.NDArray[np.int64]:
        """Images of each class in each split: int64 ``[len(classes) + 1, 4]``, the last row those without a label."""
        table = np.zeros((len(self.classes) + 1, len(SPLITS)), np.int64)
        np.add.at(table, (self.labels, self.splits), 1)  # label -1 is the last row
        return table

    def describe(self) -> str:
        """One line for people, such as ``398 images, 2 classes (ants 194, bees 204), train 245, val 153``."""
        table = self.counts()
        parts = [counted(len(self), "image"), _classes(len(self.classes))]
        if self.classes:
            first = zip(self.classes[:FIRST_CLASSES], table[:-1].sum(axis=1).tolist(), strict=False)
            named = [f"{visible(name)} {n:,}".replace("\n", "\\n") for name, n in first]
            more = len(self.classes) - FIRST_CLASSES
            parts[-1] += f" ({', '.join(named)}{f' and {more:,} more' if more > 0 else ''})"
        twice = len(self) - len(set(self.names))
        parts += [f"{counted(twice, 'row')} with an image that another row has already"] if twice else []
        in_splits = table.sum(axis=0)
        if in_splits[1:].any():
            parts += [f"{split} {n:,}" for split, n in zip(SPLITS[1:], in_splits[1:], strict=True) if n]
            parts += [f"{in_splits[0]:,} in no split"] if in_splits[0] else []
        if self.classes and table[-1].any():
            parts.append(f"{table[-1].sum():,} without a label")
        left_out = [self.describe_left_out()] if self.left_out else []
        return "; ".join([", ".join(parts), *left_out, *self.notes])

    def describe_left_out(self) -> str:
        """For people: ``2 files that are no images left out: a.txt, b.xml``; empty where there are none."""
        if not self.left_out:
            return ""
        count, first = len(self.left_out), ", ".join(self.left_out[:FIRST_LEFT_OUT])
        which = "file that is no image" if count == 1 else "files that are no images"
        return f"{count:,} {which} left out: {first}{', ...' if count > FIRST_LEFT_OUT else ''}"


def _classes(count: int) -> str:
    return f"{count:,} {'class' if count == 1 else 'classes'}"


def read_catalog(
    data: ImageSource | Sequence[ImageSource],
    *,
    root: ImageSource | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    classes_are: str | None = None,
    labels: ImageSource | Sequence[ImageSource] = (),
    exclude: ImageSource | Sequence[ImageSource] = (),
) -> Catalog:
    """Make the catalog of the images that a person names.

    Parameters
    ----------
    data : path or sequence of paths
        A folder (see :func:`~cnncodes.images.sources.scan_folder` for where labels and splits come from), a
        table (``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.parquet``: :func:`~cnncodes.images.tables.parse_csv`), a
        list (``.txt``, ``.lst``: :func:`~cnncodes.images.tables.parse_list`), one image, a glob (``photos/*.jpg``,
        ``**`` for any depth), shards of images (``.tar``, ``data-{0000..0099}.tar``, ``.parquet``, ``.arrow``), or a sequence
        of these. Images named one by one or by a glob have no label.
    root : path, optional
        Folder that the paths in lists and tables are relative to; by default the file's own.
    path_column, label_column, split_column : str, optional
        Names of the columns of a table; by default those that have one of the usual names.
    classes_are : {"top", "sub", "none"}, optional
        Which folders are the classes: those at the top, those in them, or none; by default the names of the folders tell.
    labels : path or sequence of paths, optional
        Tables whose labels replace those of ``data``, one after the other: see :func:`relabelled`.
    exclude : path or sequence of paths, optional
        Lists and tables of images to leave out, named from the file's own folder or as the catalog names them.

    Returns
    -------
    Catalog
        Never empty. Files that a list or CSV names stay in it when they do not exist: they are reported as
        unreadable, and every other row keeps its place.

    Raises
    ------
    CatalogError
        If there is nothing of that name, no image in it, a line that cannot be used, or folders that can be read in
        two ways.
    OptionError
        If ``classes_are`` is not known; or if something is given that says nothing of what was named: ``root`` or a column
        without a list or a table, ``classes_are`` without a folder.
    DependencyError
        If a Parquet file is named, and pyarrow is not installed.
    """
    sources = [data] if isinstance(data, str | os.PathLike) else list(data)
    paths = [os.fspath(source) for source in sources]
    folder = None if root is None else os.path.abspath(os.fspath(root))  # noqa: PTH100 - may be a link
    if not paths:
        raise CatalogError("no images were named.", "Give a folder, a list, a table or images.")
    if classes_are is not None and classes_are not in CLASSES_ARE:
        raise OptionError(f"classes_are '{classes_are}' is not known.", nearest(classes_are, CLASSES_ARE))
    reading = Reading(folder, path_column, label_column, split_column, classes_are)
    for name, value in vars(reading).items():
        for_folders = name == "classes_are"
        if value in (None, "none"):
            continue
        if all(map(is_list, paths)) if for_folders else not any(map(has_columns, paths)):
            kind = "folders" if for_folders else f"lists and tables ({', '.join(LISTS)})"
            raise OptionError(
                f"{name}={value!r} has no meaning for {paths[0]!r}.", f"It is for {kind}; leave it out."
            )
    return corrected(catalog_of(read_sources(paths, reading)), labels, exclude)


def corrected(
    catalog: Catalog,
    labels: ImageSource | Sequence[ImageSource] = (),
    exclude: ImageSource | Sequence[ImageSource] = (),
) -> Catalog:
    """The catalog with the labels of some tables and without the images of some lists, as :func:`read_catalog` takes them."""
    for table in [labels] if isinstance(labels, str | os.PathLike) else labels:
        catalog = relabelled(catalog, table)
    for listing in [exclude] if isinstance(exclude, str | os.PathLike) else exclude:
        catalog = _without(catalog, listing)
    return catalog


def catalog_of(listing: Listing) -> Catalog:
    """The catalog of a listing, whose labels become classes (:func:`~cnncodes.images.listing.class_places`)."""
    classes, places = class_places(listing.labels)
    return Catalog(
        Path(listing.root),
        tuple(listing.names),
        np.array([places.get(label, -1) for label in listing.labels], np.int32),
        np.array(listing.splits, np.uint8),
        classes,
        tuple(listing.left_out),
        tuple(listing.notes),
    )


def relabelled(catalog: Catalog, labels: ImageSource) -> Catalog:
    """The catalog with the labels of a table, such as the corrections that a person saved from a page.

    Images of the table that the catalog has get its labels, or are left out where the label is empty. Others that have a label
    are added, in the train split where the catalog has splits. The same image may be reached by other links in the two.

    Raises
    ------
    CatalogError
        If the table cannot be read or has no column ``label``, an image that it adds is not there, no image is left, or
        classes differ only in capitals or blanks.
    """
    if not is_list(os.fspath(labels)):
        raise CatalogError(
            f"'{labels}' is no table of labels.", "Give a CSV with the columns filename and label."
        )
    table = read_catalog(labels, label_column="label")
    new = {
        path: _plain(label, catalog.classes)
        for path, label in zip(_places(table.reader), class_names(table), strict=True)
    }
    files = _places(catalog.reader)
    kept = [row for row, path in enumerate(files) if new.get(path, "") is not None]
    known = {path: row for row, path in enumerate(files)}
    added = [path for path, label in new.items() if path not in known and label is not None]
    for path in added:
        if not image_exists(path):
            raise CatalogError(
                f"'{labels}' has a label for '{path}', which does not exist.",
                "Correct its name, or leave its label empty.",
            )
    own = class_names(catalog)
    wanted = [*(new.get(files[row]) or own[row] for row in kept), *(new[path] for path in added)]
    if not wanted:
        raise CatalogError(f"the table '{labels}' leaves no image.", "Give at least one image a label.")
    train = SPLITS.index("train") if catalog.splits.any() else 0
    changed = sum(path in known and label != own[known[path]] for path, label in new.items() if label)
    note = f"labels of '{labels}': {changed:,} changed, {len(added):,} images added, {len(files) - len(kept):,} left out"
    names = [*(catalog.names[row] for row in kept), *_below(os.path.realpath(catalog.root), added)]
    splits = [*catalog.splits[kept].tolist(), *([train] * len(added))]
    root, left_out, notes = os.fspath(catalog.root), list(catalog.left_out), [*catalog.notes, note]
    return catalog_of(Listing(root, names, wanted, splits, left_out, notes))


def _below(root: str | Path, paths: Sequence[str]) -> list[str]:
    """Names of paths relative to a folder; absolute where they are outside it."""
    names = (os.path.relpath(path, root) if Path(path).is_relative_to(root) else path for path in paths)
    return [name.replace(os.sep, "/") for name in names]


def _without(catalog: Catalog, images: ImageSource) -> Catalog:
    """The catalog without the images of a list or table, whatever else it says of them; raises CatalogError if none is left."""
    if not is_list(os.fspath(images)):
        raise CatalogError(
            f"'{images}' is no list of images.",
            "Give a text file with one image a line, or a CSV with the column filename.",
        )
    full = os.path.abspath(os.fspath(images))  # noqa: PTH100 - may be a link
    listed = read_table(full, os.path.dirname(full), os.fspath(images), Reading(), gone=True)  # noqa: PTH120
    places, names = {*_places(Reader(listed.root, listed.names))}, {*listed.names}
    rows = enumerate(zip(_places(catalog.reader), catalog.names, strict=True))
    kept = [row for row, (place, name) in rows if place not in places and name not in names]
    if not kept:
        raise CatalogError(f"the list '{images}' leaves no image.", "Take images out of the list.")
    out = len(catalog) - len(kept)
    unknown = f", {len(names) - out:,} not there" if len(names) > out else ""
    note = f"'{images}': {counted(out, 'image')} left out{unknown}"
    return replace(catalog.subset(kept), notes=(*catalog.notes, note))


def _places(paths: Sequence[str]) -> list[str]:
    """Path of each image, with the links of its folder followed: the same image may be reached by several; a URL as it is."""
    real = functools.lru_cache(maxsize=None)(os.path.realpath)
    parts = (("", path) if is_url(path) else os.path.split(os.path.normpath(path)) for path in paths)
    return [os.path.join(folder and real(folder), name) for folder, name in parts]  # noqa: PTH118 - a Path costs 30 times more


def _plain(label: str | None, classes: Sequence[str]) -> str | None:
    """A label without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return label[1:] if label is not None and label[:1] == "'" and label not in classes else label


def class_names(catalog: Catalog) -> list[str | None]:
    """Name of each row's class; None without a label."""
    return [catalog.classes[label] if label >= 0 else None for label in catalog.labels.tolist()]


def stat_files(catalog: Catalog) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Size and time of change of each file, by which a resumed run knows that it is the same file.

    Bytes, uint64 ``[N]``, and nanoseconds since 1970, int64 ``[N]``; 0 where the file cannot be looked at.
    """
    size = np.zeros(len(catalog), np.uint64)
    mtime = np.zeros(len(catalog), np.int64)
    for row in range(len(catalog)):
        with contextlib.suppress(OSError, ValueError):
            size[row], mtime[row] = catalog.reader.identity(row)
    return size, mtime


def join_catalogs(catalogs: Sequence[Catalog]) -> Catalog:
    """One catalog of several, its names relative to the folder that all roots are in.

    Classes of the same name are one class. Beside sets with splits, a set without any is all train. Raises CatalogError if an
    image is in two of the sets, classes differ only in capitals or blanks, or there is no set.
    """
    if not catalogs:
        raise CatalogError("there is no data set to join.", "Name at least one folder.")
    root = Path(os.path.commonpath([catalog.root for catalog in catalogs]))
    paths = [path if is_url(path) else str(Path(path)) for catalog in catalogs for path in catalog.reader]
    if len(set(paths)) < len(paths):
        times = Counter(paths)
        twice = next(path for path in paths if times[path] > 1)
        raise CatalogError(
            f"'{twice}' is in two of the data sets.", "Name folders that do not contain one another."
        )
    classes, place_of = class_places(name for catalog in catalogs for name in catalog.classes)
    # Label -1 takes the last entry of each table.
    labels = [
        np.array([*(place_of[name] for name in catalog.classes), -1], np.int32)[catalog.labels]
        for catalog in catalogs
    ]
    train = SPLITS.index("train") if any(one.splits.any() for one in catalogs) else 0
    splits = [one.splits if one.splits.any() else np.full_like(one.splits, train) for one in catalogs]
    return Catalog(
        root,
        tuple(_below(root, paths)),
        np.concatenate(labels),
        np.concatenate(splits),
        classes,
        notes=tuple(note for catalog in catalogs for note in catalog.notes),
    )
