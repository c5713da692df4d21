"""`cnncodes demo`: the whole road on bundled data, showing every command."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from cnncodes.cli import options
from cnncodes.cli.console import Reporter, duration

WEIGHTS = "starter"


def demo(output: options.Folder = "demo") -> None:
    """The whole road on bundled digits, offline, in a minute.

    The weights are the small ones that come with cnncodes, so that nothing must be downloaded. Every command is
    shown as it is run: put your own folder in its place.
    """
    from cnncodes.advice.digits import write_digits

    started = time.perf_counter()
    reporter = Reporter()
    folder = Path(output)
    images = write_digits(folder / "digits")
    reporter.result(f"{images:,} scanned digits are in {folder / 'digits'} (train and test)")
    reporter.result(
        f"The network's weights are '{WEIGHTS}': small, and they come with cnncodes. Real work uses --weights imagenet."
    )
    codes, svm, softmax = (
        str(folder / name) for name in ("codes.h5", "svm.safetensors", "softmax.safetensors")
    )
    tests = [str(sorted((folder / "digits" / "test" / digit).glob("*.png"))[0]) for digit in ("3", "5", "8")]
    for command in (
        ["extract", str(folder / "digits"), "-o", codes, "--weights", WEIGHTS, "--layers", "pool5,fc7"],
        ["info", codes],
        ["fit-linear", codes, "--layer", "auto", "--head", "svm", "-o", svm, "--overwrite"],
        ["fit-linear", codes, "--layer", "fc7", "--head", "softmax", "-o", softmax, "--overwrite"],
        ["evaluate", svm, str(folder / "digits")],
        ["predict", softmax, *tests, "--top", "3"],
    ):
        _run(reporter, command)
    reporter.result(f"\nDone in {duration(time.perf_counter() - started)}. The same on your own photographs:")
    reporter.result("  cnncodes weights fetch imagenet")
    reporter.result("  cnncodes run photos/ -o out")
    reporter.result("Without a download:")
    reporter.result(f"  cnncodes run photos/ -o out --weights {WEIGHTS}")


def _run(reporter: Reporter, command: list[str]) -> None:
    from cnncodes.cli import main

    reporter.result(f"\n$ cnncodes {shlex.join(command)}")
    code = main(command)
    if code:
        raise options.Exit(code)
