"""All commands in one place: their names, their order and headings, and the form of their help in every version of typer."""

from __future__ import annotations

import importlib.metadata
import inspect
import platform
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from cnncodes.cli import options, recipes, show, weights
from cnncodes.cli.advise import advise, probe
from cnncodes.cli.benchmark import benchmark
from cnncodes.cli.codes import check, export, extract, join, pack
from cnncodes.cli.console import Reporter
from cnncodes.cli.demo import demo
from cnncodes.cli.evaluate import evaluate
from cnncodes.cli.explore import explore
from cnncodes.cli.fit_linear import fit_linear
from cnncodes.cli.predict import predict
from cnncodes.cli.run_command import card, compare, report, run
from cnncodes.cli.training import finetune, train
from cnncodes.core.errors import CnnCodesError

HELP = """
Transfer learning: from images to CNN codes to a classifier.

Start here:

    cnncodes run photos/ -o out              check the images, choose a recipe, train, test
    cnncodes predict out/model.safetensors new.jpg

Step by step:

    cnncodes extract photos/ -o codes.h5     images -> CNN codes, 4096 numbers per image
    cnncodes fit-linear codes.h5 -o model.safetensors

The numbers that a layer of a trained network computes for an image are its CNN code: images that look alike have codes that are close.

Exit codes: 0 success; 1 error; 2 wrong usage; 3 finished, but some images could not be read.
"""
LIBRARIES = ("torch", "numpy", "h5py", "safetensors", "Pillow", "scikit-learn", "matplotlib")

Functions: TypeAlias = Iterable[tuple[str, Callable[..., None]]]
#: ``{heading: {name: a command, or summary and commands of a group}}``
HEADINGS: dict[str, dict[str, Callable[..., None] | tuple[str, Functions]]] = {
    "From images to a model": {
        "run": run,
        "explore": explore,
        "advise": advise,
        "probe": probe,
        "finetune": finetune,
        "train": train,
        "predict": predict,
        "evaluate": evaluate,
        "compare": compare,
        "recipes": (recipes.SUMMARY, recipes.COMMANDS),
        "demo": demo,
    },
    "Codes": {
        "extract": extract,
        "fit-linear": fit_linear,
        "info": weights.info,
        "check": check,
        "export": export,
        "join": join,
        "pack": pack,
    },
    "Networks and weights": {
        "networks": (weights.NETWORKS, weights.NETWORK_COMMANDS),
        "weights": (weights.SUMMARY, weights.COMMANDS),
        "benchmark": benchmark,
    },
    "See": {"show": (show.SUMMARY, show.COMMANDS), "report": report, "card": card},
}
ALL = {name: entry for entries in HEADINGS.values() for name, entry in entries.items()}
COMMANDS = tuple((name, options.expand(entry)) for name, entry in ALL.items() if callable(entry))
GROUPS = tuple(
    (name, entry[0], tuple((sub, options.expand(function)) for sub, function in entry[1]))
    for name, entry in ALL.items()
    if not callable(entry)
)


def build_app() -> options.Typer:
    """The command line application."""
    functions = dict(COMMANDS)
    groups = {name: (summary, commands) for name, summary, commands in GROUPS}
    text = preformatted(HELP, between="\n")
    app = _typer(text)
    app.callback(invoke_without_command=True, help=text)(_version)
    for heading, entries in HEADINGS.items():
        for name in entries:
            if name in functions:
                _add(app, name, functions[name], heading)
                continue
            group = _typer(preformatted(groups[name][0]))
            for sub, function in groups[name][1]:
                _add(group, sub, function)
            app.add_typer(group, name=name, rich_help_panel=heading)
    return app


def _add(app: options.Typer, name: str, function: Callable[..., None], heading: str | None = None) -> None:
    text = preformatted(function.__doc__ or "")
    app.command(name, cls=Command, help=text, rich_help_panel=heading)(function)


def _typer(text: str) -> options.Typer:
    return options.Typer(
        cls=Commands,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )


def _version(version: options.Version = False) -> None:
    """What stands before every command: only ``--version``, which prints the libraries without importing them."""
    if not version:
        return
    reporter = Reporter()
    reporter.result(f"cnncodes {_installed('cnncodes')}")
    reporter.result(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in LIBRARIES:
        reporter.result(f"{name} {_installed(name)}")
    raise options.Exit(0)


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (source checkout)" if name == "cnncodes" else "not installed"


class InterruptError(CnnCodesError):
    """Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__(
            "interrupted.", "Finished work is kept: repeat the command to continue where possible."
        )


class Command(options.TyperCommand):
    """A command whose usage line names what is required: `cnncodes pack CODES -o FILE [OPTIONS]`."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; typer alone would end without a word, or with exit code 1, at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptError from None

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments, then required options, then the rest."""
        parts = _parts(self.params, "option")
        required = [f"{min(part.opts, key=len)} {part.metavar}" for part in parts if part.required]
        arguments = [str(part.metavar) for part in _parts(self.params, "argument")]
        return [*arguments, *required, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options, and below them the options that few people need."""
        parts = self.get_params(ctx)
        sections = {"Arguments": [(str(part.metavar), part.help) for part in _parts(parts, "argument")]}
        for part in _parts(parts, "option"):
            panel = getattr(part, "rich_help_panel", None) or "Options"
            sections.setdefault(panel, []).append(_option(part))
        _write(formatter, {name: sections.get(name, []) for name in ("Arguments", "Options", "More options")})


class Commands(options.TyperGroup):
    """A group of commands, listed below the headings that they were registered with."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One line each: the first sentence of the command's help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            listed = sections.setdefault(heading if isinstance(heading, str) else "Commands", [])
            listed.append((name, command.get_short_help_str(200)))
        _write(formatter, sections)


def preformatted(text: str, between: str = "\n\n\b\n") -> str:
    """Help text whose example commands stand indented, each a paragraph of its own, and keep their lines (``\b`` is click's mark)."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    for place, part in enumerate(paragraphs):
        if part.strip().startswith("cnncodes "):
            paragraphs[place] = "\b\n" + between.join("    " + line.strip() for line in part.splitlines())
    return "\n\n".join(paragraphs)


def _parts(parameters: list[Any], kind: str) -> list[Any]:
    return [part for part in parameters if part.param_type_name == kind]


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
