"""`cnncodes demo`: transfer on drawn pictures and on something different, each command shown as it is run."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import duration, percent

WEIGHTS, BASELINE = "starter", "random:0"
DIGITS_EACH = 20  # scans of each digit: enough to advise on, in seconds


def demo(output: options.Folder = "demo") -> None:
    """Show transfer learning on bundled images, offline.

    Compares the small weights that come with cnncodes with random ones on drawn pictures of animals, then asks for advice on
    scanned digits, a different kind of image. Takes about a minute. Every command is shown as it is run: put your own folder
    in its place.
    """
    from cnncodes.advice.demo_images import write_digits, write_meadow

    started = time.perf_counter()
    reporter = Reporter()
    folder = Path(output)
    meadow, digits = folder / "meadow", folder / "digits"
    reporter.result(f"{write_meadow(meadow):,} drawn pictures of animals are in {meadow} (train and test).")
    reporter.result(
        f"The weights are '{WEIGHTS}', which come with cnncodes. For real work use --weights imagenet."
    )
    _run(reporter, ["run", str(meadow), "-o", str(folder / "run"), "--weights", WEIGHTS])
    recipe = _recipe(folder / "run")
    reporter.result("\nThe same recipe with untrained weights, for comparison:")
    again = ["run", str(meadow), "-o", str(folder / "random"), "--weights", BASELINE, "--recipe", recipe]
    _run(reporter, [*again, "--quiet"])
    _compare(reporter, folder, meadow)
    tests = [str(picture) for picture in _one_of_each(meadow)]
    _run(reporter, ["predict", str(folder / "run" / "model.safetensors"), *tests, "--top", "2"])
    count = write_digits(digits, DIGITS_EACH)
    reporter.result(
        f"\nA different kind of image: {count:,} scanned digits are in {digits}. Which recipe is advised?"
    )
    _run(reporter, ["advise", str(digits), "--weights", WEIGHTS, "-o", str(folder / "advice"), "--quiet"])
    _both_verdicts(reporter, folder)
    reporter.result(f"\nDone in {duration(time.perf_counter() - started)}. The same on your own images:")
    reporter.result("  cnncodes weights fetch imagenet")
    reporter.result("  cnncodes run photos/ -o out")
    reporter.result(f"Without a download: cnncodes run photos/ -o out --weights {WEIGHTS}")


def _recipe(folder: Path) -> str:
    """Name of the recipe that a run has followed."""
    from cnncodes.advice.run_record import REPORT, RunReport
    from cnncodes.core.files import read_text

    return RunReport.from_json(read_text(folder / REPORT)).recipe


def _compare(reporter: Reporter, folder: Path, data: Path) -> None:
    """The margin of the trained weights over the untrained ones, and its picture."""
    from cnncodes.evaluation import compare_models
    from cnncodes.heads import load_model
    from cnncodes.images import read_catalog
    from cnncodes.pictures.results import save_comparison

    trained, untrained = (load_model(folder / name / "model.safetensors") for name in ("run", "random"))
    found = compare_models(trained, untrained, read_catalog([str(data)]), names=(WEIGHTS, "random weights"))
    reporter.result(f"\n{found.text}")
    path = save_comparison(found, folder / "starter_against_random.png", _one_of_each(data))
    reporter.result(f"picture: {path}")


def _both_verdicts(reporter: Reporter, folder: Path) -> None:
    """What the advice was decided by, for both kinds of image: a line for each."""
    from cnncodes.advice import Advice
    from cnncodes.core.files import read_text

    reporter.result()
    rows = []
    for name, record in (("drawn animals", "run"), ("scanned digits", "advice")):
        advice = Advice.from_json(read_text(folder / record / "advice.json"))
        found = advice.evidence
        first, last = found.depths[0], found.best_late
        best = found.best_earlier or last
        shares = [
            percent(first.linear),
            *(f"{percent(depth.linear)} ({depth.stage})" for depth in (best, last)),
        ]
        rows.append((name, *shares, percent(found.confidence), advice.recipe, advice.runner_up.recipe))
    columns = (
        "images",
        first.stage,
        "best convolution",
        "best last layer",
        "confidence",
        "advised",
        "runner-up",
    )
    reporter.table(
        "both verdicts, from the accuracy of a linear classifier on each layer's codes", columns, rows
    )


def _one_of_each(data: Path) -> list[Path]:
    """The first test picture of each class, in the order of the classes."""
    return [sorted(place.glob("*.jpg"))[0] for place in sorted((data / "test").iterdir()) if place.is_dir()]


def _run(reporter: Reporter, command: list[str]) -> None:
    from cnncodes.cli import main

    reporter.result(f"\n$ cnncodes {shlex.join(command)}")
    code = main(command)
    if code:
        raise options.Exit(code)
