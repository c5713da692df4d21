"""CNN codes as a step of a scikit-learn pipeline: paths in, accuracy by cross-validation out.

    python examples/sklearn_pipeline.py photos/ --weights imagenet

Each fold extracts its images anew, which is simple and fine for some hundred images; for more, extract once
(examples/extract_and_fit.py) and give the codes to scikit-learn.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

import cnncodes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos")
    parser.add_argument("--weights", default="imagenet", help="imagenet, random:SEED or a file")
    parser.add_argument("--folds", type=int, default=3)
    arguments = parser.parse_args()

    catalog = cnncodes.read_catalog(arguments.photos)
    paths, labels = np.array(catalog.files), np.array(catalog.classes)[catalog.labels]
    pipeline = make_pipeline(
        cnncodes.CNNCodes(layer="fc7", weights=arguments.weights), Normalizer(), LinearSVC()
    )
    scores = cross_val_score(pipeline, paths, labels, cv=arguments.folds)
    print(f"accuracy {scores.mean():.1%} +- {scores.std():.1%} ({arguments.folds} folds)")

    pipeline.fit(paths, labels)
    for path, label in zip(paths[:3], pipeline.predict(paths[:3]), strict=True):
        print(f"{path}: {label}")


if __name__ == "__main__":
    main()
