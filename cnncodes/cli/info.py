"""`cnncodes info`: what is inside a codes file or a model, or the stage table of a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes import heads, networks
from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import fit_command
from cnncodes.cli.weights import check as show_weights
from cnncodes.core.errors import CodesFileError
from cnncodes.core.words import one_line, quoted, shell, size

if TYPE_CHECKING:
    from cnncodes.codes import CodesFile, ExtractionSettings
    from cnncodes.networks import Network

WEIGHTS_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".caffemodel", ".npy")


def info(what: options.What, input_size: options.InputSize = None, *, reporter: Reporter) -> None:
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
    if named or suffix in WEIGHTS_SUFFIXES or _is_weights(path):
        show_weights(what, None, reporter=reporter)
    elif path.suffix == ".safetensors":
        _model(reporter, what)
    elif suffix in (".h5", ".hdf5") or path.is_file():
        _codes(reporter, what)
    else:
        _network(reporter, what, input_size)


def _is_weights(path: Path) -> bool:
    """Whether a safetensors file holds weights and not a linear model."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    from cnncodes.weights import read_tensors

    return not heads.is_model(read_tensors(path)[1])


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


def _library_network(reporter: Reporter, network: Network, input_size: int | None) -> None:
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
    reporter.next(
        f"cnncodes extract photos/ -o codes.h5 --model {network.name} --layers {network.usual_layer}"
    )


def _codes(reporter: Reporter, path: str) -> None:
    from cnncodes.codes import CodesFile

    with CodesFile(path) as codes:
        settings, problems = codes.settings, codes.problems()
        done, pending = int((codes.state == 1).sum()), int((codes.state == 0).sum())
        made = codes.provenance
        reporter.document(
            settings=settings, command=made.command, created=made.created, versions=made.versions,
            weights_source=made.weights_source, root=str(codes.catalog.root), images=len(codes), done=done,
            pending=pending, classes=list(codes.catalog.classes), unreadable=problems,
        )  # fmt: skip
        reporter.result(
            f"{path}: {len(codes):,} images, {done:,} done, {pending:,} pending, {len(problems):,} unreadable"
        )
        _made_from(reporter, codes)
        for name, reason in problems.items():
            reporter.result(f"unreadable: {quoted(name)}: {reason}")
    reporter.next(
        fit_command(path, settings.stages) if not pending else "repeat the extract command to continue"
    )


def _made_from(reporter: Reporter, codes: CodesFile) -> None:
    """Images, weights and preprocessing, the command that made the file, and its layers."""
    settings, record = codes.settings, codes.settings.preprocessing
    pooled = "" if settings.pool == "none" else f"; maps and tokens: {settings.pool} of each channel"
    reporter.result(f"images   {codes.catalog.describe()}, in {codes.catalog.root}")
    _print_weights(reporter, settings)
    reporter.result(f"         {codes.provenance.weights_source}")
    side = {"shorter": "shorter side", "pad": "longer side", "squash": "both sides"}[record.fit]
    padded = {"pad": ", padded with the mean colour", "squash": " (squashed)"}.get(record.fit, "")
    reporter.result(
        f"pixels   {side} to {record.resize}{padded}, {record.interpolation}, crop {record.crop} ({settings.crops}), "
        f"{record.channels} / {record.scale:g}, mean {record.mean}, std {record.std}{pooled}"
    )
    reporter.result(f"created  {codes.provenance.created} by: {codes.provenance.command}")
    rows = []
    for stage in codes.stages:
        dataset = codes.hdf5["layers"][stage]
        shape = "x".join(map(str, codes.stage_shape(stage)))
        rows.append((stage, shape, str(dataset.shape), str(dataset.dtype), bool(settings.relu(stage))))
    reporter.table("", ("layer", "stage shape", "stored", "dtype", "after ReLU"), rows)


def _print_weights(reporter: Reporter, settings: ExtractionSettings) -> None:
    digest = settings.weights_sha256[:16]
    reporter.result(f"weights  {settings.weights} for {settings.network}, sha256 {digest}...")


def _model(reporter: Reporter, path: str) -> None:
    model = heads.LinearModel.load(path)
    head, settings = model.head, model.settings
    reporter.document(
        head=head, settings=settings, evidence=model.evidence, images_fitted=model.images_fitted
    )
    reporter.result(f"{path}: {head.kind} on {model.stage}, C = {head.C:g}, {len(model.classes)} classes")
    reporter.result(f"classes  {', '.join(map(one_line, model.classes))}")
    _print_weights(reporter, settings)
    reporter.result(f"fitted   on {model.images_fitted:,} images: {model.evidence.get('split', '')}")
    reporter.next(f"cnncodes predict {shell(path)} photo.jpg")
