"""`cnncodes advise`: which recipe for these images, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes.cli import options
from cnncodes.cli.arguments import check_folder, load_weights, parse_split
from cnncodes.cli.console import Reporter, plain
from cnncodes.cli.groups import Cluster, Reading
from cnncodes.cli.results import say_seen
from cnncodes.core.words import duration, one_line, percent

if TYPE_CHECKING:
    from cnncodes.advice import Advice, Finding
    from cnncodes.advice.evidence import Depth


PICTURE, RECORD = "depth.png", "advice.json"  # in the folder of -o


def advise(
    data: options.Data,
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    fit: options.OneFit = None,
    output: options.AdviceFolder = None,
    split: options.SplitRule = "auto",
    seed: options.Seed = 0,
    thresholds: options.ThresholdsFile = None,
    verbose: options.Verbose = False,
    *,
    machine: Cluster,
    reading: Reading,
    reporter: Reporter,
) -> None:
    """Recommend a recipe for your images, with the reasons.

    At most 2,000 images go through the network once. Each layer is judged by how well it separates the classes: if the last
    one is as good as any before it, the images resemble those the weights were trained on. With many images, fine-tuning
    pays; with few, a linear head is safer. Up to 10 training images per class are too few to tell: recipe few-shot. If the
    centre crop shows little of the photos, padded photos are compared with it. Also lists copies in both splits, labels that look wrong, tiny classes and
    unreadable files.

        cnncodes advise photos/

        cnncodes advise photos/ -o advice
    """
    from cnncodes.advice import advise as ask

    if output is not None:
        check_folder(output, (PICTURE, RECORD))
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())
    loaded = load_weights(reporter, weights, model)
    with reporter.steps() as progress:
        advice = ask(
            catalog, loaded, data=reading.words(data, model), split=parse_split(split), thresholds=thresholds, seed=seed,
            fit=fit, progress=progress, **vars(machine),
        )  # fmt: skip
    print_advice(reporter, advice, verbose)
    if output is not None:
        _save(reporter, advice, Path(output))
    reporter.document(advice)
    reporter.next(advice.command)


def print_advice(reporter: Reporter, advice: Advice, verbose: bool = False) -> None:
    """Evidence, warnings, and the recipe with its reasons."""
    from cnncodes.advice.facts import Fact, note_text, option_text, reason_of

    evidence = advice.evidence
    if evidence.depths:
        best = evidence.best_late
        title = f"accuracy by layer on {evidence.judged:,} training images (leave-one-out)"
        columns = ["layer", "numbers", "5 neighbours", "linear", f"over {best.stage}"]
        columns += ["LogME"] if verbose else []
        rows = [_row(depth, depth is best) for depth in evidence.depths]
        reporter.table(title, columns, [row[: len(columns)] for row in rows])
    reporter.result(f"always the largest class: {percent(evidence.majority)}; split: {evidence.size.how}")
    if evidence.confidence is not None:
        reporter.result(f"mean confidence of the network's own classifier: {percent(evidence.confidence)}")
    say_seen(reporter, advice.seen)
    print_findings(reporter.result, advice.warnings)
    reporter.result()
    for option, name in ((advice.advised, "recipe"), (advice.runner_up, "runner-up")):
        about = f"about {duration(option.seconds)} on {evidence.device} {option_text(option)}"
        reporter.result(f"{name}: {option.recipe} - {option.summary}; {about}")
    for reason in (*advice.reasons, *filter(None, (advice.close,))):
        reporter.result(f"- {one_line(str(reason_of(reason)))}")
    reporter.result(f"- {advice.runner_up.recipe} is the runner-up. {reason_of(advice.runner_up_reason)}")
    if advice.untrained:
        reporter.result(f"- {note_text(Fact('untrained'))}")
    reporter.unreadable(advice.unreadable)


def print_findings(
    say: Callable[[str], None], findings: tuple[Finding, ...], most: int | None = None
) -> None:
    """What to look at in the data, with the first images or classes of each finding."""
    from cnncodes.advice.facts import case_text, finding_text

    for finding in findings:
        if finding.kind == "unreadable":  # listed below, where all commands list them
            continue
        say(f"look at: {one_line(finding_text(finding))}")
        for case in finding.cases[:most]:
            say(f"  {one_line(case_text(finding.kind, case))}")


def _row(depth: Depth, reference: bool) -> tuple[object, ...]:
    def share(value: float, error: float) -> str:
        return f"{100 * value:.1f} +- {100 * error:.1f} %"

    pooled = f" (pooled to {depth.pooled_to} x {depth.pooled_to})" if depth.pooled_to else ""
    judged = (share(depth.neighbours, depth.neighbours_se), share(depth.linear, depth.linear_se))
    over = None if reference else f"{100 * depth.behind:+.1f} +- {100 * depth.behind_se:.1f}"
    return (depth.stage, f"{depth.numbers:,}{pooled}", *judged, over, f"{depth.log_me:.3f}")


def _save(reporter: Reporter, advice: Advice, folder: Path) -> None:
    from cnncodes.core.outputs import write_whole
    from cnncodes.pictures.results import save_depth

    written = [save_depth(advice.evidence, folder / PICTURE)] if advice.evidence.depths else []
    write_whole(folder / RECORD, json.dumps(plain(advice), indent=2))
    reporter.note(f"written: {', '.join(map(str, [*written, folder / RECORD]))}")
