"""What a benchmark of a network found, as records. No torch here: `timing` measures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnncodes.core.errors import ModelError
from cnncodes.core.files import parse_json, reading


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
        values = asdict(self)
        for name, part in (("forward", self.forward), ("forward_backward", self.forward_backward)):
            values[name]["images_per_second"] = self.images_per_second(part)
            values[name]["share_of_matrix_rate"] = self.share_of_matrix_rate(part)
        for entry, stage in zip(values["stages"], self.stages, strict=True):
            entry["share_of_matrix_rate"] = self.share_of_matrix_rate(stage)
        return json.dumps(values | {"stages_sum": self.stages_sum})

    @classmethod
    @reading("the timing", ModelError)
    def from_json(cls, text: str) -> Timing:
        """Inverse of :meth:`to_json`; raises ModelError for anything else."""
        values = parse_json(text)
        del values["stages_sum"]
        for name in ("forward", "forward_backward"):
            del values[name]["images_per_second"]
            values[name] = _part(PassTiming, values[name])
        values["stages"] = tuple(_part(StageTiming, entry) for entry in values["stages"])
        return cls(**values)


def _part(kind: Any, values: dict[str, Any]) -> Any:
    """A record whose times are a record, without what follows from its fields."""
    fields = {key: value for key, value in values.items() if key != "share_of_matrix_rate"}
    return kind(**fields | {"seconds": Seconds(**values["seconds"])})
