"""Extraction, side by side on the same images and weights: cnncodes, a hand-written script, thingsvision.

    python benchmarks/extract.py --data photos/ --images 1200 --rounds 3
    python benchmarks/extract.py --data photos/ --images 2000 --scale
    python benchmarks/extract.py --data photos/ --memory

(a) is benchmarks/torchvision_script.py. (b) is `thingsvision extract-features`, installed in an environment of
its own (--thingsvision FOLDER; made there if it is missing and a package index answers), else skipped with the
reason. --scale compares threads with worker processes and Ray (their start included) instead. The sides take turns; medians over the rounds are reported, whatever they are. The limit is
1 / (decoding time / cores + network time), each part measured alone, in this run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUFFIXES = {".jpg", ".jpeg"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--images", type=int, default=1200, help="made up by repeating the photographs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--thingsvision", type=Path, help="its environment; made there if missing")
    parser.add_argument(
        "--memory", action="store_true", help="instead: peak memory at 2,000 and 20,000 images"
    )
    parser.add_argument("--scale", action="store_true", help="instead: threads, processes, Ray")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure = memory if options.memory else scale if options.scale else speed
        figures = measure(options, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def speed(options: argparse.Namespace, scratch: Path) -> dict:
    folder = repeat_images(options.data, scratch / "images", options.images)
    weights = write_weights(scratch)
    sides = {
        "cnncodes float32": lambda: run_cnncodes(options, folder, weights, scratch),
        "cnncodes bfloat16": lambda: run_cnncodes(
            options, folder, weights, scratch, "--precision", "bfloat16"
        ),
        "cnncodes float32, --decoding box": lambda: run_cnncodes(
            options, folder, weights, scratch, "--decoding", "box"
        ),
        "cnncodes float32, starter (192 px)": lambda: run_cnncodes(options, folder, Path("starter"), scratch),
        "(a) hand-written script": lambda: run_script(options, folder, weights, scratch),
    }
    program, reason = find_thingsvision(options.thingsvision)
    if program:
        start_up = run_thingsvision(
            options, program, repeat_images(options.data, scratch / "few", 8), weights, scratch
        )
        sides["(b) thingsvision"] = lambda: run_thingsvision(
            options, program, folder, weights, scratch, start_up
        )
    rates, walls = in_turn(options, sides)
    decoding, network, note = limits(options, folder, weights)
    bound = (
        1 / (decoding / options.workers + network)
        if options.device == "cpu"
        else 1 / max(decoding / options.workers, network)
    )
    print(f"{options.images} images, {options.rounds} rounds, {note}\n")
    table(rates, walls, "(a) hand-written script", "(a)")
    if not program:
        print(f"| (b) thingsvision | skipped: {reason} | | |")
    mine = statistics.median(rates["cnncodes float32"])
    print(
        f"\nDecoding alone {1 / decoding:.0f} images/s on one core, network alone {1 / network:.0f}; ", end=""
    )
    print(f"limit {bound:.1f} images/s; cnncodes float32 reaches {mine / bound:.2f} of it.")
    return {"rates": rates, "walls": walls, "decoding_s": decoding, "network_s": network, "limit": bound}


def scale(options: argparse.Namespace, scratch: Path) -> dict:
    """The same extraction by threads, by worker processes and by Ray's workers.

    Processor time tells more than time where other work shares the cores. Ray's workers are not children of ours: theirs is not known.
    """
    folder = repeat_images(options.data, scratch / "images", options.images)
    weights = write_weights(scratch)
    ways = {"threads": (), "--processes 2": ("--processes", "2")}
    if importlib.util.find_spec("ray"):
        ways["--ray local"] = ("--ray", "local")
    spent: dict[str, list[float]] = {name: [] for name in ways}

    def run(name: str) -> dict:
        before = os.times()
        found = run_cnncodes(options, folder, weights, scratch, *ways[name])
        after = os.times()
        spent[name].append(sum(after[2:4]) - sum(before[2:4]))
        return found

    rates, walls = in_turn(options, {name: partial(run, name) for name in ways})
    print(f"{options.images} images, {options.rounds} rounds, {options.device}\n")
    table(rates, walls, "threads", "threads")
    seconds = {name: statistics.median(spent[name]) for name in ways if "ray" not in name}
    print("\nprocessor seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    return {"rates": rates, "walls": walls, "processor_s": seconds}


def in_turn(options: argparse.Namespace, sides: dict) -> tuple[dict, dict]:
    """Images per second and seconds of the whole process of each side, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    walls: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            started = time.perf_counter()
            rates[name].append(run()["images_per_second"])
            walls[name].append(time.perf_counter() - started)
            print(f"  {name}: {rates[name][-1]:.1f} images/s", file=sys.stderr)
    return rates, walls


def table(rates: dict, walls: dict, base: str, called: str) -> None:
    print(f"| side | images/s (median; min to max) | ratio to {called}, round by round | whole process |")
    print("| --- | --- | --- | --- |")
    for name, values in rates.items():
        ratio = statistics.median(value / other for value, other in zip(values, rates[base], strict=True))
        print(
            f"| {name} | {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f}) "
            f"| {ratio:.2f} | {statistics.median(walls[name]):.1f} s |"
        )


