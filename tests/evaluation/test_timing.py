"""A time that is printed beside others is worth nothing unless it follows their protocol, step by step."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cnncodes.cli import main
from cnncodes.codes.compute import Device, choose_device
from cnncodes.core.errors import CnnCodesError, DependencyError, OptionError, StageError
from cnncodes.core.records import from_value
from cnncodes.evaluation import Timing, benchmark_network, timing
from cnncodes.evaluation.timing import (
    HISTORIC_TIMES,
    Workload,
    count_flops,
    cut_network,
    half_sum_of_squares,
    historic_times,
)
from cnncodes.networks import NETWORKS, Convolution, Linear, LocalResponseNorm, MaxPool, Network, TorchNetwork

CPU = Device("cpu", "CPU", 1)
QUICK = {"batch_size": 2, "device": "cpu", "steps": 3, "burn_in": 2}


def tiny() -> Network:
    stages = (
        Convolution("conv1", 6, kernel=5, stride=2, padding=2),
        LocalResponseNorm("norm1"),
        MaxPool("pool1", kernel=3, stride=2),
        Convolution("conv2", 8, kernel=3, padding=1, groups=2),
        Linear("fc6", 10, relu=False),
    )
    return Network("tiny", 16, stages)


def workload(
    network: Network | None = None, precision: str = "float32", *, backward: bool = False
) -> Workload:
    return Workload(network or tiny(), 2, CPU, precision, backward=backward, compiled=False)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small matrix product, and the tiny network by its name."""
    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    monkeypatch.setitem(timing.MATRIX_SIDE, "cpu", 64)
    monkeypatch.setattr(timing, "MATRIX_SECONDS", 0.0)


@pytest.fixture
def results(monkeypatch):
    """What every timed step gave, in order; each takes one second."""
    given = []

    def step_in_a_second(step, device):
        given.append(step())
        return 1.0

    monkeypatch.setattr(timing, "time_step", step_in_a_second)
    return given


# The protocol


def test_burn_in_runs_and_is_not_counted(monkeypatch) -> None:
    clock = itertools.cycle([100.0, 100.0, 1.0, 2.0, 3.0])  # two steps burn in, three count
    ran = []
    for name in ("forward", "forward_backward"):
        step = getattr(Workload, name)
        monkeypatch.setattr(Workload, name, lambda self, name=name, step=step: ran.append(name) or step(self))
    monkeypatch.setattr(timing, "time_step", lambda step, device: (step(), next(clock))[1])
    found = benchmark_network(tiny(), **QUICK, stages=True)
    assert ran == 5 * ["forward"] + 5 * ["forward_backward"]
    for seconds in (part.seconds for part in (found.forward, found.forward_backward, *found.stages)):
        assert (seconds.mean, seconds.fastest, seconds.steps) == (2.0, 1.0, 3)
        assert seconds.sd == pytest.approx((2 / 3) ** 0.5), "divided by n, as the protocol does"


def test_a_step_backward_gives_the_gradients_of_all_weights_by_hand() -> None:
    """One fully connected stage: the gradient of ``|Wx + b|^2 / 2`` is ``(Wx + b) x^T``."""
    work = workload(Network("one", 2, (Linear("fc1", 4, relu=False),)), backward=True)
    loss, (weight_gradient, bias_gradient) = work.forward_backward()
    weight, bias = work.parameters
    pixels = work.pixels.reshape(2, 12)
    output = pixels @ weight.detach().T + bias.detach()  # [2, 4]
    torch.testing.assert_close(loss.detach(), (output**2).sum() / 2)
    torch.testing.assert_close(weight_gradient, output.T @ pixels)
    torch.testing.assert_close(bias_gradient, output.sum(0))
    assert not work.pixels.requires_grad, "nobody needs the gradient of the pixels"


def test_forward_is_the_network_itself() -> None:
    work = workload()
    expected = work.module.activations(work.pixels, "fc6")["fc6"]
    torch.testing.assert_close(work.forward(), expected, rtol=0, atol=0)
    assert expected.abs().max() > 0.01, "Kaiming's numbers keep the activations alive"


