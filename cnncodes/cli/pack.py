"""`cnncodes pack`: a compressed copy of a codes file."""

from __future__ import annotations

from pathlib import Path

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import shell, size


def pack(
    codes: options.Codes,
    output: options.Output,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a compressed copy of a codes file.

    gzip 1 without shuffle, since ReLU codes grow with shuffle. All commands read the copy; only an
    extraction cannot be continued in it.

        cnncodes pack codes.h5 -o packed.h5
    """
    from cnncodes.codes import pack as pack_codes

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite)
    before, after = pack_codes(Path(codes), Path(output), overwrite=overwrite)
    reporter.result(
        f"{output}: {size(after)}, {before / after:.1f} times smaller than {codes} ({size(before)})"
    )
    reporter.document({"output": output, "bytes_before": before, "bytes_after": after})
    reporter.next(f"cnncodes info {shell(output)}")
