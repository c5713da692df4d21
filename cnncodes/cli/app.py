"""All commands in one place: their names, and their order and headings in the help."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterable
from typing import TypeAlias

from cnncodes.cli import options, recipes, show, weights
from cnncodes.cli.advise import advise
from cnncodes.cli.benchmark import benchmark
from cnncodes.cli.codes import check, export, join, pack
from cnncodes.cli.command import Command, Commands, preformatted
from cnncodes.cli.compare import compare
from cnncodes.cli.console import Reporter
from cnncodes.cli.demo import demo
from cnncodes.cli.evaluate import evaluate
from cnncodes.cli.explore import explore
from cnncodes.cli.extract import extract
from cnncodes.cli.fit_linear import fit_linear
from cnncodes.cli.info import info
from cnncodes.cli.predict import predict
from cnncodes.cli.probe import probe
from cnncodes.cli.run_command import card, report, run
from cnncodes.cli.training import finetune, train

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
        "info": info,
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
COMMANDS = tuple(
    (name, options.expand(entry))
    for entries in HEADINGS.values()
    for name, entry in entries.items()
    if callable(entry)
)
GROUPS = tuple(
    (name, entry[0], tuple((sub, options.expand(function)) for sub, function in entry[1]))
    for entries in HEADINGS.values()
    for name, entry in entries.items()
    if not callable(entry)
)


def build_app() -> options.Typer:
    """The command line application."""
    functions = dict(COMMANDS)
    groups = {name: (summary, commands) for name, summary, commands in GROUPS}
    app = _typer(HELP)
    app.callback(invoke_without_command=True, help=preformatted(HELP))(_version)
    for heading, entries in HEADINGS.items():
        for name in entries:
            if name in functions:
                _add(app, name, functions[name], heading)
                continue
            group = _typer(groups[name][0])
            for sub, function in groups[name][1]:
                _add(group, sub, function)
            app.add_typer(group, name=name, rich_help_panel=heading)
    return app


def _add(app: options.Typer, name: str, function: Callable[..., None], heading: str | None = None) -> None:
    help_text = preformatted(function.__doc__ or "")
    app.command(name, cls=Command, help=help_text, rich_help_panel=heading)(function)


def _typer(summary: str) -> options.Typer:
    return options.Typer(
        cls=Commands,
        help=preformatted(summary),
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
