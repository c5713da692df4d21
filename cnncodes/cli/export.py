"""`cnncodes export`: codes for other tools."""

from __future__ import annotations

from cnncodes.cli import codes_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import shell, size


def export(
    codes: options.Codes,
    output: options.Output,
    to: codes_options.To,
    layer: codes_options.OptionalLayer = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Codes as npy, CSV, Parquet or for TensorBoard.

    cnncodes export codes.h5 --to csv -o codes.csv

    cnncodes export codes.h5 --to projector -o logs/ && tensorboard --logdir logs/
    """
    from cnncodes.codes import export_codes

    reporter = Reporter(json, quiet)
    written = export_codes(codes, output, to=to, layer=layer, overwrite=overwrite)
    for path in written:
        reporter.result(f"{path} ({size(path.stat().st_size)})")
    reporter.document({"written": [str(path) for path in written]})
    if to == "projector":
        reporter.next(f"tensorboard --logdir {shell(output)}")
