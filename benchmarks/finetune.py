"""Time of an epoch of fine-tuning, side by side on the same images and weights: cnncodes, and a hand-written loop.

    python benchmarks/finetune.py --data hymenoptera/ --rounds 2

DATA has train/CLASS and val/CLASS. (a) is benchmarks/torchvision_training.py. The sides take turns; an epoch's time is the median over
rounds and over epochs after the first (in which cnncodes decodes, and computes frozen stages' activations: given as
"once"). The limit is forward and backward and the optimizer's step on a batch that is in memory already.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from cnncodes.images import read_catalog
from cnncodes.training import TrainingSettings, finetune
from cnncodes.training.inputs import FILLING
from cnncodes.weights import build_network, load_weights

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="random:0", help="name or file; must take 224 px")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = compare(options, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def compare(options: argparse.Namespace, scratch: Path) -> dict[str, dict[str, float]]:
    """Every side in turn, and the table."""
    catalog, weights = read_catalog(options.data), load_weights(options.weights)
    torch.save(dict(weights.tensors), scratch / "weights.pt")
    frozen, bfloat16 = {"freeze": "conv1-5"}, {"precision": "bfloat16"}
    sides = {
        "frozen conv1-5: cnncodes, frozen work once": lambda: run_cnncodes(
            options, catalog, weights, frozen | {"cached_views": 4}
        ),
        "frozen conv1-5: cnncodes, recomputed": lambda: run_cnncodes(
            options, catalog, weights, frozen | {"cached_views": 0}
        ),
        "frozen conv1-5: (a)": lambda: run_script(options, scratch, "--freeze"),
        "nothing frozen: cnncodes float32": lambda: run_cnncodes(options, catalog, weights, {}),
        "nothing frozen: (a) float32": lambda: run_script(options, scratch),
        "nothing frozen: cnncodes bfloat16": lambda: run_cnncodes(options, catalog, weights, bfloat16),
        "nothing frozen: (a) bfloat16": lambda: run_script(options, scratch, "--bfloat16"),
    }
    runs: dict[str, list[dict]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            runs[name].append(run())
            print(f"  {name}: {[round(s, 2) for s in runs[name][-1]['seconds']]} s", file=sys.stderr)
    figures = {
        name: {
            "epoch_s": statistics.median(s for run in found for s in run["seconds"][1:]),
            "first_s": statistics.median(run["seconds"][0] for run in found),
            "once_s": statistics.median(run.get("once", 0.0) for run in found),
            "val_accuracy": statistics.mean(run["val_accuracy"] for run in found),
        }
        for name, found in runs.items()
    }
    for part in ("frozen conv1-5", "nothing frozen"):
        base = figures[f"{part}: (a)" if part.startswith("frozen") else f"{part}: (a) float32"]["epoch_s"]
        for name, row in figures.items():
            if name.startswith(part):
                row["ratio"] = base / row["epoch_s"]
    images = runs["nothing frozen: (a) float32"][0]["images"]
    limit = images / in_memory(weights, options)
    print("| side | epoch, s | first epoch, s | once before, s | times as fast as (a) | val accuracy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, row in figures.items():
        print(
            f"| {name} | {row['epoch_s']:.2f} | {row['first_s']:.2f} | {row['once_s']:.2f} | {row['ratio']:.2f} "
            f"| {row['val_accuracy']:.1%} |"
        )
    own = figures["nothing frozen: cnncodes float32"]["epoch_s"]
    print(
        f"\n{images} images. Forward, backward and step on a batch in memory: {images / limit:.1f} images/s; "
        f"cnncodes float32 with nothing frozen reaches {limit / own:.2f} of it."
    )
    return figures


def run_cnncodes(options: argparse.Namespace, catalog, weights, more: dict) -> dict:  # type: ignore[no-untyped-def]
    settings = TrainingSettings(
        epochs=options.epochs,
        learning_rate=0.001,
        middle_rate=1.0,
        early_rate=1.0,
        schedule="constant",
        **more,
    )
    moments: dict[str, float] = {}

    def progress(step: str, done: float, total: int, word: str) -> None:
        moments.setdefault("frozen" if step == FILLING else "learning", time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        result = finetune(
            catalog,
            weights,
            Path(folder) / "run",
            settings,
            split="auto",
            device=options.device,
            progress=progress,
        )
    once = moments["learning"] - moments["frozen"] if "frozen" in moments else 0.0
    return {
        "seconds": [epoch.seconds for epoch in result.epochs],
        "once": once,
        "val_accuracy": result.epochs[-1].val_accuracy,
        "images": len(result.split.train),
    }


def run_script(options: argparse.Namespace, scratch: Path, *more: str) -> dict:
    command = [
        sys.executable, str(HERE / "torchvision_training.py"), str(options.data), "--weights", str(scratch / "weights.pt"),
        "--epochs", str(options.epochs), "--device", options.device, *more,
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def in_memory(weights, options: argparse.Namespace) -> float:  # type: ignore[no-untyped-def]
    """Images per second of forward, backward and step on one batch that stays where it is."""
    import copy

    network = copy.deepcopy(build_network(weights)).to(options.device).to(memory_format=torch.channels_last)
    network.requires_grad_(True).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005)
    pixels = torch.randn(32, 3, 224, 224, device=options.device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(32, dtype=torch.long, device=options.device)
    times = []
    for _ in range(8):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
        if options.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 32 / statistics.median(times[2:])


if __name__ == "__main__":
    main()
