"""`cnncodes check`: does a codes file hold what its header says?"""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cnncodes.cli import codes_options, options
from cnncodes.cli.console import Reporter, quoted
from cnncodes.errors import CodesFileError

FIRST_MISSING = 5  # names of missing images on the screen; --json has all


def check(
    codes: options.Codes,
    sample: codes_options.Sample = 64,
    weights: options.OptionalWeights = None,
    root: codes_options.Root = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Extract some rows of a codes file again and compare.

    Exit code 0 if they agree, 1 if not.

        cnncodes check codes.h5 --sample 64
    """
    from cnncodes.codes import CodesFile, check_codes
    from cnncodes.weights import load_weights

    reporter = Reporter(json, quiet)
    with CodesFile(codes) as file:
        settings, folder = file.settings, root or file.catalog.root
    loaded = load_weights(weights or settings.weights, network=settings.network)
    report = check_codes(codes, loaded, sample=sample, seed=seed, root=Path(root) if root else None)
    reporter.document(json_module.loads(report.to_json()))
    reporter.result(
        f"{report.rows:,} rows: {report.done:,} done, {report.pending:,} pending, {report.unreadable:,} unreadable"
    )
    for name in report.missing[:FIRST_MISSING]:
        reporter.warn(f"not found any more: {quoted(name)}")
    if len(report.missing) > FIRST_MISSING:
        reporter.warn(f"... and {len(report.missing) - FIRST_MISSING} more")
    if not report.sampled:
        raise CodesFileError(
            f"no row could be compared: none of the images that were looked for is in '{folder}'.",
            "Say where the images are now with --root, or go on with an extraction that has done no rows yet.",
        )
    rows = [(stage, f"{value:.1e}", f"{report.tolerance:.0e}") for stage, value in report.differences.items()]
    reporter.table(f"{report.sampled} rows extracted again", ("layer", "largest difference", "allowed"), rows)
    if not report.good:
        reporter.warn("the file does NOT hold what its header says")
        raise options.Exit(1)
    reporter.result("the codes are what the file says")
