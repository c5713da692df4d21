"""`cnncodes run`, `report`, `card` and `compare`: from images to a tested model, its page and card, and several models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import advice, page, training
from cnncodes.cli import options
from cnncodes.cli.advise import print_findings, say_seen
from cnncodes.cli.arguments import Machine, Reading, check_free, fit_entries, load_weights
from cnncodes.cli.console import Reporter
from cnncodes.cli.evaluate import accuracy_text, print_confusions
from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.words import counted, duration, one_line, percent, shell, size

if TYPE_CHECKING:
    from cnncodes.advice.comparing import Start
    from cnncodes.images import Catalog

MOST_FINDINGS = 3  # findings after the result, and images named per finding; the page has more


def run(
    reporter: Reporter,
    machine: Machine,
    reading: Reading,
    data: options.Data,
    output: options.RunFolder,
    weights: options.StartWeights = None,
    model: options.Network = None,
    recipe: options.RunRecipe = None,
    fit: options.RunFit = None,
    set_: options.Set = None,
    try_: options.Try = None,
    test: options.TestShare = None,
    dry_run: options.PlanOnly = False,
    seed: options.Seed = 0,
    processes: options.Processes = 1,
    overwrite: options.RunOverwrite = False,
) -> None:
    """Train and test a model on your images, with a report.

    Checks the images, chooses a recipe, follows it, tests the model and writes a report. Images without a split are divided
    at random: a fifth of each class (--test) is kept for testing, copies on the same side. The test images play no part in
    the choice of the recipe. If interrupted, repeat the same command to continue; a finished run is only shown again. If
    images were added or changed, it goes on with them: new images are for training. --overwrite starts again.

        cnncodes run photos/ -o out
        cnncodes run photos/ -o out --dry-run
        cnncodes run photos/ -o out --recipe large-similar --set train.epochs=5
        cnncodes run photos/ -o out --try all
    """
    from cnncodes.advice.run_folder import (
        begun_with,
        check_outside,
        finished_on,
        finished_run,
        keep_mark,
        weights_mark,
    )

    check_outside(data, output)
    if dry_run and try_ is not None:
        raise OptionError("--try follows recipes, and --dry-run stops before that.", "Leave out one of them.")
    recipes = [] if try_ is None else try_.split(",")
    if recipes:
        from cnncodes.advice.comparing import USUAL, Start

        for name in recipes:
            if name != "all":  # before any work is done for a wrong one
                advice.load_recipe(USUAL.get(name, name))
    set_ = [*fit_entries(fit), *(set_ or ())]
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())
    start = _weights_name(weights, recipe, set_)
    if weights is None and model is None and not overwrite and start == "imagenet":
        start = begun_with(output) or start
        if start != "imagenet":
            reporter.note(f"weights: '{one_line(start)}', as the run in {shell(output)} was started with")
    if recipes and start is None:
        raise OptionError(
            "the run starts from no weights, so other recipes cannot be compared with it.", "Leave out --try."
        )
    mark = weights_mark(start)
    before = None if overwrite else finished_on(output)
    shown = before and model is None
    order = advice.RunOrder(
        recipe=recipe, assignments=set_, data=reading.words(data, model), test=test, processes=processes, seed=seed,
        notes=reporter.warn, told=partial(_tell, reporter), **vars(machine),
    )  # fmt: skip
    report = finished_run(catalog, mark, output, order) if shown else None
    if report is None:
        from cnncodes.advice.steps import follow_order

        loaded = None if start is None else load_weights(reporter, start, model)
        with reporter.steps() as progress:
            if dry_run:
                given = vars(order) | {"progress": progress, "told": None}
                plan = advice.plan_run(catalog, loaded, output, **given)
            else:
                asked = replace(order, progress=progress, overwrite=overwrite)
                report = follow_order(asked, catalog, loaded, Path(output))
        if report is None:
            reporter.result(f"split: {one_line(plan.split)}")
            print_findings(reporter.result, plan.problems, MOST_FINDINGS)
            _print_recipe(reporter.result, plan)
            if plan.expected_seconds is not None:
                reporter.result(f"expected time: about {duration(plan.expected_seconds)}")
            reporter.note(
                "nothing was fitted or trained; the same command without --dry-run continues from here"
            )
            reporter.document(plan)
            return
        if model is None:
            keep_mark(output, mark)
    already = before is not None and before == finished_on(output)
    if already:
        finished = local_time(before or report.finished)
        reporter.note(
            f"already finished on {finished}; nothing was done again (use --overwrite to start anew)"
        )
    _print(reporter, report, already)
    _draw(report)
    tried = {}
    if recipes and start is not None:
        advised = report.advice.fit if report.advice and report.chosen_by == "advice" else None
        order = replace(order, assignments=[*fit_entries(advised), *set_])
        tried = {"tried": _try(reporter, report, catalog, Start(model, start), recipes, order)}
    reporter.document(report, page=_write_page(reporter, report, machine, seed), **tried)
    reporter.next(report.command)


def _try(
    reporter: Reporter,
    report: advice.RunReport,
    catalog: Catalog,
    start: Start,
    recipes: list[str],
    order: advice.RunOrder,
) -> advice.ModelComparison:
    """Other recipes on the split of the run, and whether its own was as good as any."""
    from cnncodes.advice.comparing import try_recipes

    if report.evaluation is None:
        raise OptionError(
            "the run has no test images, so other recipes cannot be compared with it.", "Leave out --try."
        )
    with reporter.steps() as progress:
        order = replace(order, progress=progress)
        found = try_recipes(report, catalog, start, recipes, order, partial(tell_model, reporter))
    print_comparison(reporter, found)
    by = "advised" if report.chosen_by == "advice" else "requested"
    if (own := next((model for model in found.models if model.folder == report.folder), None)) is not None:
        best, which = found.models[0], f"the {by} recipe, {one_line(own.recipe)},"
        told = "is as good as the best, within chance"
        if own.is_worse:
            better = f"the model of {one_line(best.recipe)} is in {best.folder}"
            told = f"is worse than the best by more than chance; {better}"
        elif own is best and not found.close:
            told = "is the best by more than chance"
        reporter.result(f"{which} {told}")
    return found


def _tell(reporter: Reporter, what: str, record: Any) -> None:
    """Say what a run has found out as soon as it is known."""
    if what == "split":
        reporter.note(f"split: {one_line(record.how)}")
    elif what == "advice":
        say_seen(reporter, record.seen)
        print_findings(reporter.note, record.warnings, MOST_FINDINGS)
    elif what == "plan":
        _print_recipe(reporter.note, record)


def _print_recipe(
    say: Callable[[str], None], plan: advice.RunPlan | advice.RunReport, most: int | None = None
) -> None:
    """The recipe and why, a sentence for each reason; the figures are on the page and in report.json."""
    from cnncodes.advice.facts import reason_of

    by = "advised" if plan.chosen_by == "advice" else "requested"
    say(f"recipe: {one_line(plan.recipe)} ({by}): {one_line(plan.summary)}")
    for reason in plan.reasons[:most]:
        say(f"- {one_line(reason_of(reason).short)}")


def local_time(stamp: str) -> str:
    """``2026-11-23 14:07`` of an ISO 8601 stamp, by the clock of this place."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")


