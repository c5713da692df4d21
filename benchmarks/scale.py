"""A linear head on codes that do not fit into memory: `fit-linear --memory` beside scikit-learn's SGDClassifier.

    python benchmarks/scale.py                                   # 100,000 x 4,096 float16, 100 classes, 800 MB in a temporary folder
    python benchmarks/scale.py --rows 20000 --classes 20         # a quick look

The codes are made up: class means of low rank plus noise, after a ReLU. A tenth of the rows tests, nine tenths are fitted with one C.
Each side runs in a process of its own; processor seconds and the peak of its resident memory are reported. SGDClassifier reads the same
blocks (partial_fit, squared hinge, five passes); LinearSVC and the fit in memory see a tenth of the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BLOCK = 4096
SIDES = ("blocks", "sgd", "blocks-tenth", "memory-tenth", "svc-tenth")


def make_codes(path: Path, rows: int, length: int, classes: int) -> None:
    """A codes file of made-up float16 codes; the last tenth of its rows is the test split."""
    from cnncodes.codes import ExtractionSettings
    from cnncodes.codes.file import Provenance
    from cnncodes.codes.rows import RowWriter
    from cnncodes.codes.structure import create, layout
    from cnncodes.images import Catalog
    from cnncodes.weights import load_weights

    weights = load_weights("random:0")
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, rows)
    splits = np.where(np.arange(rows) < rows - rows // 10, 1, 3)
    names = tuple(f"{row}.jpg" for row in range(rows))
    catalog = Catalog(path.parent, names, labels, splits, tuple(f"class{k}" for k in range(classes)))
    settings = ExtractionSettings(
        weights.network, ("fc7",), weights.name, weights.fingerprint, weights.preprocessing,
        dtype="float16", classes=weights.architecture.classes,
    )  # fmt: skip
    create(
        path,
        catalog,
        settings,
        Provenance("made up", "today"),
        np.arange(rows) + 1000,
        np.zeros(rows),
        weights.seen,
    )
    means = random.normal(size=(classes, 40)) @ random.normal(size=(40, length)) * 0.014
    writer = RowWriter(path, layout(path))
    for start in range(0, rows, BLOCK):
        part = slice(start, min(start + BLOCK, rows))
        noise = random.standard_normal((part.stop - start, length), dtype=np.float32)
        codes = np.maximum(means[labels[part]] + noise - 0.5, 0).astype(np.float16)
        writer.write(start, {"fc7": codes}, {}, np.arange(part.start + 1, part.stop + 1, dtype=np.uint64))
    writer.close()


def unit(codes: np.ndarray) -> np.ndarray:
    codes = codes.astype(np.float32)
    return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)


def side(name: str, path: Path, C: float, memory: int) -> float:
    """Accuracy on the test rows."""
    with h5py.File(path) as file:
        labels, splits = file["images/label"][:].astype(int), file["images/split"][:]
    train, test = int((splits == 1).sum()), np.flatnonzero(splits == 3)
    few = train // 10 if name.endswith("tenth") else train

    def block(start: int, stop: int) -> np.ndarray:
        with h5py.File(path) as file:
            return np.asarray(file["layers/fc7"][start:stop])

    def accuracy(predict: Any) -> float:
        right = 0
        for start in range(test[0], test[-1] + 1, BLOCK):
            stop = min(start + BLOCK, test[-1] + 1)
            right += int((predict(block(start, stop)) == labels[start:stop]).sum())
        return right / len(test)

    if name.startswith("blocks"):
        from cnncodes.codes import CodesFile
        from cnncodes.heads.choice import FitOptions
        from cnncodes.heads.fit import Limits
        from cnncodes.heads.splits import Split
        from cnncodes.heads.streaming import fit_in_blocks

        rows = np.arange(few)
        with CodesFile(path) as file:
            split = Split(rows, rows[:0], test, "")
            options = FitOptions("svm", C, folds=2)
            steps: dict[str, str] = {}
            limits = Limits(memory, "auto", lambda step, done, total, word: steps.update({step: word}))
            names = (file.catalog.labels, file.catalog.classes)
            # One fold: a tenth of the rows judges C, as a val split would.
            split = (
                Split(rows[: few - few // 10], rows[few - few // 10 :], test, "") if few == train else split
            )
            fit = fit_in_blocks(file, "fc7", split, names, options, limits, optional=True)
            print(steps, fit.judged and fit.judged.accuracy, file=sys.stderr)
        return accuracy(fit.result.head.predict)
    if name == "sgd":
        from sklearn.linear_model import SGDClassifier

        model = SGDClassifier(loss="squared_hinge", alpha=1 / (2 * C * train), random_state=0, n_jobs=1)
        for _ in range(5):
            for start in range(0, train, BLOCK):
                stop = min(start + BLOCK, train)
                model.partial_fit(unit(block(start, stop)), labels[start:stop], classes=np.unique(labels))
        return accuracy(lambda codes: model.predict(unit(codes)))
    from cnncodes.heads import fit_head
    from cnncodes.heads.choice import Solver

    solver: Solver = "newton" if name == "memory-tenth" else "scikit-learn"
    classes = [str(k) for k in range(labels.max() + 1)]
    return accuracy(fit_head(block(0, few), labels[:few], classes, C=C, solver=solver).head.predict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--C", type=float, default=1.0)
    parser.add_argument("--memory", type=int, default=10**9, help="limit of the fit in blocks, bytes")
    parser.add_argument("--folder", default=None, help="where the codes are written")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        began = time.perf_counter()
        found = side(given.side[0], Path(given.side[1]), given.C, given.memory)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        seconds = time.perf_counter() - began
        print(json.dumps([found, seconds, usage.ru_utime + usage.ru_stime, peak * 1024]))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "codes.h5"
        make_codes(path, given.rows, given.length, given.classes)
        print(
            f"{given.rows:,} x {given.length:,}, {given.classes} classes, file {path.stat().st_size / 1e6:,.0f} MB\n"
        )
        print(
            "| side | accuracy | seconds | processor seconds | peak memory |\n| --- | ---: | ---: | ---: | ---: |"
        )
        for name in given.sides.split(","):
            again = [
                sys.executable,
                __file__,
                "--side",
                name,
                str(path),
                "--C",
                str(given.C),
                "--memory",
                str(given.memory),
            ]
            run = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
            share, wall, cpu, peak = json.loads(run.stdout)
            print(
                f"| {name} | {100 * share:.2f} % | {wall:.0f} | {cpu:.0f} | {peak / 1e6:,.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
