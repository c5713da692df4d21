"""Pictures: cnncodes beside the usual way, in one run, rounds in turn.

    python benchmarks/show.py occlusion                      # random weights, 224 px, patch 32, stride 8
    python benchmarks/show.py occlusion --weights starter --rounds 5
    python benchmarks/show.py neighbours                     # 100,000 codes of 4,096 numbers, 1 and 100 queries

``occlusion``: an image with a grey patch at every place of a grid. Captum's Occlusion computes one image at a time by
default (perturbations_per_eval=1); with more it makes batches. All sides get the same pixels and the same network, and
their answers are compared. The quickest round of each side counts.

``neighbours``: the ten nearest of many codes, exactly, once these are loaded. scikit-learn's NearestNeighbors
(algorithm="brute") is fitted before the clock starts; cnncodes starts from the array, with --half also from one of
float16. Codes are drawn around 1,000 centres, negative numbers cut off as by a ReLU.

A table in Markdown goes to standard output, everything measured to the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Side = Callable[[], np.ndarray]


def occlusion(options: argparse.Namespace) -> dict[str, Any]:
    """Sliding a patch: cnncodes, and captum with several batch sizes."""
    import torch
    from captum.attr import Occlusion

    from cnncodes.pictures.classifier import SeenImage, load_classifier
    from cnncodes.pictures.occlusion import occlude

    classifier = load_classifier(options.weights, device="cpu")
    size, patch, stride = options.size, options.patch, options.stride
    random = np.random.default_rng(0)
    coarse = random.normal(0, 1, (1, 3, size // 8, size // 8)).astype(np.float32)
    pixels = torch.nn.functional.interpolate(torch.from_numpy(coarse), (size, size), mode="bilinear")
    view = SeenImage("noise", np.zeros((size, size, 3), np.uint8), pixels)
    place = int(classifier.scores(pixels).argmax())
    network = classifier.network

    def ours() -> np.ndarray:
        return occlude(classifier, view, class_name=place, patch=patch, stride=stride).per_pixel

    def theirs(batch: int) -> Side:
        method = Occlusion(lambda values: network(values).softmax(1))
        shapes = (3, patch, patch), (3, stride, stride)

        def run() -> np.ndarray:
            with torch.no_grad():
                found = method.attribute(
                    pixels, *shapes, baselines=0, target=place, perturbations_per_eval=batch
                )
            return found[0, 0].numpy()

        return run

    sides: dict[str, Side] = {"cnncodes": ours}
    sides |= {f"captum, perturbations_per_eval={batch}": theirs(batch) for batch in options.batches}
    measured = in_turn(sides, options.rounds)
    wanted = measured[f"captum, perturbations_per_eval={options.batches[0]}"]["answer"]
    for entry in measured.values():
        entry["largest_difference"] = float(np.abs(entry.pop("answer") - wanted).max())
    places = (-(-(size - patch) // stride) + 1) ** 2
    print(f"{classifier.name}, {size} px, patch {patch}, stride {stride}: {places:,} places\n")
    print(table(measured, "largest_difference", "largest difference of a pixel's attribution"))
    return {"places": places, "largest_attribution": float(np.abs(wanted).max()), "sides": measured}


def neighbours(options: argparse.Namespace) -> dict[str, Any]:
    """The nearest codes: cnncodes, and scikit-learn's search by brute force."""
    from sklearn.neighbors import NearestNeighbors

    from cnncodes.codes import nearest

    codes = drawn_codes(options.codes, options.length)
    half = codes.astype(np.float16) if options.half else None
    result: dict[str, Any] = {"codes": options.codes, "length": options.length}
    for metric in options.metrics:
        fitted = NearestNeighbors(
            n_neighbors=10, algorithm="brute", metric={"l2": "euclidean"}.get(metric, metric)
        ).fit(codes)
        for count in options.queries:
            queries = drawn_codes(count, options.length, seed=1)
            sides: dict[str, Side] = {
                "cnncodes": lambda queries=queries, metric=metric: nearest(codes, queries, 10, metric)[0]
            }
            if half is not None:
                sides["cnncodes, float16"] = lambda queries=queries, metric=metric: nearest(
                    half, queries, 10, metric
                )[0]
            sides["scikit-learn, brute"] = lambda queries=queries, fitted=fitted: fitted.kneighbors(
                queries, return_distance=False
            )
            measured = in_turn(sides, options.rounds)
            wanted = measured["cnncodes"]["answer"]
            for entry in measured.values():
                entry["others"] = float((entry.pop("answer") != wanted).mean())
            title = f"{metric}, {count:,} {'query' if count == 1 else 'queries'}"
            print(f"{options.codes:,} codes of {options.length:,} numbers, {title}\n")
            print(table(measured, "others", "share of other answers") + "\n", flush=True)
            result[title] = measured
    return result


