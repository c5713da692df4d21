"""`cnncodes check`: does a codes file hold what its header says, and which of its images should be looked at?"""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import codes_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CodesFileError
from cnncodes.core.words import one_line, quoted

if TYPE_CHECKING:
    from cnncodes.advice import Strays

FIRST_MISSING = 5  # names of missing images on the screen; --json has all
FIRST_STRAYS = 10  # of each kind
HEADINGS = {
    "one-colour": "of nearly one colour",
    "far": "unlike all the others (by the codes of {stage})",
    "labels": "among images of another class",
    "identical": "the same file more than once",
    "near": "nearly the same picture",
}


def check(
    codes: options.Codes,
    sample: codes_options.Sample = 64,
    weights: options.OptionalWeights = None,
    root: codes_options.Root = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Is a codes file what it says, and which images should be looked at?

    Some rows are extracted again and compared: exit code 0 if they agree, 1 if not.

    Then images are named that may not belong in the set: of one colour, unlike all the others, with neighbours
    of another class, or one picture in two splits. Most may be right; they are where a look pays first. A file
    with a convolutional stage shows more of them: extract with --layers pool5,fc7.

        cnncodes check codes.h5 --sample 64
    """
    from cnncodes.advice import find_strays
    from cnncodes.codes import CodesFile, check_codes
    from cnncodes.weights import load_weights

    reporter = Reporter(json, quiet)
    with CodesFile(codes) as file:
        settings, folder = file.settings, root or file.catalog.root
    loaded = load_weights(weights or settings.weights, network=settings.network)
    report = check_codes(codes, loaded, sample=sample, seed=seed, root=Path(root) if root else None)
    strays = find_strays(codes, root=root, seed=seed)
    reporter.document(json_module.loads(report.to_json()) | {"strays": json_module.loads(strays.to_json())})
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
    _print_strays(reporter, strays)


def _print_strays(reporter: Reporter, strays: Strays) -> None:
    from cnncodes.advice.sentences import stray_text

    looked = f"{strays.images:,} images" + (
        f", drawn from {strays.of:,}" if strays.images < strays.of else ""
    )
    empty = "none empty, " if strays.decoded else ""  # nobody looked where the images are gone
    if not strays.found:
        reporter.result(
            f"nothing strange among {looked}: {empty}none far from the rest (by {strays.stage}), or twice"
        )
        return
    reporter.result(f"look at these, of {looked} (they may be right all the same):")
    for kind, heading in HEADINGS.items():
        found = [stray for stray in strays.found if stray.kind == kind]
        if found:
            reporter.result(f"  {heading.format(stage=strays.stage)}:")
        for stray in found[:FIRST_STRAYS]:
            reporter.result(f"    {one_line(stray.name)}: {one_line(stray_text(stray))}")
        if len(found) > FIRST_STRAYS:
            reporter.result(f"    ... and {len(found) - FIRST_STRAYS:,} more; --json has all")
