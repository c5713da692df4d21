"""A run: what a person asks for, checked before any work, and then its steps."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.advice.growth import is_unchanged, set_aside
from cnncodes.advice.recipe import Recipe, find_recipe, load_recipe, recipe_of_run
from cnncodes.advice.run_record import (
    NOTE,
    REPORT,
    RunNote,
    RunOrder,
    RunPlan,
    RunReport,
    check_empty,
    inputs_of,
    left_by_run,
    remove_run,
)
from cnncodes.advice.steps import RunSteps
from cnncodes.core.errors import CatalogError, HeadError, OptionError, OutputExistsError, ResumeError
from cnncodes.core.outputs import locked
from cnncodes.heads.splits import is_divided
from cnncodes.images.catalog import Catalog
from cnncodes.training.state import InterruptedTrainingError

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights, Weights


def run(
    catalog: Catalog, weights: AnyWeights | None, folder: str | os.PathLike[str], **options: Any
) -> RunReport:
    """From images to a tested model: split, advise, fit or train, evaluate, report.

    Started again with the same arguments it goes on where it was interrupted; a finished run gives its report. If the images have
    changed since, it goes on with them: new ones join the training set, the test images stay, and the result before is kept in
    :attr:`RunReport.history`.

    Parameters
    ----------
    catalog : Catalog
        With labels. Without val or test images a fifth of each class is kept to test, copies on one side. Of val
        and test without the other, that one tests, and whatever is chosen is chosen inside train.
    weights : Weights, name, path or None
        Where the network starts; None for a recipe that trains from new numbers.
    folder : path
        Made if it is missing.
    **options
        See :class:`~cnncodes.advice.RunOrder`: ``recipe``, ``assignments``, ``test``, ``seed``, ``device``, ``overwrite`` and others.

    Raises
    ------
    ResumeError
        If the folder holds a run of other weights, seed or recipe, or of images of which fewer than half are there; names what
        changed.
    OutputExistsError
        If the folder holds anything else.
    OptionError
        If ``overwrite`` would take away what is to be read: recipe, weights, list of images, an image.
    HeadError, CatalogError
        If there are too few images or classes.
    InterruptedTrainingError
        After SIGTERM or SIGINT while training, once everything is saved.
    """
    return follow_order(RunOrder(**options), catalog, weights, Path(folder))


def follow_order(order: RunOrder, catalog: Catalog, weights: AnyWeights | None, folder: Path) -> RunReport:
    """:func:`run` of an order."""
    with _begun(order, catalog, weights, folder) as (steps, asked):
        return steps.follow(asked)


def plan_run(
    catalog: Catalog, weights: AnyWeights | None, folder: str | os.PathLike[str], **options: Any
) -> RunPlan:
    """What :func:`run` with the same arguments would do: its split, what to look at in the data, and the recipe.

    It stops before the recipe is followed; what was computed stays in the folder, and :func:`run` goes on from there. Parameters
    and errors are those of :func:`run`; also ResumeError if the folder holds a result of images that have changed since.
    """
    with _begun(RunOrder(**options), catalog, weights, Path(folder), planned=True) as (steps, asked):
        return steps.plan(asked)[0]


@contextmanager
def _begun(
    order: RunOrder, catalog: Catalog, weights: AnyWeights | None, place: Path, planned: bool = False
) -> Iterator[tuple[RunSteps, Recipe | None]]:
    """The steps of the run in its locked folder, and the recipe that is asked for, once all of it is known to fit together."""
    from cnncodes.weights import load_weights

    weights = None if weights is None else load_weights(weights)
    asked = _check(order, catalog, weights, place)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / "run"):
        anew = order.overwrite and (place / NOTE).exists()
        if anew:
            _check_inputs_stay(order, catalog, weights, place, "--overwrite takes away before it starts anew")
            remove_run(place)
        note = RunNote(place, inputs_of(catalog, weights, order), beside=anew)
        steps = RunSteps(catalog, weights, place, note, order)
        if note.images_changed and not is_unchanged(note, catalog):
            if planned and (place / REPORT).exists():
                raise ResumeError(
                    f"the images of the finished run in '{place}' have changed, and a plan for them would replace its result.",
                    "Leave out --dry-run to go on with them, or choose another folder with -o.",
                )
            steps.check_recipe(asked or steps.advised())
            _check_inputs_stay(order, catalog, weights, place, "is made again, since the images have changed")
            set_aside(note)
        try:
            yield steps, asked
        except InterruptedTrainingError as error:
            raise InterruptedTrainingError(
                error.problem, "Repeat the same command: it goes on there."
            ) from None


def _check(order: RunOrder, catalog: Catalog, weights: Weights | None, place: Path) -> Recipe | None:
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
            "Put them into one folder per class, or give a CSV with labels; to look at images without labels: "
            f"cnncodes explore {order.data or shlex.quote(str(catalog.root))}",
        )
    if len({*catalog.labels.tolist()} - {-1}) < 2:
        raise HeadError(
            "the images have only one class.", "Give images of two classes or more, a folder each."
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
    return recipe_of_run(order.recipe, order.assignments, weights.name if weights else None, order.seed)


def _check_inputs_stay(
    order: RunOrder, catalog: Catalog, weights: Weights | None, folder: Path, why: str
) -> None:
    """Raise OptionError if recipe, weights, a list of images or an image is a file of the run, which is going to be taken away."""
    left = {_place(path) for path in left_by_run(folder)}
    for what, path in _files_read(order, catalog, weights, {path.name for path in left}):
        if {_place(path), path.resolve()} & left:
            raise OptionError(
                f"{what} '{path}' is of the run in '{folder}', which {why}.",
                "Copy the file to another place and name the copy, or choose another folder with -o.",
            )


def _files_read(
    order: RunOrder, catalog: Catalog, weights: Weights | None, names: set[str]
) -> Iterator[tuple[str, Path]]:
    """Each file with a word on what it is; of the images, those that are called as one of ``names``."""
    if order.recipe is not None:
        yield "the recipe", find_recipe(os.fspath(order.recipe))
    if weights is not None:
        yield "the weights file", Path(weights.name)
    with contextlib.suppress(ValueError):  # words for a person, no command
        yield from (("the list of images", Path(word)) for word in shlex.split(order.data or ""))
    for image in catalog.names:
        if image.rpartition("/")[2] in names:
            yield "the image", catalog.root / image


def _place(path: Path) -> Path:
    """Where a file's entry is: a link counts, not what it leads to."""
    return path.parent.resolve() / path.name