def drawn_codes(count: int, length: int, seed: int = 0) -> np.ndarray:
    """float32 ``[count, length]``, not negative, around 1,000 centres (the same for every seed)."""
    centres = np.random.default_rng(0).standard_normal((1000, length), np.float32) - 0.5
    random = np.random.default_rng(seed + 1)
    codes = np.empty((count, length), np.float32)
    for start in range(0, count, 4096):
        part = codes[start : start + 4096]
        random.standard_normal(dtype=np.float32, out=part)
        part += centres[random.integers(0, len(centres), len(part))]
        np.maximum(part, 0, out=part)
    return codes


def in_turn(sides: dict[str, Side], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds (of the clock, and of all cores) of every round of every side (one after the other within a round), and the last answers."""
    measured: dict[str, dict[str, Any]] = {name: {"seconds": [], "cpu_seconds": []} for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            began, busy = time.perf_counter(), time.process_time()
            measured[name]["answer"] = side()
            measured[name]["seconds"].append(time.perf_counter() - began)
            measured[name]["cpu_seconds"].append(time.process_time() - busy)
            print(
                f"round {number + 1}, {name}: {measured[name]['seconds'][-1]:.2f} s",
                file=sys.stderr,
                flush=True,
            )
    return measured


def table(measured: dict[str, dict[str, Any]], extra: str, title: str) -> str:
    """Markdown: seconds of the quickest round, how many times faster cnncodes is, and one more column."""
    ours = min(measured["cnncodes"]["seconds"])
    lines = [
        f"| side | seconds | CPU seconds | cnncodes is faster | {title} |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, entry in measured.items():
        best = min(entry["seconds"])
        ratio = "" if name == "cnncodes" else f"{best / ours:.1f} times"
        lines.append(
            f"| {name} | {best:.2f} | {min(entry['cpu_seconds']):.2f} | {ratio} | {entry[extra]:.1e} |"
        )
    return "\n".join(lines)


BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "occlusion": occlusion,
    "neighbours": neighbours,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=BENCHMARKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="[default: show-WHAT.json]")
    group = parser.add_argument_group("occlusion")
    group.add_argument("--weights", default="random:0")
    group.add_argument("--size", type=int, default=224, help="side of the image in pixels")
    group.add_argument("--patch", type=int, default=32)
    group.add_argument("--stride", type=int, default=8)
    group.add_argument(
        "--batches", type=int, nargs="+", default=[1, 16, 64], help="captum's perturbations_per_eval"
    )
    group = parser.add_argument_group("neighbours")
    group.add_argument("--codes", type=int, default=100_000)
    group.add_argument("--length", type=int, default=4096, help="numbers of a code")
    group.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    group.add_argument("--metrics", nargs="+", default=["cosine", "l2"], choices=["cosine", "l2"])
    group.add_argument("--half", action="store_true", help="also codes of float16, half the memory")
    options = parser.parse_args()
    import torch

    before = os.getloadavg()
    result = BENCHMARKS[options.what](options)
    machine = {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": before,
        "load_after": os.getloadavg(),
    }
    output = options.output or Path(f"show-{options.what}.json")
    output.write_text(json.dumps({"machine": machine, **result}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
