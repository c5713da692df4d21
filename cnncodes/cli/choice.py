"""The recipe that a command follows: the one of --recipe or the defaults, then its options, then --set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli.console import Reporter
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.words import shell

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.advice.recipe_schema import Method


def choose_recipe(
    method: Method, recipe: str | None, assignments: list[str] | None, options: dict[str, tuple[str, object]]
) -> Recipe:
    """What a command shall do; an option that was not given (None) changes nothing.

    ``options`` has for each option the entry of the recipe that it sets, and its value:
    ``{"--epochs": ("train.epochs", 3)}``.
    """
    from cnncodes.advice import load_recipe, plain_recipe
    from cnncodes.advice.recipe import COMMANDS

    given = {option: f"{entry}={value}" for option, (entry, value) in options.items() if value is not None}
    if recipe is None:
        return plain_recipe(method, assignments or (), options=given)
    load_recipe(recipe).require(COMMANDS[method])
    return load_recipe(recipe, assignments or (), options=given)


def check_recipe(name: str) -> tuple[str, CnnCodesError | None]:
    """The method of a recipe, or what is wrong with it."""
    from cnncodes.advice import load_recipe

    try:
        return load_recipe(name).method, None
    except CnnCodesError as error:
        return "", error


def say_next(reporter: Reporter, recipe: Recipe) -> None:
    """The commands that follow a recipe."""
    for command in recipe.commands():
        reporter.next(" ".join(shell(word) for word in command))
