"""Commands on codes files: `cnncodes extract`, `check`, `export`, `join`, `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes import advice, evaluation
from cnncodes.cli import options
from cnncodes.cli.advise import say_seen
from cnncodes.cli.arguments import Cluster, Reading, check_free
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CodesFileError, OptionError
from cnncodes.core.words import duration, one_line, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.codes import ExtractionResult, Plan

POOLED = {"mean": "the mean of each channel", "max": "the maximum of each channel", "cls": "the first token"}
FIRST_MISSING = 5  # names of missing images on the screen; --json has all
FIRST_STRAYS = 10  # of each kind
HEADINGS = {
    "one-colour": "nearly one colour",
    "far": "far from all other images (codes of {stage})",
    "labels": "most similar to images of another class",
    "identical": "identical files",
    "near": "nearly identical pictures",
}


def extract(
    reporter: Reporter,
    machine: Cluster,
    reading: Reading,
    data: options.Data,
    output: options.Output,
    layers: options.Layers = None,
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    fit: options.Fit = None,
    crops: options.Crops = "center",
    pool: options.Pool = None,
    precision: options.Precision = "float32",
    dtype: options.Dtype = "float32",
    decoding: options.Decoding = None,
    batch_size: options.BatchSize = None,
    limit: options.Limit = None,
    like: options.Like = None,
    from_: options.From = None,
    shard: options.Shard = None,
    write: options.Write = "central",
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    retry: options.Retry = False,
) -> None:
    """Extract CNN codes of any layers into one HDF5 file.

    If interrupted, repeat the same command to continue. An unreadable image keeps its row (NaN) and is listed with the
    reason; the exit code is then 3. Once the file is repaired, the same command reads it; --retry tries all unreadable
    images again.

        cnncodes extract photos/ -o codes.h5 --layers fc6,fc7
        cnncodes extract new_photos/ -o new.h5 --like codes.h5
        cnncodes extract grown/ -o grown.h5 --from codes.h5      computes only the images that codes.h5 lacks
        cnncodes extract photos/ -o part3.h5 --shard 3/16        one of 16 jobs; then: cnncodes join part*.h5 -o codes.h5
    """
    from cnncodes.codes import CodesFile, estimate_seconds, plan_extraction, run_extraction
    from cnncodes.weights import load_weights

    catalog = reading.catalog(data)
    reporter.note(catalog.describe())  # before torch, which takes seconds to load
    settings = None
    if fit == "ten":
        fit, crops = None, crops if crops.startswith("ten") else "ten"
    if like is not None:
        with CodesFile(like) as other:
            settings = other.settings
        weights, model = settings.weights, settings.network
    plan = plan_extraction(
        catalog, output, load_weights(weights, network=model), layers=layers, fit=fit, crops=crops, pool=pool,
        precision=precision, dtype=dtype, decoding=decoding, batch_size=batch_size, overwrite=overwrite,
        strict=strict, retry=retry, limit=limit, like=settings, shard=shard, reuse=from_,
        write=write, **vars(machine),
    )  # fmt: skip
    if len(plan.catalog) < len(catalog):
        reporter.note(f"{len(plan.catalog):,} of them are used")
    if not reporter.quiet or dry_run:
        _announce(reporter, plan, estimate_seconds(plan))
    if dry_run:
        reporter.document(images=plan.images, file_bytes=plan.file_bytes, device=plan.device.description)
        return
    with reporter.steps() as progress:
        result = run_extraction(plan, progress)
    _report(reporter, plan, result)


def _announce(reporter: Reporter, plan: Plan, seconds: float) -> None:
    from cnncodes.codes.compute import precision_note

    settings = plan.settings
    reporter.note(
        f"{settings.network} with weights '{settings.weights}' ({settings.weights_sha256[:12]}), "
        f"layers {', '.join(settings.stages)}, {settings.crops} crop, on {plan.device.description}"
    )
    if settings.pool != "none":
        reporter.note(f"maps and tokens are reduced to {POOLED[settings.pool]} (--pool {settings.pool})")
    if plan.weights.origin == "random":
        reporter.note("these weights are random: a baseline, not a feature extractor")
    if plan.weights.left_out is not None:
        reporter.note(f"weights '{settings.weights}': {plan.weights.left_out}")
    if note := precision_note(settings.precision, plan.device):
        reporter.warn(note)
    if plan.resumes:
        again = f", {len(plan.again):,} of them tried again" if plan.again else ""
        left = f"{plan.images:,} of {len(plan.catalog):,} images are left{again}"
        reporter.note(f"continuing '{plan.output}': {left}")
    if plan.known is not None:
        copied = f"codes of {len(plan.known.rows):,} images are copied from '{plan.known.path}'"
        reporter.note(f"{copied}, {plan.images:,} are computed")
    reporter.note(f"about {duration(seconds)}; the file will have {size(plan.file_bytes)}")


def _report(reporter: Reporter, plan: Plan, result: ExtractionResult) -> None:
    from cnncodes.images.readers import noted

    bad = result.unreadable
    reporter.unreadable(bad, f"cnncodes info {shell(plan.output)} --json lists all")
    for _, text, names in noted(result.notes):
        reporter.warn(f"{text}: {', '.join(map(quoted, names[:3]))}{', ...' if len(names) > 3 else ''}")
    if result.batch_size < plan.settings.batch_size:
        reporter.warn(f"out of GPU memory: batches were reduced to {result.batch_size} images")
    say_seen(reporter, result.seen)
    done = f"'{plan.output}' is complete: nothing was left to do"
    if result.images:
        speed = f"{result.images_per_second:.0f} images/s, {result.limit()}"
        done = f"{result.images:,} images in {duration(result.seconds)}, {speed}"
    reporter.result(f"{done}, {len(bad)} unreadable")
    reporter.document(
        output=str(result.output), images=result.images, resumed=result.resumed, copied=result.copied,
        seconds=result.seconds, images_per_second=result.images_per_second, limit=result.limit(), unreadable=bad, notes=result.notes,
        seen=result.seen,
    )  # fmt: skip
    if plan.shard is not None:
        reporter.next(f"cnncodes join PARTS... -o codes.h5, when all {plan.shard.of} parts are there")
    elif (plan.catalog.labels >= 0).any():
        reporter.next(fit_command(str(plan.output), plan.settings.stages))
    else:
        reporter.next(f"cnncodes info {shell(plan.output)}")


def check(
    reporter: Reporter,
    codes: options.Codes,
    sample: options.Sample = 64,
    weights: options.RecordedWeights = None,
    root: options.CodesRoot = None,
    seed: options.Seed = 0,
) -> None:
    """Verify a codes file and list suspicious images.

    Extracts some rows again and compares them: exit code 0 if they agree, 1 if not.

    Then lists images that may not belong in the set: nearly one colour, far from all others, most similar to another
    class, or the same picture in two splits. Most are correct; look at them first. Convolutional layers show more:
    extract with --layers pool5,fc7.

        cnncodes check codes.h5 --sample 64
    """
    from cnncodes.codes import CodesFile, check_codes
    from cnncodes.weights import load_weights

    with CodesFile(codes) as file:
        settings, folder = file.settings, root or file.catalog.root
    loaded = load_weights(weights or settings.weights, network=settings.network)
    report = check_codes(codes, loaded, sample=sample, seed=seed, root=Path(root) if root else None)
    strays = advice.find_strays(codes, root=root, seed=seed)
    reporter.document(report, strays=strays)
    state = f"{report.done:,} done, {report.pending:,} pending, {report.unreadable:,} unreadable"
    reporter.result(f"{report.rows:,} rows: {state}")
    missing = [*map(quoted, report.missing[:FIRST_MISSING])]
    missing += [f"{len(report.missing) - FIRST_MISSING:,} more"] if report.missing[FIRST_MISSING:] else []
    for text in missing:
        reporter.warn(f"file not found: {text}")
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


def _print_strays(reporter: Reporter, strays: advice.Strays) -> None:
    from cnncodes.advice.facts import stray_text

    drawn = f", drawn from {strays.of:,}" if strays.images < strays.of else ""
    looked = f"{strays.images:,} images{drawn}"
    if not strays.found:
        empty = "none empty, " if strays.decoded else ""  # unknown where the images are gone
        none = f"{empty}none far from the rest ({strays.stage}), none twice"
        reporter.result(f"no suspicious image among {looked}: {none}")
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
    reporter: Reporter,
    codes: options.CodesOrModel,
    output: options.Output,
    to: options.To,
    layer: options.ExportLayer = None,
    weights: options.RecordedWeights = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write codes or a model for other programs.

    Codes become npy, CSV, Parquet or files for TensorBoard. A model becomes one ONNX or TorchScript file with network, head and
    calibration: it takes images uint8 [N, side, side, 3], resized and cropped by the caller, and gives probabilities [N, classes].
    Class names and preprocessing are in the metadata of the file.

        cnncodes export codes.h5 --to csv -o codes.csv
        cnncodes export codes.h5 --to projector -o logs/ && tensorboard --logdir logs/
        cnncodes export model.safetensors --to onnx -o model.onnx
    """
    from cnncodes.codes import export_codes

    whole = to in ("onnx", "torchscript")
    if (layer if whole else weights) is not None:
        problem = "--layer is for codes." if whole else "--weights is for models."
        raise OptionError(problem, f"Leave it out with --to {to}.")
    if whole:
        written = [evaluation.export_model(codes, output, to=to, weights=weights, overwrite=overwrite)]
    else:
        written = export_codes(codes, output, to=to, layer=layer, overwrite=overwrite)
    for path in written:
        reporter.result(f"{path} ({size(path.stat().st_size)})")
    reporter.document(written=[str(path) for path in written])
    if to == "projector":
        reporter.next(f"tensorboard --logdir {shell(output)}")


