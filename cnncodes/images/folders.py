"""Images in a folder: where the labels and the splits come from the names of the folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from cnncodes.core.errors import CatalogError
from cnncodes.images.listing import (
    SUFFIXES,
    Listing,
    has_image_suffix,
    natural_key,
    split_folders,
    tells_nothing,
)
from cnncodes.images.readers import is_shard

_SKIPPED_FOLDERS = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
# Files that stand in many folders, and that nobody takes for images.
_COMPANY = ("thumbs.db", "desktop.ini", "readme", "license", "licence")

CLASSES_ARE = ("top", "sub", "none")
MOST_NAMES = (
    8  # of one folder by links in linked folders: without an end, links among n folders make n! paths
)
_FIRST = 4  # names of folders in a message

_Folder: TypeAlias = tuple[str, ...]  # the parts of the path of a folder that has images in it
_Place: TypeAlias = tuple[str | None, int]  # label and split of the images in a folder


def scan_folder(folder: str, classes_are: str | None = None) -> Listing:
    """List the images below a folder in natural order, with labels and splits from the names of folders.

    ================================  ======  =====================
    path below ``folder``             label   split
    ================================  ======  =====================
    ``x.jpg``                         none    none
    ``cat/x.jpg``                     cat     none
    ``cat/tabby/x.jpg``               cat     none
    ``train/cat/x.jpg``               cat     train (see below)
    ``train/x.jpg``                   none    train
    ``images/train/cat/x.jpg``        cat     train
    ``cat/train/x.jpg``               cat     train
    ================================  ======  =====================

    Folders are splits if **all** folders side by side that hold images have the name of a split
    (:func:`~cnncodes.images.listing.split_folders`); ``train`` beside ``cat`` is a class. Images that lie loose in a folder
    beside two different splits have no label and no split. In a split, a folder that repeats its name or says only that there
    are images (``train/images/cat/x.jpg``) is passed over, where it stands alone. A folder without images is no class.

    Hidden files and folders, ``__MACOSX`` and the like are skipped; other files that do not end as images do are left out and
    named. Links to folders are followed, but never into a folder that is being listed already, and in linked folders no more
    than :data:`MOST_NAMES` times to the same one. What has the suffix of an image is listed, readable or not; so is a folder
    that may not be opened, since images may be missing because of it.

    Parameters
    ----------
    folder : str
        Absolute path.
    classes_are : {"top", "sub", "none"}, optional
        Where a person says it: the label is the name of the first folder below ``folder``, that of the second (the first is
        then a split, where it has the name of one), or there are neither labels nor splits.

    Returns
    -------
    Listing
        Without a name where there is no image, but a shard of images among what is left out.

    Raises
    ------
    CatalogError
        If the folder may not be opened or has no images; or if ``classes_are`` is not given and the folders can be read in
        two ways: several have subfolders of the same names, or stand beside folders that are splits.
    """
    scan = _Scan(folder)
    names = scan.names
    if not names and not any(map(is_shard, scan.left_out)):
        raise CatalogError(
            f"the folder {folder!r} has no images: no file in it or below it ends in {', '.join(SUFFIXES)}.",
            "Give the folder that holds the images, or a list or CSV file that names them.",
        )
    listing = Listing(folder, left_out=sorted(scan.left_out, key=natural_key))
    if scan.not_followed:
        listing.notes.append(
            f"{len(scan.not_followed):,} links to folders that are listed {MOST_NAMES} times already were not followed: "
            f"{_listed(scan.not_followed)}"
        )
    for name, place in zip(names, places_of(names, classes_are, folder), strict=True):
        listing.add(name, *place)
    return listing


def places_of(names: Sequence[str], classes_are: str | None, where: str) -> Iterator[tuple[str | None, int]]:
    """Label and split of each image by the folders in its name; raises as :func:`scan_folder` does, of the folder ``where``."""
    holding = dict.fromkeys(name.rpartition("/")[0] for name in names)
    places = _places([tuple(path.split("/")) for path in holding if path], classes_are, where)
    by_path = {"/".join(parts): place for parts, place in places.items()}
    return (by_path.get(name.rpartition("/")[0], (None, 0)) for name in names)


def _places(folders: list[_Folder], classes_are: str | None, where: str) -> dict[_Folder, _Place]:
    """Label and split of the images in each folder, which is not in it where it has neither."""
    if classes_are == "none":
        return {}
    tops = _children(folders)
    if classes_are == "sub":
        splits = split_folders(tops)
        return {folder: ((*folder, None)[1], splits.get(folder[0], 0)) for folder in folders}
    if classes_are is None:
        for depth in range(max(map(len, folders), default=0)):
            inner = _children(folder[depth:] for folder in folders if len(folder) > depth)
            if splits := _splits(inner, where):
                return _in_splits(folders, depth, splits)
            if len(inner) != 1 or any(len(folder) == depth + 1 for folder in folders):
                break
    inner_splits = {top: split_folders(_names(tops[top])) for top in tops}
    whole = [set(found) == _names(tops[top]) and () not in tops[top] for top, found in inner_splits.items()]
    codes = {code for found in inner_splits.values() for code in found.values()}
    class_first = len(tops) > 1 and all(whole) and len(codes) > 1 and not any(map(tells_nothing, tops))
    if classes_are is None and not class_first:
        _refuse_two_ways(tops, where)
    return {
        folder: (folder[0], inner_splits[folder[0]][folder[1]] if class_first else 0) for folder in folders
    }


def _children(folders: Iterable[_Folder]) -> dict[str, set[_Folder]]:
    """The folders by their first part; () stands for images that lie loose in that one."""
    tops: dict[str, set[_Folder]] = {}
    for folder in folders:
        tops.setdefault(folder[0], set()).add(folder[1:])
    return tops


def _names(below: set[_Folder]) -> set[str]:
    return {rest[0] for rest in below if rest}


def _splits(tops: dict[str, set[_Folder]], where: str) -> dict[str, int]:
    """Which of the folders side by side are splits, if they are; raises CatalogError where that cannot be told."""
    splits = split_folders(tops)
    others = [top for top in tops if top not in splits]
    if not others:
        return splits
    several = len(set(splits.values())) > 1
    inner = set().union(*(_names(tops[top]) for top in splits))
    if several and inner and not any(_names(tops[top]) for top in others):
        return splits
    if several or len(inner) > 1:
        raise CatalogError(
            f"in {where!r} the folders {_listed(splits)} seem to be splits, but {_listed(others)} beside them "
            f"{'has' if len(others) == 1 else 'have'} images too.",
            _both_ways(
                where,
                tops,
                inner.union(*(_names(tops[top]) for top in others)),
                "Move away what is neither, or say",
            ),
        )
    return {}


def _in_splits(folders: list[_Folder], depth: int, splits: dict[str, int]) -> dict[_Folder, _Place]:
    """Places where the folders at a depth are splits (``splits``) or have loose images without a label."""
    inner = _children(folder[depth:] for folder in folders if len(folder) > depth)
    classes = {name for top in splits if len(names := _names(inner[top])) > 1 for name in names}
    places: dict[_Folder, _Place] = {}
    for top, split in splits.items():
        skipped, below = 0, inner[top]
        while len(alone := _names(below)) == 1 and () not in below:
            (name,) = alone
            if name.casefold() != top.casefold() and (name in classes or not tells_nothing(name)):
                break
            skipped, below = skipped + 1, {rest[1:] for rest in below}
        for folder in folders:
            if len(folder) > depth and folder[depth] == top:
                places[folder] = ((*folder[depth + 1 + skipped :], None)[0], split)
    return places


def _refuse_two_ways(tops: dict[str, set[_Folder]], where: str) -> None:
    """Raise CatalogError where several folders have subfolders of the same names: domains of classes, or classes of kinds."""
    times = Counter(name for top in tops if () not in tops[top] for name in _names(tops[top]))
    shared = [name for name, count in times.items() if count > 1]
    alike = sum(times[name] for name in shared)
    if len(shared) > 1 and 2 * alike >= sum(len(_names(below)) + (() in below) for below in tops.values()):
        raise CatalogError(
            f"the folders in {where!r} can be read in two ways: {_listed(tops)} have subfolders of the same names, "
            f"{_listed(sorted(shared, key=natural_key))}.",
            _both_ways(where, tops, times, "Say"),
        )


def _both_ways(where: str, tops: Iterable[str], subs: Iterable[str], say: str) -> str:
    """What to do where it cannot be told which folders are the classes."""
    return (
        f"{say} which are the classes: --classes-are top ({_listed(tops)}), sub ({_listed(sorted(subs, key=natural_key))}) or "
        f"none. Or name the folders that count: each that a glob finds, such as '{where}/*', is read for itself."
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _FIRST} more" if len(names) > _FIRST else ""
    return ", ".join(names[:_FIRST]) + more


class _Scan:
    """One walk through a folder; ``names`` are the images found, in natural order, ``left_out`` other files."""

    def __init__(self, folder: str) -> None:
        self.names: list[str] = []
        self.left_out: list[str] = []
        self._linked_inside: Counter[tuple[int, int]] = Counter()
        self.not_followed: list[str] = []
        try:
            status = os.stat(folder)  # noqa: PTH116 - 100,000 files in a second: no Path objects here
            self._walk(folder, "", ((status.st_dev, status.st_ino),), by_link=False)
        except OSError as error:
            raise CatalogError(
                f"the folder {folder!r} cannot be opened: {error.strerror}.",
                "Ask for permission to read it, or give another folder.",
            ) from error

    def _walk(self, folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...], by_link: bool) -> None:
        entries: list[tuple[str, bool, bool]] = []  # name, is folder, is link
        with os.scandir(folder) as found:
            for entry in found:
                name = entry.name
                if name.startswith(".") or name in _SKIPPED_FOLDERS:
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link that loops
                    is_folder = False
                if is_folder or has_image_suffix(name):
                    entries.append((name, is_folder, entry.is_symlink()))
                elif not name.lower().startswith(_COMPANY):
                    self.left_out.append(prefix + name)
        entries.sort(key=lambda item: natural_key(item[0]))
        for name, is_folder, is_link in entries:
            if not is_folder:
                self.names.append(prefix + name)
                continue
            count = len(self.names)
            self._enter(folder + os.sep + name, f"{prefix}{name}", is_link, ancestors, by_link)
            if len(self.names) == count and has_image_suffix(name):
                self.names.append(prefix + name)

    def _enter(
        self, folder: str, name: str, is_link: bool, ancestors: tuple[tuple[int, int], ...], by_link: bool
    ) -> None:
        """List a folder, unless that would never end; ``by_link``: the way to it has a link already."""
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if is_link:
                if identity in ancestors:
                    return
                if by_link:
                    self._linked_inside[identity] += 1
                    if self._linked_inside[identity] > MOST_NAMES:
                        self.not_followed.append(name)
                        return
            self._walk(folder, f"{name}/", (*ancestors, identity), by_link or is_link)
        except OSError:
            self.names.append(name)  # decoding it gives the reason