def repeat_images(source: Path, target: Path, count: int) -> Path:
    """A folder of `count` photographs: links to the source's, repeated under other names."""
    files = sorted(
        path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.stat().st_size > 0
    )
    if not files:
        raise SystemExit(f"no JPEG photographs in {source}")
    for place in range(count):
        original = files[place % len(files)]
        path = target / original.parent.name / f"{place:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(original.resolve())
    return target


def write_weights(scratch: Path) -> Path:
    """random:0 as torchvision's own file, where torchvision of any version looks for it."""
    import torch

    from cnncodes.weights import load_weights

    path = scratch / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    torch.save(load_weights("random:0").tensors, path)
    return path


def run_cnncodes(
    options: argparse.Namespace, folder: Path, weights: Path, scratch: Path, *extra: str
) -> dict:
    output = scratch / "codes.h5"
    command = [sys.executable, "-m", "cnncodes", "extract", str(folder), "-o", str(output), "--overwrite"]
    command += ["--weights", str(weights), "--layers", "fc7", "--workers", str(options.workers)]
    return last_json([*command, "--device", options.device, "--json", "--quiet", *extra])


def run_script(options: argparse.Namespace, folder: Path, weights: Path, scratch: Path) -> dict:
    command = [sys.executable, str(HERE / "torchvision_script.py"), str(folder), "--weights", str(weights)]
    command += ["--output", str(scratch / "codes.npy"), "--workers", str(options.workers)]
    return last_json([*command, "--device", options.device])


def find_thingsvision(folder: Path | None) -> tuple[Path | None, str]:
    if folder is None:
        return None, "no environment given (--thingsvision FOLDER)"
    program = folder / "bin" / "thingsvision"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "thingsvision"], capture_output=True, text=True
        )
        if done.returncode:
            return None, f"pip install thingsvision failed: {done.stderr.strip().splitlines()[-1]}"
    return program, ""


def run_thingsvision(
    options: argparse.Namespace,
    program: Path,
    folder: Path,
    weights: Path,
    scratch: Path,
    start_up: dict | None = None,
) -> dict:
    """Its rate without its start (TensorFlow's import and more), which a run over eight images measures."""
    output = scratch / "thingsvision"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        program,
        "extract-features",
        "--image-root",
        folder,
        "--model-name",
        "alexnet",
        "--source",
        "torchvision",
    ]
    command += ["--module-name", "classifier.5", "--batch-size", "64", "--device", options.device]
    command += ["--out-path", output, "--file-format", "npy"]
    images = sum(1 for _ in folder.rglob("*.jpg"))
    environment = os.environ | {"TORCH_HOME": str(weights.parents[2])}
    started = time.perf_counter()
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode or not list(output.rglob("*.npy")):
        raise SystemExit(f"thingsvision failed:\n{done.stderr[-2000:]}")
    if start_up is not None:
        images, seconds = images - start_up["images"], seconds - start_up["seconds"]
    return {"images": images, "seconds": seconds, "images_per_second": images / seconds}


def limits(options: argparse.Namespace, folder: Path, weights: Path) -> tuple[float, float, str]:
    """Seconds per image of decoding on one core, and of the network with all cores: each alone, no files written."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from cnncodes.codes.compute import Encoder, choose_device, exact_and_side_by_side
    from cnncodes.codes.settings import ExtractionSettings
    from cnncodes.images import Loader, read_catalog
    from cnncodes.weights import load_weights

    catalog = read_catalog(folder)
    loaded = load_weights(weights)
    loader = Loader(catalog, [range(0, min(200, len(catalog)))], loaded.preprocessing, workers=1)
    next(iter(loader))
    settings = ExtractionSettings("alexnet", ("fc7",), loaded.name, loaded.fingerprint, loaded.preprocessing)
    device = choose_device(options.device)
    encoder = Encoder(loaded, settings, device)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 1, 224, 224, 3), dtype=np.uint8)
    side_by_side, batches = (device.cores, 4 * device.cores) if device.is_cpu else (2, 40)
    with exact_and_side_by_side(device), ThreadPoolExecutor(side_by_side) as pool:
        list(pool.map(encoder, [pixels] * side_by_side))
        started = time.perf_counter()
        list(pool.map(encoder, [pixels] * batches))
        network = (time.perf_counter() - started) / (batches * len(pixels))
    return loader.busy_s / loader.images, network, device.description


def memory(options: argparse.Namespace, scratch: Path) -> dict:
    """Peak memory of whole extractions at 2,000 and at 20,000 images."""
    weights = write_weights(scratch)
    peaks = {}
    for count in (2_000, 20_000):
        folder = repeat_images(options.data, scratch / str(count), count)
        code = (
            "import resource, sys; from cnncodes.cli import main; main(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        command = [
            sys.executable,
            "-c",
            code,
            "extract",
            str(folder),
            "-o",
            str(scratch / "m.h5"),
            "--overwrite",
            "--quiet",
        ]
        done = subprocess.run(
            [*command, "--weights", str(weights)], capture_output=True, text=True, check=True
        )
        peaks[count] = int(done.stderr.split()[-1]) / 1024
        print(f"{count:,} images: peak {peaks[count]:.0f} MiB; {done.stdout.strip()}")
    print(f"ratio {peaks[20_000] / peaks[2_000]:.3f}")
    return {str(count): peak for count, peak in peaks.items()}


def last_json(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    text = done.stdout.strip()
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


if __name__ == "__main__":
    main()
