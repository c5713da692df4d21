"""Scikit-learn's bundled scanned digits as a folder of images: data for the demo that need no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncodes.images.decode import write_png

ENLARGED = 8  # the scans have 8 x 8 pixels; 64 x 64 can be looked at
TEST_SHARE = 5  # every fifth scan of a digit


def write_digits(folder: Path, each: int = 100) -> int:
    """Write ``train|test/DIGIT/NNNN.png``: grey scans of 64 x 64 px (UCI, Alpaydin and Kaynak 1998).

    Files that are there already are left alone.

    Parameters
    ----------
    folder : Path
    each : int, default 100
        Scans of each digit, of about 180 that there are.

    Returns
    -------
    int
        Number of images.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    seen = dict.fromkeys(range(10), 0)
    for place, (scan, digit) in enumerate(zip(data.images, data.target.tolist(), strict=True)):
        if seen[digit] == each:
            continue
        split = "test" if seen[digit] % TEST_SHARE == 0 else "train"
        seen[digit] += 1
        path = folder / split / str(digit) / f"{place:04d}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(scan * (255 / 16)).astype(np.uint8)
        write_png(path, grey.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
    return sum(seen.values())
