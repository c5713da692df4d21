"""`cnncodes run` and `cnncodes report`: from images to a tested model, and its page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli import options
from cnncodes.cli.advise import print_findings
from cnncodes.cli.arguments import fit_entries, load_weights
from cnncodes.cli.compare import print_comparison, teller
from cnncodes.cli.console import Reporter
from cnncodes.cli.groups import Machine, Reading
from cnncodes.cli.results import accuracy_text, print_confusions, say_seen
from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.words import counted, duration, one_line, percent, shell, size

if TYPE_CHECKING:
    from cnncodes.advice import ModelComparison, RunOrder, RunPlan, RunReport
    from cnncodes.images import Catalog

MOST_FINDINGS = 3  # findings after the result, and images named per finding; the page has more


def run(
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
    *,
    machine: Machine,
    reading: Reading,
    reporter: Reporter,
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
    from cnncodes.advice.run_record import RunOrder

    check_outside(data, output)
    if dry_run and try_ is not None:
        raise OptionError("--try follows recipes, and --dry-run stops before that.", "Leave out one of them.")
    recipes = [] if try_ is None else _known_recipes(try_.split(","))
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
    order = RunOrder(
        recipe=recipe, assignments=set_, data=reading.words(data, model), test=test, processes=processes, seed=seed,
        notes=reporter.warn, told=_teller(reporter), **vars(machine),
    )  # fmt: skip
    report = finished_run(catalog, mark, output, order) if shown else None
    if report is None:
        from cnncodes.advice import plan_run
        from cnncodes.advice.steps import follow_order

        loaded = None if start is None else load_weights(reporter, start, model)
        with reporter.steps() as progress:
            if dry_run:
                given = vars(order) | {"progress": progress, "told": None}
                plan = plan_run(catalog, loaded, output, **given)
            else:
                asked = replace(order, progress=progress, overwrite=overwrite)
                report = follow_order(asked, catalog, loaded, Path(output))
        if report is None:
            _print_plan(reporter, plan)
            reporter.document(plan)
            return
        if model is None:
            keep_mark(output, mark)
    already = before is not None and before == finished_on(output)
    if already:
        reporter.note(
            f"already finished on {local_time(before or report.finished)}; nothing was done again (use --overwrite to start anew)"
        )
    _print(reporter, report, already)
    _draw(report)
    tried = {}
    if recipes:
        advised = report.advice.fit if report.advice and report.chosen_by == "advice" else None
        order = replace(order, assignments=[*fit_entries(advised), *set_])
        tried = {"tried": _try(reporter, report, catalog, (model, start), recipes, order)}
    page = _write_page(reporter, report, machine, seed)
    reporter.document(report, page=page, **tried)
    reporter.next(report.command)


def _known_recipes(names: list[str]) -> list[str]:
    """The names, before any work is done for a wrong one."""
    from cnncodes.advice import load_recipe
    from cnncodes.advice.comparing import USUAL

    for name in names:
        if name != "all":
            load_recipe(USUAL.get(name, name))
    return names


def _try(
    reporter: Reporter, report: RunReport, catalog: Catalog, start: tuple[str | None, str | None], recipes: list[str],
    order: RunOrder,
) -> ModelComparison:  # fmt: skip
    """Other recipes on the split of the run, and whether its own was as good as any."""
    from cnncodes.advice.comparing import Start, try_recipes

    network, weights = start
    assert weights is not None  # checked before any work
    if report.evaluation is None:
        raise OptionError(
            "the run has no test images, so other recipes cannot be compared with it.", "Leave out --try."
        )
    with reporter.steps() as progress:
        order = replace(order, progress=progress)
        found = try_recipes(report, catalog, Start(network, weights), recipes, order, teller(reporter))
    print_comparison(reporter, found)
    by = "advised" if report.chosen_by == "advice" else "requested"
    if (own := next((model for model in found.models if model.folder == report.folder), None)) is not None:
        best, which = found.models[0], f"the {by} recipe, {one_line(own.recipe)},"
        if own.is_worse:
            reporter.result(
                f"{which} is worse than the best by more than chance; the model of {one_line(best.recipe)} is in {best.folder}"
            )
        elif own is best and not found.close:
            reporter.result(f"{which} is the best by more than chance")
        else:
            reporter.result(f"{which} is as good as the best, within chance")
    return found


def _teller(reporter: Reporter) -> Callable[[str, Any], None]:
    """Says what a run has found out as soon as it is known."""

    def told(what: str, record: Any) -> None:
        if what == "split":
            reporter.note(f"split: {one_line(record.how)}")
        elif what == "advice":
            say_seen(reporter, record.seen)
            print_findings(reporter.note, record.warnings, MOST_FINDINGS)
        elif what == "plan":
            _print_recipe(reporter.note, record)

    return told


def _print_recipe(say: Callable[[str], None], plan: RunPlan | RunReport, most: int | None = None) -> None:
    """The recipe and why, a sentence for each reason; the figures are on the page and in report.json."""
    from cnncodes.advice.facts import reason_of

    by = "advised" if plan.chosen_by == "advice" else "requested"
    say(f"recipe: {one_line(plan.recipe)} ({by}): {one_line(plan.summary)}")
    for reason in plan.reasons[:most]:
        say(f"- {one_line(reason_of(reason).short)}")


def _print_plan(reporter: Reporter, plan: RunPlan) -> None:
    """What a run would do."""
    reporter.result(f"split: {one_line(plan.split)}")
    print_findings(reporter.result, plan.problems, MOST_FINDINGS)
    _print_recipe(reporter.result, plan)
    if plan.expected_seconds is not None:
        reporter.result(f"expected time: about {duration(plan.expected_seconds)}")
    reporter.note("nothing was fitted or trained; the same command without --dry-run continues from here")


def local_time(stamp: str) -> str:
    """``2026-11-23 14:07`` of an ISO 8601 stamp, by the clock of this place."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")


