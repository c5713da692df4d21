"""`cnncodes benchmark`: how fast a network is on this machine, and on those of its day."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING

from cnncodes.cli import benchmark_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import percent, size

if TYPE_CHECKING:
    from cnncodes.evaluation.timing_record import PassTiming, Seconds, Timing


def benchmark(
    model: benchmark_options.TimedNetwork = "alexnet",
    batch_size: benchmark_options.TimedBatch = 128,
    until: benchmark_options.Until = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    compile_: benchmark_options.Compile = False,
    stages: benchmark_options.EachStage = False,
    steps: benchmark_options.Steps = 100,
    burn_in: benchmark_options.BurnIn = 10,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time a network here, beside the machines of its day.

    cnncodes benchmark --stages

    cnncodes benchmark --model alexnet-tf --until pool5

    Forward (what extract and predict do), and forward with backward (what training does), on random pixels and
    weights, by the protocol of TensorFlow's alexnet_benchmark.py; the second is its network. Peak memory is what
    the process held beyond its start. The share compares with the fastest product of two large matrices on
    the same device: far below one, something other than arithmetic takes the time.
    """
    from typing import cast

    from cnncodes.codes.compute import choose_device, precision_note
    from cnncodes.codes.settings import Precision
    from cnncodes.evaluation import benchmark_network
    from cnncodes.networks import get_network

    reporter = Reporter(json, quiet)
    network = get_network(model)
    if note := precision_note(precision, choose_device(device)):
        reporter.note(note)
    with reporter.progress("timing", 100) as update:
        timing = benchmark_network(
            network, batch_size, until, device, cast(Precision, precision), compile_, steps, burn_in, stages,
            progress=lambda what, done, total, _: update(100 * done / total, what),
        )  # fmt: skip
    _report(reporter, timing)


def _report(reporter: Reporter, timing: Timing) -> None:
    from cnncodes.evaluation.timing_record import HISTORIC_TIMES

    reporter.document(
        json_module.loads(timing.to_json())
        | {
            "historic": [
                asdict(row) | {"fits": row.fits(timing.network, timing.until)} for row in HISTORIC_TIMES
            ]
        }
    )
    _passes(reporter, timing)
    if timing.stages:
        _stages(reporter, timing)
    reporter.result(
        f"{timing.forward.seconds.steps} steps counted after {timing.burn_in}; matrix rate "
        f"{timing.matrix_rate / 1e9:,.1f} GFLOP/s ({timing.precision}, {timing.matrix_side} x {timing.matrix_side}, "
        f"fastest product); torch {timing.torch_version}, {timing.threads} CPU threads"
    )
    if timing.forward.compile_seconds is not None and timing.forward_backward.compile_seconds is not None:
        reporter.result(
            f"compiling took {timing.forward.compile_seconds:.1f} s for forward, "
            f"{timing.forward_backward.compile_seconds:.1f} s for forward-backward"
        )
    reporter.result(
        f"peak memory: {timing.memory_measure or 'cannot be measured on this device'}; "
        "FLOP: 2 for each multiply-add, backward twice forward without the gradient of the pixels"
    )
    _historic(reporter, timing)
    again = f"cnncodes benchmark --model {timing.network} --until {timing.until}"
    reporter.next("cnncodes extract photos/ -o codes.h5" if timing.stages else f"{again} --stages")


def _passes(reporter: Reporter, timing: Timing) -> None:
    """Forward alone, and forward with backward."""
    compiled = ", compiled" if timing.compiled else ""
    pixels = f"3x{timing.input_size}x{timing.input_size}"
    parts = (("forward", timing.forward), ("forward-backward", timing.forward_backward))
    reporter.table(
        f"{timing.network} to {timing.until}, {timing.batch_size} images of {pixels} a batch, "
        f"{timing.precision}{compiled}, on {timing.device}",
        ("", "ms per batch", "sd", "images/s", "GFLOP", "GFLOP/s", "of matrix rate", "peak memory"),
        [
            (
                name,
                *_milliseconds(part.seconds),
                f"{timing.images_per_second(part):,.1f}",
                f"{part.flops / 1e9:,.1f}",
                f"{part.flops / part.seconds.mean / 1e9:,.1f}",
                percent(timing.share_of_matrix_rate(part)),
                None if part.peak_memory is None else size(part.peak_memory),
            )
            for name, part in parts
        ],
    )


def _milliseconds(seconds: Seconds) -> tuple[str, str]:
    """Mean and standard deviation."""
    return f"{1e3 * seconds.mean:,.2f}", f"{1e3 * seconds.sd:,.2f}"


def _stages(reporter: Reporter, timing: Timing) -> None:
    """Each stage alone, and their sum beside the whole."""
    whole, total = timing.forward.seconds.mean, timing.stages_sum or 0.0
    rows = [
        (
            stage.stage,
            *_milliseconds(stage.seconds),
            percent(stage.seconds.mean / total),
            f"{stage.flops / 1e9:,.2f}" if stage.flops else None,
            percent(timing.share_of_matrix_rate(stage)) if stage.flops else None,
        )
        for stage in timing.stages
    ]
    reporter.table("", ("stage alone", "ms per batch", "sd", "of the sum", "GFLOP", "of matrix rate"), rows)
    reporter.result(
        f"sum of the stages {1e3 * total:,.2f} ms, {percent(total / whole)} of the whole forward"
        + (" (the stages are not compiled)" if timing.compiled else "")
    )


def _historic(reporter: Reporter, timing: Timing) -> None:
    """This machine's line above the published ones."""
    from cnncodes.evaluation.timing_record import historic_times

    def line(seconds: float | None, sd: float | None) -> str | None:
        if seconds is None:
            return None
        return f"{1e3 * seconds:,.1f}" + ("" if sd is None else f" +- {1e3 * sd:,.1f}")

    def mean(part: PassTiming) -> str | None:
        return line(part.seconds.mean, part.seconds.sd)

    rows: list[tuple[object, ...]] = [
        (
            timing.device, f"torch {timing.torch_version}, {timing.precision}", timing.network, timing.until,
            timing.batch_size, mean(timing.forward), mean(timing.forward_backward), "this run",
        )
    ]  # fmt: skip
    rows += [
        (
            time.hardware, time.software, time.network, time.cut, time.images,
            line(time.forward, time.forward_sd), line(time.forward_backward, time.forward_backward_sd),
            time.source + (f" ({time.remark})" if time.remark else ""),
        )
        for time in historic_times(timing.network, timing.until)
    ]  # fmt: skip
    columns = ("hardware", "software", "network", "cut", "images", "ms forward", "ms fwd+bwd", "source")
    fitting = any(
        time.fits(timing.network, timing.until) for time in historic_times(timing.network, timing.until)
    )
    what = (
        "of the same network and cut" if fitting else "of other networks and cuts: there are none of this one"
    )
    reporter.table(f"beside published times {what}", columns, rows)
