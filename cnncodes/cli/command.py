"""What all commands share: the form of the help, the same in every version of typer, and how Ctrl-C ends them."""

from __future__ import annotations

import inspect
from typing import Any

from cnncodes.cli.options import TyperCommand
from cnncodes.core.errors import CnnCodesError


class InterruptError(CnnCodesError):
    """Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__(
            "interrupted.", "Nothing that was finished is lost: the same command goes on where it can."
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
        arguments = [_metavar(part) for part in self.params if part.param_type_name == "argument"]
        required = [
            f"{min(part.opts, key=len)} {part.metavar}"
            for part in self.params
            if part.param_type_name == "option" and part.required
        ]
        return [*arguments, *required, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Two lists: arguments, and options with their defaults."""
        parts: list[Any] = self.get_params(ctx)
        arguments = [
            (_metavar(part), part.help or "") for part in parts if part.param_type_name == "argument"
        ]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        with formatter.section("Options"):
            formatter.write_dl([_option(part) for part in parts if part.param_type_name == "option"])


def preformatted(text: str) -> str:
    """Help text whose example commands stand indented and keep their lines (the marker is click's)."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        _example(part) if part.strip().startswith("cnncodes ") else part for part in paragraphs
    )


def _example(commands: str) -> str:
    return "\b\n" + "\n".join("    " + line.strip() for line in commands.splitlines())


def _metavar(part: Any) -> str:
    return str(part.metavar or part.name.upper())


def _option(part: Any) -> tuple[str, str]:
    name = ", ".join(sorted(part.opts, key=len))
    if not part.is_flag:
        name += f" {_metavar(part)}"
    text = part.help or ""
    if part.required:
        text += " [required]"
    elif not part.is_flag and part.default is not None and part.show_default:
        text += f" [default: {part.default}]"
    return name, text
