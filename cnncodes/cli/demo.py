"""`cnncodes demo`: transfer on drawn pictures and on something different, each command shown as it is run."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from cnncodes import advice, evaluation, heads, images
from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.files import read_text
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
    from cnncodes.pictures.results import save_comparison

    started = time.perf_counter()
    reporter = Reporter()
    folder = Path(output)
    meadow, digits = folder / "meadow", folder / "digits"
    reporter.result(f"{write_meadow(meadow):,} drawn pictures of animals are in {meadow} (train and test).")
    reporter.result(
        f"The weights are '{WEIGHTS}', which come with cnncodes. For real work use --weights imagenet."
    )
    _run(reporter, ["run", str(meadow), "-o", str(folder / "run"), "--weights", WEIGHTS])
    recipe = advice.RunReport.from_json(read_text(folder / "run" / "report.json")).recipe
    reporter.result("\nThe same recipe with untrained weights, for comparison:")
    again = ["run", str(meadow), "-o", str(folder / "random"), "--weights", BASELINE, "--recipe", recipe]
    _run(reporter, [*again, "--quiet"])
    trained, untrained = (heads.load_model(folder / name / "model.safetensors") for name in ("run", "random"))
    catalog = images.read_catalog([str(meadow)])
    compared = evaluation.compare_models(trained, untrained, catalog, names=(WEIGHTS, "random weights"))
    reporter.result(f"\n{compared.text}")
    classes = sorted(place for place in (meadow / "test").iterdir() if place.is_dir())
    tests = [sorted(place.glob("*.jpg"))[0] for place in classes]
    picture = save_comparison(compared, folder / "starter_against_random.png", tests)
    reporter.result(f"picture: {picture}")
    _run(reporter, ["predict", str(folder / "run" / "model.safetensors"), *map(str, tests), "--top", "2"])
    count = write_digits(digits, DIGITS_EACH)
    reporter.result(
        f"\nA different kind of image: {count:,} scanned digits are in {digits}. Which recipe is advised?"
    )
    _run(reporter, ["advise", str(digits), "--weights", WEIGHTS, "-o", str(folder / "advice"), "--quiet"])
    _print_verdicts(reporter, folder)
    reporter.result(f"\nDone in {duration(time.perf_counter() - started)}. The same on your own images:")
    reporter.result("  cnncodes weights fetch imagenet")
    reporter.result("  cnncodes run photos/ -o out")
    reporter.result(f"Without a download: cnncodes run photos/ -o out --weights {WEIGHTS}")
    reporter.result(f"Open this first, in a browser: {folder / 'run' / 'report.html'}")


def _print_verdicts(reporter: Reporter, folder: Path) -> None:
    """What the advice was decided by, for both kinds of image: a line for each."""
    reporter.result()
    rows = []
    for name, record in (("drawn animals", "run"), ("scanned digits", "advice")):
        asked = advice.Advice.from_json(read_text(folder / record / "advice.json"))
        found = asked.evidence
        first, last = found.depths[0], found.best_late
        best = found.best_earlier or last
        late = [f"{percent(depth.linear)} ({depth.stage})" for depth in (best, last)]
        shares = [percent(first.linear), *late, percent(found.confidence)]
        rows.append((name, *shares, asked.recipe, asked.runner_up.recipe))
    best_of = ("best convolution", "best last layer")
    columns = ("images", first.stage, *best_of, "confidence", "advised", "runner-up")
    title = "both verdicts, from the accuracy of a linear classifier on each layer's codes"
    reporter.table(title, columns, rows)


def _run(reporter: Reporter, command: list[str]) -> None:
    from cnncodes.cli import main

    reporter.result(f"\n$ cnncodes {shlex.join(command)}")
    code = main(command)
    if code:
        raise options.Exit(code)
