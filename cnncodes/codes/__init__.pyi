"""The public names of this room, and where each lives."""

from cnncodes.codes.export import export_codes
from cnncodes.codes.extraction import (
    CheckReport,
    ExtractionResult,
    check_codes,
    estimate_seconds,
    extract,
    run_extraction,
)
from cnncodes.codes.file import CodesFile
from cnncodes.codes.planning import Plan, plan_extraction
from cnncodes.codes.search import nearest
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.codes.shards import join
from cnncodes.codes.stream import Block
from cnncodes.codes.structure import pack

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
]
