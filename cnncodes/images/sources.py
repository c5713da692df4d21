"""From what a person typed (a folder, a list, a table, shards, an image, a glob, a URL) to a listing of images.

The names of folders give labels and splits: :func:`scan_folder` says how.
"""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from cnncodes.core.errors import CatalogError
from cnncodes.core.files import reason_of
from cnncodes.images.listing import (
    SUFFIXES,
    Listing,
    Reading,
    has_image_suffix,
    natural_key,
    split_folders,
    tells_nothing,
)
from cnncodes.images.readers import KINDS, checked_url, is_shard, is_url, list_folder, open_shard
from cnncodes.images.shards import ARRAYS, COLUMNAR, HDF5, TarShard, without_labels
from cnncodes.images.tables import is_there, read_table

LISTS = (".csv", ".tsv", ".txt", ".lst", ".jsonl", ".ndjson", *COLUMNAR, *ARRAYS)
TAR = ".tar"
MOST_SHARDS = 100_000  # of a range

_RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
_SHARD = re.compile(rf"(?i)(.+?(?:{'|'.join(map(re.escape, KINDS))}))/")
_DATASET = re.compile(rf"(?i)(.+(?:{'|'.join(map(re.escape, HDF5))})):(.+)")  # file.h5:dataset
_PROBLEMS = {  # of tar shards, by TarShard.problems
    "link": "links and special files in shards, left out",
    "outside": "names in shards that lead out of them, left out",
    "repeated": "members of shards replaced by a later one of the same name",
    "damaged": "shards read only up to a damaged place or their early end",
}


def is_list(path: str) -> bool:
    """Whether a path has the suffix of a list or a table of images (:data:`LISTS`)."""
    return Path(_dataset(path)[0]).suffix.lower() in LISTS


def has_columns(path: str) -> bool:
    """Whether a path is that of a list or a table, or of a folder with files of columns or arrays."""
    patterns = (f"{folder}*{suffix}" for folder in ("", "*/") for suffix in (*COLUMNAR, *ARRAYS))
    return is_list(path) or any(next(Path(path).glob(pattern), None) for pattern in patterns)


def is_data(path: str) -> bool:
    """Whether a path has the suffix of an image, a list, a table or a shard."""
    path = path.partition("?")[0] if is_url(path) else path
    return has_image_suffix(path) or is_list(path) or is_shard(path)


def _dataset(path: str) -> tuple[str, str | None]:
    """The file and the dataset that ``file.h5:dataset`` names."""
    found = None if os.path.lexists(path) else _DATASET.fullmatch(path)
    return (found[1], found[2]) if found else (path, None)


def read_sources(paths: Iterable[str], reading: Reading) -> Listing:
    """List the images that some paths, globs or ranges of shards name, in their order; raises CatalogError where there are none."""
    expanded = (one for path in paths for one in _expanded(path))
    listings: list[Listing] = []
    for tars, group in itertools.groupby(
        expanded, lambda one: one.lower().endswith(TAR) and Path(one).is_file()
    ):
        if tars:
            listings.append(_list_tars(list(group), reading))
        else:
            listings += [_read_source(path, reading) for path in group]
    listing = merge(listings)
    if not any(listing.splits):
        _split_by_shards(listing)
    return listing


def _read_source(path: str, reading: Reading) -> Listing:
    if "\0" in path or not path:
        raise CatalogError(f"{path!r} is no path.", "Give a folder, a list, a table or an image.")
    if is_url(path):
        return _read_url(checked_url(path, "DATA"), reading)
    path, dataset = _dataset(path)
    if dataset is not None:
        reading = replace(reading, path_column=dataset.strip("/"))
    full = os.path.abspath(path)  # noqa: PTH100 - resolve() would replace links by names nobody typed
    folder, name = os.path.split(full)
    if Path(full).is_dir():
        listing = scan_folder(full, reading.classes_are)
        if listing.names:
            return listing
        shards = [os.path.join(full, name) for name in listing.left_out if is_shard(name)]  # noqa: PTH118
        return read_sources(without_labels(shards), reading)
    there = is_there(full)
    if is_list(path) and there:
        return read_table(full, reading.root or folder, path, reading)
    if there and (has_image_suffix(name) or not os.path.lexists(full)):
        return Listing(folder, [name], [None], [0])
    if there:
        raise CatalogError(
            f"{path!r} is neither a folder nor a list, a table, a shard or an image file.",
            f"Give a folder, a file ending in {', '.join(LISTS)} or {TAR}, or one ending in {', '.join(SUFFIXES)}.",
        )
    if glob.has_magic(path):
        return _read_glob(path, reading)
    raise CatalogError(f"there is no file or folder {path!r}.", _nearest_name(path))


