"""The form of the help, the same in every version of typer, and how Ctrl-C ends a command."""

from __future__ import annotations

import inspect
from typing import Any

from cnncodes.cli.options import TyperCommand, TyperGroup
from cnncodes.core.errors import CnnCodesError


class InterruptError(CnnCodesError):
    """Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__(
            "interrupted.", "Finished work is kept: repeat the command to continue where possible."
        )


class Command(TyperCommand):
    """A command whose usage line names what is required: `cnncodes pack CODES -o FILE [OPTIONS]`."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; typer alone would end without a word, or with exit code 1, at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptError from None

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments, then required options, then the rest."""
        options, arguments = _parts(self.params)
        required = [f"{min(part.opts, key=len)} {part.metavar}" for part in options if part.required]
        return [*(str(part.metavar) for part in arguments), *required, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options, and below them the options that few people need."""
        options, arguments = _parts(self.get_params(ctx))
        sections = {"Arguments": [(str(part.metavar), part.help) for part in arguments]}
        for part in options:
            panel = getattr(part, "rich_help_panel", None) or "Options"
            sections.setdefault(panel, []).append(_option(part))
        _write(formatter, {name: sections.get(name, []) for name in ("Arguments", "Options", "More options")})


class Commands(TyperGroup):
    """A group of commands, listed below the headings that they were registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One line each: the first sentence of the command's help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            listed = sections.setdefault(heading if isinstance(heading, str) else "Commands", [])
            listed.append((name, command.get_short_help_str(200)))
        _write(formatter, sections)


def preformatted(text: str) -> str:
    """Help text whose example commands stand indented and keep their lines (the marker is click's)."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        _example(part) if part.strip().startswith("cnncodes ") else part for part in paragraphs
    )


def _example(commands: str) -> str:
    return "\b\n" + "\n".join("    " + line.strip() for line in commands.splitlines())


def _parts(parameters: list[Any]) -> tuple[list[Any], list[Any]]:
    """Options and arguments."""
    options = [part for part in parameters if part.param_type_name == "option"]
    return options, [part for part in parameters if part.param_type_name == "argument"]


def _write(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    for name, rows in sections.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows)


def _option(part: Any) -> tuple[str, str]:
    name = ", ".join(sorted(part.opts, key=len))
    text = part.help or ""
    if part.required:
        text += " [required]"
    elif not part.is_flag and part.default is not None:
        text += f" [default: {part.default}]"
    return name if part.is_flag else f"{name} {part.metavar}", text
