"""`cnncodes extract`: images to CNN codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli import codes_options, options
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import fit_command
from cnncodes.core.words import duration, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.codes import ExtractionResult, Plan

FIRST_UNREADABLE = 20  # listed on the screen; all of them are in the file and in --json


@options.takes_data
def extract(
    data: options.Data,
    output: options.Output,
    layers: codes_options.Layers = None,
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    crops: codes_options.Crops = "center",
    pool: codes_options.Pool = None,
    precision: options.Precision = "float32",
    dtype: codes_options.Dtype = "float32",
    decoding: codes_options.Decoding = None,
    device: options.Device = "auto",
    batch_size: codes_options.BatchSize = None,
    workers: options.Workers = None,
    processes: options.Processes = 1,
    ray: options.Ray = None,
    limit: codes_options.Limit = None,
    like: codes_options.Like = None,
    shard: codes_options.Shard = None,
    dry_run: codes_options.DryRun = False,
    overwrite: options.Overwrite = False,
    strict: codes_options.Strict = False,
    retry: codes_options.Retry = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Images -> CNN codes of any layers, in one HDF5 file.

    Interrupted or killed, the same command goes on where it stopped. An unreadable image keeps its row
    (NaN) and is listed with its reason; the exit code is then 3. Repair it, and the same command reads it;
    --retry tries all of them again, as after a disk that failed.

        cnncodes extract photos/ -o codes.h5 --layers fc6,fc7

        cnncodes extract new_photos/ -o new.h5 --like codes.h5

        cnncodes extract photos/ -o part3.h5 --shard 3/16        one of 16 jobs; then: cnncodes join part*.h5 -o codes.h5
    """
    from cnncodes.codes import CodesFile, estimate_seconds, plan_extraction, run_extraction
    from cnncodes.images import read_catalog
    from cnncodes.weights import load_weights

    reporter = Reporter(json, quiet)
    catalog = read_catalog(data, **reading)
    settings = None
    if like is not None:
        with CodesFile(like) as other:
            settings = other.settings
        weights, model = settings.weights, settings.network
    loaded = load_weights(weights, network=model)
    plan = plan_extraction(
        catalog,
        output,
        loaded,
        layers=layers,
        crops=crops,
        pool=pool,
        precision=precision,
        dtype=dtype,
        decoding=decoding,
        device=device,
        batch_size=batch_size,
        workers=workers,
        processes=processes,
        ray=ray,
        overwrite=overwrite,
        strict=strict,
        retry=retry,
        limit=limit,
        like=settings,
        shard=shard,
    )
    if not quiet or dry_run:
        _announce(reporter, plan, estimate_seconds(plan))
    if dry_run:
        reporter.document(
            {"images": plan.images, "file_bytes": plan.file_bytes, "device": plan.device.description}
        )
        return
    with reporter.steps() as progress:
        result = run_extraction(plan, progress)
    _report(reporter, plan, result)
    if result.unreadable:
        raise options.Exit(3)


def _announce(reporter: Reporter, plan: Plan, seconds: float) -> None:
    from cnncodes.codes.compute import precision_note

    settings = plan.settings
    reporter.note(plan.catalog.describe())
    reporter.note(
        f"{settings.network} with weights '{settings.weights}' ({settings.weights_sha256[:12]}), "
        f"layers {', '.join(settings.stages)}, {settings.crops} crop, on {plan.device.description}"
    )
    if settings.pool != "none":
        how = {
            "mean": "the mean of each channel",
            "max": "the largest value of each channel",
            "cls": "the first token",
        }
        reporter.note(f"of maps and tokens {how[settings.pool]} is kept (--pool {settings.pool})")
    if plan.weights.origin == "random":
        reporter.note("these weights are random, not trained: a baseline, not a feature extractor")
    if plan.weights.left_out is not None:
        reporter.note(f"weights '{settings.weights}': {plan.weights.left_out}")
    if note := precision_note(settings.precision, plan.device):
        reporter.warn(note)
    if plan.resumes:
        reporter.note(
            f"going on with '{plan.output}': {plan.images:,} of {len(plan.catalog):,} images are left"
            + (f", {len(plan.again):,} of them tried again" if plan.again else "")
        )
    reporter.note(f"about {duration(seconds)}; the file will have {size(plan.file_bytes)}")


def _report(reporter: Reporter, plan: Plan, result: ExtractionResult) -> None:
    from cnncodes.images.notes import noted

    bad = result.unreadable
    for name, reason in list(bad.items())[:FIRST_UNREADABLE]:
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    if len(bad) > FIRST_UNREADABLE:
        reporter.warn(
            f"... and {len(bad) - FIRST_UNREADABLE} more: cnncodes info {plan.output} --json lists all"
        )
    for _, text, names in noted(result.notes):
        reporter.warn(f"{text}: {', '.join(map(quoted, names[:3]))}{', ...' if len(names) > 3 else ''}")
    if result.batch_size < plan.settings.batch_size:
        reporter.warn(f"GPU memory ran out: batches were computed {result.batch_size} images at a time")
    if result.images:
        line = (
            f"{result.images:,} images in {duration(result.seconds)}, {result.images_per_second:.0f} images/s, "
            f"{result.limit()}, {len(bad)} unreadable"
        )
    else:
        line = f"'{plan.output}' is complete: nothing was left to do, {len(bad)} unreadable"
    reporter.result(line)
    reporter.document(
        {
            "output": str(result.output),
            "images": result.images,
            "resumed": result.resumed,
            "seconds": result.seconds,
            "images_per_second": result.images_per_second,
            "limit": result.limit(),
            "unreadable": bad,
            "notes": result.notes,
        }
    )
    labelled = (plan.catalog.labels >= 0).any()
    if plan.shard is not None:
        reporter.next(f"cnncodes join PARTS... -o codes.h5, when all {plan.shard.of} parts are there")
        return
    reporter.next(
        fit_command(str(plan.output), plan.settings.stages)
        if labelled
        else f"cnncodes info {shell(plan.output)}"
    )
