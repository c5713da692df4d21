"""How fast are codes of torchvision's and timm's networks, against a hand-written script and against the limit?

    python benchmarks/networks.py --data photos/ --images 128 --rounds 2

For each network, with random weights: `cnncodes extract` of its penultimate layer, and networks_script.py (DataLoader with
workers), both in one run, round by round. The limit is 1 / (decoding time / cores + network time), each measured alone in the same run.
Speed and sizes only: random weights say nothing about accuracy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from extract import HERE, in_turn, last_json, repeat_images

from cnncodes.codes.compute import Encoder, choose_device, exact_and_side_by_side
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.images import Loader, read_catalog
from cnncodes.weights import load_weights

NETWORKS = (
    "torchvision/mobilenet_v3_small",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/convnext_tiny",
    "timm/vit_tiny_patch16_224",
    "timm/vit_small_patch16_224",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args()
    print("| network | parameters | codes | cnncodes, images/s | script, images/s | ratio | of the limit |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = repeat_images(options.data, Path(scratch) / "images", options.images)
        for name in options.networks.split(","):
            print(row(options, name, folder, Path(scratch)), flush=True)


def row(options: argparse.Namespace, name: str, folder: Path, scratch: Path) -> str:
    """One line of the table."""
    ours = [
        sys.executable,
        "-m",
        "cnncodes",
        "extract",
        str(folder),
        "-o",
        str(scratch / "codes.h5"),
        "--overwrite",
    ]
    ours += ["--model", name, "--weights", "random:0", "--layers", "penultimate", "--json", "--quiet"]
    script = [sys.executable, str(HERE / "networks_script.py"), str(folder), "--model", name]
    script += ["--output", str(scratch / "codes.npy")]
    workers = ["--workers", str(options.workers)]
    sides = {
        "cnncodes": lambda: last_json([*ours, *workers]),
        "script": lambda: last_json([*script, *workers]),
    }
    rates, _ = in_turn(options, sides)
    mine, other = (statistics.median(rates[side]) for side in ("cnncodes", "script"))
    ratio = statistics.median(a / b for a, b in zip(rates["cnncodes"], rates["script"], strict=True))
    parameters, length, limit = limits(options, name, folder)
    return f"| {name} | {parameters / 1e6:.1f} M | {length:,} | {mine:.1f} | {other:.1f} | {ratio:.2f} | {mine / limit:.2f} |"


def limits(options: argparse.Namespace, name: str, folder: Path) -> tuple[int, int, float]:
    """Parameters, length of the codes, and images per second that decoding and network allow, each measured alone."""
    weights = load_weights("random:0", network=name)
    record = weights.preprocessing
    catalog = read_catalog(folder)
    loader = Loader(catalog, [range(min(200, len(catalog)))], record, workers=1)
    next(iter(loader))
    settings = ExtractionSettings(
        name, ("penultimate",), weights.name, weights.fingerprint, record, pool="mean"
    )
    device = choose_device("cpu")
    encoder = Encoder(weights, settings, device)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 1, record.crop, record.crop, 3), dtype=np.uint8)
    with exact_and_side_by_side(device), ThreadPoolExecutor(device.cores) as pool:
        (first, *_) = pool.map(encoder, [pixels] * device.cores)
        started = time.perf_counter()
        list(pool.map(encoder, [pixels] * (4 * device.cores)))
        network = (time.perf_counter() - started) / (4 * device.cores * len(pixels))
    decoding = loader.busy_s / loader.images
    parameters = sum(tensor.numel() for tensor in weights.tensors.values() if tensor.is_floating_point())
    return parameters, first["penultimate"].shape[-1], 1 / (decoding / options.workers + network)


if __name__ == "__main__":
    main()
