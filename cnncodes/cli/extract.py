"""`cnncodes extract`: images to CNN codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.cli.groups import Cluster, Reading
from cnncodes.cli.results import fit_command, say_seen
from cnncodes.core.words import duration, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.codes import ExtractionResult, Plan

POOLED = {"mean": "the mean of each channel", "max": "the maximum of each channel", "cls": "the first token"}


def extract(
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
    *,
    machine: Cluster,
    reading: Reading,
    reporter: Reporter,
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
        device = plan.device.description
        reporter.document(images=plan.images, file_bytes=plan.file_bytes, device=device)
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
        reporter.note(
            f"continuing '{plan.output}': {plan.images:,} of {len(plan.catalog):,} images are left"
            + (f", {len(plan.again):,} of them tried again" if plan.again else "")
        )
    if plan.known is not None:
        known = len(plan.known.rows)
        reporter.note(
            f"codes of {known:,} images are copied from '{plan.known.path}', {plan.images:,} are computed"
        )
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
    if result.images:
        reporter.result(
            f"{result.images:,} images in {duration(result.seconds)}, {result.images_per_second:.0f} images/s, "
            f"{result.limit()}, {len(bad)} unreadable"
        )
    else:
        reporter.result(f"'{plan.output}' is complete: nothing was left to do, {len(bad)} unreadable")
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
