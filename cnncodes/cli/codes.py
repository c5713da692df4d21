"""Commands on codes files: `cnncodes check`, `export`, `join`, `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import options
from cnncodes.cli.arguments import check_free
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import fit_command
from cnncodes.core.errors import CodesFileError, OptionError
from cnncodes.core.words import one_line, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.advice import Strays

FIRST_MISSING = 5  # names of missing images on the screen; --json has all
FIRST_STRAYS = 10  # of each kind
HEADINGS = {
    "one-colour": "nearly one colour",
    "far": "far from all other images (codes of {stage})",
    "labels": "most similar to images of another class",
    "identical": "identical files",
    "near": "nearly identical pictures",
}


def check(
    codes: options.Codes,
    sample: options.Sample = 64,
    weights: options.RecordedWeights = None,
    root: options.CodesRoot = None,
    seed: options.Seed = 0,
    *,
    reporter: Reporter,
) -> None:
    """Verify a codes file and list suspicious images.

    Extracts some rows again and compares them: exit code 0 if they agree, 1 if not.

    Then lists images that may not belong in the set: nearly one colour, far from all others, most similar to another
    class, or the same picture in two splits. Most are correct; look at them first. Convolutional layers show more:
    extract with --layers pool5,fc7.

        cnncodes check codes.h5 --sample 64
    """
    from cnncodes.advice import find_strays
    from cnncodes.codes import CodesFile, check_codes
    from cnncodes.weights import load_weights

    with CodesFile(codes) as file:
        settings, folder = file.settings, root or file.catalog.root
    loaded = load_weights(weights or settings.weights, network=settings.network)
    report = check_codes(codes, loaded, sample=sample, seed=seed, root=Path(root) if root else None)
    strays = find_strays(codes, root=root, seed=seed)
    reporter.document(report, strays=strays)
    reporter.result(
        f"{report.rows:,} rows: {report.done:,} done, {report.pending:,} pending, {report.unreadable:,} unreadable"
    )
    for name in report.missing[:FIRST_MISSING]:
        reporter.warn(f"file not found: {quoted(name)}")
    if len(report.missing) > FIRST_MISSING:
        reporter.warn(f"file not found: {len(report.missing) - FIRST_MISSING:,} more")
    if not report.sampled:
        raise CodesFileError(
            f"no row could be compared: none of the sampled images is in '{folder}'.",
            "Name the current folder of the images with --root, or finish the extraction first.",
        )
    rows = [(stage, f"{value:.1e}", f"{report.tolerance:.0e}") for stage, value in report.differences.items()]
    reporter.table(f"{report.sampled} rows extracted again", ("layer", "largest difference", "allowed"), rows)
    if not report.good:
        reporter.warn("the codes do NOT match the header of the file")
        raise options.Exit(1)
    reporter.result("the codes match the header of the file")
    _print_strays(reporter, strays)


def _print_strays(reporter: Reporter, strays: Strays) -> None:
    from cnncodes.advice.facts import stray_text

    looked = f"{strays.images:,} images" + (
        f", drawn from {strays.of:,}" if strays.images < strays.of else ""
    )
    if not strays.found:
        empty = "none empty, " if strays.decoded else ""  # unknown where the images are gone
        reporter.result(
            f"no suspicious image among {looked}: {empty}none far from the rest ({strays.stage}), none twice"
        )
        return
    reporter.result(f"check these, of {looked} (they may be correct):")
    for kind, heading in HEADINGS.items():
        found = [stray for stray in strays.found if stray.kind == kind]
        if found:
            reporter.result(f"  {heading.format(stage=strays.stage)}:")
        for stray in found[:FIRST_STRAYS]:
            reporter.result(f"    {one_line(stray.name)}: {one_line(stray_text(stray))}")
        if len(found) > FIRST_STRAYS:
            reporter.result(f"    ... and {len(found) - FIRST_STRAYS:,} more; --json lists all")


def export(
    codes: options.CodesOrModel,
    output: options.Output,
    to: options.To,
    layer: options.ExportLayer = None,
    weights: options.RecordedWeights = None,
    overwrite: options.Overwrite = False,
    *,
    reporter: Reporter,
) -> None:
    """Write codes or a model for other programs.

    Codes become npy, CSV, Parquet or files for TensorBoard. A model becomes one ONNX or TorchScript file with network, head and
    calibration: it takes images uint8 [N, side, side, 3], resized and cropped by the caller, and gives probabilities [N, classes].
    Class names and preprocessing are in the metadata of the file.

        cnncodes export codes.h5 --to csv -o codes.csv

        cnncodes export codes.h5 --to projector -o logs/ && tensorboard --logdir logs/

        cnncodes export model.safetensors --to onnx -o model.onnx
    """
    whole = to in ("onnx", "torchscript")
    if (layer if whole else weights) is not None:
        raise OptionError(
            "--layer is for codes." if whole else "--weights is for models.", f"Leave it out with --to {to}."
        )
    if whole:
        from cnncodes.evaluation import export_model

        written = [export_model(codes, output, to=to, weights=weights, overwrite=overwrite)]
    else:
        from cnncodes.codes import export_codes

        written = export_codes(codes, output, to=to, layer=layer, overwrite=overwrite)
    for path in written:
        reporter.result(f"{path} ({size(path.stat().st_size)})")
    reporter.document(written=[str(path) for path in written])
    if to == "projector":
        reporter.next(f"tensorboard --logdir {shell(output)}")


def join(
    parts: options.Parts,
    output: options.Output,
    virtual: options.Virtual = False,
    overwrite: options.Overwrite = False,
    *,
    reporter: Reporter,
) -> None:
    """Join the parts of `extract --shard` into one codes file.

    Checks every part: same images, weights and settings, finished, none missing. The result has the same bits as one
    extraction.

        cnncodes join part*.h5 -o codes.h5
    """
    from cnncodes.codes import CodesFile
    from cnncodes.codes import join as join_codes

    with reporter.steps() as progress:
        rows = join_codes(parts, output, virtual=virtual, overwrite=overwrite, progress=progress)
    with CodesFile(output) as codes:
        stages, unreadable = codes.stages, codes.problems()
    reporter.result(f"{output}: {rows:,} images of {len(parts)} parts, {len(unreadable)} unreadable")
    reporter.document(output=output, images=rows, parts=len(parts), unreadable=unreadable)
    reporter.next(fit_command(output, stages))
    reporter.unreadable(unreadable)


def pack(
    codes: options.Codes, output: options.Output, overwrite: options.Overwrite = False, *, reporter: Reporter
) -> None:
    """Write a compressed copy of a codes file.

    Compression is gzip 1 without shuffle (shuffle makes ReLU codes larger). All commands read the copy; only extraction
    cannot continue in it.

        cnncodes pack codes.h5 -o packed.h5
    """
    from cnncodes.codes import pack as pack_codes

    check_free(output, overwrite)
    before, after = pack_codes(Path(codes), Path(output), overwrite=overwrite)
    reporter.result(
        f"{output}: {size(after)}, {before / after:.1f} times smaller than {codes} ({size(before)})"
    )
    reporter.document(output=output, bytes_before=before, bytes_after=after)
    reporter.next(f"cnncodes info {shell(output)}")