def _read_url(url: str, reading: Reading) -> Listing:
    """An image, or the images of a folder with labels and splits from the names of folders."""
    listing = Listing(str(Path.cwd()))
    if has_image_suffix(url.partition("?")[0]):
        listing.add(url)
        return listing
    if is_data(url):
        raise CatalogError(
            f"{url!r} is a list, a table or a shard, which are read from local disks.",
            "Download it; the paths in a local list may be URLs.",
        )
    names = sorted(filter(has_image_suffix, list_folder(url)), key=natural_key)
    if not names:
        raise CatalogError(
            f"{url!r} has no images: no file below it ends in {', '.join(SUFFIXES)}.", "Check the URL."
        )
    for name, place in zip(names, places_of(names, reading.classes_are, url), strict=True):
        listing.add(f"{url.rstrip('/')}/{name}", *place)
    return listing


def _read_glob(pattern: str, reading: Reading) -> Listing:
    """Images that match; if there are none, those of the shards, or of the folders, that match."""
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - leaves out hidden files
    folders = [path for path in found if Path(path).is_dir()]
    files = sorted(set(found).difference(folders), key=natural_key)
    images = list(filter(has_image_suffix, files))
    named = images or without_labels(list(filter(is_shard, files))) or folders
    if not named:
        raise CatalogError(
            f"the pattern {pattern!r} matches no images: nothing it matches ends in {', '.join(SUFFIXES)}.",
            "Check it from the folder you are in; ** stands for folders of any depth.",
        )
    return read_sources(named, reading)


def _nearest_name(path: str) -> str:
    """Sentence that leads from a path that does not exist to one that does."""
    parent = Path(os.path.abspath(path)).parent  # noqa: PTH100
    if not parent.is_dir():
        there = next(folder for folder in (parent, *parent.parents) if folder.exists())
        return f"The part of it that exists is {str(there)!r}."
    try:
        names = sorted(os.listdir(parent))  # noqa: PTH208
    except OSError:
        return f"The folder {str(parent)!r} may not be read."
    if close := difflib.get_close_matches(Path(path).name, names, n=1):
        return f"Did you mean {os.path.join(os.path.dirname(path), close[0])!r}?"  # noqa: PTH118, PTH120
    return f"The folder {str(parent)!r} exists, but nothing in it has that name."


def _expanded(path: str) -> Iterator[str]:
    """Each shard of a range such as ``data-{0000..0099}.tar``; other paths as they are."""
    found = _RANGE.search(path)
    if found is None or os.path.lexists(path):
        yield path
        return
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + MOST_SHARDS:
        raise CatalogError(
            f"the range {found[0]!r} is empty or has more than {MOST_SHARDS:,} shards.",
            "Write the smaller number first, such as data-{0000..0099}.tar.",
        )
    for number in range(first, last + 1):
        yield from _expanded(f"{path[: found.start()]}{number:0{len(found[1])}}{path[found.end() :]}")


def _list_tars(paths: list[str], reading: Reading) -> Listing:
    """Images of tar shards, in the order of the shards and of the members.

    Labels are those of ``.cls`` and ``.json`` members; where no shard has any, labels and splits are those of the folders in
    the shards, as :func:`scan_folder` has them.
    """
    files = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    root = os.path.commonpath([os.path.dirname(file) for file in files])  # noqa: PTH120
    listing, inside, problems = Listing(root), list[str](), Counter[str]()
    for file in files:
        try:
            shard = open_shard(file)
        except (OSError, ValueError) as error:
            raise CatalogError(
                f"{file!r} cannot be read as a tar file: {reason_of(error)}.",
                "Give an uncompressed tar file of images.",
            ) from error
        assert isinstance(shard, TarShard)
        prefix = _prefix(file, root)
        inside += shard.names
        listing.names += [prefix + name for name in shard.names]
        listing.labels += [label or None for label in shard.labels]
        listing.left_out += [prefix + name for name in shard.left_out]
        problems.update(shard.problems)
    if not inside:
        raise CatalogError(
            f"{paths[0]!r}{' and the other shards have' if len(paths) > 1 else ' has'} no images: no member ends in "
            f"{', '.join(SUFFIXES)}.",
            "Give a tar file of images.",
        )
    listing.splits = [0] * len(inside)
    if not any(listing.labels):
        places = list(places_of(inside, reading.classes_are, paths[0]))
        listing.labels, listing.splits = [label for label, _ in places], [split for _, split in places]
    listing.notes += [f"{_PROBLEMS[kind]}: {count:,}" for kind, count in problems.items()]
    return listing


def _split_by_shards(listing: Listing) -> None:
    """Splits by the names of the shards, or of their folders."""
    places = [found[1] if (found := _SHARD.match(name)) else None for name in listing.names]
    shards = [PurePosixPath(place) for place in dict.fromkeys(places) if place is not None]
    for names in ({shard: shard.stem for shard in shards}, {shard: shard.parent.name for shard in shards}):
        if codes := split_folders(names.values()):
            splits = {str(shard): codes.get(name, 0) for shard, name in names.items()}
            listing.splits = [0 if place is None else splits[place] for place in places]
            return


