"""What a run reads: its recipe with every number, and files that starting anew must not take away."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.advice.recipe import Recipe, find_recipe, load_recipe
from cnncodes.advice.run_record import left_by_run
from cnncodes.core.errors import OptionError
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.weights import Weights


def recipe_of_run(
    name: str | os.PathLike[str], assignments: Sequence[str], weights: str | None, seed: int
) -> Recipe:
    """A recipe with what a person changed in it and the run's weights (their name) and seed; raises RecipeError or OptionError."""
    method = load_recipe(name).method
    given: dict[str, str] = {}
    if weights is not None and method != "train":
        given["--weights"] = f"network.weights={weights}"
    if method != "linear":
        given["--seed"] = f"train.seed={seed}"
    return load_recipe(name, assignments, options=given)


def check_inputs_stay(
    folder: Path,
    catalog: Catalog,
    weights: Weights | None,
    name: str | os.PathLike[str] | None,
    recipe: Recipe | None,
    data: str | None,
) -> None:
    """See that a run can be taken away without anything that is to be read: recipe, weights, lists of images, images.

    Parameters
    ----------
    folder : Path
        Of the run.
    catalog : Catalog
    weights : Weights or None
    name, recipe : path and Recipe, or None
        As it was asked for, and what was read there.
    data : str or None
        The words by which the images were named, as in a shell.

    Raises
    ------
    OptionError
        If a file of the run is among them.
    """
    left = {_place(path) for path in left_by_run(folder)}
    for what, path in _files_read(catalog, weights, name, recipe, data, {path.name for path in left}):
        if {_place(path), path.resolve()} & left:
            raise OptionError(
                f"{what} '{path}' is of the run in '{folder}', which --overwrite takes away before it starts anew.",
                "Copy the file to another place and name the copy, or choose another folder with -o.",
            )


def _files_read(
    catalog: Catalog,
    weights: Weights | None,
    name: str | os.PathLike[str] | None,
    recipe: Recipe | None,
    data: str | None,
    names: set[str],
) -> Iterator[tuple[str, Path]]:
    """Each file with a word on what it is; of the images, those that are called as one of ``names``."""
    if name is not None:
        yield "the recipe", find_recipe(os.fspath(name))
    if weights is not None:
        yield "the weights file", Path(weights.name)
    with contextlib.suppress(ValueError):  # words for a person, no command
        yield from (("the list of images", Path(word)) for word in shlex.split(data or ""))
    for image in catalog.names:
        if image.rpartition("/")[2] in names:
            yield "the image", catalog.root / image


def _place(path: Path) -> Path:
    """Where a file's entry is: a link counts, not what it leads to."""
    return path.parent.resolve() / path.name
