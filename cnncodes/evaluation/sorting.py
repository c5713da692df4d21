"""Images put into a folder for each class that a model named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cnncodes.core.errors import OutputExistsError
from cnncodes.core.files import reason_of
from cnncodes.core.words import visible
from cnncodes.evaluation.predictions import Prediction
from cnncodes.images.catalog import Catalog
from cnncodes.images.readers import open_image

LONGEST = 200  # bytes of a folder's name; file systems take 255
UNSURE, UNLIKE, UNREADABLE = "unsure", "unlike", "unreadable"


def check_sorted(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExistsError unless :func:`sort_images` could write there: the folder is empty or can be made."""
    path = Path(folder)
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise OutputExistsError(
            f"'{path}' exists and is not an empty folder.", "Name a new folder with --sort-into."
        )
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' does not exist.", f"Make it: mkdir -p '{path.parent}'."
        )


def sort_images(
    predictions: Sequence[Prediction], catalog: Catalog, folder: str | os.PathLike[str], *, copy: bool = False
) -> dict[str, int]:
    """Put each image into a folder named after its predicted class.

    Images of which the model is unsure go to ``unsure``, those unlike the training images to ``unlike``, and those that
    could not be read to ``unreadable`` (with "images" after it where a class has the name).

    Parameters
    ----------
    predictions : sequence of Prediction
        One per row of ``catalog``, in its order.
    catalog : Catalog
        Where the images are.
    folder : path
        A new folder, or an empty one.
    copy : bool, default False
        Copies in place of symbolic links; members of a shard are always copied.

    Returns
    -------
    dict of str to int
        Images in each folder, by its name.

    Raises
    ------
    OutputExistsError
        If the folder is not empty, or something cannot be written.
    """
    check_sorted(folder)
    taken: Counter[str] = Counter()
    used: set[tuple[str, str]] = set()
    known = {name.casefold() for found in predictions for name in found.classes}
    try:
        for row, found in enumerate(predictions):
            group = _group(found, known)
            place = Path(folder) / group
            place.mkdir(parents=True, exist_ok=True)
            name = _free(Path(visible(catalog.names[row])).name, group, used)
            try:
                _put(catalog.reader[row], place / name, copy)
            except (OSError, ValueError):
                if found.problem is None:
                    raise
                continue  # there is nothing to put there; its reason is told with the predictions
            taken[group] += 1
    except (OSError, ValueError) as error:
        raise OutputExistsError(
            f"the images cannot be sorted into '{folder}': {reason_of(error)}.",
            "Check the folder and the free space; where links are not allowed, use --copy.",
        ) from error
    return dict(taken)


def _put(source: str, target: Path, copy: bool) -> None:
    path = Path(source)
    if os.path.lexists(path) and not copy:
        target.symlink_to(path.absolute())
        return
    with open_image(source) as image:
        content = image.read()
    target.write_bytes(content)


def _group(found: Prediction, classes: set[str]) -> str:
    """Name of the folder that an image belongs in."""
    if found.problem is not None:
        name = UNREADABLE
    elif found.unlike:
        name = UNLIKE
    elif found.unsure:
        name = UNSURE
    else:
        text = "".join(
            c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in visible(found.classes[0])
        )
        return text.encode()[:LONGEST].decode(errors="ignore").strip(" .") or "_"
    return f"{name} images" if name in classes else name


def _free(name: str, group: str, used: set[tuple[str, str]]) -> str:
    """The name, with a number where the folder has it already: two folders may have an image of the same name."""
    stem, suffix, number, free = Path(name).stem, Path(name).suffix, 1, name
    while (group, free.casefold()) in used:
        number += 1
        free = f"{stem}-{number}{suffix}"
    used.add((group, free.casefold()))
    return free
