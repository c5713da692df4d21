"""Images in a folder: where the labels and the splits come from the names of the folders."""

from __future__ import annotations

import os

from cnncodes.errors import CatalogError
from cnncodes.images.listing import SUFFIXES, Listing, has_image_suffix, natural_key, split_code

_SKIPPED_FOLDERS = frozenset(
    {"__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
)
# Files that stand in many folders, and that nobody takes for images.
_COMPANY = ("thumbs.db", "desktop.ini", "readme", "license", "licence")


def scan_folder(folder: str) -> Listing:
    """List the images below a folder in natural order, with labels and splits from the names of folders.

    ================================  ======  =====================
    path below ``folder``             label   split
    ================================  ======  =====================
    ``x.jpg``                         none    none
    ``cat/x.jpg``                     cat     none
    ``cat/tabby/x.jpg``               cat     none
    ``train/cat/x.jpg``               cat     train (see below)
    ``train/x.jpg``                   none    train
    ================================  ======  =====================

    Folders are splits if **all** folders at the top that hold images have the name of a split (train,
    training, val, valid, validation, test, testing); ``train`` beside ``cat`` is a class. A folder without
    images is no class.

    Hidden files and folders (``.DS_Store``, ``._x.jpg``), ``__MACOSX`` and the like are skipped. Other files
    that do not end as images do are left out, and named in the listing, but for such as ``Thumbs.db``. Links to
    folders are followed, each target once, and never into a folder that is being listed already. Everything
    else that has the suffix of an image is listed, readable or not: broken links, a folder ``x.png`` that
    holds no images; so is a folder that may not be opened, since images may be missing because of it.

    Parameters
    ----------
    folder : str
        Absolute path.

    Raises
    ------
    CatalogError
        If the folder may not be opened or has no images.
    """
    scan = _Scan(folder)
    names = scan.names
    if not names:
        raise CatalogError(
            f"the folder {folder!r} has no images: no file in it or below it ends in {', '.join(SUFFIXES)}.",
            "Give the folder that holds the images, or a list or CSV file that names them.",
        )
    folders_at_top = {name.partition("/")[0] for name in names if "/" in name}
    splits_at_top = {top: split_code(top) for top in folders_at_top}
    are_splits = None not in splits_at_top.values()
    listing = Listing(folder, left_out=sorted(scan.left_out, key=natural_key))
    for name in names:
        split = 0
        inner = name
        if are_splits and "/" in name:
            top, _, inner = name.partition("/")
            split = splits_at_top[top] or 0
        label, slash, _ = inner.partition("/")
        listing.add(name, label if slash else None, split)
    return listing


class _Scan:
    """One walk through a folder; ``names`` are the images found, in natural order, ``left_out`` other files."""

    def __init__(self, folder: str) -> None:
        self.names: list[str] = []
        self.left_out: list[str] = []
        self._targets_of_links: set[tuple[int, int]] = set()
        try:
            status = os.stat(folder)  # noqa: PTH116 - 100,000 files in a second: no Path objects here
            self._walk(folder, "", ((status.st_dev, status.st_ino),))
        except OSError as error:
            raise CatalogError(
                f"the folder {folder!r} cannot be opened: {error.strerror}.",
                "Ask for permission to read it, or give another folder.",
            ) from error

    def _walk(self, folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...]) -> None:
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
            self._enter(folder + os.sep + name, f"{prefix}{name}", is_link, ancestors)
            if len(self.names) == count and has_image_suffix(name):
                self.names.append(prefix + name)

    def _enter(self, folder: str, name: str, is_link: bool, ancestors: tuple[tuple[int, int], ...]) -> None:
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if is_link:
                if identity in ancestors or identity in self._targets_of_links:
                    return
                self._targets_of_links.add(identity)
            self._walk(folder, f"{name}/", (*ancestors, identity))
        except OSError:
            self.names.append(name)  # decoding it gives the reason