def _weights_name(name: str | None, recipe: str | None, assignments: list[str]) -> str | None:
    """Those of the option, else of the recipe, else imagenet; none for a recipe that trains from new numbers."""
    chosen = None if recipe is None else advice.load_recipe(recipe, assignments)
    if name is not None or chosen is None:
        return name or "imagenet"
    return None if chosen.method == "train" else chosen.weights


def _draw(report: advice.RunReport) -> None:
    """The pictures of a run that are not there: what each stage knows, the curves of a training, and the confusions."""
    folder = Path(report.folder)
    there = {path.name for path in folder.glob("*.png")}
    if report.advice and report.advice.evidence.depths and "depth.png" not in there:
        from cnncodes.pictures.results import save_depth

        save_depth(report.advice.evidence, folder / "depth.png")
    if "training" in report.files and "curves.png" not in there:
        from cnncodes.pictures.results import draw_curves

        if epochs := training.read_epochs(
            folder / report.files["training"]
        ):  # none if a person has removed them
            title = f"{folder.resolve().name}: {counted(len(epochs), 'epoch')}"
            draw_curves(epochs, folder / "curves.png", title=title)
    if report.evaluation is not None and "confusion.png" not in there:
        from cnncodes.pictures.results import save_confusion

        save_confusion(report.evaluation, folder / "confusion.png", overwrite=True)


