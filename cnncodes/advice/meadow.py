"""The meadow: small pictures of beetles, butterflies, dragonflies and spiders, drawn for the demo; no photographs.

They lie inside the package in a wheel, in ``examples/meadow`` of a checkout, where ``examples/drawing`` makes them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cnncodes.core.errors import CnnCodesError

_PACKAGE = Path(__file__).resolve().parent.parent


def meadow_folder() -> Path:
    """Folder of the pictures that came with this copy of cnncodes: a wheel's, or the checkout's.

    Raises
    ------
    CnnCodesError
        If they did not come with it.
    """
    for folder in (_PACKAGE / "meadow", _PACKAGE.parent / "examples" / "meadow"):
        if folder.is_dir():
            return folder
    raise CnnCodesError("the drawn pictures are not beside the package.", "Install cnncodes again.")


def write_meadow(folder: Path) -> int:
    """Copy the pictures as ``train|test/CLASS/NN.jpg``: JPEG, the shorter side 160 px.

    Files that are there already with the same content are left alone, so that a run on them goes on.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    int
        Number of pictures.
    """
    source = meadow_folder()
    pictures = sorted(source.glob("*/*/*.jpg"))
    for picture in pictures:
        copy = folder / picture.relative_to(source)
        if copy.exists() and copy.read_bytes() == picture.read_bytes():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, copy)
    return len(pictures)
