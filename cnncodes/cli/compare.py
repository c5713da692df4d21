"""`cnncodes compare`: several networks on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import options
from cnncodes.cli.arguments import fit_entries
from cnncodes.cli.console import Reporter
from cnncodes.cli.groups import Machine, Reading
from cnncodes.core.words import duration, one_line, percent, shell, size

if TYPE_CHECKING:
    from cnncodes.advice import ComparedModel, FailedModel, ModelComparison, RunReport


def compare(
    data: options.Data,
    models: options.Models,
    output: options.Folder,
    recipes: options.Recipes = "linear",
    weights: options.EachWeights = "imagenet",
    fit: options.RunFit = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    *,
    machine: Machine,
    reading: Reading,
    reporter: Reporter,
) -> None:
    """Compare several networks on the same images.

    Reports accuracy with its interval, speed, size and time. All models have the same split and the same test images. If
    interrupted, repeat the same command to continue; models can be added to a finished comparison. Each model is a run in a
    folder of its own.

        cnncodes compare photos/ --models alexnet,torchvision/resnet50 -o compare

        cnncodes compare photos/ --models alexnet=starter,torchvision/resnet18=random:0 --recipes linear,finetune -o compare
    """
    from cnncodes.advice import compare as compare_all
    from cnncodes.advice.comparing import PICTURE
    from cnncodes.advice.run_folder import RECORD, TABLE, check_outside
    from cnncodes.pictures.results import save_models

    check_outside(data, output)
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())

    with reporter.steps() as progress:
        found = compare_all(
            catalog, models.split(","), output, weights=weights, recipes=recipes.split(","),
            assignments=[*fit_entries(fit), *(set_ or ())], data=reading.words(data), seed=seed, progress=progress,
            told=teller(reporter), **vars(machine),
        )  # fmt: skip
    picture = save_models(found, Path(output) / PICTURE)
    print_comparison(reporter, found)
    reporter.note(f"written: {picture}, {RECORD} and {TABLE} beside it, and a run for each model")
    reporter.document(found, picture=str(picture))
    reporter.next(f"cnncodes predict {shell(found.models[0].folder)} photo.jpg")
    if found.failed:
        raise options.Exit(1)


def teller(reporter: Reporter) -> Callable[[str, str, RunReport | FailedModel], None]:
    """Says the accuracy of each model as soon as it is known."""

    def told(model: str, recipe: str, found: RunReport | FailedModel) -> None:
        tested = getattr(found, "evaluation", None)
        reporter.note(f"{one_line(model)}, {recipe}: {percent(tested.top1) if tested else 'failed'}")

    return told


def print_comparison(reporter: Reporter, found: ModelComparison) -> None:
    """The table, and what it allows to say."""
    told = ("accuracy (%)", "to the best (points)", "images/s", "codes per image", "time")
    title = f"{found.n:,} test images, {found.train + found.val:,} training images, {found.classes:,} classes; 95 % intervals"
    reporter.table(title, ("model", "recipe", *told), [_row(model) for model in found.models])
    best = found.models[0]
    if found.close:
        names = ", ".join(_named(model) for model in found.close)
        reporter.result(f"best: {_named(best)}; the difference to {names} is within chance")
    elif len(found.models) > 1:
        reporter.result(f"best: {_named(best)}; the others are worse by more than chance")
    if any(model.untrained for model in found.models):
        reporter.result("random weights show what a network can do without pretraining")
    reporter.unreadable(found.unreadable)
    for failed in found.failed:
        reporter.warn(f"failed: {one_line(failed.name)}, {failed.recipe}: {failed.problem} {failed.remedy}")


def _named(model: ComparedModel) -> str:
    return f"{one_line(model.name)} ({model.recipe})"


def _row(model: ComparedModel) -> tuple[object, ...]:
    interval = f"({100 * model.low:.1f} to {100 * model.high:.1f})"
    low, high = model.difference_low, model.difference_high
    behind = None
    if low is not None and high is not None:
        behind = f"{100 * model.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return (
        one_line(model.name), model.recipe, f"{100 * model.accuracy:.1f} {interval}", behind,
        f"{model.images_per_second:.3g}", None if model.codes_bytes is None else size(model.codes_bytes),
        duration(model.seconds),
    )  # fmt: skip
