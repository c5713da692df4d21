"""What a benchmark of a network found, and the published times of the AlexNets on the machines of their day, as records."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnncodes.core.records import to_value


@dataclass(frozen=True)
class Seconds:
    """Times of repeated steps in seconds; ``sd`` divides by n, as the protocol does."""

    mean: float
    sd: float
    fastest: float
    steps: int

    @classmethod
    def of(cls, times: Sequence[float]) -> Seconds:
        """From the time of each counted step."""
        return cls(statistics.fmean(times), statistics.pstdev(times), min(times), len(times))


@dataclass(frozen=True)
class PassTiming:
    """Forward, or forward and backward, of one batch.

    Parameters
    ----------
    seconds : Seconds
        Per batch.
    flops : int
        Of one batch; see :class:`Timing` for how they are counted.
    peak_memory : int or None
        Bytes beyond what the process held before (weights, pixels, activations, gradients); None where that
        cannot be measured.
    compile_seconds : float or None
        The first, uncounted call with torch.compile; None without it.
    """

    seconds: Seconds
    flops: int
    peak_memory: int | None
    compile_seconds: float | None = None


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

    Parameters
    ----------
    network : str
    until : str
        The last stage that was computed.
    batch_size, input_size : int
        Images per batch, and their side in pixels.
    device : str
        For people.
    torch_device, torch_version : str
    threads : int
        Of torch on the CPU.
    precision : {"float32", "bfloat16", "float16"}
        Reduced: forward with converted weights, forward and backward with autocast.
    compiled : bool
    burn_in : int
        Steps that ran before and were not counted.
    forward, forward_backward : PassTiming
    stages : tuple of StageTiming
        Empty if not asked for.
    matrix_rate : float
        FLOP/s of the fastest product of two square matrices of that precision, on the same device and threads.
    matrix_side : int
        Their side.
    memory_measure : str or None
        How the peak memory was measured; None where it cannot be.
    """

    network: str
    until: str
    batch_size: int
    input_size: int
    device: str
    torch_device: str
    torch_version: str
    threads: int
    precision: str
    compiled: bool
    burn_in: int
    forward: PassTiming
    forward_backward: PassTiming
    stages: tuple[StageTiming, ...]
    matrix_rate: float
    matrix_side: int
    memory_measure: str | None

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


@dataclass(frozen=True)
class HistoricTime:
    """One published measurement.

    Parameters
    ----------
    network : str
        Our name of the network that was timed, or of the one whose arithmetic is nearest.
    cut : str
        Its last stage.
    hardware, software : str
    images : int
        What the times are for: a batch, or a whole test set.
    forward, forward_backward : float or None
        Seconds; None where nothing was published.
    forward_sd, forward_backward_sd : float or None
        Their standard deviations in seconds.
    source : str
        Where the figure was published.
    remark : str, default ""
        What must be known to compare it.
    """

    network: str
    cut: str
    hardware: str
    software: str
    images: int
    forward: float | None
    forward_backward: float | None
    source: str
    forward_sd: float | None = None
    forward_backward_sd: float | None = None
    remark: str = ""

    def fits(self, network: str, cut: str) -> bool:
        """Whether it is a time of the same network up to the same stage."""
        return (self.network, self.cut) == (network, cut)


_TENSORFLOW = "header of alexnet_benchmark.py, tensorflow/models"
_CONVNET = "soumith/convnet-benchmarks"
_CAFFE = "performance_hardware.md, Caffe"


def _one_tower(software: str, forward: float | None, forward_backward: float) -> HistoricTime:
    """A line of convnet-benchmarks: 128 images of 224 px, no dropout, no softmax, on a Titan X."""
    return HistoricTime(
        "alexnet", "fc8", "Titan X", software, 128, forward, forward_backward, _CONVNET,
        remark="no dropout, no softmax",
    )  # fmt: skip


HISTORIC_TIMES: tuple[HistoricTime, ...] = (
    HistoricTime("alexnet-tf", "pool5", "Tesla K40c", "TensorFlow", 128, 0.145, 0.480, _TENSORFLOW, 0.0015, 0.048),
    HistoricTime("alexnet-tf", "pool5", "Titan X", "TensorFlow", 128, 0.070, 0.244, _TENSORFLOW, 0.0001, 0.030),
    HistoricTime("alexnet-tf", "pool5", "laptop CPU of 2019", "TensorFlow", 32, 1.640, 8.804, "a course note", 0.031, 0.817),
    _one_tower("cuDNN R4, float16", 0.025, 0.071),
    _one_tower("cuDNN R4, float32", 0.027, 0.081),
    _one_tower("TensorFlow", 0.026, 0.081),
    _one_tower("fbfft", None, 0.104),
    _one_tower("cuda-convnet2", None, 0.177),
    _one_tower("Caffe", None, 0.324),
    _one_tower("Torch-7", None, 0.342),
    # 26.5 s for 20 batches of 256, and 100 s for the 50,000 images of the val split.
    HistoricTime("caffenet", "fc8", "Tesla K40", "Caffe", 256, None, 26.5 / 20, _CAFFE, remark="training: with the update of the weights"),
    HistoricTime("caffenet", "fc8", "Tesla K40", "Caffe", 50_000, 100.0, None, _CAFFE, remark="testing: 50,000 images"),
)  # fmt: skip


def historic_times(network: str, cut: str) -> tuple[HistoricTime, ...]:
    """Published times of that network up to that stage; where there are none, all of them."""
    return tuple(time for time in HISTORIC_TIMES if time.fits(network, cut)) or HISTORIC_TIMES
