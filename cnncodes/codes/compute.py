"""From a batch of pixels to the codes of named stages, on one device: what extraction repeats."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnncodes.codes.settings import ExtractionSettings, Pool
from cnncodes.core.errors import OptionError
from cnncodes.networks import channel_axis
from cnncodes.weights import Weights, build_network
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Device:
    """Where the network runs: torch's name for it, a name for people, and the cores that this process has."""

    torch_name: str
    description: str
    cores: int

    @property
    def is_cuda(self) -> bool:
        """An NVIDIA GPU, or one of AMD, which torch calls the same."""
        return self.torch_name.startswith("cuda")

    @property
    def is_cpu(self) -> bool:
        """Then the network and the decoding share the cores."""
        return self.torch_name == "cpu"


def choose_device(name: str = "auto") -> Device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ``auto`` is CUDA, else Apple's GPU, else the CPU.

    Raises OptionError if that device is not there, or a parent process that was forked has used CUDA.
    """
    # A bad fork alone says little: to have asked whether there is a GPU is enough for it.
    bad = name != "cpu" and torch.cuda._is_in_bad_fork()
    if bad and (torch.cuda._initialized or torch.cuda.is_available()):
        raise OptionError(
            "CUDA was used before this process was forked, and cannot be used again in it.",
            "Start processes by the method 'spawn' (multiprocessing.set_start_method('spawn')), or use device cpu.",
        )
    cores = available_cores()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, place = name.partition(":")
    if kind == "cuda" and (not place or place.isdigit()):
        count, index = torch.cuda.device_count(), int(place or 0)
        if index >= count:
            raise OptionError(
                f"device '{name}' is not there: torch sees {count or 'no'} CUDA device{'s' if count else ''}.",
                "Use --device cpu or auto.",
            )
        return Device(f"cuda:{index}", torch.cuda.get_device_name(index), cores)
    if kind == "mps" and torch.backends.mps.is_available():
        return Device("mps", "Apple GPU (mps)", cores)
    if name == "cpu":
        return Device("cpu", f"CPU, {cores} core{'s' if cores > 1 else ''}", cores)
    raise OptionError(f"device '{name}' is not there.", "Use --device cpu, cuda, cuda:N, mps or auto.")


def device_names(name: str) -> list[str]:
    """Each device of a name that may mean several: ``cuda:0,2``, or ``cuda:all``."""
    kind, _, places = name.partition(":")
    if name == "cuda:all":
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cuda"]
    return [f"{kind}:{place.strip()}" for place in places.split(",")] if places else [name]


def available_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def products(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scalar products ``[Q, N]`` of float32 rows ``[Q, d]`` and ``[N, d]``: torch's are faster for many (100 on two cores: 2.7 times)."""
    values = torch.from_numpy(np.ascontiguousarray(queries)) @ torch.from_numpy(_writable(rows)).T
    return np.asarray(values.numpy())


def to_single(rows: np.ndarray, out: np.ndarray) -> None:
    """Copy float16 rows into float32 ``out``, by the processor's instruction; numpy does not always use it (five times slower)."""
    torch.from_numpy(out).copy_(torch.from_numpy(_writable(rows)))


def _writable(rows: np.ndarray) -> np.ndarray:
    """The rows, or a copy of those that torch would warn of: read-only memory, such as a memmap's."""
    return rows if rows.flags.writeable and rows.flags.c_contiguous else np.array(rows)


def precision_note(precision: str, device: Device) -> str | None:
    """A warning where reduced precision does not pay: on CPUs without AMX (measured: half the speed)."""
    if precision == "float32" or not device.is_cpu:
        return None
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if supported is None or supported():
        return None
    return f"--precision {precision} is usually slower than float32 on this CPU: it has no matrix unit (AMX)."


