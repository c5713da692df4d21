"""A run: what a person asks for, checked before any work, and then its steps."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.advice.division import Division
from cnncodes.advice.recipe import Recipe, find_recipe, load_recipe, recipe_of_run
from cnncodes.advice.run_record import (
    NOTE,
    RunNote,
    RunPlan,
    RunReport,
    check_empty,
    inputs_of,
    left_by_run,
    remove_run,
)
from cnncodes.advice.steps import Hooks, RunOrder, RunSteps
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CatalogError, OptionError, OutputExistsError
from cnncodes.core.outputs import locked
from cnncodes.heads.splits import is_divided
from cnncodes.images.catalog import Catalog
from cnncodes.training.state import InterruptedTrainingError

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights, Weights


def run(
    catalog: Catalog,
    weights: AnyWeights | None,
    folder: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | None = None,
    assignments: Sequence[str] = (),
    data: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    processes: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    notes: Callable[[str], None] | None = None,
    overwrite: bool = False,
    division: Division | None = None,
    test: float | None = None,
    told: Callable[[str, Any], None] | None = None,
) -> RunReport:
    """From images to a tested model: split, advise, fit or train, evaluate, report.

    Started again with the same arguments it goes on where it was interrupted; a finished run gives its report.

    Parameters
    ----------
    catalog : Catalog
        With labels. Without val or test images a fifth of each class is kept to test, copies on one side. Of val
        and test without the other, that one tests, and whatever is chosen is chosen inside train.
    weights : Weights, name, path or None
        Where the network starts; None for a recipe that trains from new numbers.
    folder : path
        Made if it is missing.
    recipe : name or path, optional
        By default the advised one.
    assignments : sequence of str
        Changes in the recipe: ``"train.epochs=3"``.
    data : str, optional
        How the images are named in a command.
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    processes : int, default 1
        Worker processes that extract and test.
    seed : int, default 0
    progress : callable(step, done, total, word), optional
    notes : callable(text), optional
        Told what a person should know of a training: a restart, a loss that stands still and what to try.
    overwrite : bool, default False
        Take away what a run has left in the folder, and start anew; other files there are not touched.
    division : Division, optional
        A split that is already made, such as that of a comparison. No advice is computed then: name the recipe.
    test : float, optional
        Share of each class to keep for the test, 0..1, of images without a split of their own; by default 0.2.
    told : callable(what, record), optional
        Called as soon as something is known that was not known before: ``"split"`` with the division, ``"advice"`` with the
        :class:`~cnncodes.advice.Advice`, ``"plan"`` with the :class:`~cnncodes.advice.RunPlan`.

    Raises
    ------
    ResumeError
        If the folder holds a run of other images, weights, seed or recipe; names what changed.
    OutputExistsError
        If the folder holds anything else.
    OptionError
        If ``overwrite`` would take away what is to be read: recipe, weights, list of images, an image.
    HeadError, CatalogError
        If there are too few images or classes.
    InterruptedTrainingError
        After SIGTERM or SIGINT while training, once everything is saved.
    """
    order = RunOrder(recipe, tuple(assignments), data, test, overwrite, division)
    compute = Compute(device, workers, processes, seed=seed, progress=progress or no_progress)
    with _begun(order, catalog, weights, Path(folder), compute, Hooks(notes, told)) as (steps, asked):
        return steps.follow(asked)


def plan_run(
    catalog: Catalog,
    weights: AnyWeights | None,
    folder: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | None = None,
    assignments: Sequence[str] = (),
    data: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    processes: int = 1,
    seed: int = 0,
    test: float | None = None,
    progress: Progress | None = None,
    told: Callable[[str, Any], None] | None = None,
) -> RunPlan:
    """What :func:`run` with the same arguments would do: its split, what to look at in the data, and the recipe.

    It stops before the recipe is followed; what was computed stays in the folder, and :func:`run` goes on from there. Parameters
    and errors are those of :func:`run`.
    """
    order = RunOrder(recipe, tuple(assignments), data, test)
    compute = Compute(device, workers, processes, seed=seed, progress=progress or no_progress)
    with _begun(order, catalog, weights, Path(folder), compute, Hooks(None, told)) as (steps, asked):
        return steps.plan(asked)[0]


@contextmanager
def _begun(
    order: RunOrder,
    catalog: Catalog,
    weights: AnyWeights | None,
    place: Path,
    compute: Compute,
    hooks: Hooks,
) -> Iterator[tuple[RunSteps, Recipe | None]]:
    """The steps of the run in its locked folder, and the recipe that is asked for, once all of it is known to fit together."""
    from cnncodes.weights import load_weights

    weights = None if weights is None else load_weights(weights)
    asked = _check(order, catalog, weights, place, compute.seed)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / "run"):
        anew = order.overwrite and (place / NOTE).exists()
        if anew:
            check_inputs_stay(place, catalog, weights, order.recipe, asked, order.data)
            remove_run(place)
        note = RunNote(place, inputs_of(catalog, weights, compute.seed, order.test), beside=anew)
        try:
            yield RunSteps(catalog, weights, place, note, compute, order, hooks), asked
        except InterruptedTrainingError as error:
            raise InterruptedTrainingError(
                error.problem, "Repeat the same command: it goes on there."
            ) from None


def _check(
    order: RunOrder, catalog: Catalog, weights: Weights | None, place: Path, seed: int
) -> Recipe | None:
    """Refuse before any work what cannot be done; the recipe that is asked for."""
    if place.exists() and not place.is_dir():
        raise OutputExistsError(f"'{place}' is a file.", "Name a folder with -o.")
    if weights is None and (order.recipe is None or load_recipe(order.recipe).method != "train"):
        raise OptionError(
            "there are no weights to start from.", "Give weights, or a recipe of the method 'train'."
        )
    if not (catalog.labels >= 0).any():
        raise CatalogError(
            "the images have no labels.",
            "Put them into one folder per class, or give a CSV with labels.",
        )
    if order.test is not None and not 0 < order.test < 1:
        raise OptionError(
            f"{order.test:g} is no share of the images to keep for the test.",
            "Give a number between 0 and 1, such as 0.25.",
        )
    if order.test is not None and is_divided(catalog):
        raise OptionError(
            f"the images have a split of their own, so a share of {order.test:g} cannot be kept for the test.",
            "Leave out --test, or give the images without their split.",
        )
    if place.is_dir() and not (place / NOTE).exists():
        check_empty(place)
    if order.recipe is None:
        return None
    return recipe_of_run(order.recipe, order.assignments, weights.name if weights else None, seed)


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
