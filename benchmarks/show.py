"""Pictures: cnncodes beside the usual way, in one run, rounds in turn.

    python benchmarks/show.py occlusion                      # random weights, 224 px, patch 32, stride 8
    python benchmarks/show.py occlusion --weights starter --rounds 5

``occlusion``: an image with a grey patch at every place of a grid. Captum's Occlusion computes one image at a time by
default (perturbations_per_eval=1); with more it makes batches. All sides get the same pixels and the same network, and
their answers are compared. The quickest round of each side counts.

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

    from cnncodes.pictures.occlusion import occlude
    from cnncodes.pictures.subject import View, load_subject

    subject = load_subject(options.weights, device="cpu")
    size, patch, stride = options.size, options.patch, options.stride
    random = np.random.default_rng(0)
    coarse = random.normal(0, 1, (1, 3, size // 8, size // 8)).astype(np.float32)
    pixels = torch.nn.functional.interpolate(torch.from_numpy(coarse), (size, size), mode="bilinear")
    view = View("noise", np.zeros((size, size, 3), np.uint8), pixels)
    place = int(subject.scores(pixels).argmax())
    network = subject.network

    def ours() -> np.ndarray:
        return occlude(subject, view, class_name=place, patch=patch, stride=stride).per_pixel

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
    print(f"{subject.name}, {size} px, patch {patch}, stride {stride}: {places:,} places\n")
    print(table(measured, "largest_difference", "largest difference of a pixel's attribution"))
    return {"places": places, "largest_attribution": float(np.abs(wanted).max()), "sides": measured}


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


BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"occlusion": occlusion}


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
