"""`cnncodes info`, `networks` and `weights`: what there is and what is in it; fetch, check and convert weights."""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING

from cnncodes import heads, networks, weights
from cnncodes.cli import options
from cnncodes.cli.arguments import check_free
from cnncodes.cli.codes import fit_command
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CodesFileError, DependencyError
from cnncodes.core.words import one_line, percent, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.codes import ExtractionSettings

NETWORKS = "List the networks that can be used."
SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".caffemodel", ".npy")  # of weights
SUMMARY = "List, fetch, check and convert weights."


def info(reporter: Reporter, what: options.What, input_size: options.InputSize = None) -> None:
    """Describe a codes file, model, run, weights or network.

    cnncodes info codes.h5
    cnncodes info out
    cnncodes info model.safetensors
    cnncodes info alexnet --input 227
    """
    from cnncodes.core.files import model_file

    path = model_file(what)
    if path.is_dir():
        raise CodesFileError(
            f"'{what}' is a folder without a model.",
            "Give the folder of a run, a codes file, a model, weights, or a network.",
        )
    what, suffix = str(path), path.suffix.lower()
    named = what in ("starter", "imagenet") or what.startswith("random:")
    tensors = (
        path.suffix == ".safetensors" and path.is_file() and not heads.is_model(weights.read_tensors(path)[1])
    )
    if named or suffix in SUFFIXES or tensors:
        check(reporter, what)
    elif path.suffix == ".safetensors":
        _model(reporter, what)
    elif suffix in (".h5", ".hdf5") or path.is_file():
        _codes(reporter, what)
    else:
        _network(reporter, what, input_size)


