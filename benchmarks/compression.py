"""Size against accuracy: what compressed weights are worth on several image sets, over several splits.

    python benchmarks/compression.py --data ants_bees/ textures/ --weights starter
    python benchmarks/compression.py --data photos/ --weights starter --settings 8,4,8@64 --results rows.jsonl

`cnncodes weights compress --table --data DIR` answers the same for one set and one split. Here linear SVMs on
l2-normalised codes are fitted to a half of each set and tested on the other, C chosen by folds of the first, for the same
splits with every setting. `32` are the weights as they are; `8@64` means 8 bits and rank 64. A setting
whose result is in --results is not computed again. A table in Markdown goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes import extract
from cnncodes.evaluation import evaluate
from cnncodes.heads import fit_linear
from cnncodes.images import Catalog, read_catalog
from cnncodes.weights import Weights, compress, compression_report, load_weights, save_compressed

LAYERS = ("fc6", "fc7")
SEED = 0


def at_most(catalog: Catalog, images: int) -> Catalog:
    """Rows drawn at random, ascending."""
    if len(catalog) <= images:
        return catalog
    return catalog.subset(np.sort(np.random.default_rng(SEED).choice(len(catalog), images, replace=False)))


def accuracies(catalog: Catalog, weights: Weights, splits: int) -> dict[str, list[float]]:
    """Layer -> top-1 on the other half, one number for each split."""
    with tempfile.TemporaryDirectory() as folder:
        codes = Path(folder) / "codes.h5"
        extract(catalog, codes, weights, layers=",".join(LAYERS))
        return {layer: [halves(codes, layer, seed) for seed in range(splits)] for layer in LAYERS}


def halves(codes: Path, layer: str, seed: int) -> float:
    """Top-1 on one half of a codes file, of a linear SVM fitted to the other."""
    fit = fit_linear(codes, layer=layer, split=0.5, seed=seed)
    return evaluate(fit.model, codes, rows=fit.split.test).evaluation.top1


def one_setting(name: str, weights: Weights, sets: dict[str, Catalog], splits: int) -> dict[str, Any]:
    """Size of the file, and accuracies by set and layer."""
    bits, _, rank = name.partition("@")
    if int(bits) == 32:
        size, used = sum(4 * tensor.numel() for tensor in weights.tensors.values()), weights
    else:
        asked = int(rank) if rank else None
        compressed = compress(weights, rank=asked, bits=int(bits))
        size = compression_report(weights, compressed, rank=asked, bits=int(bits)).bytes
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.cnnz"
            save_compressed(compressed, path)
            used = load_weights(path)
    found = {key: accuracies(catalog, used, splits) for key, catalog in sets.items()}
    return {
        "setting": name,
        "weights": weights.fingerprint,
        "bytes": size,
        "splits": splits,
        "accuracy": found,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over the splits, and the mean difference to the first row over all sets and layers."""
    columns = [(key, layer) for key in rows[0]["accuracy"] for layer in LAYERS]
    heads = ["bits", "rank", "size, MB", *(f"{key}, {layer}" for key, layer in columns), "mean difference"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " ---: |" * len(heads)]
    first = np.array([np.mean(rows[0]["accuracy"][key][layer]) for key, layer in columns])
    for row in rows:
        bits, _, rank = row["setting"].partition("@")
        means = np.array([np.mean(row["accuracy"][key][layer]) for key, layer in columns])
        cells = [
            bits,
            rank or "its own",
            f"{row['bytes'] / 1e6:.1f}",
            *(f"{100 * mean:.1f}" for mean in means),
        ]
        lines.append("| " + " | ".join([*cells, f"{100 * (means - first).mean():+.1f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, type=Path, help="folders of labelled images")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--settings", default="32,8,6,5,4,8@64,8@32", help="the first is compared with")
    parser.add_argument("--images", type=int, default=600, help="of each set, at most")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--results", type=Path, help="JSON lines: read first, and added to")
    options = parser.parse_args()
    weights = load_weights(options.weights)
    sets = {path.name: at_most(read_catalog(path), options.images) for path in options.data}
    known = []
    if options.results and options.results.exists():
        known = [json.loads(line) for line in options.results.read_text().splitlines()]
    rows = []
    for name in options.settings.split(","):
        row = next((row for row in known if row["setting"] == name), None)
        if row is None:
            row = one_setting(name, weights, sets, options.splits)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(name, row["bytes"], file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
