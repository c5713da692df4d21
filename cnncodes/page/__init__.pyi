"""The public names of this room, and where each lives."""

from cnncodes.advice.run_folder import PAGE, page_is_current
from cnncodes.page.exploring import Exploration, explore
from cnncodes.page.gallery import write_gallery
from cnncodes.page.gather import read_run
from cnncodes.page.html import PageFile, render, write_card, write_report
from cnncodes.page.record import RunPage

__all__ = [
    "PAGE",
    "Exploration",
    "PageFile",
    "RunPage",
    "explore",
    "page_is_current",
    "read_run",
    "render",
    "write_card",
    "write_gallery",
    "write_report",
]
