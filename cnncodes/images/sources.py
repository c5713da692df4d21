"""From what a person typed (a folder, a list, a CSV file, an image, a glob) to a listing of images."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
import re
from collections import Counter
from pathlib import Path

from cnncodes.core.errors import CatalogError
from cnncodes.images.folders import scan_folder
from cnncodes.images.listing import SUFFIXES, Listing, Reading, has_image_suffix, natural_key
from cnncodes.images.tables import is_header, parse_csv, parse_json_lines, parse_list, read_parquet, read_text

LISTS = (".csv", ".tsv", ".txt", ".lst", ".jsonl", ".ndjson", ".parquet")


def is_list(path: str) -> bool:
    """Whether a path has the suffix of a list or a table of images (:data:`LISTS`)."""
    return Path(path).suffix.lower() in LISTS


def read_source(path: str, reading: Reading) -> Listing:
    """List the images that one path or glob names.

    Parameters
    ----------
    path : str
    reading : Reading
        Its ``root`` is absolute, if it has one.

    Raises
    ------
    CatalogError
        If there is nothing of that name, or no image in it.
    """
    if "\0" in path or not path:
        raise CatalogError(f"{path!r} is no path.", "Give a folder, a list, a table or an image.")
    full = os.path.abspath(path)  # noqa: PTH100 - resolve() would replace links by names nobody typed
    folder, name = os.path.split(full)
    if Path(full).is_dir():
        return scan_folder(full, reading.classes_are)
    if os.path.lexists(full):
        if is_list(path):
            return _read_list(full, reading.root or folder, path, reading)
        if has_image_suffix(name):
            return Listing(folder, [name], [None], [0])
        raise CatalogError(
            f"{path!r} is neither a folder nor a list, a table or an image file.",
            f"Give a folder, a file ending in {', '.join(LISTS)}, or one ending in {', '.join(SUFFIXES)}.",
        )
    if glob.has_magic(path):
        return _read_glob(path, reading)
    raise CatalogError(f"there is no file or folder {path!r}.", _nearest_name(path))


def merge(listings: list[Listing]) -> Listing:
    """One listing of several, in their order, relative to the deepest folder that holds all of them."""
    if len(listings) == 1:
        return listings[0]
    try:
        root = os.path.commonpath([listing.root for listing in listings])
    except ValueError:  # several drives of Windows: every name is absolute
        root = str(Path.cwd())
    merged = Listing(root)
    prefixes: dict[str, str] = {}
    for listing in listings:
        if listing.root not in prefixes:
            prefixes[listing.root] = _prefix(listing.root, root)
        prefix = prefixes[listing.root]
        merged.names += [name if Path(name).is_absolute() else prefix + name for name in listing.names]
        merged.labels += listing.labels
        merged.splits += listing.splits
        merged.notes += listing.notes
        merged.left_out += [prefix + name for name in listing.left_out]
    return merged


def _prefix(folder: str, root: str) -> str:
    try:
        relative = os.path.relpath(folder, root)
    except ValueError:
        relative = folder
    return "" if relative == os.curdir else relative.replace(os.sep, "/") + "/"


def _read_list(full: str, root: str, path: str, reading: Reading) -> Listing:
    listing = _parse(full, root, repr(path), reading)
    _mend_names(listing)
    # Files that are missing are reported one by one, but if all are, the root is wrong.
    if not any(os.path.lexists(os.path.join(root, name)) for name in listing.names):  # noqa: PTH118
        raise CatalogError(
            f"none of the {len(listing.names):,} files that {path!r} names exists; "
            f"the first would be {os.path.join(root, listing.names[0])!r}.",  # noqa: PTH118
            "Paths are relative to the folder of the list: name another with --root (root=), or correct them.",
        )
    return listing


def _parse(full: str, root: str, source: str, reading: Reading) -> Listing:
    suffix = Path(full).suffix.lower()
    if suffix == ".parquet":
        return read_parquet(full, root, source, reading)
    text = read_text(full)
    if suffix in (".jsonl", ".ndjson"):
        return parse_json_lines(text, root, source, reading)
    if suffix == ".tsv":
        return parse_csv(text, root, source, reading, "\t")
    first = re.split("[,;\t]", text.lstrip().partition("\n")[0])
    named = (reading.path_column, reading.label_column, reading.split_column) != (None, None, None)
    if suffix == ".csv" or named or (len(first) > 1 and is_header(first)):
        return parse_csv(text, root, source, reading)
    return parse_list(text, root, source)


def _mend_names(listing: Listing) -> None:
    """Names of no file that are one with slashes for backslashes, without blanks at the ends, or with a suffix."""
    mended: Counter[str] = Counter()
    folders: dict[str, dict[str, list[str]]] = {}

    def images_in(folder: str) -> dict[str, list[str]]:
        """The images of a folder by their names without the suffix."""
        if folder not in folders:
            stems: dict[str, list[str]] = {}
            with contextlib.suppress(OSError):
                for name in filter(has_image_suffix, os.listdir(folder)):  # noqa: PTH208
                    stems.setdefault(name.rpartition(".")[0], []).append(name)
            folders[folder] = stems
        return folders[folder]

    for row, name in enumerate(listing.names):
        plain = name.replace("\\", "/").strip().removeprefix("./")
        if (plain == name and has_image_suffix(name)) or os.path.lexists(os.path.join(listing.root, name)):  # noqa: PTH118
            continue
        full = os.path.join(listing.root, plain)  # noqa: PTH118
        if os.path.lexists(full):
            listing.names[row] = plain
            mended[
                "read with slashes for backslashes" if "\\" in name else "read without blanks at the ends"
            ] += 1
        elif not has_image_suffix(plain):
            folder, stem = os.path.split(full)
            if len(found := images_in(folder).get(stem, [])) == 1:
                listing.names[row] = plain + found[0][len(stem) :]
                mended["read with the suffix that they lack"] += 1
    listing.notes += [f"{_counted(count)} {how}" for how, count in mended.items()]


def _counted(count: int) -> str:
    return f"{count:,} {'name was' if count == 1 else 'names were'}"


def _read_glob(pattern: str, reading: Reading) -> Listing:
    """Images that match; if there are none, the images in the folders that match."""
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 - leaves out hidden files
    images = [path for path in found if has_image_suffix(path) and not Path(path).is_dir()]
    folders = [path for path in found if Path(path).is_dir()]
    if not images and not folders:
        raise CatalogError(
            f"the pattern {pattern!r} matches no images: nothing it matches ends in {', '.join(SUFFIXES)}.",
            "Check it from the folder you are in; ** stands for folders of any depth.",
        )
    return merge([read_source(path, reading) for path in images or folders])


def _nearest_name(path: str) -> str:
    """Sentence that leads from a path that does not exist to one that does."""
    parent = Path(os.path.abspath(path)).parent  # noqa: PTH100
    if not parent.is_dir():
        while not parent.is_dir():
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