class Encoder:
    """A network on a device that turns batches of pixels into codes. Several threads may call it."""

    def __init__(self, weights: Weights, settings: ExtractionSettings, device: Device) -> None:
        self.settings = settings
        self.device = device
        self._dtype = getattr(torch, settings.precision)
        network = build_network(weights)
        network = network.to(device=device.torch_name, dtype=self._dtype)
        self._network = network.to(memory_format=torch.channels_last)
        self._normalise = Normaliser(settings.preprocessing, device)
        self._threads = threading.local()
        #: Gives the memory of batches: pinned for CUDA, numpy's otherwise (None).
        self.allocate = pinned if device.is_cuda else None

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Codes of one batch ``uint8 [batch, crops, height, width, 3]``, as the loader gives it.

        Returns ``[batch, length]`` for each stage, or ``[batch, crops, length]`` where crops are kept.
        """
        batch, crops = pixels.shape[:2]
        with torch.inference_mode(), self._stream():
            values = self._normalise(torch.from_numpy(pixels.reshape(-1, *pixels.shape[2:])))
            found = self._network.activations(values.to(self._dtype), self.settings.stages)
            return {stage: self._to_rows(codes, batch, crops) for stage, codes in found.items()}

    def _stream(self) -> contextlib.AbstractContextManager[object]:
        """On CUDA a stream for each calling thread, so that one's copies run beside the other's computing."""
        if not self.device.is_cuda:
            return contextlib.nullcontext()
        if not hasattr(self._threads, "stream"):
            make_stream: Any = torch.cuda.Stream  # untyped in torch
            self._threads.stream = make_stream(self.device.torch_name)
            # The weights were copied on the stream that was current in __init__.
            self._threads.stream.wait_stream(torch.cuda.default_stream(self.device.torch_name))
        return torch.cuda.stream(self._threads.stream)

    def _to_rows(self, codes: Tensor, batch: int, crops: int) -> np.ndarray:
        rows = pooled(codes, self.settings.pool).flatten(1).float().view(batch, crops, -1)
        if self.settings.kept_crops == 1:
            rows = rows.mean(1) if crops > 1 else rows[:, 0]
        rows = rows.to(getattr(torch, self.settings.dtype))
        return np.asarray(rows.cpu().numpy())


def pooled(codes: Tensor, pool: Pool) -> Tensor:
    """One number for each channel of ``[batch, ...]``, if ``pool`` is not "none"; vectors stay as they are."""
    if pool == "none" or codes.dim() == 2:
        return codes
    axis = 1 + channel_axis(tuple(codes.shape[1:]))
    if pool == "cls":
        if codes.dim() != 3:
            raise OptionError(
                f"--pool cls takes the first token, and a layer gives maps of {tuple(codes.shape[1:])}.",
                "Use --pool mean.",
            )
        return codes[:, 0]
    others = [place for place in range(1, codes.dim()) if place != axis]
    return codes.amax(others) if pool == "max" else codes.mean(others)


class Normaliser:
    """``(pixel / scale - mean) / std`` on a device, in torchvision's order of operations (equal bits)."""

    def __init__(self, preprocessing: Preprocessing, device: Device) -> None:
        self._device = torch.device(device.torch_name)
        self._scale = preprocessing.scale
        self._mean = torch.tensor(preprocessing.mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(preprocessing.std, device=self._device).view(3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """``uint8 [batch, height, width, 3]`` to ``float32 [batch, 3, height, width]``, channels last."""
        moved = pixels.to(self._device, non_blocking=True)
        values = moved.permute(0, 3, 1, 2).float()  # a new tensor: changing it in place is safe
        return values.div_(self._scale).sub_(self._mean).div_(self._std)


@contextlib.contextmanager
def exact_and_side_by_side(device: Device) -> Iterator[None]:
    """Set torch up for a pipeline, and set it back: on a CPU one thread for each batch, on CUDA no rounding to TensorFloat-32.

    Two batches on a core each are faster than one on two cores (no barriers). It holds for a single batch, too: the bits of a
    fully connected stage depend on the number of threads, and must not depend on how many batches are left.
    """
    threads = torch.get_num_threads()
    if device.is_cpu:
        torch.set_num_threads(1)
    try:
        with exact_float32():
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def exact_float32(exact: bool = True) -> Iterator[None]:
    """With ``exact``, nothing is rounded to TensorFloat-32 on a GPU."""
    rounding = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if exact:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = rounding


def save_mapped(record: object, path: Path) -> None:
    """Save a record with its tensors for other processes of this machine: :func:`load_mapped`."""
    torch.save(record, path)


def load_mapped(path: str) -> Any:
    """What :func:`save_mapped` of our own process wrote. The tensors stay in the file: all processes share its pages."""
    return torch.load(path, mmap=True, weights_only=False)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError)


def release_memory() -> None:
    """Give cached GPU memory back before trying a smaller batch."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pinned(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 buffer from which a CUDA copy can run beside the computing."""
    return np.asarray(torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy())
