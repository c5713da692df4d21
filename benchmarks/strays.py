"""Strange images put alone into sets of photographs: how many are told, and how many of the sets' own images are, too.

    python benchmarks/strays.py sets/flowers sets/scans sets/tiles --weights starter

Every folder is a set. For each, some images of each other set are put into it, one at a time; `far_from_others` says whether
the image is far from all others (channel means of the last convolutional stage). A table in Markdown goes to standard output: for
several thresholds the part of the strange images that is told, and the part of the sets' own images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from cnncodes.advice.findings import far_from_others, mean_over_positions
from cnncodes.codes import CodesFile, extract
from cnncodes.codes.file import DONE
from cnncodes.images import read_catalog

THRESHOLDS = (2.0, 2.5, 2.75, 3.0, 3.25, 3.5)


def codes_of(folder: Path, images: int, weights: str, layer: str, scratch: str) -> np.ndarray:
    """Channel means ``[n, channels]`` of at most ``images`` images of a set, drawn at random."""
    catalog = read_catalog(str(folder))
    count = min(len(catalog), images)
    rows = np.sort(np.random.default_rng(0).choice(len(catalog), count, replace=False))
    file = Path(scratch) / f"{len(list(Path(scratch).iterdir()))}.h5"
    extract(catalog.subset(rows), file, weights, layers=[layer])
    with CodesFile(file) as codes:
        positions = int(np.prod(codes.stage_shape(layer)[1:]))
        return mean_over_positions(codes.read(layer, np.flatnonzero(codes.state == DONE)), positions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--layer", default="pool5")
    parser.add_argument("--images", type=int, default=422, help="of each set")
    parser.add_argument(
        "--strange", type=int, default=30, help="of each other set, put into a set one by one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        codes = [
            codes_of(folder, options.images, options.weights, options.layer, scratch)
            for folder in options.folders
        ]
    told = dict.fromkeys(THRESHOLDS, 0)
    alarms = dict.fromkeys(THRESHOLDS, 0)
    strange = 0
    random = np.random.default_rng(1)
    for place, own in enumerate(codes):
        for threshold in THRESHOLDS:
            alarms[threshold] += len(far_from_others(own, threshold)[0])
        for other in codes[:place] + codes[place + 1 :]:
            for row in random.choice(len(other), min(options.strange, len(other)), replace=False):
                strange += 1
                together = np.concatenate([own, other[row][None]])
                for threshold in THRESHOLDS:
                    told[threshold] += len(own) in far_from_others(together, threshold)[0]
    total = sum(map(len, codes))
    print(f"| threshold | of {strange:,} strange images | of {total:,} own images |")
    print("| ---: | ---: | ---: |")
    for threshold in THRESHOLDS:
        print(
            f"| {threshold:g} | {100 * told[threshold] / strange:.1f} % | {100 * alarms[threshold] / total:.1f} % |"
        )


if __name__ == "__main__":
    main()
