"""All commands in one place: their names, their order in the help, and the file that each lives in."""

from __future__ import annotations

from collections.abc import Callable

from cnncodes.cli import (
    advise,
    benchmark,
    check,
    compare,
    evaluate,
    export,
    extract,
    finetune,
    fit_linear,
    info,
    join,
    networks,
    pack,
    predict,
    probe,
    recipes,
    report,
    run_command,
    show,
    train,
    version,
    weights,
)
from cnncodes.cli import demo as demo_command
from cnncodes.cli.command import Command, preformatted
from cnncodes.cli.options import Typer

HELP = """
Transfer learning with AlexNet: images to CNN codes to a classifier.

A first session:

    cnncodes run photos/ -o out              look at the pictures, choose a recipe, train, test
    cnncodes predict out/model.safetensors new.jpg

The same by hand:

    cnncodes extract photos/ -o codes.h5     images -> CNN codes, 4096 numbers each
    cnncodes fit-linear codes.h5 -o model.safetensors

Exit codes: 0 good; 1 a clear error; 2 wrong usage; 3 finished, but some images could not be read.
"""


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("run", run_command.run),
    ("report", report.report),
    ("advise", advise.advise),
    ("extract", extract.extract),
    ("fit-linear", fit_linear.fit_linear),
    ("finetune", finetune.finetune),
    ("train", train.train),
    ("predict", predict.predict),
    ("evaluate", evaluate.evaluate),
    ("compare", compare.compare),
    ("probe", probe.probe),
    ("info", info.info),
    ("check", check.check),
    ("export", export.export),
    ("join", join.join),
    ("pack", pack.pack),
    ("benchmark", benchmark.benchmark),
    ("demo", demo_command.demo),
)
GROUPS: tuple[tuple[str, str, tuple[tuple[str, Callable[..., None]], ...]], ...] = (
    ("networks", networks.SUMMARY, networks.COMMANDS),
    ("weights", weights.SUMMARY, weights.COMMANDS),
    ("recipes", recipes.SUMMARY, recipes.COMMANDS),
    ("show", show.SUMMARY, show.COMMANDS),
)


def build_app() -> Typer:
    """The command line application."""
    app = _typer(HELP)
    app.callback(invoke_without_command=True, help=preformatted(HELP))(version.main)
    for name, function in COMMANDS:
        app.command(name, cls=Command, help=preformatted(function.__doc__ or ""))(function)
    for name, summary, commands in GROUPS:
        group = _typer(summary)
        for subname, function in commands:
            group.command(subname, cls=Command, help=preformatted(function.__doc__ or ""))(function)
        app.add_typer(group, name=name)
    return app


def _typer(summary: str) -> Typer:
    return Typer(
        help=preformatted(summary),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )
