"""`cnncodes --version`: the version, and those of the libraries that its numbers depend on, none of which is imported."""

from __future__ import annotations

import importlib.metadata
import platform

from cnncodes.cli.console import Reporter
from cnncodes.cli.options import Exit, Version

LIBRARIES = ("torch", "numpy", "h5py", "safetensors", "Pillow", "scikit-learn", "matplotlib")


def main(version: Version = False) -> None:
    """What stands before every command: only ``--version``, which ends the program."""
    if not version:
        return
    reporter = Reporter()
    reporter.result(f"cnncodes {_installed('cnncodes')}")
    reporter.result(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in LIBRARIES:
        reporter.result(f"{name} {_installed(name)}")
    raise Exit(0)


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "from a bare checkout" if name == "cnncodes" else "not installed"
