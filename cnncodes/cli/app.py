"""All commands in one place: their names, their order in the help, and the file that each lives in."""

from __future__ import annotations

from cnncodes.cli import check, evaluate, export, extract, fit_linear, info, pack, predict, recipes, weights
from cnncodes.cli import demo as demo_command
from cnncodes.cli.options import Typer

HELP = """
Transfer learning with AlexNet: images to CNN codes to a classifier.

A first session:

    cnncodes extract photos/ -o codes.h5     images -> CNN codes, 4096 numbers each
    cnncodes fit-linear codes.h5 -o model.safetensors
    cnncodes predict model.safetensors new.jpg

Exit codes: 0 good; 1 a clear error; 2 wrong usage; 3 finished, but some images could not be read.
"""


def build_app() -> Typer:
    """The command line application."""
    app = Typer(
        name="cnncodes",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("extract")(extract.extract)
    app.command("fit-linear")(fit_linear.fit_linear)
    app.command("predict")(predict.predict)
    app.command("evaluate")(evaluate.evaluate)
    app.command("info")(info.info)
    app.command("check")(check.check)
    app.command("export")(export.export)
    app.command("pack")(pack.pack)
    app.add_typer(weights.app, name="weights")
    app.add_typer(recipes.app, name="recipes")
    app.command("demo")(demo_command.demo)
    return app
