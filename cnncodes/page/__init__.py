"""The page of a run: one HTML file that contains everything it shows and makes no request.

``gather`` reads the run's folder into a :class:`RunPage` of records and numbers, ``views`` arranges them (charts, tables, map),
``templates/`` has every sentence, and ``html`` puts them together.
"""

from __future__ import annotations

from cnncodes.advice.run_record import PAGE, page_is_current
from cnncodes.page.card import write_card
from cnncodes.page.exploring import Exploration, explore
from cnncodes.page.gallery import write_gallery
from cnncodes.page.gather import read_run
from cnncodes.page.html import PageFile, render, write_report
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
