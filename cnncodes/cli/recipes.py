"""`cnncodes recipes`, and the recipe that a command follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes import advice
from cnncodes.cli import options
from cnncodes.cli.arguments import check_free
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.files import read_text
from cnncodes.core.words import printable, quoted, shell

if TYPE_CHECKING:
    from cnncodes.advice.recipe_schema import Method

SUMMARY = "List, show, copy and check recipes."


def choose_recipe(
    method: Method, recipe: str | None, assignments: list[str] | None, given: Mapping[str, tuple[str, object]]
) -> advice.Recipe:
    """The recipe of --recipe or the default one, changed by other options, then by --set.

    ``given`` has for each option the entry of the recipe that it sets, and its value; None changes nothing:
    ``{"--epochs": ("train.epochs", 3)}``.
    """
    from cnncodes.advice.recipe import COMMANDS as FOLLOWED_BY

    entries = {option: f"{entry}={value}" for option, (entry, value) in given.items() if value is not None}
    if recipe is None:
        return advice.plain_recipe(method, assignments or (), options=entries)
    advice.load_recipe(recipe).require(FOLLOWED_BY[method])
    return advice.load_recipe(recipe, assignments or (), options=entries)


def list_recipes(reporter: Reporter) -> None:
    """List the recipes that come with cnncodes."""
    rows = [(name, advice.recipe_summary(path)) for name, path in advice.recipe_files().items()]
    reporter.document(dict(rows))
    reporter.table("", ("recipe", "what it does"), rows)
    reporter.next(f"cnncodes recipes show {shell(rows[0][0])}")


def show(name: options.RecipeName) -> None:
    """Print a recipe, with its settings and their reasons.

    cnncodes recipes show small-similar
    """
    reporter = Reporter()
    print(read_text(advice.find_recipe(name), errors="replace"), end="")
    try:
        for command in advice.load_recipe(name).commands():
            reporter.next(" ".join(map(shell, command)))
    except CnnCodesError:  # a recipe with mistakes is shown, too
        reporter.next(f"cnncodes recipes check {shell(name)}")


def copy(
    name: options.RecipeName, output: options.RecipeCopy = None, overwrite: options.Overwrite = False
) -> None:
    """Copy a recipe into a file that you can edit.

    cnncodes recipes copy scratch -o mine.toml
    cnncodes recipes check mine.toml
    cnncodes train photos/ --recipe mine.toml -o run
    """
    from cnncodes.core.outputs import write_whole

    reporter = Reporter()
    source = advice.find_recipe(name)
    target = Path(output or f"{source.stem}.toml")
    check_free(target, overwrite, suffix=".toml", what="a recipe")
    write_whole(target, read_text(source))
    reporter.result(f"written: {printable(str(target))}")
    reporter.next(f"cnncodes recipes check {shell(target)}")


def check(reporter: Reporter, files: options.RecipeNames) -> None:
    """Check recipe files and list all mistakes.

    Each mistake is shown with its line and the nearest valid name.

    cnncodes recipes check mine.toml
    """
    mistakes: dict[str, list[dict[str, object]]] = {name: [] for name in files}
    for name in files:
        try:
            reporter.result(f"{quoted(name)}: good ({advice.load_recipe(name).method})")
        except advice.RecipeError as error:
            reporter.result("\n  ".join([f"{quoted(name)}:", *map(str, error.flaws)]))
            mistakes[name] = [{"line": flaw.line, "problem": flaw.text} for flaw in error.flaws]
        except CnnCodesError as error:
            reporter.result(f"{quoted(name)}: {error.problem} {error.remedy}")
            mistakes[name] = [{"line": None, "problem": error.problem}]
    reporter.document(mistakes)
    reporter.exit_code = 1 if any(mistakes.values()) else 0


COMMANDS = (("list", list_recipes), ("show", show), ("copy", copy), ("check", check))
