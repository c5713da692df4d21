"""Images for the demo that need no network: scikit-learn's scanned digits, and the meadow, small pictures of beetles, butterflies, dragonflies and spiders.

The drawn ones lie inside the package in a wheel, in ``examples/meadow`` of a checkout, where ``examples/drawing`` makes them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from cnncodes.core.errors import CnnCodesError
from cnncodes.images.decode import write_png

ENLARGED = 8  # the scans have 8 x 8 pixels; 64 x 64 can be looked at
TEST_SHARE = 5  # every fifth scan of a digit
_PACKAGE = Path(__file__).resolve().parent.parent


def meadow_folder() -> Path:
    """Folder of the pictures that came with this copy of cnncodes: a wheel's, or the checkout's; raises CnnCodesError."""
    for folder in (_PACKAGE / "meadow", _PACKAGE.parent / "examples" / "meadow"):
        if folder.is_dir():
            return folder
    raise CnnCodesError("the drawn pictures are not beside the package.", "Install cnncodes again.")


def write_meadow(folder: Path) -> int:
    """Copy the pictures as ``train|test/CLASS/NN.jpg`` (shorter side 160 px), and return their number; what is there already is left alone."""
    source = meadow_folder()
    pictures = sorted(source.glob("*/*/*.jpg"))
    for picture in pictures:
        copy = folder / picture.relative_to(source)
        if not (copy.exists() and copy.read_bytes() == picture.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, copy)
    return len(pictures)


def write_digits(folder: Path, each: int = 100) -> int:
    """Write ``train|test/DIGIT/NNNN.png``, grey scans of 64 x 64 px (UCI, Alpaydin and Kaynak 1998; 180 a digit), and return their number."""
    from sklearn.datasets import load_digits

    data = load_digits()
    seen = dict.fromkeys(range(10), 0)
    for place, (scan, digit) in enumerate(zip(data.images, data.target.tolist(), strict=True)):
        if seen[digit] == each:
            continue
        split = "test" if seen[digit] % TEST_SHARE == 0 else "train"
        seen[digit] += 1
        path = folder / split / str(digit) / f"{place:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.round(scan * (255 / 16)).astype(np.uint8)
            write_png(path, grey.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
    return sum(seen.values())
