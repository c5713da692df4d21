"""Times of the AlexNets on the machines of their day, as data: to be printed beside our own."""

from __future__ import annotations

from dataclasses import dataclass


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
