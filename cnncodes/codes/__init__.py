"""Codes: the HDF5 file (create, write rows, resume, read), extraction, check and export.

Names are loaded when they are first asked for; importing this room loads neither torch nor h5py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.codes.checking import CheckReport, check_codes
    from cnncodes.codes.export import export_codes
    from cnncodes.codes.extraction import (
        ExtractionResult,
        estimate_seconds,
        extract,
        run_extraction,
    )
    from cnncodes.codes.file import CodesFile
    from cnncodes.codes.planning import Plan, plan_extraction
    from cnncodes.codes.search import nearest
    from cnncodes.codes.settings import ExtractionSettings
    from cnncodes.codes.shards import join
    from cnncodes.codes.stream import Block, stream
    from cnncodes.codes.structure import pack

_HOMES = {
    "CheckReport": "checking",
    "check_codes": "checking",
    "export_codes": "export",
    "ExtractionResult": "extraction",
    "Plan": "planning",
    "estimate_seconds": "extraction",
    "extract": "extraction",
    "plan_extraction": "planning",
    "run_extraction": "extraction",
    "CodesFile": "file",
    "nearest": "search",
    "join": "shards",
    "pack": "structure",
    "Block": "stream",
    "stream": "stream",
    "ExtractionSettings": "settings",
}

__all__ = [
    "Block",
    "CheckReport",
    "CodesFile",
    "ExtractionResult",
    "ExtractionSettings",
    "Plan",
    "check_codes",
    "estimate_seconds",
    "export_codes",
    "extract",
    "join",
    "nearest",
    "pack",
    "plan_extraction",
    "run_extraction",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"cnncodes.codes.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