def _write_page(reporter: Reporter, report: advice.RunReport, machine: Machine, seed: int) -> str | None:
    """Path of the run's page, which is written if it is not there yet. The run is complete without it: a failure is a warning."""
    folder = Path(report.folder)
    if page.page_is_current(folder):
        reporter.note(f"page: {folder / page.PAGE}")
        return str(folder / page.PAGE)
    started = time.perf_counter()
    try:
        with reporter.steps() as progress:
            made = page.write_report(folder, seed=seed, progress=progress, **vars(machine))
    except Exception as error:  # whatever goes wrong in a picture must not take the result away
        problem = error.problem if isinstance(error, CnnCodesError) else f"{type(error).__name__}: {error}"
        again = f"Everything else is there; try again with 'cnncodes report {shell(folder)}'."
        reporter.warn(f"the page could not be written: {problem} {again}")
        return None
    for note in made.notes:
        reporter.warn(f"on the page: {note}")
    reporter.note(f"page: {made.path} ({size(made.bytes)}, in {duration(time.perf_counter() - started)})")
    return made.path


def _print(reporter: Reporter, report: advice.RunReport, already: bool) -> None:
    """The result first, then what it rests on; ``already`` where all of it was done before."""
    from cnncodes.advice.facts import finding_text, note_text

    if found := report.evaluation:
        reporter.result(f"accuracy {accuracy_text(found, f' on {found.n:,} test images')}")
        print_confusions(reporter, found, 3)
    for earlier in report.history[-1:]:
        learned = f"{counted(earlier.images, 'image')} ({local_time(earlier.finished)})"
        reporter.result(f"before: {percent(earlier.top1)} with {learned}")
    for note in report.notes:
        reporter.result(f"note: {one_line(note_text(note))}")
    if already:
        reporter.note(f"split: {one_line(report.split)}")
    _print_recipe(reporter.result, report, 1)  # the others were told before the work, and are on the page
    findings = [finding for finding in report.problems if finding.kind != "unreadable"]  # listed below
    for finding in findings[:MOST_FINDINGS]:
        reporter.result(f"look at: {one_line(finding_text(finding))}")
    if len(findings) > MOST_FINDINGS:
        reporter.result(f"look at: {len(findings) - MOST_FINDINGS} more findings on the page")
    reporter.unreadable(report.unreadable, "report.json lists all")
    steps = ", ".join(f"{step} {duration(took)}" for step, took in report.seconds.items() if took >= 0.05)
    took = f"{duration(sum(report.seconds.values()))}{f' ({steps})' if steps else ''}"
    reporter.note(f"computing {'took' if already else 'time:'} {took}")
    files = f"{report.model}, {Path(report.folder) / 'report.json'} and pictures beside them"
    reporter.note(f"{'there' if already else 'written'}: {files}")


