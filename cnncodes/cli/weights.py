"""`cnncodes weights` and `cnncodes networks`: what there is; fetch, check and convert weights."""

from __future__ import annotations

from cnncodes.cli import options
from cnncodes.cli.arguments import check_free
from cnncodes.cli.console import Reporter
from cnncodes.core.words import percent, shell, size

NETWORKS = "List the networks that can be used."
SUMMARY = "List, fetch, check and convert weights."


def list_networks(pattern: options.Pattern = "*", *, reporter: Reporter) -> None:
    """List networks with input size, parameters and accuracy.

    These are the networks of cnncodes and every classification network of torchvision and timm. Top-1 is the ImageNet
    accuracy of the weights 'imagenet', as the library states it. Layers of one network: cnncodes info torchvision/resnet50.

        cnncodes networks list '*resnet*'
    """
    import fnmatch

    from cnncodes.core.errors import DependencyError
    from cnncodes.networks import NETWORKS as OWN
    from cnncodes.networks.library import LIBRARIES
    from cnncodes.networks.library import list_networks as list_library
    from cnncodes.weights.published import FEW, describe_networks

    names = list(OWN)
    for library in LIBRARIES:
        try:
            names += [f"{library}/{name}" for name in list_library(library)]
        except DependencyError as error:
            reporter.note(f"{error.problem} {error.remedy}")
    fitting = [name for name in names if fnmatch.fnmatch(name, pattern) or pattern in name]
    found = describe_networks(fitting)
    reporter.document(found)
    columns = ("network", "input (px)", "parameters", "penultimate", "top-1 (%)")
    top1 = [None if one.top1 is None else f"{one.top1:.1f}" for one in found]
    rows = [(one.name, one.input_size, one.parameters, one.width, top1[at]) for at, one in enumerate(found)]
    reporter.table("", columns, rows)
    if len(found) > FEW:
        reporter.note(f"parameters and layers are shown for a pattern that fits at most {FEW} networks")
    if fitting:
        reporter.next(f"cnncodes info {fitting[0]}")


def list_weights(*, reporter: Reporter) -> None:
    """List the weights that have a name, and where they are."""
    from cnncodes.weights import list_weights as list_known

    known = list_known()
    reporter.document(known)
    rows = [
        (
            entry.name, entry.network, "present" if entry.present else "not downloaded",
            size(entry.size) if entry.size else None,
            f"{entry.top1:.1f} / {entry.top5:.1f} %" if entry.top1 and entry.top5 else None, entry.path or "computed",
        )
        for entry in known
    ]  # fmt: skip
    reporter.table("", ("name", "network", "state", "size", "ImageNet top-1 / top-5", "file"), rows)
    if not all(entry.present for entry in known):
        reporter.next("cnncodes weights fetch imagenet")


def fetch(name: options.WeightsName, model: options.Network = None, *, reporter: Reporter) -> None:
    """Download weights into torch's cache folder.

    An interrupted download continues; the digest is verified.
    """
    from cnncodes.weights import fetch as fetch_weights

    with reporter.progress(f"fetching {name}", 1) as update:
        path = fetch_weights(
            name,
            lambda done, total: update(done / max(total, 1), f"{size(done)} of {size(total)}"),
            network=model,
        )
    reporter.result(f"{path}")
    reporter.document(path=str(path))
    reporter.next(f"cnncodes weights check {shell(name)}")


def check(name: options.WeightsName, model: options.Network = None, *, reporter: Reporter) -> None:
    """Verify and describe weights: digest, keys and shapes."""
    from cnncodes.weights import check as check_weights

    report = check_weights(name, network=model)
    reporter.document(report)
    classes = report.classes or "no"
    reporter.result(f"{report.name}: {report.network}, {report.parameters:,} parameters, {classes} classes")
    reporter.result(f"source       {report.source}")
    reporter.result(f"fingerprint  {report.fingerprint}")
    if report.left_out is not None:
        reporter.result(f"left out     {report.left_out}")
    if report.seen:
        watched = f" and {report.watched:,} validation images" if report.watched else ""
        reporter.result(f"digests      of {report.seen:,} training images{watched}")
    if test := report.evidence.get("test"):
        reporter.result(
            f"tested       {percent(test['accuracy'])} on {test['images']:,} images not used in training"
        )
    rows = [(key, "x".join(map(str, shape))) for key, shape in report.shapes.items()]
    reporter.table("", ("tensor", "shape"), rows)


def convert(
    name: options.WeightsName,
    output: options.Output,
    model: options.Network = None,
    input_size: options.NewInput = None,
    resize: options.NewResize = None,
    class_names: options.ClassNames = None,
    rank: options.Rank = None,
    int8: options.Int8 = False,
    expand: options.Expand = False,
    overwrite: options.Overwrite = False,
    *,
    reporter: Reporter,
) -> None:
    """Write weights as safetensors, with their metadata.

    The file holds preprocessing, class names and fingerprint besides the tensors. A network trained on random crops, which
    enlarge objects, often does better on a larger input. --int8 and --rank make the file smaller at some loss of accuracy;
    measure it with 'cnncodes probe'.

        cnncodes weights convert bvlc_alexnet.caffemodel -o bvlc.safetensors

        cnncodes weights convert run/model.safetensors -o larger.safetensors --input 192 --resize 208

        cnncodes weights convert imagenet -o small.safetensors --int8 --rank 128
    """
    from cnncodes.weights import convert as convert_weights

    check_free(output, overwrite)
    weights = convert_weights(
        name, output, network=model, overwrite=overwrite, input_size=input_size, resize=resize,
        class_names=class_names, rank=rank, int8=int8, expand=expand,
    )  # fmt: skip
    if weights.left_out is not None:
        reporter.note(f"weights '{name}': {weights.left_out}")
    seen = weights.preprocessing
    names = len(weights.class_names() or ()) or "no"
    reporter.result(f"{output}: {weights.network}, fingerprint {weights.fingerprint[:16]}...")
    reporter.result(f"input        resize to {seen.resize} px, crop {seen.crop} px; {names} class names")
    reporter.document(
        output=output, network=weights.network, fingerprint=weights.fingerprint, preprocessing=seen
    )
    reporter.next(f"cnncodes extract photos/ -o codes.h5 --weights {shell(output)}")


NETWORK_COMMANDS = (("list", list_networks),)
COMMANDS = (("list", list_weights), ("fetch", fetch), ("check", check), ("convert", convert))
