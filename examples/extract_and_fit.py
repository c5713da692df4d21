"""The whole road in Python: a folder of images -> CNN codes -> a linear SVM -> predictions.

    python examples/extract_and_fit.py photos/ --weights imagenet

`photos/` has one folder per class. Files are written to the folder named by --output, by default `run/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cnncodes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos")
    parser.add_argument("--weights", default="imagenet", help="imagenet, random:SEED or a file")
    parser.add_argument("--output", type=Path, default=Path("run"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    codes = arguments.output / "codes.h5"

    # 1. What is there: paths, labels from the folders' names, splits if there are train/ and val/.
    catalog = cnncodes.read_catalog(arguments.photos)
    print(catalog.describe())

    # 2. Activations of two layers in one pass. Run it again: it goes on where it stopped.
    weights = cnncodes.load_weights(arguments.weights)
    result = cnncodes.extract(catalog, codes, weights, layers="fc6,fc7")
    print(f"{result.images} images, {result.images_per_second:.0f} images/s, {result.limit()}")
    for name, reason in result.unreadable.items():
        print(f"unreadable: {name}: {reason}")

    # 3. A linear SVM on each layer, C by validation; the better layer is kept.
    fit = cnncodes.fit_linear(codes, layer="auto", kind="svm")
    fit.model.save(arguments.output / "model.safetensors", overwrite=True)
    print(f"{fit.model.stage}, C = {fit.model.head.C:g}: {fit.split.how}")

    # 4. How good it is on images that it has not seen, and what it says about single ones.
    found = cnncodes.evaluate(fit.model, codes).evaluation
    print(f"top-1 {found.top1:.1%} (95 % interval {found.top1_low:.1%} to {found.top1_high:.1%})")
    for prediction in cnncodes.predict(fit.model, catalog.subset(range(3)), weights=weights, top=1):
        print(f"{prediction.name}: {prediction.classes[0]}")


if __name__ == "__main__":
    main()
