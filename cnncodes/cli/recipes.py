"""`cnncodes recipes`: ways from images to a classifier."""

from __future__ import annotations

from cnncodes.cli import options
from cnncodes.cli.console import Reporter, shell

SUMMARY = "Ways from images to a classifier."


def list_recipes(json: options.Json = False) -> None:
    """The recipes that come with cnncodes."""
    from cnncodes.advice import recipe_files, recipe_summary

    reporter = Reporter(json)
    rows = [(name, recipe_summary(path)) for name, path in recipe_files().items()]
    reporter.document(dict(rows))
    reporter.table("", ("recipe", "what it does"), rows)
    reporter.next(f"cnncodes recipes show {shell(rows[0][0])}")


def show(name: options.RecipeName) -> None:
    """Print a recipe."""
    from cnncodes.advice import find_recipe

    print(find_recipe(name).read_text(encoding="utf-8"), end="")


COMMANDS = (("list", list_recipes), ("show", show))
