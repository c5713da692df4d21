"""`cnncodes show`: see what the network sees. One file per command; their names and order are here."""

from __future__ import annotations

from collections.abc import Callable

from cnncodes.cli.show import filters

SUMMARY = """
See what the network sees: one picture from each command.

    cnncodes show filters --weights starter
"""

COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (("filters", filters.filters),)
