"""`cnncodes recipes`: ways from images to a classifier."""

from __future__ import annotations

from pathlib import Path

from cnncodes.cli import advice_options, options
from cnncodes.cli.choice import check_recipe, say_next
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import read_text
from cnncodes.core.words import printable, quoted, shell

SUMMARY = "Ways from images to a classifier."


def list_recipes(json: options.Json = False) -> None:
    """The recipes that come with cnncodes."""
    from cnncodes.advice import recipe_files, recipe_summary

    reporter = Reporter(json)
    rows = [(name, recipe_summary(path)) for name, path in recipe_files().items()]
    reporter.document(dict(rows))
    reporter.table("", ("recipe", "what it does"), rows)
    reporter.next(f"cnncodes recipes show {shell(rows[0][0])}")


def show(name: advice_options.RecipeName) -> None:
    """Print a recipe: when it is right, its source, its numbers and their reasons.

    cnncodes recipes show small-similar
    """
    from cnncodes.advice import find_recipe, load_recipe

    print(read_text(find_recipe(name), errors="replace"), end="")
    try:
        say_next(Reporter(), load_recipe(name))
    except CnnCodesError:  # it is shown all the same, mistakes and all
        Reporter().next(f"cnncodes recipes check {shell(name)}")


def copy(
    name: advice_options.RecipeName,
    output: advice_options.RecipeCopy = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Copy a recipe, to change it.

    cnncodes recipes copy scratch -o mine.toml

    cnncodes recipes check mine.toml

    cnncodes train photos/ --recipe mine.toml -o run
    """
    from cnncodes.advice import find_recipe
    from cnncodes.core.outputs import write_whole

    reporter = Reporter()
    source = find_recipe(name)
    target = Path(output or f"{source.stem}.toml")
    options.check_free(target, overwrite, suffix=".toml", what="a recipe")
    write_whole(target, read_text(source))
    reporter.result(f"written: {printable(str(target))}")
    reporter.next(f"cnncodes recipes check {shell(target)}")


def check(files: advice_options.RecipeNames, json: options.Json = False) -> None:
    """Check recipe files: all mistakes at once, each with its line and the nearest right word.

    cnncodes recipes check mine.toml
    """
    from cnncodes.advice import RecipeError

    reporter = Reporter(json)
    found = {name: check_recipe(name) for name in files}
    for name, (method, error) in found.items():
        if error is None:
            reporter.result(f"{quoted(name)}: good ({method})")
        elif isinstance(error, RecipeError):
            reporter.result(f"{quoted(name)}:")
            for flaw in error.flaws:
                reporter.result(f"  {flaw}")
        else:
            reporter.result(f"{quoted(name)}: {error.problem} {error.remedy}")
    reporter.document(
        {
            name: [{"line": flaw.line, "problem": flaw.text} for flaw in error.flaws]
            if isinstance(error, RecipeError)
            else [{"line": None, "problem": error.problem}]
            if error
            else []
            for name, (_, error) in found.items()
        }
    )
    if any(error for _, error in found.values()):
        raise options.Exit(1)


COMMANDS = (("list", list_recipes), ("show", show), ("copy", copy), ("check", check))
