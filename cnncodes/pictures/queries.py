"""The images that a person asks about: one of many that are at hand, or a new file. Found before anything is computed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.errors import ImageError, OptionError
from cnncodes.images import Catalog
from cnncodes.images.decode import decode

if TYPE_CHECKING:
    from cnncodes.images.decode import Picture
    from cnncodes.weights import Preprocessing


def find_row(image: str, catalog: Catalog, where: str) -> int:
    """Row of an image of the catalog, by its name, its path, or the end of its name; -1 for another file.

    Parameters
    ----------
    image : str
    catalog : Catalog
    where : str
        What a person calls these images: the name of their codes file or folder.

    Raises
    ------
    OptionError
        If there is no such image and no such file, or several images end so.
    """
    names = catalog.names
    if image in names:
        return names.index(image)
    path = os.path.normpath(os.path.abspath(image))  # noqa: PTH100 - links stay: they may be the catalog's
    folder = os.path.join(os.path.abspath(catalog.root), "")  # noqa: PTH100, PTH118
    inside = path.removeprefix(folder).replace(os.sep, "/")
    if inside in names:
        return names.index(inside)
    if Path(image).exists():
        return -1
    ends = [row for row, name in enumerate(names) if name.endswith(f"/{image}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise OptionError(
            f"image '{image}' is not one but {len(ends):,} of '{where}': {names[ends[0]]}, {names[ends[1]]}.",
            "Give its whole name.",
        )
    close = difflib.get_close_matches(image, names, n=3, cutoff=0.6)
    raise OptionError(
        f"there is no file '{image}', and none of the {len(names):,} images of '{where}' is called so.",
        f"Did you mean {', '.join(close)}?" if close else f"Its images are called like '{names[0]}'.",
    )


def check_queries(images: Sequence[str | os.PathLike[str]], catalog: Catalog, where: str) -> None:
    """Refuse at once what could not be asked about after minutes of computing.

    Raises
    ------
    OptionError
        As :func:`find_row`.
    ImageError
        If one cannot be read.
    """
    for image in [os.fspath(image) for image in images]:
        row = find_row(image, catalog, where)
        read_query(str(catalog.path(row)) if row >= 0 else image)


def read_query(path: str, preprocessing: Preprocessing | None = None) -> Picture:
    """Decode an image; raises ImageError that names it."""
    try:
        return decode(path, preprocessing)
    except ImageError as error:
        raise ImageError(f"'{path}' cannot be read: {error.problem.rstrip('.')}.", error.remedy) from error
