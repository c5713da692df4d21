"""`cnncodes join`: the parts of one extraction as one codes file."""

from __future__ import annotations

from cnncodes.cli import codes_options, options
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import fit_command


def join(
    parts: codes_options.Parts,
    output: options.Output,
    virtual: codes_options.Virtual = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put the parts of `extract --shard` together.

    Every part is checked: the same images, weights and settings, finished, none missing. The result has the same bits as
    one extraction. With --virtual it refers to the parts instead of copying them.

        cnncodes join part*.h5 -o codes.h5
    """
    from cnncodes.codes import CodesFile
    from cnncodes.codes import join as join_codes

    reporter = Reporter(json, quiet)
    with reporter.steps() as progress:
        rows = join_codes(parts, output, virtual=virtual, overwrite=overwrite, progress=progress)
    with CodesFile(output) as codes:
        stages, unreadable = codes.stages, codes.problems()
    reporter.result(f"{output}: {rows:,} images of {len(parts)} parts, {len(unreadable)} unreadable")
    reporter.document({"output": output, "images": rows, "parts": len(parts), "unreadable": unreadable})
    reporter.next(fit_command(output, stages))
    if unreadable:
        raise options.Exit(3)
