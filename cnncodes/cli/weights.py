"""`cnncodes weights`: which weights there are; fetch, check, convert, describe and compress them."""

from __future__ import annotations

import dataclasses
import json as json_module
from typing import TYPE_CHECKING, Any

from cnncodes.cli import options, weights_options
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError
from cnncodes.core.words import percent, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.evaluation import CompressionTable
    from cnncodes.weights import CompressionReport, Weights

SUMMARY = "List, fetch, check, convert, describe and compress weights."
LOSSY = 0.1  # relative error of a tensor from which on a person is warned


def list_known(json: options.Json = False) -> None:
    """Weights that have a name, and whether they are on this machine."""
    from cnncodes.weights import list_weights

    reporter = Reporter(json)
    known = list_weights()
    reporter.document([dataclasses.asdict(entry) for entry in known])
    rows = [
        (
            entry.name,
            entry.network,
            "here" if entry.present else "not here",
            size(entry.size) if entry.size else None,
            f"{entry.top1:.1f} / {entry.top5:.1f} %" if entry.top1 and entry.top5 else None,
            entry.path or "computed",
        )
        for entry in known
    ]
    reporter.table("", ("name", "network", "state", "size", "ImageNet top-1 / top-5", "file"), rows)
    if not all(entry.present for entry in known):
        reporter.next("cnncodes weights fetch imagenet")


def fetch(
    name: weights_options.WeightsName,
    model: options.Network = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download weights into torch's own cache folder.

    An interrupted download goes on; the digest is verified.
    """
    from cnncodes.weights import fetch as fetch_weights

    reporter = Reporter(json, quiet)
    with reporter.progress(f"fetching {name}", 1) as update:
        path = fetch_weights(
            name,
            lambda done, total: update(done / max(total, 1), f"{size(done)} of {size(total)}"),
            network=model,
        )
    reporter.result(f"{path}")
    reporter.document({"path": str(path)})
    reporter.next(f"cnncodes weights check {shell(name)}")


def check(
    name: weights_options.WeightsName, model: options.Network = None, json: options.Json = False
) -> None:
    """Verify digest, keys and shapes of weights, and show what they are."""
    from cnncodes.weights import check as check_weights

    reporter = Reporter(json)
    report = check_weights(name, network=model)
    reporter.document(json_module.loads(json_module.dumps(dataclasses.asdict(report))))
    reporter.result(
        f"{report.name}: {report.parameters:,} numbers of {report.network}, {report.classes or 'no'} classes"
    )
    reporter.result(f"from         {report.source}")
    reporter.result(f"fingerprint  {report.fingerprint}")
    if report.source_images:
        reporter.result(f"knows        how the codes of {report.source_images:,} of its training images lie")
    if report.left_out is not None:
        reporter.result(f"left out     {report.left_out}")
    if report.seen:
        watched = f", and of {report.watched:,} that chose its epoch" if report.watched else ""
        reporter.result(f"knows        digests of {report.seen:,} images that it learned from{watched}")
    if test := report.evidence.get("test"):
        reporter.result(
            f"tested       {percent(test['accuracy'])} on {test['images']:,} images that had no part in it"
        )
    rows = [(key, "x".join(map(str, shape))) for key, shape in report.shapes.items()]
    reporter.table("", ("tensor", "shape"), rows)


def convert(
    name: weights_options.WeightsName,
    output: options.Output,
    model: options.Network = None,
    input_size: weights_options.NewInput = None,
    resize: weights_options.NewResize = None,
    class_names: weights_options.ClassNames = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write weights as safetensors (or .cnnz as .cnnz), with all that must travel.

    The file holds the preprocessing, the class names and the fingerprint beside the tensors. The options change
    what travels, never the numbers: a network trained on random crops, which enlarge what is in them, often does
    better on a larger input.

        cnncodes weights convert bvlc_alexnet.caffemodel -o bvlc.safetensors

        cnncodes weights convert run/model.safetensors -o larger.safetensors --input 192 --resize 208
    """
    from cnncodes.weights import convert as convert_weights

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite)
    weights = convert_weights(
        name, output, network=model, overwrite=overwrite, input_size=input_size, resize=resize,
        class_names=class_names,
    )  # fmt: skip
    if weights.left_out is not None:
        reporter.note(f"weights '{name}': {weights.left_out}")
    seen = weights.preprocessing
    reporter.result(f"{output}: {weights.network}, fingerprint {weights.fingerprint[:16]}...")
    reporter.result(
        f"input        {seen.crop} px out of {seen.resize} px; {len(weights.class_names() or ()) or 'no'} class names"
    )
    reporter.document(
        {
            "output": output,
            "network": weights.network,
            "fingerprint": weights.fingerprint,
            "preprocessing": json_module.loads(seen.to_json()),
        }
    )
    reporter.next(f"cnncodes extract photos/ -o codes.h5 --weights {shell(output)}")


