"""`cnncodes benchmark`: how fast a network is on this machine, and on those of its day."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from cnncodes import evaluation, networks
from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import percent, size

if TYPE_CHECKING:
    from cnncodes.evaluation.timing import Seconds, Timing


def benchmark(
    reporter: Reporter,
    model: options.TimedNetwork = "alexnet",
    batch_size: options.TimedBatch = 128,
    until: options.Until = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    compile_: options.Compile = False,
    stages: options.EachStage = False,
    steps: options.Steps = 100,
    burn_in: options.BurnIn = 10,
) -> None:
    """Time a network on this machine.

    cnncodes benchmark --stages
    cnncodes benchmark --model alexnet-tf --until pool5

    Measures forward (extract, predict) and forward with backward (training) on random pixels and weights, by the protocol of
    TensorFlow's alexnet_benchmark.py, and compares with published times. Peak memory is what the process used above its
    start. The share compares with the fastest product of two large matrices on the same device: far below one, something
    other than arithmetic takes the time.
    """
    from cnncodes.codes.compute import choose_device, precision_note
    from cnncodes.evaluation.timing import HISTORIC_TIMES

    if note := precision_note(precision, choose_device(device)):
        reporter.note(note)
    with reporter.progress("timing", 100) as update:
        timing = evaluation.benchmark_network(
            networks.get_network(model), batch_size, until, device, cast("Any", precision), compile_, steps, burn_in,
            stages, progress=lambda what, done, total, _: update(100 * done / total, what),
        )  # fmt: skip
    historic = [asdict(row) | {"fits": row.fits(timing.network, timing.until)} for row in HISTORIC_TIMES]
    reporter.document(timing, historic=historic)
    _passes(reporter, timing)
    if timing.stages:
        _stages(reporter, timing)
    reporter.result(
        f"{timing.forward.seconds.steps} steps counted after {timing.burn_in}; matrix rate "
        f"{timing.matrix_rate / 1e9:,.1f} GFLOP/s ({timing.precision}, {timing.matrix_side} x {timing.matrix_side}, "
        f"fastest product); torch {timing.torch_version}, {timing.threads} CPU threads"
    )
    compiled = timing.forward.compile_seconds, timing.forward_backward.compile_seconds
    if None not in compiled:
        reporter.result("compilation: {:.1f} s for forward, {:.1f} s for forward-backward".format(*compiled))
    reporter.result(
        f"peak memory: {timing.memory_measure or 'cannot be measured on this device'}; FLOP: 2 per multiply-add, "
        "backward counts twice as much as forward, without the gradient of the pixels"
    )
    _historic(reporter, timing)
    again = f"cnncodes benchmark --model {timing.network} --until {timing.until}"
    reporter.next("cnncodes extract photos/ -o codes.h5" if stages else f"{again} --stages")


def _passes(reporter: Reporter, timing: Timing) -> None:
    """Forward alone, and forward with backward."""
    side, compiled = timing.input_size, ", compiled" if timing.compiled else ""
    rows = [
        (
            name, *_times(part.seconds), f"{timing.images_per_second(part):,.1f}", f"{part.flops / 1e9:,.1f}",
            f"{part.flops / part.seconds.mean / 1e9:,.1f}", percent(timing.share_of_matrix_rate(part)),
            None if part.peak_memory is None else size(part.peak_memory),
        )
        for name, part in (("forward", timing.forward), ("forward-backward", timing.forward_backward))
    ]  # fmt: skip
    reporter.table(
        f"{timing.network} to {timing.until}, {timing.batch_size} images of 3x{side}x{side} a batch, "
        f"{timing.precision}{compiled}, on {timing.device}",
        ("", "ms per batch", "sd", "images/s", "GFLOP", "GFLOP/s", "of matrix rate", "peak memory"),
        rows,
    )


def _stages(reporter: Reporter, timing: Timing) -> None:
    """Each stage alone, and their sum beside the whole."""
    whole, total = timing.forward.seconds.mean, timing.stages_sum or 0.0
    rows = [
        (
            stage.stage, *_times(stage.seconds), percent(stage.seconds.mean / total),
            f"{stage.flops / 1e9:,.2f}" if stage.flops else None,
            percent(timing.share_of_matrix_rate(stage)) if stage.flops else None,
        )
        for stage in timing.stages
    ]  # fmt: skip
    reporter.table("", ("stage alone", "ms per batch", "sd", "of the sum", "GFLOP", "of matrix rate"), rows)
    note = " (the stages are not compiled)" if timing.compiled else ""
    share = percent(total / whole)
    reporter.result(f"sum of the stages {1e3 * total:,.2f} ms, {share} of the whole forward pass{note}")


def _times(seconds: Seconds) -> tuple[str, str]:
    """Mean and standard deviation in milliseconds."""
    return f"{1e3 * seconds.mean:,.2f}", f"{1e3 * seconds.sd:,.2f}"


def _historic(reporter: Reporter, timing: Timing) -> None:
    """This machine's line above the published ones."""
    from cnncodes.evaluation.timing import historic_times

    def shown(seconds: float | None, sd: float | None) -> str | None:
        if seconds is None:
            return None
        return f"{1e3 * seconds:,.1f}" + ("" if sd is None else f" +- {1e3 * sd:,.1f}")

    forward, both = timing.forward.seconds, timing.forward_backward.seconds
    published = historic_times(timing.network, timing.until)
    here = (timing.device, f"torch {timing.torch_version}, {timing.precision}", timing.network, timing.until)
    times = (shown(forward.mean, forward.sd), shown(both.mean, both.sd))
    rows: list[tuple[object, ...]] = [(*here, timing.batch_size, *times, "this run")]
    for time in published:
        source = time.source + (f" ({time.remark})" if time.remark else "")
        times = (shown(time.forward, time.forward_sd), shown(time.forward_backward, time.forward_backward_sd))
        rows.append((time.hardware, time.software, time.network, time.cut, time.images, *times, source))
    columns = ("hardware", "software", "network", "cut", "images", "ms forward", "ms fwd+bwd", "source")
    fitting = any(time.fits(timing.network, timing.until) for time in published)
    what = "of the same network and cut" if fitting else "of other networks and cuts (none of this one)"
    reporter.table(f"beside published times {what}", columns, rows)