def _weights_name(name: str | None, recipe: str | None, assignments: list[str] | None) -> str | None:
    """Those of the option, else of the recipe, else imagenet; none for a recipe that trains from new numbers."""
    from cnncodes.advice import load_recipe

    chosen = load_recipe(recipe, assignments or ()) if recipe is not None else None
    if name is None and chosen is not None:
        return None if chosen.method == "train" else chosen.weights
    return name or "imagenet"


def _draw(report: RunReport) -> None:
    """The pictures of a run that are not there: what each stage knows, the curves of a training, and the confusions."""
    folder = Path(report.folder)
    if report.advice and report.advice.evidence.depths and not (folder / "depth.png").exists():
        from cnncodes.pictures.results import save_depth

        save_depth(report.advice.evidence, folder / "depth.png")
    if "training" in report.files and not (folder / "curves.png").exists():
        from cnncodes.pictures.results import draw_curves
        from cnncodes.training import read_epochs

        if epochs := read_epochs(folder / report.files["training"]):  # none if a person has removed them
            title = f"{folder.resolve().name}: {counted(len(epochs), 'epoch')}"
            draw_curves(epochs, folder / "curves.png", title=title)
    if report.evaluation is not None and not (folder / "confusion.png").exists():
        from cnncodes.pictures.results import save_confusion

        save_confusion(report.evaluation, folder / "confusion.png", overwrite=True)


def _write_page(reporter: Reporter, report: RunReport, machine: Machine, seed: int) -> str | None:
    """Path of the run's page, which is written if it is not there yet. The run is complete without it: a failure is a warning."""
    from cnncodes.advice.run_folder import PAGE, page_is_current

    folder = Path(report.folder)
    if page_is_current(folder):
        reporter.note(f"page: {folder / PAGE}")
        return str(folder / PAGE)
    from cnncodes.page import write_report

    started = time.perf_counter()
    try:
        with reporter.steps() as progress:
            page = write_report(folder, seed=seed, progress=progress, **vars(machine))
    except Exception as error:  # whatever goes wrong in a picture must not take the result away
        problem = error.problem if isinstance(error, CnnCodesError) else f"{type(error).__name__}: {error}"
        reporter.warn(
            f"the page could not be written: {problem} Everything else is there; try again with 'cnncodes report "
            f"{shell(folder)}'."
        )
        return None
    for note in page.notes:
        reporter.warn(f"on the page: {note}")
    reporter.note(f"page: {page.path} ({size(page.bytes)}, in {duration(time.perf_counter() - started)})")
    return page.path


def _print(reporter: Reporter, report: RunReport, already: bool) -> None:
    """The result first, then what it rests on; ``already`` where all of it was done before."""
    from cnncodes.advice.facts import finding_text, note_text

    if found := report.evaluation:
        reporter.result(f"accuracy {accuracy_text(found, f' on {found.n:,} test images')}")
        print_confusions(reporter, found, 3)
    for earlier in report.history[-1:]:
        reporter.result(
            f"before: {percent(earlier.top1)} with {counted(earlier.images, 'image')} ({local_time(earlier.finished)})"
        )
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
    reporter.note(
        f"{'there' if already else 'written'}: {report.model}, {Path(report.folder) / 'report.json'} and pictures beside them"
    )


def report(
    folder: options.FinishedRun,
    output: options.PageOutput = None,
    title: options.PageTitle = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    *,
    machine: Machine,
    reporter: Reporter,
) -> None:
    """Write the report of a run as one HTML page.

    Shows the command, the images, the advice and its evidence, the results, every mistake with its image, a map of the codes,
    and what the network looks at. The page is one file that loads nothing from the internet; 'run' writes it at its end. If
    images were moved, the page says so and shows the rest.

        cnncodes report out

        cnncodes report out -o bees.html --title "Ants or bees?"
    """
    from cnncodes.page import write_report

    with reporter.steps() as progress:
        page = write_report(
            folder, output, title=title, seed=seed, overwrite=overwrite, progress=progress, **vars(machine)
        )
    for note in page.notes:
        reporter.warn(f"on the page: {note}")
    mistakes = f", {page.mistakes:,} mistakes of {page.tested:,} test images" if page.tested else ""
    reporter.result(
        f"written: {page.path} ({size(page.bytes)}; {page.images:,} images{mistakes}, {page.on_map:,} on the map)"
    )
    reporter.document(page)
    reporter.next(f"open {Path(page.path).resolve().as_uri()} in a browser")


def card(
    folder: options.FinishedRun,
    output: options.CardOutput = "MODEL_CARD.md",
    overwrite: options.Overwrite = False,
    *,
    reporter: Reporter,
) -> None:
    """Write the model card of a run as Markdown.

    Says what the model is, the classes with their counts, how it was split and tested, accuracy with its interval and by class,
    calibration, what the model is not for, where its weights are from, the recipe, the command and the versions. Licence, contact and
    uses that would do harm are left for you to fill in.

        cnncodes card out -o MODEL_CARD.md
    """
    from cnncodes.cli.arguments import check_free
    from cnncodes.page import write_card

    check_free(output, overwrite, ".md", "a model card")
    path = write_card(folder, output, overwrite=overwrite)
    reporter.result(f"written: {path}")
    reporter.document(output=str(path))
    reporter.next(f"fill in licence, contact and what the model is not for in {shell(path)}")
