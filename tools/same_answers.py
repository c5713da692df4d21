"""Do two versions of cnncodes give the same answers? Each runs on every data set, and the answers are compared.

    python tools/same_answers.py OLD NEW SETS... --weights plain.safetensors -o work

OLD and NEW are checkouts, SETS folders of images that `cnncodes run` takes. It prints one line for each set: the recipe that each
version chose, the test accuracies, and how many images of the set get another class from the two models. Runs that are finished
are not repeated, so the same command continues where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="a checkout")
    parser.add_argument("sets", type=Path, nargs="+", help="folders of images")
    parser.add_argument("--weights", default="starter", help="a file that both versions read, or a name")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the runs")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    print("| images | recipe before | after | accuracy before | after | images with another class |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    same = True
    for images in options.sets:
        before, after = (
            answers(version.resolve(), images.resolve(), options.weights, options.output / side)
            for version, side in ((options.old, "old"), (options.new, "new"))
        )
        changed = sum(before["classes"][name] != kind for name, kind in after["classes"].items())
        same = same and changed == 0 and before["recipe"] == after["recipe"]
        print(
            f"| {images.name} | {before['recipe']} | {after['recipe']} | {before['top1']:.1%} | {after['top1']:.1%} "
            f"| {changed} of {len(after['classes'])} |",
            flush=True,
        )
    return 0 if same else 1


def answers(version: Path, images: Path, weights: str, folder: Path) -> dict[str, Any]:
    """What a version's run on a folder chose and says of each image."""
    run = folder / images.name
    cnncodes(version, "run", str(images), "-o", str(run), "--weights", weights, "--quiet")
    report = json.loads((run / "report.json").read_text())
    said = cnncodes(version, "predict", str(run / "model.safetensors"), str(images), "--top", "1", "--json")
    classes = {}
    found = json.loads(said)
    for image in found if isinstance(found, list) else found["predictions"]:
        classes[image["name"]] = image["classes"][0] if image["classes"] else None
    return {"recipe": report["recipe"], "top1": report["evaluation"]["top1"], "classes": classes}


def cnncodes(version: Path, *arguments: str) -> str:
    """The standard output of a command; exit code 3, some images cannot be read, is good."""
    environment = {**os.environ, "PYTHONPATH": str(version)}
    done = subprocess.run(
        [sys.executable, "-m", "cnncodes", *arguments],
        env=environment,
        cwd=version,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"{version}: cnncodes {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
