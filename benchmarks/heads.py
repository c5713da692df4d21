"""The choice of C: cnncodes beside scikit-learn's GridSearchCV, on the same codes, folds and candidates.

    python benchmarks/heads.py --data DIR              # extracts fc7 with random weights first
    python benchmarks/heads.py --codes codes.h5        # codes that are there already
    python benchmarks/heads.py --codes codes.h5 --cs 0.1,1,10 --rows 500     # a quick look

All sides run one after the other from one process, on l2-normalised codes. scikit-learn's solvers keep their
defaults; since LogisticRegression's stop early (at most 100 steps of lbfgs), it also runs to convergence
(tol=1e-6, at most 10,000 steps). Which candidates LinearSVC says it did not solve is told. A table in Markdown
goes to standard output, everything measured to the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def codes_of_folder(data: Path, layer: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Extract codes with random weights (untrained, but of the right shape and sparsity)."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "codes.h5"
        command = [sys.executable, "-m", "cnncodes", "extract", str(data), "-o", str(output)]
        subprocess.run([*command, "--weights", "random:0", "--layers", layer], check=True, stdout=sys.stderr)
        return codes_of_file(output, layer)


def codes_of_file(path: Path, layer: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Codes [n, d], labels [n] and class names of the readable, labelled images of a codes file."""
    import h5py

    with h5py.File(path, "r") as file:
        labels = file["images/label"][:]
        usable = (labels >= 0) & (file["images/state"][:] == 1)
        classes = [name.decode() if isinstance(name, bytes) else str(name) for name in file["classes"][:]]
        codes = file[f"layers/{layer}"][:]
    codes = codes if codes.ndim == 2 else codes.mean(axis=1)  # several crops
    return codes[usable].astype(np.float32), labels[usable].astype(np.int64), classes


def ours(
    X: np.ndarray, y: np.ndarray, classes: list[str], kind: str, cs: list[float], jobs: int
) -> dict[str, Any]:
    from cnncodes.heads import choose_C

    began = time.perf_counter()
    choice = choose_C(X, y, classes, kind=kind, Cs=cs, normalisation="l2", jobs=jobs)
    return {
        "side": f"cnncodes ({kind})",
        "seconds": time.perf_counter() - began,
        "best_C": choice.best,
        "accuracy": choice.best_accuracy,
        "per_C": dict(zip(map(str, choice.C), choice.accuracy, strict=True)),
    }


def theirs(
    X: np.ndarray, y: np.ndarray, classes: list[str], model: Any, cs: list[float], jobs: int
) -> dict[str, Any]:
    from sklearn.model_selection import GridSearchCV, PredefinedSplit

    from cnncodes.heads import Normalisation, stratified_folds

    fold, _ = stratified_folds(y, 5, classes)
    began = time.perf_counter()
    normalised = Normalisation("l2")(X)
    # refit=False: our side chooses C and fits no final model either.
    search = GridSearchCV(model, {"C": cs}, cv=PredefinedSplit(fold), n_jobs=jobs, refit=False)
    search.fit(normalised, y)
    means = search.cv_results_["mean_test_score"]
    return {
        "side": f"GridSearchCV({model}, n_jobs={jobs})",
        "seconds": time.perf_counter() - began,
        "best_C": float(search.best_params_["C"]),
        "accuracy": float(search.best_score_),
        "per_C": dict(zip(map(str, cs), means.tolist(), strict=True)),
        "fit_seconds_per_C": dict(
            zip(map(str, cs), search.cv_results_["mean_fit_time"].tolist(), strict=True)
        ),
    }


def unconverged(X: np.ndarray, y: np.ndarray, cs: list[float]) -> list[float]:
    """The candidates for which LinearSVC warns that it did not converge (fitted once on all rows)."""
    from cnncodes.heads import Normalisation
    from cnncodes.heads.scikit import fit_linear_svc

    normalised = Normalisation("l2")(X)
    return [C for C in cs if fit_linear_svc(normalised, y, C=C) is None]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: each side, and how many times faster cnncodes chose C for the same kind of head."""
    lines = [
        "| side | seconds | best C | accuracy | cnncodes is faster |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        mine = next(other for other in rows if other["kind"] == row["kind"])
        ratio = "" if mine is row else f"{row['seconds'] / mine['seconds']:.1f} times"
        lines.append(
            f"| {row['side']} | {row['seconds']:.1f} | {row['best_C']:g} | {row['accuracy']:.2%} | {ratio} |"
        )
    return "\n".join(lines)


def table_per_C(rows: list[dict[str, Any]], cs: list[float]) -> str:
    """Markdown: the accuracy of each candidate on each side."""
    lines = ["| C | " + " | ".join(row["side"] for row in rows) + " |", "| ---: |" + " ---: |" * len(rows)]
    lines += [f"| {C:g} | " + " | ".join(f"{row['per_C'][str(C)]:.2%}" for row in rows) + " |" for C in cs]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--codes", type=Path, help="codes file (HDF5)")
    source.add_argument("--data", type=Path, help="folder of images, one folder per class")
    parser.add_argument("--layer", default="fc7")
    parser.add_argument(
        "--cs", default=",".join(f"1e{k}" for k in range(-5, 6)), help="candidates, by commas"
    )
    parser.add_argument("--rows", type=int, help="use only this many images, drawn at random")
    parser.add_argument("--heads", default="svm,softmax")
    parser.add_argument("--no-converged", action="store_true", help="leave out the slow LogisticRegression")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("heads.json"))
    options = parser.parse_args()
    if options.codes:
        X, y, classes = codes_of_file(options.codes, options.layer)
    else:
        X, y, classes = codes_of_folder(options.data, options.layer)
    if options.rows and options.rows < len(X):
        drawn = np.random.default_rng(0).permutation(len(X))[: options.rows]
        X, y = X[drawn], y[drawn]
    cs = sorted(float(C) for C in options.cs.split(","))
    # Both sides import before the clock starts.
    import scipy.linalg
    import sklearn.model_selection
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    models = {"svm": [LinearSVC()], "softmax": [LogisticRegression()]}
    if not options.no_converged:
        models["softmax"].append(LogisticRegression(max_iter=10_000, tol=1e-6))
    rows = []
    for kind in options.heads.split(","):
        rows.append({"kind": kind, **ours(X, y, classes, kind, cs, options.jobs)})
        for model in models[kind]:
            rows.append({"kind": kind, **theirs(X, y, classes, model, cs, options.jobs)})
            print(f"{rows[-1]['side']}: {rows[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    print(f"{len(X):,} x {X.shape[1]:,} codes, {len(classes)} classes, {len(cs)} values of C, 5 folds\n")
    print(table(rows), end="\n\n")
    print(table_per_C(rows, cs))
    failed = unconverged(X, y, cs) if "svm" in options.heads else []
    if failed:
        print(f"\nLinearSVC does not converge (on all rows) for C = {', '.join(f'{C:g}' for C in failed)}.")
    machine = {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
    }
    result = {
        "rows": len(X),
        "columns": X.shape[1],
        "classes": len(classes),
        "machine": machine,
        "sides": rows,
    }
    options.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
