"""Which layer's codes tell the classes apart? A linear probe of each, on the drawn meadow.

python examples/which_layer.py
"""

from __future__ import annotations

import cnncodes
from cnncodes.advice.demo_images import meadow_folder


def main() -> None:
    catalog = cnncodes.read_catalog(meadow_folder())
    print(catalog.describe())

    # All stages in one pass; for each a linear classifier on few images of a class, several times.
    found = cnncodes.probe(catalog, "starter", layers="pool2,pool5,fc6,fc7", shots=(4, 12), repeats=3)
    for probe in found.probes:
        mean = sum(probe.accuracy) / len(probe.accuracy)
        print(f"{probe.layer:6} {probe.shots!s:>3} images a class: {mean:6.1%} {'#' * round(40 * mean)}")
    print(f"by chance: {found.chance:.1%}")


if __name__ == "__main__":
    main()