def merge(listings: list[Listing]) -> Listing:
    """One listing of several, in their order, relative to the deepest folder that holds all of them."""
    if len(listings) == 1:
        return listings[0]
    local = [listing for listing in listings if not all(map(is_url, listing.names))]
    try:
        root = os.path.commonpath([listing.root for listing in local or listings])
    except ValueError:  # several drives of Windows: every name is absolute
        root = str(Path.cwd())
    merged = Listing(root)
    prefixes = {folder: _prefix(folder, root) for folder in {listing.root for listing in listings}}
    for listing in listings:
        prefix = prefixes[listing.root]
        merged.names += [
            name if is_url(name) or Path(name).is_absolute() else prefix + name for name in listing.names
        ]
        merged.labels += listing.labels
        merged.splits += listing.splits
        merged.notes += [note for note in listing.notes if note not in merged.notes]  # shards have the same
        merged.left_out += [prefix + name for name in listing.left_out]
    return merged


def _prefix(folder: str, root: str) -> str:
    try:
        relative = os.path.relpath(folder, root)
    except ValueError:
        relative = folder
    return "" if relative == os.curdir else relative.replace(os.sep, "/") + "/"


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
    ``classes_are``, where a person says it: the label is the name of the first folder ("top"), or of the second ("sub": the
    first is then a split, where it has the name of one), or there are neither labels nor splits ("none").

    Hidden files and folders, ``__MACOSX`` and the like are skipped; other files that do not end as images do are left out and
    named. Links to folders are followed, but never into a folder that is being listed already, and in linked folders no more
    than :data:`MOST_NAMES` times to the same one. What has the suffix of an image is listed, readable or not; so is a folder
    that may not be opened, since images may be missing because of it.

    The listing has no names where there is no image, but a shard of images among what is left out. A CatalogError says that
    the folder may not be opened or has no images; or, where ``classes_are`` is not given, that the folders can be read in two
    ways: several have subfolders of the same names, or stand beside folders that are splits.
    """
    scan = _Scan(folder)
    if not scan.names and not any(map(is_shard, scan.left_out)):
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
    for name, place in zip(scan.names, places_of(scan.names, classes_are, folder), strict=True):
        listing.add(name, *place)
    return listing


def places_of(names: Sequence[str], classes_are: str | None, where: str) -> Iterator[_Place]:
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
                return _in_splits(folders, inner, depth, splits)
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
    beside = set().union(*(_names(tops[top]) for top in others))
    if several and inner and not beside:
        return splits
    if several or len(inner) > 1:
        raise CatalogError(
            f"in {where!r} the folders {_listed(splits)} seem to be splits, but {_listed(others)} beside them "
            f"{'has' if len(others) == 1 else 'have'} images too.",
            _both_ways(where, tops, inner | beside, "Move away what is neither, or say"),
        )
    return {}


def _in_splits(
    folders: list[_Folder], inner: dict[str, set[_Folder]], depth: int, splits: dict[str, int]
) -> dict[_Folder, _Place]:
    """Places where the folders at a depth (``inner``) are splits or have loose images without a label."""
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
        self.not_followed: list[str] = []
        self._linked_inside: Counter[tuple[int, int]] = Counter()
        try:
            status = os.stat(folder)  # noqa: PTH116 - 100,000 files in a second: no Path objects here
            self._walk(folder, "", ((status.st_dev, status.st_ino),), by_link=False)
        except OSError as error:
            raise CatalogError(
                f"the folder {folder!r} cannot be opened: {error.strerror}.",
                "Ask for permission to read it, or give another folder.",
            ) from error

    def _walk(self, folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...], by_link: bool) -> None:
        """List what is in a folder; ``by_link``: the way to it has a link already."""
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
            try:
                status = os.stat(inside := folder + os.sep + name)  # noqa: PTH116
                identity = (status.st_dev, status.st_ino)
                if not (is_link and self._never_ends(identity, prefix + name, ancestors, by_link)):
                    self._walk(inside, f"{prefix}{name}/", (*ancestors, identity), by_link or is_link)
            except OSError:
                self.names.append(prefix + name)  # decoding it gives the reason
            if len(self.names) == count and has_image_suffix(name):
                self.names.append(prefix + name)

    def _never_ends(
        self, identity: tuple[int, int], name: str, ancestors: tuple[tuple[int, int], ...], by_link: bool
    ) -> bool:
        """Whether a linked folder is being listed already, or was so often."""
        if identity in ancestors:
            return True
        self._linked_inside[identity] += by_link
        if not by_link or self._linked_inside[identity] <= MOST_NAMES:
            return False
        self.not_followed.append(name)
        return True
