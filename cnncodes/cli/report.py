"""`cnncodes report`: a run on one page."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cnncodes.cli import advice_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import size


def report(
    folder: advice_options.FinishedRun,
    output: advice_options.PageOutput = None,
    title: advice_options.PageTitle = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put a run on one page: one HTML file to open, to mail, to keep.

    What was asked, the images, the advice and its evidence, the results, every mistake with its image, a map of the
    codes to move in, and what the network looks at. The file holds all of it and asks nothing of the network; 'run'
    writes it at its end. If images were moved, the page says so and shows the rest.

        cnncodes report out

        cnncodes report out -o bees.html --title "Ants or bees?"
    """
    from cnncodes.page import write_report

    reporter = Reporter(json, quiet)
    with reporter.steps() as progress:
        page = write_report(
            folder, output, title=title, device=device, workers=workers, seed=seed, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    for note in page.notes:
        reporter.warn(f"on the page: {note}")
    mistakes = f", {page.mistakes:,} mistakes of {page.tested:,} test images" if page.tested else ""
    reporter.result(
        f"written: {page.path} ({size(page.bytes)}; {page.images:,} images{mistakes}, {page.on_map:,} on the map)"
    )
    reporter.document(json_module.loads(page.to_json()))
    reporter.next(f"open {Path(page.path).resolve().as_uri()} in a browser")
