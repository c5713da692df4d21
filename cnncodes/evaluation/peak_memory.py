"""Peak memory of what runs between two moments, on a GPU or a CPU."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

from cnncodes.codes.compute import Device


class PeakMemory:
    """Peak memory in bytes beyond what the process held when this was made.

    On CUDA torch counts it. On a CPU the kernel does (VmHWM, the peak of the resident memory), where ``/proc``
    is; where its counter cannot be set back, an earlier peak hides a lower one.

    Attributes
    ----------
    measure : str or None
        How it is measured, for people; None where it cannot be.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.measure: str | None = None
        self._before = 0
        if device.is_cuda:
            self.measure = "torch.cuda.max_memory_allocated"
            self._before = torch.cuda.memory_allocated(device.torch_name)
        elif device.is_cpu:
            _return_free_memory()
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


def _return_free_memory() -> None:
    """Give back what was freed before: reused later, it would not count as growth (glibc has this, others not)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _high_water() -> int | None:
    """Peak of this process's resident memory in bytes, None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]  # VmHWM:   123456 kB
    return 1024 * int(sizes[0]) if sizes else None