def join(
    reporter: Reporter,
    parts: options.Parts,
    output: options.Output,
    virtual: options.Virtual = False,
    overwrite: options.Overwrite = False,
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
    reporter: Reporter, codes: options.Codes, output: options.Output, overwrite: options.Overwrite = False
) -> None:
    """Write a compressed copy of a codes file.

    Compression is gzip 1 without shuffle (shuffle makes ReLU codes larger). All commands read the copy; only extraction
    cannot continue in it.

        cnncodes pack codes.h5 -o packed.h5
    """
    from cnncodes.codes import pack as pack_codes

    check_free(output, overwrite)
    before, after = pack_codes(Path(codes), Path(output), overwrite=overwrite)
    smaller = f"{before / after:.1f} times smaller than {codes} ({size(before)})"
    reporter.result(f"{output}: {size(after)}, {smaller}")
    reporter.document(output=output, bytes_before=before, bytes_after=after)
    reporter.next(f"cnncodes info {shell(output)}")


def fit_command(codes: str, stages: tuple[str, ...]) -> str:
    """The command that fits a head to a codes file with these layers."""
    usual = {"fc7", "penultimate"} & {*stages}
    layer = "" if usual else f" --layer {stages[0] if len(stages) == 1 else 'auto'}"
    return f"cnncodes fit-linear {shell(codes)}{layer} -o model.safetensors"