def report(
    reporter: Reporter,
    machine: Machine,
    folder: options.FinishedRun,
    output: options.PageOutput = None,
    title: options.PageTitle = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Write the report of a run as one HTML page.

    Shows the command, the images, the advice and its evidence, the results, every mistake with its image, a map of the codes,
    and what the network looks at. The page is one file that loads nothing from the internet; 'run' writes it at its end. If
    images were moved, the page says so and shows the rest.

        cnncodes report out
        cnncodes report out -o bees.html --title "Ants or bees?"
    """
    with reporter.steps() as progress:
        made = page.write_report(
            folder, output, title=title, seed=seed, overwrite=overwrite, progress=progress, **vars(machine)
        )
    for note in made.notes:
        reporter.warn(f"on the page: {note}")
    mistakes = f", {made.mistakes:,} mistakes of {made.tested:,} test images" if made.tested else ""
    reporter.result(
        f"written: {made.path} ({size(made.bytes)}; {made.images:,} images{mistakes}, {made.on_map:,} on the map)"
    )
    reporter.document(made)
    reporter.next(f"open {Path(made.path).resolve().as_uri()} in a browser")


def card(
    reporter: Reporter,
    folder: options.FinishedRun,
    output: options.CardOutput = "MODEL_CARD.md",
    overwrite: options.Overwrite = False,
) -> None:
    """Write the model card of a run as Markdown.

    Says what the model is, the classes with their counts, how it was split and tested, accuracy with its interval and by class,
    calibration, what the model is not for, where its weights are from, the recipe, the command and the versions. Licence, contact and
    uses that would do harm are left for you to fill in.

        cnncodes card out -o MODEL_CARD.md
    """
    check_free(output, overwrite, ".md", "a model card")
    path = page.write_card(folder, output, overwrite=overwrite)
    reporter.result(f"written: {path}")
    reporter.document(output=str(path))
    reporter.next(f"fill in licence, contact and what the model is not for in {shell(path)}")


def compare(
    reporter: Reporter,
    machine: Machine,
    reading: Reading,
    data: options.Data,
    models: options.Models,
    output: options.Folder,
    recipes: options.Recipes = "linear",
    weights: options.EachWeights = "imagenet",
    fit: options.RunFit = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
) -> None:
    """Compare several networks on the same images.

    Reports accuracy with its interval, speed, size and time. All models have the same split and the same test images. If
    interrupted, repeat the same command to continue; models can be added to a finished comparison. Each model is a run in a
    folder of its own.

        cnncodes compare photos/ --models alexnet,torchvision/resnet50 -o compare
        cnncodes compare photos/ --models alexnet=starter,torchvision/resnet18=random:0 --recipes linear,finetune -o compare
    """
    from cnncodes.advice.comparing import PICTURE
    from cnncodes.advice.run_folder import RECORD, TABLE, check_outside
    from cnncodes.pictures.results import save_models

    check_outside(data, output)
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())
    with reporter.steps() as progress:
        found = advice.compare(
            catalog, models.split(","), output, weights=weights, recipes=recipes.split(","),
            assignments=[*fit_entries(fit), *(set_ or ())], data=reading.words(data), seed=seed, progress=progress,
            told=partial(tell_model, reporter), **vars(machine),
        )  # fmt: skip
    picture = save_models(found, Path(output) / PICTURE)
    print_comparison(reporter, found)
    reporter.note(f"written: {picture}, {RECORD} and {TABLE} beside it, and a run for each model")
    reporter.document(found, picture=str(picture))
    reporter.next(f"cnncodes predict {shell(found.models[0].folder)} photo.jpg")
    if found.failed:
        raise options.Exit(1)


def tell_model(
    reporter: Reporter, model: str, recipe: str, found: advice.RunReport | advice.FailedModel
) -> None:
    """Say the accuracy of a model as soon as it is known."""
    tested = getattr(found, "evaluation", None)
    reporter.note(f"{one_line(model)}, {recipe}: {percent(tested.top1) if tested else 'failed'}")


def print_comparison(reporter: Reporter, found: advice.ModelComparison) -> None:
    """The table, and what it allows to say."""
    told = ("accuracy (%)", "to the best (points)", "images/s", "codes per image", "time")
    title = f"{found.n:,} test images, {found.train + found.val:,} training images, {found.classes:,} classes; 95 % intervals"
    rows = []
    for model in found.models:
        low, high = model.difference_low, model.difference_high
        behind = None
        if low is not None and high is not None:
            behind = f"{100 * model.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        accuracy = f"{100 * model.accuracy:.1f} ({100 * model.low:.1f} to {100 * model.high:.1f})"
        codes_size = None if model.codes_bytes is None else size(model.codes_bytes)
        speed, took = f"{model.images_per_second:.3g}", duration(model.seconds)
        rows.append((one_line(model.name), model.recipe, accuracy, behind, speed, codes_size, took))
    reporter.table(title, ("model", "recipe", *told), rows)
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


def _named(model: advice.ComparedModel) -> str:
    return f"{one_line(model.name)} ({model.recipe})"