def _network(reporter: Reporter, name: str, input_size: int | None) -> None:
    network = networks.get_network(name)
    if not network.stages:
        _library_network(reporter, network, input_size)
        return
    table = networks.stage_table(network, input_size)
    reporter.document(table)
    columns = (
        "stage", "output", "kernel", "stride", "pad", "groups", "field", "parameters", "connections",
        "multiply-adds", "MB fwd", "MB fwd+bwd",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = [
        (
            row.name, "x".join(map(str, row.shape)), row.kernel, row.stride, row.padding, row.groups,
            row.receptive_field, row.parameters, row.connections, row.multiply_adds,
            f"{row.forward_bytes / 1e6:.2f}", f"{2 * row.forward_bytes / 1e6:.2f}",
        )
        for row in table.rows
    ]  # fmt: skip
    rows.append(
        ("total", "", None, None, None, None, None, table.parameters, table.connections, table.multiply_adds,
         f"{table.forward_bytes / 1e6:.2f}", f"{table.backward_bytes / 1e6:.2f}")
    )  # fmt: skip
    reporter.table(f"{table.network}, input 3x{table.input_size}x{table.input_size}", columns, rows)
    reporter.result(
        f"model {size(table.model_bytes)} as float32; activations per image: {size(table.forward_bytes)} forward, "
        f"{size(table.backward_bytes)} with gradients (including the input; a ReLU is part of its stage); "
        "field = receptive field in px"
    )
    last = [row.name for row in table.rows if row.name != "fc8"][-1]
    reporter.next(f"cnncodes extract photos/ -o codes.h5 --model {name} --weights random:0 --layers {last}")


def _library_network(reporter: Reporter, network: networks.Network, input_size: int | None) -> None:
    """The layers of a library's network: the usual ones by default, all of them as JSON."""
    shapes, size_px = network.output_shapes(input_size), input_size or network.input_size
    parameters, usual = network.parameters, network.stage_names
    reporter.document(
        network=network.name, input_size=size_px, parameters=parameters, classes=network.classes,
        layers=[
            {"name": layer, "shape": list(shape), "rectified": network.is_rectified(layer), "usual": layer in usual}
            for layer, shape in shapes.items()
        ],
    )  # fmt: skip
    rows = [
        (layer, "x".join(map(str, shapes[layer])), math.prod(shapes[layer]), network.is_rectified(layer))
        for layer in usual
    ]
    title = f"{network.name}, input 3x{size_px}x{size_px}, {parameters:,} parameters, {network.classes or 'no'} classes"
    reporter.table(title, ("layer", "output", "numbers", "rectified"), rows)
    reporter.result(
        f"all {len(shapes):,} modules can be used as layers by their paths: cnncodes info {network.name} --json lists them"
    )
    named = f"--model {network.name} --layers {network.usual_layer}"
    reporter.next(f"cnncodes extract photos/ -o codes.h5 {named}")


def _codes(reporter: Reporter, path: str) -> None:
    from cnncodes.codes import CodesFile

    with CodesFile(path) as codes:
        settings, problems, made, listed = codes.settings, codes.problems(), codes.provenance, codes.catalog
        done, pending = int((codes.state == 1).sum()), int((codes.state == 0).sum())
        reporter.document(
            settings=settings, command=made.command, created=made.created, versions=made.versions,
            weights_source=made.weights_source, root=str(listed.root), images=len(codes), done=done,
            pending=pending, classes=list(listed.classes), unreadable=problems,
        )  # fmt: skip
        state = f"{done:,} done, {pending:,} pending, {len(problems):,} unreadable"
        reporter.result(f"{path}: {len(codes):,} images, {state}")
        reporter.result(f"images   {listed.describe()}, in {listed.root}")
        reporter.result(_weights_line(settings))
        reporter.result(f"         {made.weights_source}")
        record = settings.preprocessing
        side = {"shorter": "shorter side", "pad": "longer side", "squash": "both sides"}[record.fit]
        padded = {"pad": ", padded with the mean colour", "squash": " (squashed)"}.get(record.fit, "")
        pooled = "" if settings.pool == "none" else f"; maps and tokens: {settings.pool} of each channel"
        reporter.result(
            f"pixels   {side} to {record.resize}{padded}, {record.interpolation}, crop {record.crop} ({settings.crops}), "
            f"{record.channels} / {record.scale:g}, mean {record.mean}, std {record.std}{pooled}"
        )
        reporter.result(f"created  {made.created} by: {made.command}")
        rows = []
        for stage in codes.stages:
            dataset, shape = codes.hdf5["layers"][stage], "x".join(map(str, codes.stage_shape(stage)))
            rows.append((stage, shape, str(dataset.shape), str(dataset.dtype), bool(settings.relu(stage))))
        reporter.table("", ("layer", "stage shape", "stored", "dtype", "after ReLU"), rows)
        for name, reason in problems.items():
            reporter.result(f"unreadable: {quoted(name)}: {reason}")
    again = "repeat the extract command to continue"
    reporter.next(again if pending else fit_command(path, settings.stages))


def _weights_line(settings: ExtractionSettings) -> str:
    return f"weights  {settings.weights} for {settings.network}, sha256 {settings.weights_sha256[:16]}..."


def _model(reporter: Reporter, path: str) -> None:
    model = heads.LinearModel.load(path)
    head, settings = model.head, model.settings
    reporter.document(
        head=head, settings=settings, evidence=model.evidence, images_fitted=model.images_fitted
    )
    reporter.result(f"{path}: {head.kind} on {model.stage}, C = {head.C:g}, {len(model.classes)} classes")
    reporter.result(f"classes  {', '.join(map(one_line, model.classes))}")
    reporter.result(_weights_line(settings))
    reporter.result(f"fitted   on {model.images_fitted:,} images: {model.evidence.get('split', '')}")
    reporter.next(f"cnncodes predict {shell(path)} photo.jpg")


def list_networks(reporter: Reporter, pattern: options.Pattern = "*") -> None:
    """List networks with input size, parameters and accuracy.

    These are the networks of cnncodes and every classification network of torchvision and timm. Top-1 is the ImageNet
    accuracy of the weights 'imagenet', as the library states it. Layers of one network: cnncodes info torchvision/resnet50.

        cnncodes networks list '*resnet*'
    """
    from cnncodes.networks.definitions import LIBRARIES
    from cnncodes.networks.library import list_networks as list_library
    from cnncodes.weights.published import FEW, describe_networks

    names = list(networks.NETWORKS)
    for library in LIBRARIES:
        try:
            names += [f"{library}/{name}" for name in list_library(library)]
        except DependencyError as error:
            reporter.note(f"{error.problem} {error.remedy}")
    fitting = [name for name in names if fnmatch.fnmatch(name, pattern) or pattern in name]
    found = describe_networks(fitting)
    reporter.document(found)
    columns = ("network", "input (px)", "parameters", "penultimate", "top-1 (%)")
    rows = [
        (one.name, one.input_size, one.parameters, one.width, None if one.top1 is None else f"{one.top1:.1f}")
        for one in found
    ]
    reporter.table("", columns, rows)
    if len(found) > FEW:
        reporter.note(f"parameters and layers are shown for a pattern that fits at most {FEW} networks")
    if fitting:
        reporter.next(f"cnncodes info {fitting[0]}")


def list_weights(reporter: Reporter) -> None:
    """List the weights that have a name, and where they are."""
    known = weights.list_weights()
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


def fetch(reporter: Reporter, name: options.WeightsName, model: options.Network = None) -> None:
    """Download weights into torch's cache folder.

    An interrupted download continues; the digest is verified.
    """
    with reporter.progress(f"fetching {name}", 1) as update:

        def told(done: int, total: int) -> None:
            update(done / max(total, 1), f"{size(done)} of {size(total)}")

        path = weights.fetch(name, told, network=model)
    reporter.result(f"{path}")
    reporter.document(path=str(path))
    reporter.next(f"cnncodes weights check {shell(name)}")


def check(reporter: Reporter, name: options.WeightsName, model: options.Network = None) -> None:
    """Verify and describe weights: digest, keys and shapes."""
    report = weights.check(name, network=model)
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
        tested = f"{test['images']:,} images not used in training"
        reporter.result(f"tested       {percent(test['accuracy'])} on {tested}")
    rows = [(key, "x".join(map(str, shape))) for key, shape in report.shapes.items()]
    reporter.table("", ("tensor", "shape"), rows)


def convert(
    reporter: Reporter,
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
) -> None:
    """Write weights as safetensors, with their metadata.

    The file holds preprocessing, class names and fingerprint besides the tensors. A network trained on random crops, which
    enlarge objects, often does better on a larger input. --int8 and --rank make the file smaller at some loss of accuracy;
    measure it with 'cnncodes probe'.

        cnncodes weights convert bvlc_alexnet.caffemodel -o bvlc.safetensors
        cnncodes weights convert run/model.safetensors -o larger.safetensors --input 192 --resize 208
        cnncodes weights convert imagenet -o small.safetensors --int8 --rank 128
    """
    check_free(output, overwrite)
    made = weights.convert(
        name, output, network=model, overwrite=overwrite, input_size=input_size, resize=resize,
        class_names=class_names, rank=rank, int8=int8, expand=expand,
    )  # fmt: skip
    if made.left_out is not None:
        reporter.note(f"weights '{name}': {made.left_out}")
    seen = made.preprocessing
    names = len(made.class_names() or ()) or "no"
    reporter.result(f"{output}: {made.network}, fingerprint {made.fingerprint[:16]}...")
    reporter.result(f"input        resize to {seen.resize} px, crop {seen.crop} px; {names} class names")
    reporter.document(output=output, network=made.network, fingerprint=made.fingerprint, preprocessing=seen)
    reporter.next(f"cnncodes extract photos/ -o codes.h5 --weights {shell(output)}")


NETWORK_COMMANDS = (("list", list_networks),)
COMMANDS = (("list", list_weights), ("fetch", fetch), ("check", check), ("convert", convert))
