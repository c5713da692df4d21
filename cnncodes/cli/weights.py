"""`cnncodes weights`: which weights there are; fetch, check and convert them."""

from __future__ import annotations

import dataclasses
import json as json_module

from cnncodes.cli import options
from cnncodes.cli.console import Reporter, shell, size

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
    name: options.WeightsName,
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


def check(name: options.WeightsName, model: options.Network = None, json: options.Json = False) -> None:
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
    rows = [(key, "x".join(map(str, shape))) for key, shape in report.shapes.items()]
    reporter.table("", ("tensor", "shape"), rows)
    if report.not_finite:
        reporter.warn(f"{report.not_finite:,} numbers are not finite: these weights are broken")
        raise options.Exit(1)


def convert(
    name: options.WeightsName,
    output: options.Output,
    model: options.Network = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write weights as safetensors, with all that must travel.

    The file holds the preprocessing, the class names and the fingerprint beside the tensors.

        cnncodes weights convert bvlc_alexnet.caffemodel -o bvlc.safetensors
    """
    from cnncodes.weights import convert as convert_weights

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite)
    weights = convert_weights(name, output, network=model, overwrite=overwrite)
    reporter.result(f"{output}: {weights.network}, fingerprint {weights.fingerprint[:16]}...")
    reporter.document({"output": output, "network": weights.network, "fingerprint": weights.fingerprint})
    reporter.next(f"cnncodes extract photos/ -o codes.h5 --weights {shell(output)}")


COMMANDS = (("list", list_known), ("fetch", fetch), ("check", check), ("convert", convert))
