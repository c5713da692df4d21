"""`cnncodes weights`: which weights there are; fetch, check and convert them."""

from __future__ import annotations

import dataclasses
import json as json_module
from typing import TYPE_CHECKING

from cnncodes.cli import options, weights_options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import percent, shell, size

if TYPE_CHECKING:
    pass

SUMMARY = "List, fetch, check and convert weights."


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
    rank: weights_options.Rank = None,
    int8: weights_options.Int8 = False,
    expand: weights_options.Expand = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write weights as safetensors, with all that must travel.

    The file holds the preprocessing, the class names and the fingerprint beside the tensors. A network trained on random
    crops, which enlarge what is in them, often does better on a larger input. --int8 and --rank make the file small, at a
    price that 'cnncodes probe' measures; --expand writes torchvision's plain shapes.

        cnncodes weights convert bvlc_alexnet.caffemodel -o bvlc.safetensors

        cnncodes weights convert run/model.safetensors -o larger.safetensors --input 192 --resize 208

        cnncodes weights convert imagenet -o small.safetensors --int8 --rank 128
    """
    from cnncodes.weights import convert as convert_weights

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite)
    weights = convert_weights(
        name, output, network=model, overwrite=overwrite, input_size=input_size, resize=resize,
        class_names=class_names, rank=rank, int8=int8, expand=expand,
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


COMMANDS = (
    ("list", list_known),
    ("fetch", fetch),
    ("check", check),
    ("convert", convert),
)
