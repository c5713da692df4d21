"""The page of a run: one HTML file that holds everything and asks for nothing."""

from __future__ import annotations

from cnncodes.pictures.report.page import PAGE, PageFile, page_is_current, render, write_report
from cnncodes.pictures.report.reading import read_run
from cnncodes.pictures.report.record import RunPage

__all__ = ["PAGE", "PageFile", "RunPage", "page_is_current", "read_run", "render", "write_report"]
