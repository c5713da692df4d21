"""An image that ends the worker process to which it is sent, for the tests of executors."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FatalImage:
    """A path that kills the first ``times`` processes that unpickle it; `deaths` gets a byte for each."""

    path: str
    deaths: Path
    times: int

    def __reduce__(self) -> tuple[object, ...]:
        return _arrive, (self.path, self.deaths, self.times)


def _arrive(path: str, deaths: Path, times: int) -> str:
    if deaths.stat().st_size < times:
        with deaths.open("ab") as file:
            file.write(b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    return path