def test_stages_are_timed_on_what_they_get_in_the_network(results) -> None:
    found = benchmark_network(tiny(), **QUICK, stages=True)
    assert [stage.stage for stage in found.stages] == ["conv1", "norm1", "pool1", "conv2", "fc6"]
    work = workload()
    activations = work.module.activations(work.pixels, "all")
    by_stage = results[5 : 5 + 5 * 5]  # after the forward steps, five steps for each of five stages
    for place, (name, expected) in enumerate(activations.items()):
        for given in by_stage[5 * place : 5 * place + 5]:
            torch.testing.assert_close(given, expected, rtol=0, atol=0, msg=name)
    assert found.stages_sum == 5.0, "of steps that take a second each"
    assert sum(stage.flops for stage in found.stages) == found.forward.flops
    values = json.loads(found.to_json())
    assert from_value(values, Timing) == found
    assert (values["forward"]["images_per_second"], values["stages_sum"]) == (2.0, 5.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_converts_for_forward_and_autocasts_for_backward(precision, monkeypatch) -> None:
    dtype = getattr(torch, precision)
    forward, backward = workload(precision=precision), workload(precision=precision, backward=True)
    assert {parameter.dtype for parameter in forward.parameters} == {dtype}
    assert forward.forward().dtype == dtype
    seen = []
    monkeypatch.setattr(
        timing, "half_sum_of_squares", lambda output: seen.append(output.dtype) or half_sum_of_squares(output)
    )
    _, gradients = backward.forward_backward()
    assert seen == [dtype], "the arithmetic is reduced"
    assert {gradient.dtype for gradient in gradients} == {torch.float32}, "the weights that learn are not"


# What is counted


@pytest.mark.parametrize(
    ("name", "backward"),
    [("caffenet", False), ("alexnet", False), ("alexnet", True), ("alexnet-tf", True), ("vgg16", True)],
)
def test_flops_are_those_that_torch_counts(name, backward) -> None:
    """An independent count of the very operations, on shapes alone.

    Not backward with two groups, whose weights' gradient torch counts as if there were one.
    """
    network = NETWORKS[name]()
    with torch.device("meta"):
        module = TorchNetwork(network)
        pixels = torch.empty(2, 3, network.input_size, network.input_size)
    with FlopCounterMode(display=False) as counted:
        output = module(pixels)
        if backward:
            torch.autograd.grad(half_sum_of_squares(output), tuple(module.parameters()))
    assert count_flops(network, 2, backward=backward) == counted.get_total_flops()


def test_peak_memory_is_what_was_held_at_once_and_reset_forgets() -> None:
    """In a process of its own: a training tells the C library to keep freed memory, which other tests may have done here."""
    program = """
import torch
from cnncodes.codes.compute import choose_device
from cnncodes.evaluation.timing import PeakMemory
memory = PeakMemory(choose_device("cpu"))
block = torch.ones(16_000_000)  # 64 MB
del block
peak = memory.peak()
memory.reset()
print(memory.measure is not None, peak, memory.peak())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    measured, peak, after = done.stdout.split()
    if measured == "False":
        pytest.skip("no /proc here")
    assert int(peak) > 60_000_000
    if after == peak:
        pytest.skip("this system does not set the kernel's counter back")
    assert int(after) < 30_000_000


def test_memory_that_cannot_be_measured_is_said_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr("cnncodes.evaluation.timing._high_water", lambda: None)
    found = benchmark_network(tiny(), **QUICK)
    assert found.memory_measure is None and found.forward.peak_memory is None
    assert main(COMMAND) == 0
    assert "peak memory: cannot be measured on this device" in capsys.readouterr().out


# Records, errors, progress


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"until": "pool9"}, StageError, ("pool9", "pool1")),
        ({"until": "conv1:linear"}, StageError, ("conv1:linear", "'conv1'")),
        ({"batch_size": 0}, OptionError, ("batch_size = 0", "1 or more")),
        ({"batch_size": 10**15}, OptionError, ("1000000000000000", "--batch-size")),
        ({"steps": 0}, OptionError, ("steps = 0", "1 or more")),
        ({"burn_in": -1}, OptionError, ("burn_in = -1", "0 or more")),
        ({"precision": "float8"}, OptionError, ("float8", "bfloat16")),
        ({"device": "gpu"}, OptionError, ("gpu", "cuda")),
    ],
)
def test_a_mistake_is_named_with_its_remedy(wrong, error, words, results) -> None:
    with pytest.raises(error) as raised:
        benchmark_network(tiny(), **(QUICK | wrong))
    assert all(word in str(raised.value) for word in words)
    assert results == [], "before any work"


@pytest.mark.parametrize(
    "message",
    ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.", "CUDA out of memory."],
)
def test_too_little_memory_asks_for_a_smaller_batch(message, monkeypatch) -> None:
    def full(self) -> None:
        raise torch.OutOfMemoryError(message) if "CUDA" in message else RuntimeError(message)

    monkeypatch.setattr(Workload, "forward", full)
    with pytest.raises(OptionError, match=r"2 images does not fit.*\n.*--batch-size"):
        benchmark_network(tiny(), **QUICK)


def test_compiling_is_not_counted_and_changes_nothing(monkeypatch, results) -> None:
    """With torch's own tracing, and no C++ compiler."""
    compiled = torch.compile
    asked = []

    def trace_only(module, **options):
        asked.append(module)
        return compiled(module, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", trace_only)
    plain = workload().forward()
    found = benchmark_network(tiny(), **QUICK, compile=True)
    assert found.compiled and len(asked) == 2
    assert found.forward.compile_seconds == found.forward_backward.compile_seconds == 1.0
    assert found.forward.seconds.steps == 3
    assert len(results) == 2 * (1 + 2 + 3) + timing.MATRIX_PRODUCTS
    torch.testing.assert_close(results[0], plain)
    if found.memory_measure is not None:
        assert "compiler included" in found.memory_measure, "it is hundreds of megabytes of the same process"


def test_where_nothing_compiles_the_reason_is_one_line(monkeypatch) -> None:
    def broken(module, **options):
        def call(pixels):
            raise RuntimeError("No working C++ compiler found: g++.\nSet TORCHDYNAMO_VERBOSE=1 ...")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(DependencyError) as raised:
        benchmark_network(tiny(), **QUICK, compile=True)
    assert raised.value.problem == (
        "torch.compile does not work on this machine: No working C++ compiler found: g++."
    )
    assert "--compile" in raised.value.remedy


def test_progress_names_the_work_and_reaches_the_end() -> None:
    told: list[tuple[str, float, int, str]] = []
    benchmark_network(tiny(), **QUICK, stages=True, progress=lambda *where: told.append(where))
    names = list(dict.fromkeys(what for what, *_ in told))
    assert names == ["forward", *tiny().stage_names, "forward-backward", "matrix product"]
    assert [done for _, done, *_ in told] == list(range(7 * 5 + 1))
    assert {total for _, _, total, _ in told} == {7 * 5}


# The published times, and the command

COMMAND = ["benchmark", "--model", "tiny", "--batch-size", "2", "--steps", "2", "--burn-in", "1", "--stages", "--device", "cpu"]  # fmt: skip


def test_the_published_times_of_the_same_work_come_first_else_all() -> None:
    same = historic_times("alexnet-tf", "pool5")
    assert {(row.network, row.cut) for row in same} == {("alexnet-tf", "pool5")}
    assert historic_times("alexnet", "conv3") == HISTORIC_TIMES


def test_the_command_prints_this_machine_above_the_old_ones_and_json_has_all(capsys) -> None:
    assert main(COMMAND) == 0
    out = capsys.readouterr().out
    assert "tiny to fc6, 2 images of 3x16x16 a batch, float32" in out
    assert "2 steps counted after 1" in out and "sum of the stages" in out
    assert "none of this one" in out
    assert out.index("this run") < out.index("Titan X")
    assert all(row.hardware in out and row.source in out for row in HISTORIC_TIMES)
    assert main([*COMMAND, "--until", "pool1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    historic = document.pop("historic")
    found = from_value(document, Timing)
    assert (found.until, found.batch_size, found.forward.seconds.steps) == ("pool1", 2, 2)
    assert len(historic) == len(HISTORIC_TIMES) and not any(row["fits"] for row in historic)


def test_a_cut_keeps_the_stages_up_to_it() -> None:
    assert cut_network(NETWORKS["alexnet"](), "pool5").stage_names[-1] == "pool5"
    assert cut_network(NETWORKS["alexnet"](), None) == NETWORKS["alexnet"]()
    with pytest.raises(CnnCodesError, match="names 5 stages"):
        cut_network(NETWORKS["alexnet"](), "conv")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_time_is_the_gpus_and_float32_is_exact(precision, monkeypatch) -> None:
    monkeypatch.setitem(timing.MATRIX_SIDE, "cuda", 256)
    rounding = torch.backends.cuda.matmul.allow_tf32
    seen, step = [], Workload.forward

    def forward(self):
        seen.append((torch.backends.cuda.matmul.allow_tf32, self.pixels.device.type))
        return step(self)

    monkeypatch.setattr(Workload, "forward", forward)
    options = {"device": "cuda", "precision": precision, "steps": 3, "burn_in": 2, "stages": True}
    found = benchmark_network(NETWORKS["alexnet"](), 8, **options)
    assert set(seen) == {(False, "cuda")}
    assert torch.backends.cuda.matmul.allow_tf32 == rounding
    assert found.device == choose_device("cuda").description
    weights = 61_100_840 * (4 if precision == "float32" else 2)
    assert found.forward.peak_memory > weights and found.forward_backward.peak_memory > 2 * 4 * 61_100_840
    assert found.forward.seconds.mean > 0 and found.forward_backward.seconds.mean > 0
