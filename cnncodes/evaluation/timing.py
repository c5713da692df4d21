"""How long a network takes on this machine, by the protocol of TensorFlow's `alexnet_benchmark.py`, and the times published with it.

Random pixels and random weights, nothing on disk: 10 steps to burn in, 100 counted, each waited for; forward,
and forward with the gradients of all weights for the loss half the sum of squares of the last output.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from cnncodes.codes.compute import Device, choose_device, exact_and_side_by_side, is_out_of_memory
from cnncodes.codes.settings import Precision
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import DependencyError, OptionError, StageError
from cnncodes.core.records import to_value
from cnncodes.networks import Network, TorchNetwork, stage_table
from cnncodes.training.learner import initialise
from cnncodes.training.settings import TrainingSettings

SEED = 0
#: Sides of the matrices whose product is the machine's rate: large enough that a larger one is not faster.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
MATRIX_SECONDS = 0.5
MATRIX_PRODUCTS = 3  # at least


@dataclass(frozen=True)
class Seconds:
    """Times of repeated steps in seconds; ``sd`` divides by n, as the protocol does."""

    mean: float
    sd: float
    fastest: float
    steps: int


@dataclass(frozen=True)
class PassTiming:
    """One batch, forward or forward and backward."""

    seconds: Seconds
    flops: int  # see :class:`Timing`
    peak_memory: int | None  # bytes beyond what the process held before, None where that cannot be measured
    compile_seconds: float | None = None  # of the first, uncounted call with torch.compile


@dataclass(frozen=True)
class StageTiming:
    """Forward of one stage alone, on the activation that it gets in the network; never compiled."""

    stage: str
    seconds: Seconds
    flops: int


@dataclass(frozen=True)
class Timing:
    """Times of a network by the protocol of TensorFlow's ``alexnet_benchmark.py``.

    Floating point operations (FLOP) are two for each multiply-add of convolutions and fully connected stages;
    nothing else is counted. Backward counts the same again for the gradients of the weights and once more for
    those of what enters each stage, except the first: nobody needs the gradient of the pixels.
    """

    network: str
    until: str  # the last stage that was computed
    batch_size: int
    input_size: int  # side of the images in pixels
    device: str
    torch_device: str
    torch_version: str
    threads: int
    precision: str
    compiled: bool
    burn_in: int  # steps that were not counted
    forward: PassTiming
    forward_backward: PassTiming
    stages: tuple[StageTiming, ...]
    matrix_rate: (
        float  # FLOP/s of the fastest product of two square matrices in that precision on the same device
    )
    matrix_side: int
    memory_measure: str | None  # how the peak memory was measured, None where it cannot be

    def images_per_second(self, part: PassTiming) -> float:
        """Images in a second, by the mean time of a batch."""
        return self.batch_size / part.seconds.mean

    def share_of_matrix_rate(self, part: PassTiming | StageTiming) -> float:
        """FLOP/s by the mean time, as a part (0..1) of the measured rate of matrix products."""
        return part.flops / part.seconds.mean / self.matrix_rate

    @property
    def stages_sum(self) -> float | None:
        """Seconds of all stages together, each timed alone; None if they were not timed."""
        return sum(stage.seconds.mean for stage in self.stages) if self.stages else None

    def to_json(self) -> str:
        """JSON object with one entry per field, and what follows from them: rates and shares."""
        values = to_value(self)
        for name, part in (("forward", self.forward), ("forward_backward", self.forward_backward)):
            values[name]["images_per_second"] = self.images_per_second(part)
            values[name]["share_of_matrix_rate"] = self.share_of_matrix_rate(part)
        for entry, stage in zip(values["stages"], self.stages, strict=True):
            entry["share_of_matrix_rate"] = self.share_of_matrix_rate(stage)
        return json.dumps(values | {"stages_sum": self.stages_sum})


def benchmark_network(
    network: Network,
    batch_size: int = 128,
    until: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,  # noqa: A002, torch's own word
    steps: int = 100,
    burn_in: int = 10,
    stages: bool = False,
    progress: Progress = no_progress,
) -> Timing:
    """Time a network on random pixels: forward, and forward with backward, per batch.

    Channels last, as extraction and training do it; cuDNN chooses its algorithms by its own rules, not by trying.

    Parameters
    ----------
    network : Network
    batch_size : int, default 128
    until : str, optional
        Last stage to compute; the network's last by default.
    device : str, default "auto"
    precision : {"float32", "bfloat16", "float16"}, default "float32"
        float32 is never rounded to TensorFloat-32. Reduced: forward with converted weights, as extraction
        does it; forward and backward with autocast, as training does it.
    compile : bool, default False
        Use torch.compile; the call that compiles is not counted.
    steps, burn_in : int
        Counted steps, and those before them that are not.
    stages : bool, default False
        Time each stage alone, too, on the activation that it gets in the network.
    progress : callable(what is timed, steps done, steps in all, word)

    Raises
    ------
    StageError
        If ``until`` is no stage of the network.
    OptionError
        For other values that are not allowed, and for a batch that does not fit into the memory.
    DependencyError
        If torch.compile does not work on this machine.
    """
    if precision not in get_args(Precision):
        raise OptionError(
            f"precision '{precision}' is not known.", f"Use one of {', '.join(get_args(Precision))}."
        )
    for name, value, least in (("batch_size", batch_size, 1), ("steps", steps, 1), ("burn_in", burn_in, 0)):
        if value < least:
            raise OptionError(f"{name} = {value} is not possible.", f"Use {least} or more.")
    cut, place = cut_network(network, until), choose_device(device)
    side = MATRIX_SIDE[torch.device(place.torch_name).type]
    with _set_up(cut, batch_size, place, precision):
        rounds = 2 + (len(cut.stages) if stages else 0)
        protocol = _Protocol(place, burn_in, steps, progress, rounds)
        work = Workload(cut, batch_size, place, precision, backward=False, compiled=compile)
        forward = protocol.time_pass("forward", work)
        by_stage = protocol.time_stages(work) if stages else ()
        del work  # its memory is not the next one's
        work = Workload(cut, batch_size, place, precision, backward=True, compiled=compile)
        forward_backward = protocol.time_pass("forward-backward", work)
        del work
        protocol.tell("matrix product")
        rate = matrix_rate(place, precision, side)
    measure = protocol.memory.measure
    if measure and place.is_cpu and compile:  # the compiler's code and tables stay in the same process
        measure += ", torch's compiler included"
    return Timing(
        network=network.name,
        until=cut.stage_names[-1],
        batch_size=batch_size,
        input_size=cut.input_size,
        device=place.description,
        torch_device=place.torch_name,
        torch_version=str(torch.__version__),
        threads=torch.get_num_threads(),
        precision=precision,
        compiled=compile,
        burn_in=burn_in,
        forward=forward,
        forward_backward=forward_backward,
        stages=by_stage,
        matrix_rate=rate,
        matrix_side=side,
        memory_measure=measure,
    )


def cut_network(network: Network, until: str | None) -> Network:
    """The network up to and with a stage (all of it for None); raises StageError."""
    if until is None:
        return network
    name = network.select_one(until)
    if name not in network.stage_names:
        raise StageError(
            f"'{name}' is the first half of a stage, and whole stages are timed.",
            f"Use '{name.partition(':')[0]}'.",
        )
    return dataclasses.replace(network, stages=network.stages[: network.stage_names.index(name) + 1])


def stage_flops(network: Network, batch_size: int) -> list[int]:
    """Floating point operations of each stage, forward."""
    pairs = zip(network.stages, network.incoming_shapes(), strict=True)
    return [2 * batch_size * stage.multiply_adds(incoming) for stage, incoming in pairs]


def count_flops(network: Network, batch_size: int, *, backward: bool) -> int:
    """Floating point operations of one batch, forward or forward and backward; see :class:`Timing`."""
    work = stage_flops(network, batch_size)
    return 3 * sum(work) - work[0] if backward else sum(work)


def half_sum_of_squares(output: Tensor) -> Tensor:
    """The protocol's loss, in float32 (TensorFlow's ``l2_loss``); its gradient is the output itself."""
    return 0.5 * output.float().square().sum()


class Workload:
    """What one step computes: a network with random weights and a batch of random pixels, both seeded.

    With ``backward`` also the gradients of all weights; ``compiled``: the forward goes through torch.compile.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int,
        device: Device,
        precision: str,
        *,
        backward: bool,
        compiled: bool,
    ) -> None:
        dtype = getattr(torch, precision)
        held = torch.float32 if backward else dtype  # of weights and pixels; autocast keeps them float32
        with torch.device("meta"):  # no numbers drawn in vain
            module = TorchNetwork(network)
        module.to_empty(device="cpu")
        initialise(module, network.stages, TrainingSettings(seed=SEED))
        module.requires_grad_(backward).to(device.torch_name, held).to(memory_format=torch.channels_last)
        self.module, self.parameters = module, tuple(module.parameters())
        self.batch_size, self.backward, self.compiled = batch_size, backward, compiled
        shape = (batch_size, 3, network.input_size, network.input_size)
        pixels = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
        self.pixels = pixels.to(device.torch_name, held).contiguous(memory_format=torch.channels_last)
        self._reduced = backward and dtype != torch.float32
        self._autocast = (torch.device(device.torch_name).type, dtype)

        def chain(value: Tensor) -> Tensor:
            """All stages one after the other, without looking up names: nothing but arithmetic for torch.compile."""
            for stage in network.stages:
                value = module.compute(stage, value)
            return value

        self._compute: Callable[[Tensor], Tensor] = torch.compile(chain, dynamic=False) if compiled else chain

    def __call__(self) -> object:
        """One step."""
        return self.forward_backward() if self.backward else self.forward()

    def forward(self) -> Tensor:
        """The last output, ``[batch, ...]``."""
        with torch.inference_mode():
            return self._compute(self.pixels)

    def forward_backward(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and its gradients for all weights and biases in the order of ``parameters``."""
        with torch.autocast(*self._autocast) if self._reduced else contextlib.nullcontext():
            output = self._compute(self.pixels)
        loss = half_sum_of_squares(output)
        return loss, torch.autograd.grad(loss, self.parameters)


class _Protocol:
    """Burn in, count, tell how far it is."""

    def __init__(self, device: Device, burn_in: int, steps: int, progress: Progress, rounds: int) -> None:
        self.device, self.burn_in, self.steps = device, burn_in, steps
        self._progress, self._done, self._all = progress, 0, rounds * (burn_in + steps)
        self.memory = PeakMemory(device)

    def tell(self, what: str) -> None:
        """What is being done now."""
        self._progress(what, self._done, self._all, "")

    def times(self, what: str, step: Callable[[], object]) -> Seconds:
        """Of the counted steps."""
        times = []
        for _ in range(self.burn_in + self.steps):
            self.tell(what)
            times.append(time_step(step, self.device))
            self._done += 1
        counted = times[self.burn_in :]
        return Seconds(statistics.fmean(counted), statistics.pstdev(counted), min(counted), len(counted))

    def time_pass(self, what: str, work: Workload) -> PassTiming:
        """Steps of a workload; the call that compiles it comes before them."""
        first = None
        if work.compiled:
            self.tell(f"compiling {what}")
            first = _compile(work, self.device)
        self.memory.reset()
        seconds = self.times(what, work)
        flops = count_flops(work.module.network, work.batch_size, backward=work.backward)
        return PassTiming(seconds, flops, self.memory.peak(), first)

    def time_stages(self, work: Workload) -> tuple[StageTiming, ...]:
        """Forward of each stage alone, on what it gets in the network."""
        found, network, value = [], work.module.network, work.pixels
        with torch.inference_mode():
            for stage, flops in zip(network.stages, stage_flops(network, work.batch_size), strict=True):
                step = functools.partial(work.module.compute, stage, value)
                found.append(StageTiming(stage.name, self.times(stage.name, step), flops))
                value = step()
        return tuple(found)


def time_step(step: Callable[[], object], device: Device) -> float:
    """Seconds of one call, from an idle device until everything that it started is done."""
    if device.is_cuda:  # events are stamped by the GPU itself, so waking this process up is not counted
        event: Any = torch.cuda.Event  # untyped in torch
        before, after = event(enable_timing=True), event(enable_timing=True)
        before.record()
        step()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1000  # of milliseconds
    started = time.perf_counter()
    step()
    if device.torch_name == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - started


def matrix_rate(device: Device, precision: str, side: int) -> float:
    """FLOP/s of the fastest of several products of two ``side`` x ``side`` matrices: ``2 side^3`` each."""
    numbers = torch.randn(2, side, side, generator=torch.Generator().manual_seed(SEED))
    left, right = numbers.to(device.torch_name, getattr(torch, precision))
    step = functools.partial(torch.mm, left, right, out=torch.empty_like(left))
    times: list[float] = []
    while len(times) < MATRIX_PRODUCTS or sum(times) < MATRIX_SECONDS:
        times.append(time_step(step, device))
    return float(2 * side**3 / min(times))


def _compile(work: Workload, device: Device) -> float:
    """Seconds of the call that compiles; raises DependencyError where that does not work."""
    torch.compiler.reset()  # after a few networks in one process torch would silently stop compiling
    gc.collect()  # what was compiled before keeps its network alive in a cycle
    try:
        with warnings.catch_warnings():
            # The advice to round float32 to TensorFloat-32: here that is refused on purpose.
            warnings.filterwarnings("ignore", message="TensorFloat32")
            return time_step(work, device)
    except Exception as error:
        if _out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200].rstrip(".:") or type(error).__name__
        raise DependencyError(
            f"torch.compile does not work on this machine: {reason}.",
            "Install what it asks for (a C++ compiler such as g++, on CUDA Triton, too), or leave out --compile.",
        ) from error


@contextlib.contextmanager
def _set_up(network: Network, batch_size: int, device: Device, precision: str) -> Iterator[None]:
    """On CUDA that GPU is the current one, where events are recorded, and float32 is exact; too little memory is an error of ours."""
    remedy = "Use a smaller --batch-size, or cut the network with --until."
    if device.is_cpu and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        # The system would rather stop everything than refuse the memory. Forward and backward keeps what every stage gives.
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        needed = batch_size * stage_table(network).forward_bytes // (1 if precision == "float32" else 2)
        if needed > there:
            raise OptionError(
                f"a batch of {batch_size} images has {needed / 1e9:.1f} GB of activations, "
                f"and this machine has {there / 1e9:.1f} GB of memory.",
                remedy,
            )
    with contextlib.ExitStack() as stack:
        if device.is_cuda:
            stack.enter_context(torch.cuda.device(device.torch_name))
            stack.enter_context(exact_and_side_by_side(device))
        try:
            yield
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            problem = f"a batch of {batch_size} images does not fit into the memory of {device.description}."
            raise OptionError(problem, remedy) from error


def _out_of_memory(error: BaseException) -> bool:
    return is_out_of_memory(error) or "can't allocate memory" in str(error)


class PeakMemory:
    """Peak memory in bytes beyond what the process held when this was made.

    On CUDA torch counts it. On a CPU the kernel does (VmHWM, the peak of the resident memory), where ``/proc``
    is; where its counter cannot be set back, an earlier peak hides a lower one.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._before = device, 0
        self.measure: str | None = None  # how, None where it cannot be measured
        if device.is_cuda:
            self.measure = "torch.cuda.max_memory_allocated"
            self._before = torch.cuda.memory_allocated(device.torch_name)
        elif device.is_cpu:
            # what was freed before, and used again, would not count as growth
            with contextlib.suppress(AttributeError, OSError, TypeError):
                ctypes.CDLL(None).malloc_trim(0)
            self.reset()
            if (held := _high_water()) is not None:
                self.measure, self._before = "growth of the process's resident memory (VmHWM)", held

    def reset(self) -> None:
        """Forget earlier peaks."""
        if self._device.is_cuda:
            torch.cuda.reset_peak_memory_stats(self._device.torch_name)
        elif self._device.is_cpu:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int | None:
        """Since the last reset; None where it cannot be measured."""
        if self.measure is None:
            return None
        if self._device.is_cuda:
            return torch.cuda.max_memory_allocated(self._device.torch_name) - self._before
        return max((_high_water() or 0) - self._before, 0)


def _high_water() -> int | None:
    """Peak of this process's resident memory in bytes, None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


@dataclass(frozen=True)
class HistoricTime:
    """One published measurement."""

    network: str  # or the one whose arithmetic is nearest
    cut: str  # its last stage
    hardware: str
    software: str
    images: int
    forward: float | None  # seconds for so many images; None where nothing was published
    forward_backward: float | None
    source: str
    forward_sd: float | None = None
    forward_backward_sd: float | None = None
    remark: str = ""  # what must be known to compare it

    def fits(self, network: str, cut: str) -> bool:
        """Whether it is a time of the same network up to the same stage."""
        return (self.network, self.cut) == (network, cut)


_TENSORFLOW = "header of alexnet_benchmark.py, tensorflow/models"
_CONVNET, _NO_DROPOUT = "soumith/convnet-benchmarks", "no dropout, no softmax"  # 128 images of 224 px
_CAFFE = "performance_hardware.md, Caffe"


HISTORIC_TIMES: tuple[HistoricTime, ...] = (
    HistoricTime("alexnet-tf", "pool5", "Tesla K40c", "TensorFlow", 128, 0.145, 0.480, _TENSORFLOW, 0.0015, 0.048),
    HistoricTime("alexnet-tf", "pool5", "Titan X", "TensorFlow", 128, 0.070, 0.244, _TENSORFLOW, 0.0001, 0.030),
    HistoricTime("alexnet-tf", "pool5", "laptop CPU of 2019", "TensorFlow", 32, 1.640, 8.804, "a course note", 0.031, 0.817),
    HistoricTime("alexnet", "fc8", "Titan X", "cuDNN R4, float16", 128, 0.025, 0.071, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "cuDNN R4, float32", 128, 0.027, 0.081, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "TensorFlow", 128, 0.026, 0.081, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "fbfft", 128, None, 0.104, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "cuda-convnet2", 128, None, 0.177, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "Caffe", 128, None, 0.324, _CONVNET, remark=_NO_DROPOUT),
    HistoricTime("alexnet", "fc8", "Titan X", "Torch-7", 128, None, 0.342, _CONVNET, remark=_NO_DROPOUT),
    # 26.5 s for 20 batches of 256, and 100 s for the 50,000 images of the val split.
    HistoricTime("caffenet", "fc8", "Tesla K40", "Caffe", 256, None, 26.5 / 20, _CAFFE, remark="training: with the update of the weights"),
    HistoricTime("caffenet", "fc8", "Tesla K40", "Caffe", 50_000, 100.0, None, _CAFFE, remark="testing: 50,000 images"),
)  # fmt: skip


def historic_times(network: str, cut: str) -> tuple[HistoricTime, ...]:
    """Published times of that network up to that stage; where there are none, all of them."""
    return tuple(time for time in HISTORIC_TIMES if time.fits(network, cut)) or HISTORIC_TIMES
