"""From what a person typed (a folder, a list, a CSV file, an image, a glob) to a listing of images."""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cnncodes.core.errors import CatalogError
from cnncodes.core.files import reason_of
from cnncodes.images.arrays import ARRAYS, HDF5, without_labels
from cnncodes.images.columnar import COLUMNAR
from cnncodes.images.folders import places_of, scan_folder
from cnncodes.images.listing import SUFFIXES, Listing, Reading, has_image_suffix, natural_key, split_folders
from cnncodes.images.readers import KINDS, is_shard, open_shard
from cnncodes.images.remote import checked_url, is_url, list_folder
from cnncodes.images.tables import is_there, read_table
from cnncodes.images.tar import TarShard

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


def _dataset(path: str) -> tuple[str, str | None]:
    """The file and the dataset that ``file.h5:dataset`` names."""
    found = None if os.path.lexists(path) else _DATASET.fullmatch(path)
    return (found[1], found[2]) if found else (path, None)


def has_columns(path: str) -> bool:
    """Whether a path is that of a list or a table, or of a folder with Parquet or Arrow files."""
    patterns = (f"{folder}*{suffix}" for folder in ("", "*/") for suffix in (*COLUMNAR, *ARRAYS))
    return is_list(path) or any(next(Path(path).glob(pattern), None) for pattern in patterns)


def is_data(path: str) -> bool:
    """Whether a path has the suffix of an image, a list, a table or a shard."""
    path = path.partition("?")[0] if is_url(path) else path
    return has_image_suffix(path) or is_list(path) or is_shard(path)


def read_sources(paths: Iterable[str], reading: Reading) -> Listing:
    """List the images that some paths, globs or ranges of shards name, in their order.

    Parameters
    ----------
    paths : iterable of str
    reading : Reading
        Its ``root`` is absolute, if it has one.

    Raises
    ------
    CatalogError
        If there is nothing of that name, or no image in it.
    """
    expanded = (one for path in paths for one in _expanded(path))
    listings: list[Listing] = []
    for tars, group in itertools.groupby(expanded, key=_is_tar):
        together = list(group)
        listings += (
            [_list_tars(together, reading)] if tars else [_read_source(path, reading) for path in together]
        )
    listing = merge(listings)
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
    root = str(Path.cwd())
    if has_image_suffix(url.partition("?")[0]):
        return Listing(root, [url], [None], [0])
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
    listing = Listing(root)
    for name, place in zip(names, places_of(names, reading.classes_are, url), strict=True):
        listing.add(f"{url.rstrip('/')}/{name}", *place)
    return listing


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


def _is_tar(path: str) -> bool:
    return path.lower().endswith(TAR) and Path(path).is_file()


def _list_tars(paths: list[str], reading: Reading) -> Listing:
    """Images of tar shards, in the order of the shards and of the members.

    Labels are those of ``.cls`` and ``.json`` members; where no shard has any, labels and splits are those of the folders in
    the shards, as :func:`~cnncodes.images.folders.scan_folder` has them.
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
        listing.labels, listing.splits = map(
            list, zip(*places_of(inside, reading.classes_are, paths[0]), strict=True)
        )
    listing.notes += [f"{_PROBLEMS[kind]}: {count:,}" for kind, count in problems.items()]
    return listing


def _split_by_shards(listing: Listing) -> None:
    """Where no image has a split: splits by the names of the shards, or of their folders."""
    if any(listing.splits):
        return
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
    prefixes: dict[str, str] = {}
    for listing in listings:
        if listing.root not in prefixes:
            prefixes[listing.root] = _prefix(listing.root, root)
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


def _read_glob(pattern: str, reading: Reading) -> Listing:
    """Images that match; if there are none, those of the shards, or of the folders, that match."""
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - leaves out hidden files
    folders = [path for path in found if Path(path).is_dir()]
    inside = set(folders)
    files = [path for path in found if path not in inside]
    named = (
        [path for path in files if has_image_suffix(path)]
        or without_labels(list(filter(is_shard, files)))
        or folders
    )
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
        while not parent.exists():
            parent = parent.parent
        return f"The part of it that exists is {str(parent)!r}."
    try:
        names = sorted(os.listdir(parent))  # noqa: PTH208
    except OSError:
        return f"The folder {str(parent)!r} may not be read."
    close = difflib.get_close_matches(Path(path).name, names, n=1)
    if close:
        return f"Did you mean {os.path.join(os.path.dirname(path), close[0])!r}?"  # noqa: PTH118, PTH120
    return f"The folder {str(parent)!r} exists, but nothing in it has that name."
