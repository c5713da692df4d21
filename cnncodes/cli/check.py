"""`cnncodes check`: does a codes file hold what its header says?"""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cnncodes.cli import options
from cnncodes.cli.console import Reporter


def check(
    codes: options.Codes,
    sample: options.Sample = 64,
    weights: options.OptionalWeights = None,
    root: options.Root = None,
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
        settings = file.settings
    loaded = load_weights(weights or settings.weights, network=settings.network)
    report = check_codes(codes, loaded, sample=sample, seed=seed, root=Path(root) if root else None)
    reporter.document(json_module.loads(report.to_json()))
    reporter.result(
        f"{report.rows:,} rows: {report.done:,} done, {report.pending:,} pending, {report.unreadable:,} unreadable"
    )
    for name in report.missing[:5]:
        reporter.warn(f"not found any more: {name!r}")
    rows = [(stage, f"{value:.1e}", f"{report.tolerance:.0e}") for stage, value in report.differences.items()]
    reporter.table(f"{report.sampled} rows extracted again", ("layer", "largest difference", "allowed"), rows)
    if not report.good:
        reporter.warn(
            "the file does NOT hold what its header says" if report.sampled else "no row could be compared"
        )
        raise options.Exit(1)
    reporter.result("the codes are what the file says")
