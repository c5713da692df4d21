"""Write docs/cli.md, the command line reference, from the commands' own help: `make docs`."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

from cnncodes.cli import main
from cnncodes.cli.app import COMMANDS, GROUPS

TARGET = Path(__file__).with_name("cli.md")
WIDTH = 100  # columns
INTRODUCTION = """\
# Command line

What `cnncodes COMMAND --help` says, for all commands. Written by `make docs`; a test compares it with the help.

The main argument comes first; the same option has the same name and meaning in all commands. Standard output is
the result, standard error the progress; with `--json` standard output is one JSON document. Colours and bars
vanish when the output is no terminal.
"""


def command_names() -> list[str]:
    """All commands as a person types them, in the order of the help: `weights list`."""
    groups = [[name, *(f"{name} {sub}" for sub, _ in commands)] for name, _, commands in GROUPS]
    return [name for name, _ in COMMANDS] + [name for group in groups for name in group]


def help_text(command: str) -> str:
    """What `cnncodes COMMAND --help` prints in a terminal of fixed width."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with redirect_stdout(printed):
            code = main([*command.split(), "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    assert code == 0, f"cnncodes {command} --help ended with {code}"
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"```text\n{help_text('')}\n```\n"]
    for name in command_names():
        heading = "##" if " " not in name else "###"
        parts.append(f"{heading} cnncodes {name}\n\n```text\n{help_text(name)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