@options.takes_data
def describe(
    name: weights_options.WeightsName,
    data: options.Data,
    output: options.Output,
    model: options.Network = None,
    images: weights_options.SourceImages = 3000,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Write weights that know what they were trained on: how the codes of such images lie.

    DATA are the images that the weights were trained on, or a fair sample of them. Mean and deviation of the last
    codes are kept in the file (22 kB for fc7), and 'cnncodes advise' tells how far other images are from them.
    The numbers of the weights stay; a .cnnz file may be written, if WEIGHTS is one.

        cnncodes weights describe run/model.safetensors photos/ -o described.safetensors
    """
    from dataclasses import replace

    from cnncodes.advice import source_statistics
    from cnncodes.images import read_catalog
    from cnncodes.weights import check_changed, save_changed

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite)
    catalog = read_catalog(data, **reading)
    weights = options.load_weights(reporter, name, model)
    check_changed(weights, output)
    reporter.note(catalog.describe())
    with reporter.progress("looking", min(len(catalog), images), "images") as update:
        found, problems = source_statistics(
            weights, catalog, images=images, device=device, workers=workers, seed=seed,
            progress=lambda done, bad: update(done, f"{bad} unreadable" if bad else ""),
        )  # fmt: skip
    save_changed(replace(weights, statistics=found), output, overwrite=overwrite)
    reporter.result(f"{output}: {weights.network}, {found.stage} of {found.images:,} images described")
    reporter.document(
        {"output": output, "stage": found.stage, "images": found.images, "unreadable": problems}
    )
    reporter.next(f"cnncodes advise photos/ --weights {shell(output)}")
    for image, reason in problems.items():
        reporter.warn(f"unreadable: {quoted(image)}: {reason}")
    if problems:
        raise options.Exit(3)


@options.takes_data
def compress(
    name: weights_options.WeightsName,
    output: weights_options.CompressedOutput = None,
    rank: weights_options.Rank = "auto",
    bits: weights_options.Bits = 8,
    table: weights_options.CompressionTable = False,
    data: weights_options.TableData = None,
    model: options.Network = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Make weights small: a low rank, a few bits per number.

    Fully connected matrices become two factors, every number becomes an integer of a few bits with one scale
    per output, and the integers are entropy-coded. The file ends in .cnnz and is used like any other
    weights file; preprocessing, class names and source travel. It is read in half a second and
    gives the same bits on every machine.

    A network trained with low-rank fully connected stages becomes 40 to 80 times smaller almost without loss. Others
    become 4 to 6 times smaller, and more only at a price: look at --table first.

        cnncodes weights compress run/model.safetensors --bits 6 -o small.cnnz

        cnncodes weights compress run/model.safetensors --table --data photos/
    """
    from cnncodes.weights import default_output

    reporter = Reporter(json, quiet)
    wanted = weights_options.parse_rank(rank)
    if data is not None and not table:
        raise OptionError("--data is used by --table only.", "Add --table, or leave --data out.")
    images = options.read_images([data] if data else [], reading, stored=data is None)
    path = output or (None if table else default_output(name))
    if path is not None:
        options.check_free(path, overwrite, suffix=".cnnz", what="a compressed weights file")
    weights = options.load_weights(reporter, name, model)
    document: dict[str, object] = {"weights": name, "network": weights.network}
    if table:
        document["table"] = _compression_table(reporter, weights, wanted, bits, images or None)
    if path is not None:
        document |= _compress(reporter, weights, wanted, bits, str(path), overwrite)
    reporter.document(document)
    if path is not None:
        reporter.next(f"cnncodes extract photos/ -o codes.h5 --weights {shell(path)}")
    else:
        reporter.next(f"cnncodes weights compress {shell(name)} --bits 6 -o {shell(default_output(name))}")


def _compress(
    reporter: Reporter, weights: Weights, rank: int | None, bits: int, path: str, overwrite: bool
) -> dict[str, object]:
    """Write the file and show what became of each tensor."""
    from cnncodes.weights import compress as compress_weights
    from cnncodes.weights import compression_report, save_compressed

    compressed = compress_weights(weights, rank=rank, bits=bits)
    report = compression_report(weights, compressed, rank=rank, bits=bits)
    save_compressed(compressed, path, overwrite=overwrite)
    reporter.result(
        f"{path}: {size(report.bytes)}, {report.ratio:.1f} times smaller than the {size(report.original_bytes)} of "
        f"{weights.name}"
    )
    reporter.result(f"fingerprint  {report.fingerprint}")
    _print_tensors(reporter, report)
    return {"path": path, **json_module.loads(report.to_json())}


def _print_tensors(reporter: Reporter, report: CompressionReport) -> None:
    rows = [
        (
            entry.key,
            "x".join(map(str, entry.shape)),
            entry.rank,
            entry.bits,
            size(entry.bytes),
            percent(entry.error),
        )
        for entry in report.tensors
        if len(entry.shape) > 1
    ]
    reporter.table("", ("tensor", "shape", "rank", "bits", "size", "error"), rows)
    for entry in report.tensors:
        if entry.error > LOSSY:
            how = f"rank {entry.rank}" if entry.rank else f"{entry.bits} bits"
            reporter.warn(
                f"{entry.key} loses {percent(entry.error)} at {how}: see what that costs with --table --data FOLDER"
            )


def _compression_table(
    reporter: Reporter, weights: Weights, rank: int | None, bits: int, data: Any
) -> object:
    """Size against loss for several settings."""
    from cnncodes.evaluation import compression_table

    with reporter.progress("settings", 1, "") as update:
        result = compression_table(
            weights, rank=rank, bits=bits, data=data,
            progress=lambda done, total: update(done / total, f"{done} of {total}"),
        )  # fmt: skip
    _print_table(reporter, result)
    return json_module.loads(result.to_json())


def _print_table(reporter: Reporter, result: CompressionTable) -> None:
    stages = list(result.rows[0].output_errors)
    judged = list(result.rows[0].accuracy or ())
    rows = [
        (
            row.rank or ("float32" if row.bits == 32 else "whole"),
            row.bits,
            size(row.bytes),
            *(percent(row.output_errors[stage]) for stage in stages),
            *(percent((row.accuracy or {}).get(stage)) for stage in judged),
        )
        for row in result.rows
    ]
    columns = [
        "rank",
        "bits",
        "size",
        *(f"{stage} error" for stage in stages),
        *(f"{s} accuracy" for s in judged),
    ]
    reporter.table(f"error of the outputs, relative to their variation over {result.images}", columns, rows)
    if result.tested:
        reporter.note(
            f"note: accuracy of a linear SVM on {result.tested:,} test images: one image is "
            f"{percent(1 / result.tested)}"
        )


COMMANDS = (
    ("list", list_known),
    ("fetch", fetch),
    ("check", check),
    ("convert", convert),
    ("describe", describe),
    ("compress", compress),
)
